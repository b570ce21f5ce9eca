"""One connection of an asyncio server from its acceptance to the answer of its opening handshake."""

from __future__ import annotations

import asyncio
import inspect
import socket
import ssl as ssl_module
from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import TYPE_CHECKING, Any, cast

from ..core.forwarding import ProxyHeader
from ..core.gate import TURNED_AWAY_AT_ONCE, Ticket
from ..core.protocol import LINGER_TIME
from ..core.slow import DEFAULT
from ..exceptions import CloseCause, InvalidHandshake, InvalidMessage, RequestTimeout, ServerClosing
from ..net.asyncio import transport_for
from .connection import end_writing
from .preface import Preface

if TYPE_CHECKING:
    from .server import Server, ServerConnection

__all__ = ["Opening", "nothing_to_do"]

Steps = Generator[Any, Any, None]


async def nothing_to_do(connection: ServerConnection) -> None:
    """Stands for the handler of a server that has `on_message` alone; its connections need no task."""


class Opening(asyncio.Protocol):
    """One connection from its acceptance to the answer of its opening handshake."""

    def __init__(self, server: Server, loop: asyncio.AbstractEventLoop, ticket: Ticket) -> None:
        # Made when the TCP connection is accepted: time counts from now, TLS included.
        self._server = server
        self._loop = loop
        self._handshake = server.service.handshake()
        self._ticket = ticket
        ticket.give_up = self.give_up
        self._transport: asyncio.Transport | None = None
        self._session: asyncio.Task[None] | None = None
        self._connected = False  # and the TLS handshake is done
        self._heard = False
        self._peer = ticket.address
        self._preface: Preface | None = None
        self.connecting: asyncio.Task[None] | None = None  # who makes the transport, where the loop does
        self._opened = False  # and what counts it is the connection's to return
        self.ended: asyncio.Future[None] = loop.create_future()
        self._timer: asyncio.TimerHandle | None = None  # for reading an answer that ends the connection
        server._openings[self] = None
        timeout = server.service.options.open_timeout
        if timeout is not None:
            server._deadlines[self] = deadline = loop.time() + timeout
            if server._sweep is None:
                server._sweep = loop.call_at(deadline, server._watch_deadlines)

    def start(self, sock: socket.socket, context: ssl_module.SSLContext | None) -> None:
        if self._server.service.proxy_protocol:
            header = ProxyHeader()

            def ready() -> None:
                self._preface = None
                try:
                    self.proxied(header)
                    self._start_transport(sock, context)
                except BaseException as error:
                    sock.close()
                    self.lost(error)
                    if not isinstance(error, InvalidHandshake):
                        raise

            self._preface = Preface(self._loop, sock, header, ready, self.lost)
        else:
            self._start_transport(sock, context)

    def proxied(self, header: ProxyHeader) -> None:
        """The PROXY header is complete.

        Raises:
            InvalidHandshake: the client is not wanted.
        """
        failure = self._server._gate.proxied(self._ticket, header, self._loop.time())
        self._peer = self._ticket.address
        if failure is not None:
            raise failure

    def _start_transport(self, sock: socket.socket, context: ssl_module.SSLContext | None) -> None:
        transport = transport_for(self._loop, sock, self, self._peer, context=context, server_side=True)
        self._transport = transport
        transport.start()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._connected = True
        if self._handshake.done:
            self._transport.abort()  # time ran out in the TLS handshake
        elif self._server._closing is not None and self._server._refusing:
            self.refuse(ServerClosing("the server is closing"))

    def data_received(self, data: bytes) -> None:
        handshake = self._handshake
        if handshake.done:
            return  # what follows a refusal is read only so that the refusal is not lost
        self._heard = True
        handshake.receive(data)
        if handshake.done:
            self._answered()
        elif handshake.request is not None and self._session is None:
            failure = self._server._gate.opened(self._ticket, handshake.request, self._loop.time())
            self._peer = self._ticket.address
            if failure is not None:
                self.refuse(failure)
                return
            assert self._transport is not None  # noqa: S101 - for the type checker
            self._transport.pause_reading()  # what comes now belongs to the open connection
            connection = self._server.create_connection(self._loop, self._server.logger)
            connection.server = self._server
            connection._ticket = self._ticket
            connection.transport = self._transport
            connection.request = handshake.request
            if (slow := self._server.service.slow_consumers) is not DEFAULT:
                connection.slow_consumers = slow
            steps = self._server.service.answer(handshake, connection)
            if (awaited := _until_awaitable(steps)) is None:
                self._decided(connection)
            else:
                self._start(self._decide(connection, steps, awaited), connection)

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost(exc)

    def lost(self, exc: BaseException | None) -> None:
        """The connection is gone, or never had a transport."""
        if not self._handshake.done:
            self._server.service.tell_outcome(None, exc, self._peer)
            self._handshake.done = True
            if isinstance(exc, InvalidMessage):
                self._server._gate.broken_header(self._ticket, exc, self._loop.time())
            if self._session is not None:
                self._session.cancel()
        self._preface = None
        self._end()

    def refuse(self, failure: InvalidHandshake) -> None:
        """Answer with the failure's status, unless the answer was given."""
        if not self._connected:
            self._give_up(failure)
        elif not self._handshake.done:
            self._handshake.fail(failure)
            if self._session is not None:
                self._session.cancel()
            self._answered()

    def give_up(self, failure: InvalidHandshake) -> None:
        """A newer connection needs the place of this one: answer, if there is a request to answer."""
        lingering = len(self._server._openings) - len(self._server._gate)
        if self._heard and lingering < TURNED_AWAY_AT_ONCE:
            self.refuse(failure)
        else:
            self._give_up(failure)

    def timeout(self) -> None:
        """The time that an opening handshake may take is over."""
        if not self._heard:
            self._give_up(RequestTimeout("no request in time"))
        else:
            self.refuse(RequestTimeout(f"no complete handshake within {self._server.service.options.open_timeout} s"))

    def cut(self) -> None:
        """There is no more time, not even for an answer."""
        self._give_up(ServerClosing("the server is closing"))
        if self._transport is not None:
            self._transport.abort()

    def _give_up(self, failure: InvalidHandshake) -> None:
        """End without an answer: there is nobody, or no TLS connection, to give it to."""
        if not self._handshake.done:
            self._server.service.tell_outcome(None, failure, self._peer)
            self._handshake.done = True
            self._server._gate.answered(self._ticket)
            if self._transport is not None:
                self._transport.abort()
            else:
                if self._preface is not None:
                    self._preface.stop()
                    self._preface = None
                if self.connecting is not None:
                    self.connecting.cancel()
                self._end()

    def _answered(self) -> None:
        """Write an answer that is not 101; then wait a little for the peer to read it."""
        self._server._gate.answered(self._ticket)
        transport = self._transport
        assert transport is not None  # noqa: S101 - for the type checker
        self._server.service.tell_outcome(self._handshake.response, self._handshake.failure, self._peer)
        if transport.is_closing():
            return
        transport.set_write_buffer_limits(high=0)
        transport.writelines(self._handshake.outgoing())
        if transport.can_write_eof():
            # Closing with octets unread would reset the connection and destroy the answer on its way.
            end_writing(transport)
            transport.resume_reading()
        else:
            transport.close()
        timeout = self._server.service.options.open_timeout
        self._abort_in(LINGER_TIME if timeout is None or not transport.get_write_buffer_size() else timeout)

    def resume_writing(self) -> None:
        if self._handshake.done:
            self._abort_in(LINGER_TIME)  # the answer, a long page perhaps, is written

    def _abort_in(self, seconds: float) -> None:
        assert self._transport is not None  # noqa: S101 - for the type checker
        self._server._deadlines.pop(self, None)
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(seconds, self._transport.abort)

    def _end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._ticket.forget()
        if not self._opened:
            self._server._gate.leave(self._ticket)
        self._server._openings.pop(self, None)
        self._server._deadlines.pop(self, None)
        if not self.ended.done():
            self.ended.set_result(None)

    def _start(self, running: Coroutine[Any, Any, None], connection: ServerConnection) -> None:
        sessions = self._server._sessions
        self._session = task = self._loop.create_task(running)
        sessions[task] = connection
        task.add_done_callback(sessions.pop)

    async def _decide(self, connection: ServerConnection, steps: Steps, awaited: Awaitable[Any] | None) -> None:
        """The rest of `Service.answer`, from a hook that must be awaited."""
        refused = False
        while awaited is not None:
            value, error = None, None
            try:
                value = await awaited
            except Exception as raised:  # the hook's: the answer is decided there
                error = raised
            except BaseException:  # cancelled, by whomever: nobody is left who would answer
                if not self._handshake.done:
                    connection.transport.abort()
                raise
            refused = self._handshake.done  # meanwhile, and the hook did not let itself be cancelled
            awaited = _until_awaitable(steps, value, error=error)
        if not refused:
            self._decided(connection)

    def _decided(self, connection: ServerConnection) -> None:
        """The request is answered: open the connection, or end it."""
        server, handshake, transport = self._server, self._handshake, connection.transport
        if handshake.protocol is None:
            self._answered()
            return
        server.service.tell_outcome(handshake.response, None, self._peer)
        self._opened = True
        self._end()
        transport.writelines(handshake.outgoing())
        transport.resume_reading()  # before what may pause it again: the loop reads when we are done
        if server.service.handler is nothing_to_do:
            server._untended[connection] = None
        connection.open(transport, handshake.protocol, handshake.leftover, server._on_message)
        if server._closing is not None and server._farewell is not None:
            connection._start_close(*server._farewell, CloseCause.DRAINED)
        if server.service.handler is not nothing_to_do:  # last, since an eager task runs at once
            self._start(_handle(server.service.handler, connection), connection)


async def _handle(handler: Callable[[Any], Awaitable[None]], connection: ServerConnection) -> None:
    """The task of a connection: its handler, then the close."""
    try:
        with connection.server.service.handling(connection) as run:
            await handler(connection)
        if not connection._lost:
            connection.server._untended[connection] = None  # there is nothing left for a task to do
            connection._start_close(run.code, "", run.why)
    except asyncio.CancelledError:
        connection.transport.abort()
        raise


def _until_awaitable(steps: Steps, value: Any = None, *, error: Exception | None = None) -> Awaitable[Any] | None:
    """Run `Service.answer` until a hook returns something that must be awaited; None at the end."""
    try:
        value = steps.send(value) if error is None else steps.throw(error)
        while not inspect.isawaitable(value):
            value = steps.send(value)
    except StopIteration:
        return None
    return value
