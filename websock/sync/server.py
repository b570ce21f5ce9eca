"""Serving from blocking code, a thread for each connection: `serve` and `unix_serve`."""

from __future__ import annotations

import functools
import os
import socket
import ssl as ssl_module
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Unpack

from ..core import draining
from ..core.draining import Drained, Plan, outcome_of
from ..core.endpoint import default_logger, log_outcome
from ..core.forwarding import Networks, ProxyHeader
from ..core.gate import Ticket
from ..core.handshake import ServerHandshake, refusal_bytes
from ..core.limits import Limits
from ..core.options import SAME_ORIGIN, OptionKeywords, Origins, options_from
from ..core.protocol import LINGER_TIME, State
from ..core.service import HandlerRun, Service
from ..core.slow import DEFAULT, SlowConsumers, SlowPolicy, checked_policy
from ..exceptions import (
    CloseCause,
    InvalidHandshake,
    InvalidMessage,
    InvalidState,
    RequestTimeout,
    ServerClosing,
)
from ..http11 import Request, Response
from ..net.address import Address
from ..net.channel import Channel, can_be_read
from ..net.errors import ClosedError
from ..net.listener import Listener
from ..net.options import SocketOptions
from ..net.sockets import BACK_OFF, listening, no_delay
from ..net.tls import TLS
from ..spec import CloseCode
from ..typing import LoggerLike
from ..version import SERVER
from .connection import Connection, broadcast
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

    __slots__ = ("forwarded_proto", "proxy_address", "server")

    server: Server
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
    sock: socket.socket | None = None,
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
    """Serve WebSocket connections, each in a thread.

    ::

        with serve(handler, "localhost", 8765) as server:
            server.serve_forever()

    `handler` gets each connection; when it returns the connection is closed with 1000, when it raises with 1011.

    Args:
        handler: a function.
        host, port: where to listen; host None is every address, port 0 any free one.
        sock: a listening socket to use instead.
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
            listeners.append(sock)
            no_delay(sock)  # what is accepted inherits it
        else:
            for name in places:
                listeners += listening(Address("tcp", name or "", port or 0), asked)
        return Server(service, listeners, create_connection, ssl)
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
    ) -> None:
        self.service = service
        self.logger = service.logger
        self.create_connection = create_connection
        self.ssl = ssl
        self._listener = Listener(sockets, logger=self.logger)
        self._gate = service.gate()
        self._gate_lock = threading.Lock()  # guards it; nothing waits while it is held
        self._away = TurningAway()
        self._lock = threading.RLock()  # a signal handler may call shutdown in the thread that accepts
        self._threads: dict[threading.Thread, _Session] = {}
        self._closing = False
        self._farewell: tuple[int, str] = (CloseCode.GOING_AWAY, "")  # for those that are opening meanwhile
        self.draining = False
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
        """The connections that are open now."""
        with self._lock:
            sessions = list(self._threads.values())
        return {one.connection for one in sessions if one.connection is not None and one.connection.state is State.OPEN}

    def fileno(self) -> int:
        """The descriptor of the first listening socket."""
        return self.socket.fileno()

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
            plain = self.ssl is None and not self.service.proxy_protocol
            self._away.turn_away(sock, refusal_bytes(ticket) if plain else b"")
            return
        session = _Session(self, sock, ticket)
        thread = threading.Thread(target=self._run, args=(session,), name=f"websock-{address}", daemon=True)
        with self._lock:
            self._threads[thread] = session
        try:
            thread.start()
        except RuntimeError as error:  # the system has no room for one more thread
            self.logger.error("can't start a thread: %s; trying again in %s s", error, BACK_OFF)
            with self._lock:
                del self._threads[thread]
            session.leave()
            sock.close()
            time.sleep(BACK_OFF)

    def _run(self, session: _Session) -> None:
        try:
            session.run()
        finally:
            session.leave()
            with self._lock:
                del self._threads[threading.current_thread()]

    def shutdown(self, close_connections: bool = True, code: int = CloseCode.GOING_AWAY, reason: str = "") -> None:
        """Stop accepting, close all connections with `code`, and wait until every handler has ended.

        Args:
            close_connections: False lets the open ones end by themselves.
        """
        if (sessions := self._stop_accepting(code, reason)) is None:
            return
        for _, session in sessions:
            session.stop(close_connections, code, reason)
        me = threading.current_thread()
        for thread, session in sessions:
            connection = session.connection
            if thread is not me and thread.is_alive():
                if close_connections and connection is not None and connection.state is not State.CONNECTING:
                    connection.wait_closed()
                thread.join()
        self._forget()

    def _forget(self) -> None:
        """All connections are over: so is what was counted of them."""
        self._away.close()
        with self._gate_lock:
            self._gate.log.flush(time.monotonic())

    def _stop_accepting(self, code: int, reason: str) -> list[tuple[threading.Thread, _Session]] | None:
        """What there is to end, now that nothing more begins; None when somebody ends it already."""
        with self._lock:
            if self._closing:
                return None
            self._farewell = (code, reason)
            self._closing = True
            acceptor = self._acceptor
        self._listener.close()
        if acceptor is not threading.current_thread():  # else we are in a signal handler: it goes on when that returns
            self._stopped.wait()
        with self._lock:
            return list(self._threads.items())

    def drain(
        self,
        deadline: float = draining.DEADLINE,
        *,
        code: int = draining.CODE,
        reason: str = "",
        spread: float = 0,
    ) -> Drained:
        """Stop so that nothing that was accepted is lost, and wait until all is over; tell how each connection ended.

        No connection is accepted any more; openings get 503. ``draining`` is true from now on. Each connection gets a
        Close as soon as its handler has answered what came and waits for more; what comes after that is not given to
        the handler, and the peer knows by the Close that it was not accepted. A handler that does not come back is
        waited for half of the time. What is left at the deadline is cut; a handler that does not end then either is
        left to itself, since nobody can end a thread.

        Args:
            deadline: seconds that all of it may take.
            code, reason: of the Close; 1012 (service restart) lets clients come back, 1001 says that we go away.
            spread: seconds over which the Closes are spread at random, so that not all clients come back at once.

        Raises:
            TypeError, ValueError: not numbers of seconds, or a Close that cannot be sent.
            InvalidState: the server is closing already.
        """
        plan = Plan(deadline, code, reason, spread)
        started = time.monotonic()
        self.draining = True
        if (sessions := self._stop_accepting(code, reason)) is None:
            raise InvalidState("the server is closing already")
        self.logger.info("server draining")
        connections = []
        refused = 0
        for _, session in sessions:
            if session.refuse():
                refused += 1
            elif session.connection is not None:
                connections.append(session.connection)
        times = plan.times(connections)
        waiting = set(connections)
        while waiting and (now := time.monotonic() - started) < deadline:
            while times and times[-1][0] <= now:
                times.pop()[1]._leave(plan.code, plan.reason, plan.patience)
            waiting = {one for one in waiting if not one._shut}
            for one in waiting:
                one._leave_if_idle()
            time.sleep(draining.STEP)
        for one in waiting:
            one._cut()
        for thread, _ in sessions:
            if thread is not threading.current_thread():
                thread.join(max(0.0, started + deadline - time.monotonic()))
        self._forget()
        outcomes = {one: outcome_of(one, plan, one in waiting) for one in connections}
        drained = Drained(outcomes, refused, time.monotonic() - started)
        self.logger.info("server drained: %s", drained)
        return drained

    def __enter__(self) -> Server:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: Any) -> None:
        self.shutdown()


class _Session:
    """One connection from its acceptance to its end, in a thread of its own."""

    def __init__(self, server: Server, sock: socket.socket, ticket: Ticket) -> None:
        timeout = server.service.options.open_timeout
        self._server = server
        self._stream = Channel(sock)
        self._ticket = ticket
        ticket.give_up = self.give_up
        ticket.waits_for_us = functools.partial(can_be_read, sock)
        self._given_up: InvalidHandshake | None = None
        self._peer = ticket.address
        self._wire = Wire(self._stream, None if timeout is None else time.monotonic() + timeout)
        self._lock = threading.Lock()  # guards the moment in which the opening handshake is answered
        self._opened = False  # it was answered with 101
        self.connection: ServerConnection | None = None

    def give_up(self, failure: InvalidHandshake) -> None:
        """A newer connection needs the place of this half-open one. Does not wait."""
        self._given_up = failure
        self._stream.shutdown_read()  # the answer is `failure`, if there is a request to answer

    def leave(self) -> None:
        """The connection is gone, or was never begun."""
        server, connection = self._server, self.connection
        with server._gate_lock:
            self._ticket.forget()
            if self._opened and connection is not None:
                server._gate.ended(self._ticket, connection._protocol, time.monotonic())
            else:
                server._gate.leave(self._ticket)

    def refuse(self) -> bool:
        """The server stops: end the opening handshake, unless it is over; the answer is 503."""
        with self._lock:
            if not self._opened:
                self._stream.shutdown_read()
            return not self._opened

    def stop(self, close_connections: bool, code: int, reason: str) -> None:
        """The server stops: start closing, or end the opening handshake. Does not wait."""
        if self.refuse():
            return
        connection = self.connection
        if close_connections and connection is not None and connection.state is not State.CONNECTING:
            connection._start_close(code, reason, CloseCause.DRAINED)  # else `run` does

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
        if server._closing:
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
            if self._given_up is not None and wire.heard and (server.ssl is None or wire.tls is not None):
                handshake.fail(self._given_up)
            elif server._closing:
                handshake.fail(ServerClosing("the server is closing"))
            else:
                log_outcome(server.logger, None, self._given_up or error, self._peer)
                return None
        if handshake.protocol is None:
            with server._gate_lock:
                server._gate.answered(self._ticket)
        with self._lock:
            self._opened = handshake.protocol is not None
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
