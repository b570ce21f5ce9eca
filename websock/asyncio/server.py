"""Serving with asyncio: `serve` and `unix_serve`."""

from __future__ import annotations

import asyncio
import collections
import functools
import inspect
import os
import socket
import ssl as ssl_module
from collections.abc import Awaitable, Callable, Coroutine, Generator, Sequence
from typing import Any, Unpack, cast

from ..core.endpoint import default_logger, log_outcome
from ..core.handshake import ServerHandshake
from ..core.options import SAME_ORIGIN, OptionKeywords, Origins, options_from
from ..core.protocol import LINGER_TIME, State
from ..core.service import HandlerRun, Service
from ..exceptions import InvalidHandshake, RequestTimeout, ServerClosing
from ..http11 import Request, Response
from ..net.address import Address
from ..net.asyncio import can_watch, transport_for
from ..net.asyncio.accept import Acceptor
from ..net.asyncio.memory import check_loop
from ..net.memory import listening as listening_in_memory
from ..net.memory import name_of
from ..net.options import SocketOptions
from ..net.resolving import resolve
from ..net.sockets import listening, no_delay
from ..spec import CloseCode
from ..typing import Data, LoggerLike
from ..version import SERVER
from .connection import Connection, broadcast, check_callback, end_writing

__all__ = ["Server", "ServerConnection", "broadcast", "serve", "unix_serve"]


class ServerConnection(Connection):
    """The server's end of a connection: what a handler gets.

    Attributes:
        server: the `Server` that it belongs to.
    """

    __slots__ = ("server",)

    server: Server

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.server._untended.pop(self, None)


Handler = Callable[[ServerConnection], Awaitable[None]]
OnMessage = Callable[[ServerConnection, Data], object]
ProcessRequest = Callable[[ServerConnection, Request], "Awaitable[Response | None] | Response | None"]
ProcessResponse = Callable[[ServerConnection, Request, Response], "Awaitable[Response | None] | Response | None"]
Steps = Generator[Any, Any, None]
SelectSubprotocol = Callable[[ServerConnection, Sequence[str]], "str | None"]


class serve:  # noqa: N801 - it is used like a function
    """Serve WebSocket connections.

    ::

        async with serve(handler, "localhost", 8765) as server:
            await server.serve_forever()

    `handler` gets each connection; when it returns the connection is closed with 1000, when it raises with 1011.

    Args:
        handler: a coroutine function; None with `on_message`, if there is nothing else to do for a connection.
        on_message: called with connection and message, from the read that brought it and without a task: an ordinary
            function. What it sends, it sends with ``ws.send(...)`` and need not await; a peer that does not take what
            is sent to it is not read from. When it raises, the connection is closed with 1011.
        host, port: where to listen; host None is every address, port 0 any free one. ``mem://name`` is a place in a
            simulation (`websock.testing`).
        sock: a listening socket to use instead.
        ssl: TLS settings; without them the server speaks plain ``ws://``.
        origins: who may connect from a browser; default: pages of the same host. See `Options`.
        process_request: called with connection and request before the handshake is answered; may return a response
            (a page, a health check, a refusal) instead, or be a coroutine function.
        process_response: called with connection, request and response; may change or replace the response.
        select_subprotocol: called with connection and the client's offer; picks one, or none, or raises
            NegotiationError.
        server_header: the Server header; None for none.
        create_connection: a subclass of `ServerConnection` to use.
        logger: default ``logging.getLogger("websock.server")``.
        family, reuse_port, backlog: as in ``loop.create_server``.
        start_serving: False: begin with ``server.start_serving()``.
        options: the fields of `Options`: ``subprotocols``, ``max_size``, ``ping_interval``, ...

    Raises:
        OSError: cannot listen there; the message names the address.
        TypeError, ValueError: an option is not one, or has a wrong value.
    """

    def __init__(
        self,
        handler: Handler | None,
        host: str | Sequence[str] | None = None,
        port: int | None = None,
        *,
        on_message: OnMessage | None = None,
        sock: socket.socket | None = None,
        ssl: ssl_module.SSLContext | None = None,
        origins: Origins = SAME_ORIGIN,
        process_request: ProcessRequest | None = None,
        process_response: ProcessResponse | None = None,
        select_subprotocol: SelectSubprotocol | None = None,
        server_header: str | None = SERVER,
        create_connection: type[ServerConnection] = ServerConnection,
        logger: LoggerLike | None = None,
        family: int = socket.AF_UNSPEC,
        reuse_port: bool = False,
        backlog: int = 1024,
        start_serving: bool = True,
        **options: Unpack[OptionKeywords],
    ) -> None:
        check_callback(on_message)
        service = Service(
            handler=_nothing_to_do if handler is None and on_message is not None else cast("Handler", handler),
            options=options_from({**options, "origins": origins}, "serve()", _KEYWORDS),
            logger=logger or default_logger("server"),
            process_request=process_request,
            process_response=process_response,
            select_subprotocol=select_subprotocol,
            server_header=server_header,
        )
        self._server = Server(service, create_connection, ssl, on_message)
        self._start_serving = start_serving
        hosts: Sequence[str | None] = [host] if host is None or isinstance(host, str) else host

        asked = SocketOptions(reuse_port=reuse_port or None, backlog=backlog)

        def listen() -> list[socket.socket]:
            if sock is not None:
                return [sock]
            if (in_memory := name_of(host)) is not None:
                check_loop(asyncio.get_running_loop(), in_memory)
                return [listening_in_memory(in_memory)]
            places = [place for name in hosts for place in _places(name, port or 0, family)]
            return [one for place in places for one in listening(place, asked)]

        self._listen: Callable[[], list[socket.socket]] = listen

    def __await__(self) -> Generator[Any, None, Server]:
        return self._open().__await__()

    async def __aenter__(self) -> Server:
        return await self._open()

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: Any) -> None:
        await self._server.__aexit__(kind, error, traceback)

    async def _open(self) -> Server:
        await self._server._listen(self._listen(), self._start_serving)
        return self._server


_KEYWORDS = tuple(serve.__init__.__annotations__)


def _places(host: str | None, port: int, family: int) -> list[Address]:
    """Where to listen: all that the host has, or what it has of one family."""
    address = Address("tcp", host or "", port)
    if not family:
        return [address]
    return [Address("tcp", target.sockaddr[0], port) for target in resolve(address, passive=True, family=family)]


async def _nothing_to_do(connection: ServerConnection) -> None:
    """Stands for the handler of a server that has `on_message` alone; its connections need no task."""


def unix_serve(handler: Handler | None, path: str | os.PathLike[str], **options: Any) -> serve:
    """Serve on a Unix socket: as `serve`. A dead server's file is replaced, ours removed at the end."""
    opening = serve(handler, **options)
    opening._listen = lambda: listening(Address("unix", path=os.fspath(path)))
    return opening


class Server:
    """A running server: what `serve` gives."""

    def __init__(
        self,
        service: Service,
        create_connection: type[ServerConnection],
        ssl: ssl_module.SSLContext | None,
        on_message: OnMessage | None = None,
    ) -> None:
        self._on_message = on_message
        self.service = service
        self.logger = service.logger
        self.create_connection = create_connection
        self._ssl = ssl
        self._loop: asyncio.AbstractEventLoop
        self._sockets: list[socket.socket] = []
        self._serving = False
        self._acceptor: Acceptor  # by ourselves, since a server that closes must also end what is in a TLS handshake
        self._connecting: set[asyncio.Task[None]] = set()  # those that have no transport yet
        self._openings: dict[_Opening, None] = {}  # in their order, so that a simulation is repeated exactly
        self._deadlines: collections.OrderedDict[_Opening, float] = collections.OrderedDict()  # all have as much time
        self._sweep: asyncio.TimerHandle | None = None  # at the first of them
        self._sessions: dict[asyncio.Task[None], ServerConnection] = {}  # by the task of the handler, or of a hook
        self._untended: dict[ServerConnection, None] = {}  # those whose handler has ended, or that need none
        self._closing: asyncio.Task[None] | None = None
        self._closed: asyncio.Future[None] | None = None

    async def _listen(self, sockets: list[socket.socket], start_serving: bool) -> None:
        self._loop = asyncio.get_running_loop()
        self._closed = self._loop.create_future()
        self._sockets = sockets
        for sock in sockets:
            no_delay(sock)  # what is accepted inherits it
            sock.setblocking(False)
        self._acceptor = Acceptor(self._loop, sockets, self._accepted, self.logger)
        self.logger.info("server listening on %s", ", ".join(str(sock.getsockname()) for sock in sockets))
        if start_serving:
            await self.start_serving()

    def _accepted(self, sock: socket.socket, peer: Any) -> None:
        opening = _Opening(self, self._loop, peer)
        if can_watch(self._loop):
            try:
                opening.start(sock, self._ssl)
            except BaseException as error:
                opening.lost(error)
                raise
        else:
            task = self._loop.create_task(self._connect(opening, sock))
            self._connecting.add(task)
            task.add_done_callback(functools.partial(self._connecting_ended, sock))

    def _connecting_ended(self, sock: socket.socket, task: asyncio.Task[None]) -> None:
        self._connecting.discard(task)
        if task.cancelled():  # perhaps before it began
            sock.close()

    def _watch_deadlines(self) -> None:
        """End the openings that have had their time, and look again when the next one has."""
        self._sweep = None
        while self._deadlines:
            opening, deadline = next(iter(self._deadlines.items()))
            if deadline > self._loop.time():
                self._sweep = self._loop.call_at(deadline, self._watch_deadlines)
                return
            del self._deadlines[opening]
            opening.timeout()

    async def _connect(self, opening: _Opening, sock: socket.socket) -> None:
        """Give an accepted socket a transport of the loop's, with the TLS handshake where there is one."""
        tls = self._ssl is not None
        try:
            await self._loop.connect_accepted_socket(
                lambda: opening,
                sock,
                ssl=self._ssl,
                ssl_handshake_timeout=self.service.options.open_timeout if tls else None,
                ssl_shutdown_timeout=LINGER_TIME if tls else None,
            )
        except BaseException as error:
            opening.lost(error)
            sock.close()
            if not isinstance(error, OSError):
                raise

    @property
    def sockets(self) -> tuple[Any, ...]:
        """The listening sockets."""
        return tuple(self._sockets)

    @property
    def connections(self) -> set[ServerConnection]:
        """The connections that are open now."""
        found = {connection for connection in self._sessions.values() if connection.state is State.OPEN}
        return found | {connection for connection in self._untended if connection.state is State.OPEN}

    def get_loop(self) -> asyncio.AbstractEventLoop:
        """The event loop that the server runs in."""
        return self._loop

    def is_serving(self) -> bool:
        """Whether new connections are accepted."""
        return self._serving

    async def start_serving(self) -> None:
        """Begin to accept connections, after ``serve(..., start_serving=False)``."""
        if not self._serving and self._closing is None:
            self._serving = True
            self._acceptor.start()

    async def serve_forever(self) -> None:
        """Wait until the server is closed; when cancelled, close it."""
        await self.start_serving()
        try:
            await self.wait_closed()
        except asyncio.CancelledError:
            self.close()
            await self.wait_closed()
            raise

    def close(self, close_connections: bool = True, code: int = CloseCode.GOING_AWAY, reason: str = "") -> None:
        """Stop accepting, refuse what is not open yet with 503, and close all connections with `code`.

        Args:
            close_connections: False lets the open ones end by themselves.
        """
        if self._closing is None:
            self._closing = asyncio.get_running_loop().create_task(self._close(close_connections, code, reason))

    async def _close(self, close_connections: bool, code: int, reason: str) -> None:
        self.logger.info("server closing")
        self._serving = False
        await self._acceptor.stop()
        tasks = list(self._connecting)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for sock in self._sockets:
            sock.close()
        self._sockets = []
        for opening in list(self._openings):
            opening.refuse(ServerClosing("the server is closing"))
        if close_connections:
            for connection in [*self._sessions.values(), *self._untended]:
                if connection.state is not State.CONNECTING:
                    connection._start_close(code, reason)
        while self._sessions or self._untended or self._openings:
            waiting: list[asyncio.Task[None] | asyncio.Future[None]] = [*self._sessions]
            waiting += [opening.ended for opening in self._openings]
            waiting += [self._loop.create_task(connection.wait_closed()) for connection in self._untended]
            await asyncio.wait(waiting)
        if self._sweep is not None:
            self._sweep.cancel()
        if self._closed is not None and not self._closed.done():
            self._closed.set_result(None)

    async def wait_closed(self) -> None:
        """Wait until the server is closed and every handler has ended."""
        if self._closed is not None:
            await asyncio.shield(self._closed)

    async def __aenter__(self) -> Server:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: Any) -> None:
        self.close()
        await self.wait_closed()


class _Opening(asyncio.Protocol):
    """One connection from its acceptance to the answer of its opening handshake."""

    def __init__(self, server: Server, loop: asyncio.AbstractEventLoop, peer: Any) -> None:
        # Made when the TCP connection is accepted: time counts from now, TLS included.
        self._server = server
        self._loop = loop
        self._handshake = ServerHandshake(options=server.service.options)
        self._transport: asyncio.Transport | None = None
        self._session: asyncio.Task[None] | None = None
        self._connected = False  # and the TLS handshake is done
        self._heard = False
        self._peer = peer
        self.ended: asyncio.Future[None] = loop.create_future()
        self._timer: asyncio.TimerHandle | None = None  # for reading an answer that ends the connection
        server._openings[self] = None
        timeout = server.service.options.open_timeout
        if timeout is not None:
            server._deadlines[self] = deadline = loop.time() + timeout
            if server._sweep is None:
                server._sweep = loop.call_at(deadline, server._watch_deadlines)

    def start(self, sock: socket.socket, context: ssl_module.SSLContext | None) -> None:
        transport = transport_for(self._loop, sock, self, self._peer, context=context, server_side=True)
        self._transport = transport
        transport.start()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._connected = True
        if self._handshake.done:
            self._transport.abort()  # time ran out in the TLS handshake
        elif self._server._closing is not None:
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
            assert self._transport is not None  # noqa: S101 - for the type checker
            self._transport.pause_reading()  # what comes now belongs to the open connection
            connection = self._server.create_connection(self._loop, self._server.logger)
            connection.server = self._server
            connection.transport = self._transport
            connection.request = handshake.request
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
            log_outcome(self._server.logger, None, exc, self._peer)
            self._handshake.done = True
            if self._session is not None:
                self._session.cancel()
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

    def timeout(self) -> None:
        """The time that an opening handshake may take is over."""
        if not self._heard:
            self._give_up(RequestTimeout("no request in time"))
        else:
            self.refuse(RequestTimeout(f"no complete handshake within {self._server.service.options.open_timeout} s"))

    def _give_up(self, failure: InvalidHandshake) -> None:
        """End without an answer: there is nobody, or no TLS connection, to give it to."""
        if not self._handshake.done:
            log_outcome(self._server.logger, None, failure, self._peer)
            self._handshake.done = True
            if self._transport is not None:
                self._transport.abort()
            else:
                self._end()

    def _answered(self) -> None:
        """Write an answer that is not 101; then wait a little for the peer to read it."""
        transport = self._transport
        assert transport is not None  # noqa: S101 - for the type checker
        log_outcome(self._server.logger, self._handshake.response, self._handshake.failure, self._peer)
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
        log_outcome(server.logger, handshake.response, None, self._peer)
        self._end()
        transport.writelines(handshake.outgoing())
        transport.resume_reading()  # before what may pause it again: the loop reads when we are done
        if server.service.handler is _nothing_to_do:
            server._untended[connection] = None
        connection.open(transport, handshake.protocol, handshake.leftover, server._on_message)
        if server._closing is not None:
            connection._start_close(CloseCode.GOING_AWAY, "")
        if server.service.handler is not _nothing_to_do:  # last, since an eager task runs at once
            self._start(_handle(server.service.handler, connection), connection)


async def _handle(handler: Handler, connection: ServerConnection) -> None:
    """The task of a connection: its handler, then the close."""
    try:
        with HandlerRun(connection.logger) as run:
            await handler(connection)
        if not connection._lost:
            connection.server._untended[connection] = None  # there is nothing left for a task to do
            connection._start_close(run.code, "")
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
