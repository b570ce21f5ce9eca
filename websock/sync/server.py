"""Serving from blocking code: `serve` and `unix_serve`. What runs a connection is a `Model`, by default `Threads`."""

from __future__ import annotations

import os
import socket
import ssl as ssl_module
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, Unpack, cast

from ..core import draining
from ..core.closing import Close, serialize_close
from ..core.draining import Drained, Plan, outcome_of
from ..core.endpoint import default_logger
from ..core.forwarding import Networks
from ..core.gate import Ticket
from ..core.limits import Limits
from ..core.observer import Observer
from ..core.options import SAME_ORIGIN, OptionKeywords, Origins, options_from
from ..core.protocol import Protocol, State
from ..core.service import Service, check_kind
from ..core.slow import SlowConsumers, SlowPolicy, checked_policy
from ..exceptions import InvalidHandshake, InvalidState
from ..http11 import Request, Response
from ..net import memory
from ..net.address import Address
from ..net.errors import ClosedError
from ..net.listener import Listener
from ..net.options import SocketOptions
from ..net.sockets import BACK_OFF, listening, no_delay
from ..spec import CloseCode
from ..typing import LoggerLike
from ..version import SERVER
from .broadcasting import broadcast
from .connection import Connection
from .models import Model, Threads
from .session import Session
from .turning_away import TurningAway

__all__ = ["Server", "ServerConnection", "broadcast", "serve", "unix_serve"]

ROOM_STEP: Final = 0.01  # seconds between two looks for room
HALF_OPEN: Final = 160  # a thread that waits takes about 24 KiB


class ServerConnection(Connection):
    """The server's end of a connection: what a handler gets.

    Attributes:
        server: the `Server` that it belongs to.
        remote_address: the client's address: the peer's, or what a trusted proxy said.
        proxy_address: the address of the proxy that told `remote_address`; None without one.
        forwarded_proto: ``http`` or ``https``, as a trusted proxy said that the client spoke with it; for information.
    """

    __slots__ = ("_ticket", "forwarded_proto", "proxy_address", "server")

    _counted = True
    _ticket: Ticket

    server: Server
    proxy_address: Any
    forwarded_proto: str | None

    def open(self, protocol: Protocol, leftover: bytes) -> None:
        if (observer := self.server.service.observer) is not None:
            self._protocol = protocol
            observer.opened(self)
        super().open(protocol, leftover)

    def _closed(self) -> None:
        super()._closed()
        server = self.server
        if server.service.observer is not None:
            server.service.observer.left(self)
        with server._gate_lock:
            server._gate.closed(self._ticket, self._protocol, time.monotonic())

    def _warn(self, what: str, details: str = "") -> None:
        with self.server._gate_lock:
            self.server._gate.warn(self._ticket, what, details, time.monotonic())


Handler = Callable[[ServerConnection], None]
ProcessRequest = Callable[[ServerConnection, Request], "Response | None"]
ProcessResponse = Callable[[ServerConnection, Request, Response], "Response | None"]
SelectSubprotocol = Callable[[ServerConnection, Sequence[str]], "str | None"]


def serve(
    handler: Handler,
    host: str | Sequence[str] | None = None,
    port: int | None = None,
    *,
    sock: socket.socket | Sequence[socket.socket] | None = None,
    model: Model | None = None,
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
    reuse_port: bool = False,
    backlog: int = 1024,
    **options: Unpack[OptionKeywords],
) -> Server:
    """Serve WebSocket connections, each in a thread, or as `model` has it.

    ::

        with serve(handler, "localhost", 8765) as server:
            server.serve_forever()

    `handler` gets each connection; when it returns the connection is closed with 1000, when it raises with 1011.

    Args:
        handler: a function.
        host, port: where to listen; host None is every address, port 0 any free one. ``mem://name`` is a place in a
            simulation (`websock.testing`).
        sock: a listening socket to use instead, or several.
        model: where connections run: ``Threads()``, the default, ``Pool()`` or ``Processes()`` of ``websock.serving``.
        ssl: TLS settings; without them the server speaks plain ``ws://``.
        origins: who may connect from a browser; default: pages of the same host. See `Options`.
        hosts: the names by which the server may be asked, such as ``["example.com"]``; default: any. See `Options`.
        limits: see `Limits`; None for its defaults, with 160 half-open handshakes, since each has a thread here.
        trusted_proxies: networks, as text or of ``ipaddress``, of proxies whose Forwarded (RFC 7239) or
            X-Forwarded-For headers are believed; ``"unix"`` for peers on a Unix socket. ``remote_address`` is the
            client's then. X-Forwarded-Host is never looked at: a proxy has to hand the Host header on.
        proxy_protocol: connections begin with HAProxy's PROXY header, version 1 or 2, before TLS. It is required, and
            taken from `trusted_proxies` only, where these are given.
        process_request: called with connection and request before the handshake is answered; may return a response
            (a page, a health check, a refusal) instead.
        process_response: called with connection, request and response; may change or replace the response.
        select_subprotocol: called with connection and the client's offer; picks one, or none, or raises
            NegotiationError.
        server_header: the Server header; None for none.
        create_connection: a subclass of `ServerConnection` to use.
        slow_consumers: what is done with broadcasts that a peer does not take; default: over 4 MiB its connection is
            closed with 1013.
        metrics: a `websock.metrics.Metrics`, which counts what happens here; None for none, which costs nothing.
        logger: default ``logging.getLogger("websock.server")``.
        reuse_port, backlog: of the listening sockets.
        options: the fields of `Options`: ``subprotocols``, ``max_size``, ``ping_interval``, ...

    Raises:
        OSError: cannot listen there; the message names the address.
        TypeError, ValueError: an option is not one, or has a wrong value.
    """
    model = model or Threads()
    check_kind(handler, asynchronous=False, model=model.name)
    service = Service(
        handler=handler,
        options=options_from({**options, "origins": origins, "hosts": hosts}, "serve()", _KEYWORDS),
        logger=logger or default_logger("server"),
        process_request=process_request,
        process_response=process_response,
        select_subprotocol=select_subprotocol,
        server_header=server_header,
        slow_consumers=checked_policy(slow_consumers),
        limits=Limits(half_open=HALF_OPEN) if limits is None else limits,
        trusted_proxies=None if trusted_proxies is None else Networks(trusted_proxies),
        proxy_protocol=proxy_protocol,
        observer=metrics,
    )
    if metrics is not None and not model.in_process:
        raise ValueError(f"metrics count in one process, and the model {model.name!r} has one for each connection")
    places: Sequence[str | None] = [host] if host is None or isinstance(host, str) else host
    asked = SocketOptions(backlog=backlog, reuse_port=reuse_port or None)
    listeners: list[socket.socket] = []
    try:
        if sock is not None:
            listeners += sock if isinstance(sock, Sequence) else [sock]
            for listener in listeners:
                no_delay(listener)  # what is accepted inherits it
        elif (in_memory := memory.name_of(host)) is not None:
            listeners.append(memory.listening(in_memory))
        else:
            for name in places:
                listeners += listening(Address("tcp", name or "", port or 0), asked)
        return Server(service, listeners, create_connection, ssl, model)
    except BaseException:
        for listener in listeners:
            listener.close()
        raise


_KEYWORDS = tuple(serve.__annotations__)


def unix_serve(handler: Handler, path: str | os.PathLike[str], **options: Any) -> Server:
    """Serve on a Unix socket: as `serve`. A dead server's file is replaced, ours removed at the end."""
    return serve(handler, sock=listening(Address("unix", path=os.fspath(path)))[0], **options)


class _Host:
    """What a model sees of the server."""

    def __init__(self, listener: Listener | memory.MemoryListener, logger: LoggerLike) -> None:
        self.logger = logger
        self.watch = listener.watch
        self.unwatch = listener.unwatch
        self.forget = listener.forget


class Server:
    """A server: what `serve` gives. It listens from the beginning, and accepts in `serve_forever`.

    Attributes:
        draining: `drain` was called: handlers that push may want to end by themselves.
    """

    def __init__(
        self,
        service: Service,
        sockets: list[socket.socket],
        create_connection: type[ServerConnection],
        ssl: ssl_module.SSLContext | None,
        model: Model | None = None,
    ) -> None:
        self.service = service
        self.logger = service.logger
        self.create_connection = create_connection
        self.ssl = ssl
        self._listener: Listener | memory.MemoryListener
        if isinstance(sockets[0], memory.MemorySocket):
            self._listener = memory.network_for(str(sockets[0])).listener(sockets)
        else:
            self._listener = Listener(sockets, logger=self.logger)
        self._gate = service.gate()
        self._gate_lock = threading.Lock()  # guards it; nothing waits while it is held
        self._away = TurningAway()
        self._lock = threading.RLock()  # a signal handler may call shutdown in the thread that accepts
        self.model = model or Threads()
        try:
            self.model.open(_Host(self._listener, self.logger))
        except BaseException:  # it has a server already
            self._listener.close()
            raise
        self._closing = False
        self._farewell: tuple[int, str] | None = None  # for those that are opening meanwhile
        self.draining = False
        self._refusing = True  # them
        self._acceptor: threading.Thread | None = None  # who is in serve_forever
        self._beginning = False  # and makes a job of a connection
        self._ending: tuple[Any, ...] | None = None  # what it has to do of `shutdown` afterwards
        self._stopped = threading.Event()  # nobody is in serve_forever
        self._stopped.set()
        if service.observer is not None:
            try:
                service.observer.begin(self)
            except BaseException:
                self._listener.close()
                raise
        self.logger.info("server listening on %s", ", ".join(str(sock.getsockname()) for sock in sockets))

    @property
    def sockets(self) -> tuple[socket.socket, ...]:
        """The listening sockets."""
        return () if self._listener.closed else self._listener.sockets

    @property
    def socket(self) -> socket.socket:
        """The first listening socket."""
        return self._listener.sockets[0]

    @property
    def connections(self) -> set[ServerConnection]:
        """The connections that are open now, in this process."""
        sessions = cast("list[Session]", self.model.jobs())
        return {one.connection for one in sessions if one.connection is not None and one.connection.state is State.OPEN}

    def fileno(self) -> int:
        """The descriptor of the first listening socket."""
        return self.socket.fileno()

    def watch(self, file: Any, callback: Callable[[], object]) -> None:
        """Call `callback` in the thread that is in `serve_forever`, whenever `file` can be read."""
        self._listener.watch(file, callback)

    def unwatch(self, file: Any) -> None:
        """No more; no error when the server is closed."""
        self._listener.unwatch(file)

    def serve_forever(self) -> None:
        """Accept connections until `shutdown` is called, from another thread or a signal handler.

        Raises:
            InvalidState: it runs already.
        """
        with self._lock:
            if self._closing:
                return
            if self._acceptor is not None:
                raise InvalidState("serve_forever runs already")
            self._acceptor = threading.current_thread()
            self._stopped.clear()
        try:
            while True:
                self._beginning = True
                self._wait_for_room()
                self._beginning = False
                accepted = self._listener.accept_socket()
                self._beginning = True
                self._begin(*accepted)
                self._beginning = False
        except ClosedError:
            pass
        finally:
            self._beginning = False
            self._acceptor = None
            self._stopped.set()
            if self._ending is not None:
                self._end(*self._ending)

    def _wait_for_room(self) -> None:
        """While there are enough half-open connections, who comes waits in the kernel."""
        while not self._closing:
            with self._gate_lock:
                wait = self._gate.wait(time.monotonic())
            if not wait:
                return
            time.sleep(min(wait, ROOM_STEP))

    def _begin(self, sock: Any, address: Any) -> None:
        with self._gate_lock:
            ticket = self._gate.enter(address, time.monotonic())
        if isinstance(ticket, InvalidHandshake):
            self._turn_away(sock, ticket)
            return
        session = Session(self, sock, ticket)
        try:
            self.model.start(session)
        except (OSError, RuntimeError) as error:  # the system has no room for one more thread or process
            self.logger.error("can't serve a connection: %s; trying again in %s s", error, BACK_OFF)
            session.drop()
            time.sleep(BACK_OFF)

    def _turn_away(self, sock: Any, failure: InvalidHandshake) -> None:
        """Refuse a connection of which nothing was read."""
        self._away.turn_away(sock, self.service.refusal(failure, secure=self.ssl is not None))

    def shutdown(
        self,
        close_connections: bool = True,
        code: int = CloseCode.GOING_AWAY,
        reason: str = "",
        *,
        refuse: bool = True,
    ) -> None:
        """Stop accepting, close all connections with `code`, and wait until every handler has ended.

        While another thread drains the server, that need not wait any longer: what is open is closed now, and this
        does not wait for it.

        In a signal handler that interrupts `serve_forever` while that begins with a connection, and holds locks for it,
        this only stops accepting; `serve_forever` does the rest before it returns.

        Args:
            close_connections: False lets the open ones end by themselves.
            refuse: answer those that are not open yet with 503; False opens them first.

        Raises:
            ValueError: a code that may not be sent, or a reason of more than 123 octets.
        """
        serialize_close(Close(code, reason))
        if self._stop_accepting((code, reason) if close_connections else None, refuse):
            if self._beginning and self._acceptor is threading.current_thread():
                self._ending = (close_connections, code, reason, refuse)
            else:
                self._end(close_connections, code, reason, refuse)
        elif self.draining:
            self.model.stop(close_connections, code, reason, refuse)

    def _end(self, *how: Any) -> None:
        """End what there is, and wait for it."""
        self.model.stop(*how)
        self.model.join()
        self._forget()

    def _stop_accepting(self, farewell: tuple[int, str] | None, refuse: bool) -> bool:
        """Let nothing more begin; False when somebody ends the server already."""
        with self._lock:
            if self._closing:
                return False
            self._refusing = refuse
            self._farewell = farewell
            self._closing = True
            acceptor = self._acceptor
        self._listener.close()
        if acceptor is not threading.current_thread():  # else a signal handler: it goes on when this returns
            self._stopped.wait()
        return True

    def _forget(self) -> None:
        """All connections are over: so is what was counted of them."""
        self._away.close()
        with self._gate_lock:
            self._gate.log.flush(time.monotonic())
        if self.service.observer is not None:
            self.service.observer.end(self)

    def drain(
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
        handler that does not come back is waited for half of the time. What is left at the deadline is cut; a handler
        that does not end then either is left to itself, since nobody can end a thread. That is also what a handler
        is that calls this itself.

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
        started = time.monotonic()
        before, self.draining = self.draining, True
        if not self._stop_accepting((code, reason), refuse):
            self.draining = before
            raise InvalidState("the server is closing already")
        self.logger.info("server draining")
        jobs = self.model.jobs()
        sessions = [job for job in jobs if isinstance(job, Session)]
        opening = {session for session in sessions if not session.opened}
        elsewhere = max(0, self.model.count() - len(jobs))
        self.model.stop(True, code, reason, refuse, plan.patience, spread)
        while self.model.count() and time.monotonic() - started < deadline:
            for session in sessions:
                session.step()
            time.sleep(draining.STEP)
        cut = {session for session in sessions if not session.over}
        for session in cut:
            session.cut()
        left = max(0, self.model.count() - len(self.model.jobs()))
        self.model.abort()
        ended = time.monotonic() + draining.LAST
        while self.model.count() and time.monotonic() < ended:
            time.sleep(draining.STEP)
        self._forget()
        outcomes = {
            session.connection: outcome_of(session.connection, plan, session in cut)
            for session in sessions
            if session.opened and session.connection is not None
        }
        refused = sum(not session.opened for session in opening)
        drained = Drained(outcomes, refused, time.monotonic() - started, elsewhere, left)
        self.logger.info("server drained: %s", drained)
        return drained

    def __enter__(self) -> Server:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: Any) -> None:
        self.shutdown()
