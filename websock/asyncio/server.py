"""Serving with asyncio: `serve` and `unix_serve`."""

from __future__ import annotations

import asyncio
import collections
import functools
import os
import socket
import ssl as ssl_module
from collections.abc import Awaitable, Callable, Generator, Iterable, Sequence
from typing import Any, Unpack, cast

from ..core import draining
from ..core.closing import Close, serialize_close
from ..core.draining import Drained, Plan, outcome_of
from ..core.endpoint import default_logger
from ..core.forwarding import Networks, ProxyHeader
from ..core.gate import Ticket
from ..core.limits import Limits
from ..core.observer import Observer
from ..core.options import SAME_ORIGIN, OptionKeywords, Origins, options_from
from ..core.protocol import LINGER_TIME, Protocol, State
from ..core.service import Service
from ..core.slow import SlowConsumers, SlowPolicy, checked_policy
from ..exceptions import CloseCause, InvalidHandshake, InvalidState, ServerClosing
from ..http11 import Request, Response
from ..net.address import Address
from ..net.asyncio import can_watch
from ..net.asyncio.accept import Acceptor
from ..net.asyncio.memory import check_loop
from ..net.channel import can_be_read
from ..net.memory import listening as listening_in_memory
from ..net.memory import name_of
from ..net.options import SocketOptions
from ..net.resolving import resolve
from ..net.sockets import listening, no_delay
from ..spec import CloseCode
from ..typing import Data, LoggerLike
from ..version import SERVER
from .connection import Connection, broadcast, check_callback
from .opening import Opening, nothing_to_do
from .preface import read_header
from .turning_away import TurningAway

__all__ = ["Server", "ServerConnection", "broadcast", "serve", "unix_serve"]


class ServerConnection(Connection):
    """The server's end of a connection: what a handler gets.

    Attributes:
        server: the `Server` that it belongs to.
    """

    __slots__ = ("_ticket", "server")

    _counted = True

    server: Server
    _ticket: Ticket

    def open(
        self,
        transport: asyncio.Transport,
        protocol: Protocol,
        leftover: bytes,
        on_message: Callable[[Any, Data], object] | None = None,
    ) -> None:
        if (observer := self.server.service.observer) is not None:
            self._protocol = protocol
            observer.opened(self)
        super().open(transport, protocol, leftover, on_message)

    def _callback_failed(self, error: Exception) -> None:
        super()._callback_failed(error)
        if (observer := self.server.service.observer) is not None:
            observer.failed()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.server._untended.pop(self, None)
        if (observer := self.server.service.observer) is not None:
            observer.left(self)
        gate = self.server._gate
        gate.leave(self._ticket)
        gate.closed(self._ticket, self._protocol, self._loop.time())

    def _warn(self, what: str, details: str = "") -> None:
        self.server._gate.warn(self._ticket, what, details, self._loop.time())

    @property
    def remote_address(self) -> Any:
        """The client's address: the peer's, as ``socket.getpeername()`` gives it, or what a trusted proxy said."""
        ticket = self._ticket
        return super().remote_address if ticket.proxy_address is None else ticket.address

    @property
    def proxy_address(self) -> Any:
        """The address of the proxy that told `remote_address`; None without one."""
        return self._ticket.proxy_address

    @property
    def forwarded_proto(self) -> str | None:
        """``http`` or ``https``, as a trusted proxy said that the client spoke with it; for information."""
        return self._ticket.forwarded_proto


Handler = Callable[[ServerConnection], Awaitable[None]]
OnMessage = Callable[[ServerConnection, Data], object]
ProcessRequest = Callable[[ServerConnection, Request], "Awaitable[Response | None] | Response | None"]
ProcessResponse = Callable[[ServerConnection, Request, Response], "Awaitable[Response | None] | Response | None"]
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
        sock: a listening socket to use instead, or several.
        ssl: TLS settings; without them the server speaks plain ``ws://``.
        origins: who may connect from a browser; default: pages of the same host. See `Options`.
        hosts: the names by which the server may be asked, such as ``["example.com"]``; default: any. See `Options`.
        limits: see `Limits`; None for its defaults.
        trusted_proxies: networks, as text or of ``ipaddress``, of proxies whose Forwarded (RFC 7239) or
            X-Forwarded-For headers are believed; ``"unix"`` for peers on a Unix socket. ``remote_address`` is the
            client's then. X-Forwarded-Host is never looked at: a proxy has to hand the Host header on.
        proxy_protocol: connections begin with HAProxy's PROXY header, version 1 or 2, before TLS. It is required, and
            taken from `trusted_proxies` only, where these are given.
        process_request: called with connection and request before the handshake is answered; may return a response
            (a page, a health check, a refusal) instead, or be a coroutine function.
        process_response: called with connection, request and response; may change or replace the response.
        select_subprotocol: called with connection and the client's offer; picks one, or none, or raises
            NegotiationError.
        server_header: the Server header; None for none.
        create_connection: a subclass of `ServerConnection` to use.
        slow_consumers: what is done with broadcasts that a peer does not take; default: over 4 MiB its connection is
            closed with 1013.
        metrics: a `websock.metrics.Metrics`, which counts what happens here; None for none, which costs nothing.
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
        sock: socket.socket | Sequence[socket.socket] | None = None,
        ssl: ssl_module.SSLContext | None = None,
        origins: Origins = SAME_ORIGIN,
        hosts: Sequence[str] | None = None,
        limits: Limits | None = None,
        trusted_proxies: Iterable[Any] | None = None,
        proxy_protocol: bool = False,
        process_request: ProcessRequest | None = None,
        process_response: ProcessResponse | None = None,
        select_subprotocol: SelectSubprotocol | None = None,
        server_header: str | None = SERVER,
        create_connection: type[ServerConnection] = ServerConnection,
        slow_consumers: SlowConsumers | SlowPolicy | str | None = None,
        metrics: Observer | None = None,
        logger: LoggerLike | None = None,
        family: int = socket.AF_UNSPEC,
        reuse_port: bool = False,
        backlog: int = 1024,
        start_serving: bool = True,
        **options: Unpack[OptionKeywords],
    ) -> None:
        check_callback(on_message)
        service = Service(
            handler=nothing_to_do if handler is None and on_message is not None else cast("Handler", handler),
            options=options_from({**options, "origins": origins, "hosts": hosts}, "serve()", _KEYWORDS),
            logger=logger or default_logger("server"),
            process_request=process_request,
            process_response=process_response,
            select_subprotocol=select_subprotocol,
            server_header=server_header,
            slow_consumers=checked_policy(slow_consumers),
            limits=Limits() if limits is None else limits,
            trusted_proxies=None if trusted_proxies is None else Networks(trusted_proxies),
            proxy_protocol=proxy_protocol,
            observer=metrics,
        )
        self._server = Server(service, create_connection, ssl, on_message)
        self._start_serving = start_serving
        places: Sequence[str | None] = [host] if host is None or isinstance(host, str) else host

        asked = SocketOptions(reuse_port=reuse_port or None, backlog=backlog)

        def listen() -> list[socket.socket]:
            if sock is not None:
                return list(sock) if isinstance(sock, Sequence) else [sock]
            if (in_memory := name_of(host)) is not None:
                check_loop(asyncio.get_running_loop(), in_memory)
                return [listening_in_memory(in_memory)]
            found = [place for name in places for place in _places(name, port or 0, family)]
            return [one for place in found for one in listening(place, asked)]

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


def unix_serve(handler: Handler | None, path: str | os.PathLike[str], **options: Any) -> serve:
    """Serve on a Unix socket: as `serve`. A dead server's file is replaced, ours removed at the end."""
    opening = serve(handler, **options)
    opening._listen = lambda: listening(Address("unix", path=os.fspath(path)))
    return opening


class Server:
    """A running server: what `serve` gives.

    Attributes:
        draining: `drain` was called: handlers that push may want to end by themselves.
    """

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
        self._gate = service.gate()
        self._away: TurningAway
        self._loop: asyncio.AbstractEventLoop
        self._sockets: list[socket.socket] = []
        self._serving = False
        self._acceptor: Acceptor  # by ourselves, since a server that closes must also end what is in a TLS handshake
        self._connecting: set[asyncio.Task[None]] = set()  # those that have no transport yet
        self._openings: dict[Opening, None] = {}  # in their order, so that a simulation is repeated exactly
        self._deadlines: collections.OrderedDict[Opening, float] = collections.OrderedDict()  # all have as much time
        self._held: asyncio.TimerHandle | None = None  # accepting waits for half-open connections
        self._gate.on_room = self._accept_on
        self._sweep: asyncio.TimerHandle | None = None  # at the first of them
        self._sessions: dict[asyncio.Task[None], ServerConnection] = {}  # by the task of the handler, or of a hook
        self._untended: dict[ServerConnection, None] = {}  # those whose handler has ended, or that need none
        self.draining = False
        self._farewell: tuple[int, str] | None = None  # for those that are opening meanwhile
        self._refusing = True  # them
        self._closing: asyncio.Task[Any] | None = None
        self._closed: asyncio.Future[None] | None = None

    async def _listen(self, sockets: list[socket.socket], start_serving: bool) -> None:
        self._loop = asyncio.get_running_loop()
        self._closed = self._loop.create_future()
        self._away = TurningAway(self._loop)
        self._sockets = sockets
        if self.service.observer is not None:
            try:
                self.service.observer.begin(self)
            except BaseException:
                for sock in sockets:
                    sock.close()
                raise
        for sock in sockets:
            no_delay(sock)  # what is accepted inherits it
            sock.setblocking(False)
        self._acceptor = Acceptor(self._loop, sockets, self._accepted, self.logger)
        self.logger.info("server listening on %s", ", ".join(str(sock.getsockname()) for sock in sockets))
        if start_serving:
            await self.start_serving()

    def _accepted(self, sock: socket.socket, peer: Any) -> None:
        ticket = self._gate.enter(peer, self._loop.time())
        if isinstance(ticket, InvalidHandshake):
            self._away.turn_away(sock, self.service.refusal(ticket, secure=self._ssl is not None))
            return
        if wait := self._gate.wait(self._loop.time()):
            self._acceptor.pause()
            if self._held is None:
                self._held = self._loop.call_later(wait, self._accept_on)
        opening = Opening(self, self._loop, ticket)
        ticket.waits_for_us = functools.partial(can_be_read, sock)
        if can_watch(self._loop):
            try:
                opening.start(sock, self._ssl)
            except BaseException as error:
                opening.lost(error)
                raise
        else:
            task = opening.connecting = self._loop.create_task(self._connect(opening, sock))
            self._connecting.add(task)
            task.add_done_callback(functools.partial(self._connecting_ended, sock))

    def _accept_on(self) -> None:
        """There is room for half-open connections again, or one of them has had its time."""
        if self._held is not None:
            self._held.cancel()
            self._held = None
            if self._serving:
                self._acceptor.start()

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

    async def _connect(self, opening: Opening, sock: socket.socket) -> None:
        """Give an accepted socket a transport of the loop's, with the TLS handshake where there is one."""
        tls = self._ssl is not None
        try:
            if self.service.proxy_protocol:
                header = ProxyHeader()
                await read_header(self._loop, sock, header)
                opening.proxied(header)
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
            if not isinstance(error, OSError | EOFError | InvalidHandshake):
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

    def close(
        self,
        close_connections: bool = True,
        code: int = CloseCode.GOING_AWAY,
        reason: str = "",
        *,
        refuse: bool = True,
    ) -> None:
        """Stop accepting, refuse what is not open yet with 503, and close all connections with `code`.

        While the server drains it need not wait any longer then: what is open is closed now.

        Args:
            close_connections: False lets the open ones end by themselves.
            refuse: answer those that are not open yet with 503; False opens them first.

        Raises:
            ValueError: a code that may not be sent, or a reason of more than 123 octets.
        """
        serialize_close(Close(code, reason))
        if self._closing is None:
            self._refusing = refuse
            self._farewell = (code, reason) if close_connections else None
            self._closing = asyncio.get_running_loop().create_task(self._close(close_connections, code, reason))
        elif self.draining and close_connections:
            self._close_connections(code, reason)

    async def drain(
        self,
        deadline: float = draining.DEADLINE,
        *,
        code: int = draining.CODE,
        reason: str = "",
        spread: float = 0,
        refuse: bool = True,
    ) -> Drained:
        """Stop so that nothing that was accepted is lost, and wait until all is over; tell how each connection ended.

        No connection is accepted any more; openings get 503, or are opened first and closed then. ``draining`` is true
        from now on. Each connection gets a Close as soon as its handler has answered what came and waits for more; what
        comes after that is not given to the handler, and the peer knows by the Close that it was not accepted. A
        handler that does not come back is waited for half of the time. What is left at the deadline is cut, and its
        handler cancelled. A handler that awaits this itself is one that does not come back: let a task do it.

        Args:
            deadline: seconds that all of it may take.
            code, reason: of the Close; 1012 (service restart) lets clients come back, 1001 says that we go away.
            spread: seconds over which the Closes are spread at random, so that not all clients come back at once.
            refuse: False opens what is not open yet.

        Raises:
            TypeError, ValueError: not numbers of seconds, or a Close that cannot be sent.
            InvalidState: the server is closing already.
        """
        plan = Plan(deadline, code, reason, spread)
        if self._closing is not None:
            raise InvalidState("the server is closing already")
        self.draining = True
        self._refusing = refuse
        self._farewell = (code, reason)
        running = self._closing = asyncio.get_running_loop().create_task(self._drain(plan))
        return await asyncio.shield(running)

    async def _drain(self, plan: Plan) -> Drained:
        started = self._loop.time()
        self.logger.info("server draining")
        await self._stop_accepting()
        refused = self._refuse_openings()
        connections = [one for one in [*self._sessions.values(), *self._untended] if one.state is not State.CONNECTING]
        times = plan.times(connections)
        waiting = set(connections)
        while waiting and (now := self._loop.time() - started) < plan.deadline:
            while times and times[-1][0] <= now:
                times.pop()[1]._leave(plan.code, plan.reason, plan.patience)
            waiting = {one for one in waiting if not one._lost}
            for one in waiting:
                one._leave_if_idle()
            await asyncio.sleep(draining.STEP)
        for one in waiting:
            one.transport.abort()
        for task in [task for task, connection in self._sessions.items() if connection in waiting]:
            task.cancel()
        ended = self._loop.create_task(self._wait_ended())
        if not (await asyncio.wait([ended], timeout=max(0.0, started + plan.deadline - self._loop.time())))[0]:
            # Handlers that are left, and what was opened meanwhile, or is not open yet.
            for task, connection in list(self._sessions.items()):
                task.cancel()
                if connection.state is not State.CONNECTING:
                    connection.transport.abort()
            for opening in list(self._openings):
                opening.cut()
            for connection in list(self._untended):
                connection.transport.abort()
        await ended
        outcomes = {one: outcome_of(one, plan, one in waiting) for one in connections}
        drained = Drained(outcomes, refused, self._loop.time() - started)
        self.logger.info("server drained: %s", drained)
        return drained

    async def _close(self, close_connections: bool, code: int, reason: str) -> None:
        self.logger.info("server closing")
        await self._stop_accepting()
        self._refuse_openings()
        if close_connections:
            self._close_connections(code, reason)
        await self._wait_ended()

    def _close_connections(self, code: int, reason: str) -> None:
        for connection in [*self._sessions.values(), *self._untended]:
            if connection.state is not State.CONNECTING:
                connection._start_close(code, reason, CloseCause.DRAINED)

    async def _stop_accepting(self) -> None:
        self._serving = False
        self._accept_on()
        await self._acceptor.stop()
        self._away.close()
        tasks = list(self._connecting)
        if self._refusing:
            for task in tasks:
                task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for sock in self._sockets:
            sock.close()
        self._sockets = []

    def _refuse_openings(self) -> int:
        """Answer what is not open yet with 503, unless that is to be opened first; how many they were."""
        openings = list(self._openings) if self._refusing else []
        for opening in openings:
            opening.refuse(ServerClosing("the server is closing"))
        return len(openings)

    async def _wait_ended(self) -> None:
        """Wait until every connection and every handler has ended."""
        try:
            while self._sessions or self._untended or self._openings:
                waiting: list[asyncio.Task[None] | asyncio.Future[None]] = [*self._sessions]
                waiting += [opening.ended for opening in self._openings]
                waiting += [self._loop.create_task(connection.wait_closed()) for connection in self._untended]
                await asyncio.wait(waiting)
        finally:
            if self.service.observer is not None:
                self.service.observer.end(self)
        if self._sweep is not None:
            self._sweep.cancel()
        self._gate.log.flush(self._loop.time())
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
