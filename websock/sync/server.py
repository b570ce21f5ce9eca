"""Serving from blocking code: `serve` and `unix_serve`. What runs a connection is a `Model`, by default `Threads`."""

from __future__ import annotations

import functools
import os
import random
import socket
import ssl as ssl_module
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, Unpack, cast

from ..core import draining
from ..core.draining import Drained, Plan, outcome_of
from ..core.endpoint import default_logger, log_outcome
from ..core.forwarding import Networks, ProxyHeader
from ..core.gate import Ticket
from ..core.handshake import ServerHandshake, refusal_bytes
from ..core.limits import Limits
from ..core.options import SAME_ORIGIN, OptionKeywords, Origins, options_from
from ..core.protocol import LINGER_TIME, State
from ..core.service import HandlerRun, Service, check_kind
from ..core.slow import DEFAULT, SlowConsumers, SlowPolicy, checked_policy
from ..exceptions import (
    CloseCause,
    InvalidHandshake,
    InvalidMessage,
    InvalidState,
    LimitExceeded,
    RequestTimeout,
    ServerClosing,
)
from ..http11 import Request, Response
from ..net import memory
from ..net.address import Address
from ..net.channel import can_be_read, channel_for
from ..net.errors import ClosedError
from ..net.listener import Listener
from ..net.options import SocketOptions
from ..net.sockets import BACK_OFF, listening, no_delay
from ..net.tls import TLS
from ..spec import CloseCode
from ..typing import LoggerLike
from ..version import SERVER
from .connection import Connection, broadcast
from .models import Model, Threads
from .opening import Wire
from .turning_away import TurningAway

__all__ = ["Server", "ServerConnection", "broadcast", "serve", "unix_serve"]


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

    def _closed(self) -> None:
        super()._closed()
        server = self.server
        with server._gate_lock:
            server._gate.closed(self._ticket, self._protocol, time.monotonic())

    proxy_address: Any
    forwarded_proto: str | None


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
        limits: see `Limits`; None for its defaults.
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
        limits=Limits() if limits is None else limits,
        trusted_proxies=None if trusted_proxies is None else Networks(trusted_proxies),
        proxy_protocol=proxy_protocol,
    )
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
        self._farewell: tuple[int, str] = (CloseCode.GOING_AWAY, "")  # for those that are opening meanwhile
        self.draining = False
        self._refusing = True  # them
        self._acceptor: threading.Thread | None = None  # who is in serve_forever
        self._stopped = threading.Event()  # nobody is in serve_forever
        self._stopped.set()
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
        sessions = cast("list[_Session]", self.model.jobs())
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
                self._begin(*self._listener.accept_socket())
        except ClosedError:
            pass
        finally:
            self._acceptor = None
            self._stopped.set()

    def _begin(self, sock: Any, address: Any) -> None:
        with self._gate_lock:
            ticket = self._gate.enter(address, time.monotonic())
        if isinstance(ticket, InvalidHandshake):
            self._turn_away(sock, ticket)
            return
        session = _Session(self, sock, ticket)
        try:
            self.model.start(session)
        except (OSError, RuntimeError) as error:  # the system has no room for one more thread or process
            self.logger.error("can't serve a connection: %s; trying again in %s s", error, BACK_OFF)
            session.drop()
            time.sleep(BACK_OFF)

    def _turn_away(self, sock: Any, failure: InvalidHandshake) -> None:
        """Refuse a connection of which nothing was read."""
        plain = self.ssl is None and not self.service.proxy_protocol
        self._away.turn_away(sock, refusal_bytes(failure) if plain else b"")

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

        Args:
            close_connections: False lets the open ones end by themselves.
            refuse: answer those that are not open yet with 503; False opens them first.
        """
        if self._stop_accepting(code, reason, refuse):
            self.model.stop(close_connections, code, reason, refuse)
            self.model.join()
            self._forget()
        elif self.draining:
            self.model.stop(close_connections, code, reason, refuse)

    def _stop_accepting(self, code: int, reason: str, refuse: bool) -> bool:
        """Let nothing more begin; False when somebody ends the server already."""
        with self._lock:
            if self._closing:
                return False
            self._refusing = refuse
            self._farewell = (code, reason)
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
        that does not end then either is left to itself, since nobody can end a thread.

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
        if not self._stop_accepting(code, reason, refuse):
            self.draining = before
            raise InvalidState("the server is closing already")
        self.logger.info("server draining")
        jobs = self.model.jobs()
        sessions = [job for job in jobs if isinstance(job, _Session)]
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


class _Told(NamedTuple):
    """How a session is to end."""

    close_connections: bool
    code: int
    reason: str
    refuse: bool
    patience: float | None  # None: at once
    leave_at: float


class _Host:
    """What a model sees of the server."""

    def __init__(self, listener: Listener | memory.MemoryListener, logger: LoggerLike) -> None:
        self.logger = logger
        self.watch = listener.watch
        self.unwatch = listener.unwatch
        self.forget = listener.forget


class _Session:
    """One connection from its acceptance to its end: a `Job`, wherever the model runs it."""

    def __init__(self, server: Server, sock: socket.socket, ticket: Ticket) -> None:
        timeout = server.service.options.open_timeout
        self._server = server
        self._stream = channel_for(sock)
        self._ticket = ticket
        ticket.give_up = self.give_up
        ticket.waits_for_us = functools.partial(can_be_read, sock)
        self._given_up: InvalidHandshake | None = None
        self._peer = ticket.address
        self._wire = Wire(self._stream, None if timeout is None else time.monotonic() + timeout)
        self._lock = threading.Lock()  # guards the moment in which the opening handshake is answered
        self.opened = False  # it was answered with 101
        self._told: _Told | None = None  # what `stop` was told
        self._leaving = False
        self.connection: ServerConnection | None = None

    def __str__(self) -> str:
        return str(self._peer)

    def give_up(self, failure: InvalidHandshake) -> None:
        """A newer connection needs the place of this half-open one. Does not wait."""
        self._given_up = failure
        self._stream.shutdown_read()  # the answer is `failure`, if there is a request to answer

    # What a model calls: see `Job`.

    def stop(
        self,
        close_connections: bool = True,
        code: int = CloseCode.GOING_AWAY,
        reason: str = "",
        refuse: bool = True,
        patience: float | None = None,
        spread: float = 0.0,
    ) -> None:
        """The server stops: start closing, or end the opening handshake. Does not wait.

        With `patience` the connection is closed when its handler has nothing under way, after so many seconds in any
        case, and not before a moment at random within `spread` seconds: for that `step` has to be called.
        """
        with self._lock:
            leave_at = time.monotonic() + random.uniform(0, spread)  # noqa: S311 - no secret
            self._told = _Told(close_connections, code, reason, refuse, patience, leave_at)
            if not self.opened:
                if refuse:
                    self._stream.shutdown_read()  # the answer is 503
                return
        if self._is_open:
            self._close_as_told(self.connection)  # else `run` does

    @property
    def _is_open(self) -> bool:
        return self.connection is not None and self.connection.state is not State.CONNECTING

    def _close_as_told(self, connection: ServerConnection | None) -> None:
        told = self._told
        if connection is None or told is None or not told.close_connections:
            return
        if told.patience is None:
            connection._start_close(told.code, told.reason, CloseCause.DRAINED)
        else:
            self.step()

    def step(self) -> None:
        """While the server drains: close the connection as soon as it is time, and it is idle."""
        connection, told = self.connection, self._told
        if connection is None or told is None or told.patience is None or connection.state is not State.OPEN:
            return
        if not self._leaving and time.monotonic() >= told.leave_at:
            self._leaving = True
            connection._leave(told.code, told.reason, told.patience)
        connection._leave_if_idle()

    @property
    def over(self) -> bool:
        """Whether there is no open connection any more."""
        return self.connection is None or not self.opened or self.connection._shut

    def cut(self) -> None:
        """End the connection now, without a Close."""
        if self._is_open and self.connection is not None:
            self.connection._cut()

    def wait(self) -> None:
        """After `stop`: the closing handshake, which a busy handler would not get done."""
        connection, told = self.connection, self._told
        if told is None or not told.close_connections or connection is None or not self._is_open:
            return
        while told.patience is not None and not connection.wait_closed(draining.STEP):
            self.step()
        connection.wait_closed()

    def abort(self) -> None:
        """End the connection at once: whoever waits for it is told that it is lost."""
        self._stream.shutdown()

    def refuse(self) -> None:
        """There is no room for it: 503."""
        server = self._server
        server._turn_away(self._stream.sock, LimitExceeded("no room", 503, server.service.limits.retry_after))
        self.ended()

    def forget(self) -> None:
        """It runs in another process: there it is looked after until it is open, too."""
        self._stream.close()
        with self._server._gate_lock:
            self._server._gate.handed_over(self._ticket)

    def ended(self) -> None:
        """It is over, wherever it ran: its place is free."""
        server = self._server
        with server._gate_lock:
            self._ticket.forget()
            server._gate.leave(self._ticket)

    def drop(self) -> None:
        """Nobody can run it."""
        self._stream.close()
        self.ended()

    def run(self) -> None:
        """The whole life of the connection."""
        server = self._server
        connection = None
        try:
            connection = self._open()
        finally:
            if connection is None:
                self._stream.close()
        if connection is None:
            return
        if self._told is not None:
            self._close_as_told(connection)
        elif server._closing:
            connection._start_close(*server._farewell, CloseCause.DRAINED)
        with HandlerRun(connection.logger) as run:
            server.service.handler(connection)
        connection._start_close(run.code, "", run.why)
        connection.wait_closed()

    def _open(self) -> ServerConnection | None:
        """The opening handshake; None when it did not lead to a connection."""
        server, wire = self._server, self._wire
        handshake = server.service.handshake()
        try:
            if server.service.proxy_protocol and not self._proxied():
                return None
            if server.ssl is not None:
                wire.secure(TLS(server.ssl, server_side=True))
            wire.drive(handshake, lambda: handshake.done or handshake.request is not None)
            if handshake.request is not None and not handshake.done:
                with server._gate_lock:
                    failure = self._given_up  # a moment ago
                    if failure is None:
                        failure = server._gate.opened(self._ticket, handshake.request, time.monotonic())
                self._peer = self._ticket.address
                if failure is not None:
                    handshake.fail(failure)
                else:
                    self._answer(handshake, handshake.request)
        except TimeoutError:
            if not wire.heard:
                log_outcome(server.logger, None, RequestTimeout("no request in time"), self._peer)
                return None
            handshake.fail(RequestTimeout(f"no complete handshake within {server.service.options.open_timeout} s"))
        except (OSError, EOFError) as error:
            stopped = self._told.refuse if self._told is not None else server._closing and server._refusing
            if self._given_up is not None and wire.heard and (server.ssl is None or wire.tls is not None):
                handshake.fail(self._given_up)
            elif stopped:
                handshake.fail(ServerClosing("the server is closing"))
            else:
                log_outcome(server.logger, None, self._given_up or error, self._peer)
                return None
        if handshake.protocol is None:
            with server._gate_lock:
                server._gate.answered(self._ticket)
        with self._lock:
            self.opened = handshake.protocol is not None
        log_outcome(server.logger, handshake.response, handshake.failure, self._peer)
        try:
            wire.send(handshake.outgoing())
            if handshake.protocol is None:
                wire.drain(LINGER_TIME)
        except OSError:
            return None  # the answer had nobody to go to
        connection = self.connection
        if handshake.protocol is None or connection is None:
            return None
        connection._tls = wire.tls
        connection.open(handshake.protocol, handshake.leftover)
        return connection

    def _proxied(self) -> bool:
        """Read the PROXY header; False when the connection is not wanted.

        Raises:
            OSError, EOFError: as `Wire.drive`.
        """
        server, header = self._server, ProxyHeader()
        try:
            self._wire.read_header(header)
        except InvalidMessage as failure:
            with server._gate_lock:
                server._gate.broken_header(self._ticket, failure, time.monotonic())
            log_outcome(server.logger, None, failure, self._peer)
            return False
        with server._gate_lock:
            failed = server._gate.proxied(self._ticket, header, time.monotonic())
        self._peer = self._ticket.address
        if failed is not None:
            log_outcome(server.logger, None, failed, self._peer)
        return failed is None

    def _answer(self, handshake: ServerHandshake, request: Request) -> None:
        server = self._server
        connection = self.connection = server.create_connection(server.logger, self._stream, self._wire.tls)
        connection.server = server
        connection._ticket = self._ticket
        if self._ticket.proxy_address is not None:
            connection.remote_address = self._ticket.address
        connection.proxy_address = self._ticket.proxy_address
        connection.forwarded_proto = self._ticket.forwarded_proto
        connection.request = request
        if server.service.slow_consumers is not DEFAULT:
            connection.slow_consumers = server.service.slow_consumers
        steps = server.service.answer(handshake, connection)
        try:
            value = next(steps)
            while True:
                value = steps.send(value)
        except StopIteration:
            pass
