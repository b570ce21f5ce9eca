"""Serving from blocking code, a thread for each connection: `serve` and `unix_serve`."""

from __future__ import annotations

import os
import socket
import ssl as ssl_module
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Unpack

from ..core.endpoint import default_logger, log_outcome
from ..core.handshake import ServerHandshake
from ..core.options import SAME_ORIGIN, OptionKeywords, Origins, options_from
from ..core.protocol import LINGER_TIME, State
from ..core.service import HandlerRun, Service
from ..exceptions import InvalidState, RequestTimeout, ServerClosing
from ..http11 import Request, Response
from ..net import memory
from ..net.address import Address
from ..net.channel import channel_for
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

__all__ = ["Server", "ServerConnection", "broadcast", "serve", "unix_serve"]


class ServerConnection(Connection):
    """The server's end of a connection: what a handler gets.

    Attributes:
        server: the `Server` that it belongs to.
    """

    __slots__ = ("server",)

    server: Server


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
    process_request: ProcessRequest | None = None,
    process_response: ProcessResponse | None = None,
    select_subprotocol: SelectSubprotocol | None = None,
    server_header: str | None = SERVER,
    create_connection: type[ServerConnection] = ServerConnection,
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
        host, port: where to listen; host None is every address, port 0 any free one. ``mem://name`` is a place in a
            simulation (`websock.testing`).
        sock: a listening socket to use instead.
        ssl: TLS settings; without them the server speaks plain ``ws://``.
        origins: who may connect from a browser; default: pages of the same host. See `Options`.
        process_request: called with connection and request before the handshake is answered; may return a response
            (a page, a health check, a refusal) instead.
        process_response: called with connection, request and response; may change or replace the response.
        select_subprotocol: called with connection and the client's offer; picks one, or none, or raises
            NegotiationError.
        server_header: the Server header; None for none.
        create_connection: a subclass of `ServerConnection` to use.
        logger: default ``logging.getLogger("websock.server")``.
        reuse_port, backlog: of the listening sockets.
        options: the fields of `Options`: ``subprotocols``, ``max_size``, ``ping_interval``, ...

    Raises:
        OSError: cannot listen there; the message names the address.
        TypeError, ValueError: an option is not one, or has a wrong value.
    """
    service = Service(
        handler=handler,
        options=options_from({**options, "origins": origins}, "serve()", _KEYWORDS),
        logger=logger or default_logger("server"),
        process_request=process_request,
        process_response=process_response,
        select_subprotocol=select_subprotocol,
        server_header=server_header,
    )
    hosts: Sequence[str | None] = [host] if host is None or isinstance(host, str) else host
    asked = SocketOptions(backlog=backlog, reuse_port=reuse_port or None)
    listeners: list[socket.socket] = []
    try:
        if sock is not None:
            listeners.append(sock)
            no_delay(sock)  # what is accepted inherits it
        elif (in_memory := memory.name_of(host)) is not None:
            listeners.append(memory.listening(in_memory))
        else:
            for name in hosts:
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
    """A server: what `serve` gives. It listens from the beginning, and accepts in `serve_forever`."""

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
        self._listener: Listener | memory.MemoryListener
        if isinstance(sockets[0], memory.MemorySocket):
            self._listener = memory.network_for(str(sockets[0])).listener(sockets)
        else:
            self._listener = Listener(sockets, logger=self.logger)
        self._lock = threading.RLock()  # a signal handler may call shutdown in the thread that accepts
        self._threads: dict[threading.Thread, _Session] = {}
        self._closing = False
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
        session = _Session(self, sock, address)
        thread = threading.Thread(target=self._run, args=(session,), name=f"websock-{address}", daemon=True)
        with self._lock:
            self._threads[thread] = session
        try:
            thread.start()
        except RuntimeError as error:  # the system has no room for one more thread
            self.logger.error("can't start a thread: %s; trying again in %s s", error, BACK_OFF)
            with self._lock:
                del self._threads[thread]
            sock.close()
            time.sleep(BACK_OFF)

    def _run(self, session: _Session) -> None:
        try:
            session.run()
        finally:
            with self._lock:
                del self._threads[threading.current_thread()]

    def shutdown(self, close_connections: bool = True, code: int = CloseCode.GOING_AWAY, reason: str = "") -> None:
        """Stop accepting, close all connections with `code`, and wait until every handler has ended.

        Args:
            close_connections: False lets the open ones end by themselves.
        """
        with self._lock:
            if self._closing:
                return
            self._closing = True
            acceptor = self._acceptor
        self._listener.close()
        me = threading.current_thread()
        if acceptor is not me:  # else we are in a signal handler, and it goes on when this returns
            self._stopped.wait()
        with self._lock:
            sessions = list(self._threads.items())
        for _, session in sessions:
            session.stop(close_connections, code, reason)
        for thread, session in sessions:
            connection = session.connection
            if thread is not me and thread.is_alive():
                if close_connections and connection is not None and connection.state is not State.CONNECTING:
                    connection.wait_closed()
                thread.join()

    def __enter__(self) -> Server:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: Any) -> None:
        self.shutdown()


class _Session:
    """One connection from its acceptance to its end, in a thread of its own."""

    def __init__(self, server: Server, sock: socket.socket, address: Any) -> None:
        timeout = server.service.options.open_timeout
        self._server = server
        self._stream = channel_for(sock)
        self._peer = address
        self._wire = Wire(self._stream, None if timeout is None else time.monotonic() + timeout)
        self._lock = threading.Lock()  # guards the moment in which the opening handshake is answered
        self._opened = False  # it was answered with 101
        self.connection: ServerConnection | None = None

    def stop(self, close_connections: bool, code: int, reason: str) -> None:
        """The server stops: start closing, or end the opening handshake. Does not wait."""
        with self._lock:
            if not self._opened:
                self._stream.shutdown_read()  # the answer is 503
                return
        connection = self.connection
        if close_connections and connection is not None and connection.state is not State.CONNECTING:
            connection._start_close(code, reason)  # else `run` does

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
            connection._start_close(CloseCode.GOING_AWAY, "")
        with HandlerRun(connection.logger) as run:
            server.service.handler(connection)
        connection.close(run.code)

    def _open(self) -> ServerConnection | None:
        """The opening handshake; None when it did not lead to a connection."""
        server, wire = self._server, self._wire
        handshake = ServerHandshake(options=server.service.options)
        try:
            if server.ssl is not None:
                wire.secure(TLS(server.ssl, server_side=True))
            wire.drive(handshake, lambda: handshake.done or handshake.request is not None)
            if handshake.request is not None and not handshake.done:
                self._answer(handshake, handshake.request)
        except TimeoutError:
            if not wire.heard:
                log_outcome(server.logger, None, RequestTimeout("no request in time"), self._peer)
                return None
            handshake.fail(RequestTimeout(f"no complete handshake within {server.service.options.open_timeout} s"))
        except (OSError, EOFError) as error:
            if not server._closing:
                log_outcome(server.logger, None, error, self._peer)
                return None
            handshake.fail(ServerClosing("the server is closing"))
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

    def _answer(self, handshake: ServerHandshake, request: Request) -> None:
        server = self._server
        connection = self.connection = server.create_connection(server.logger, self._stream, self._wire.tls)
        connection.server = server
        connection.request = request
        steps = server.service.answer(handshake, connection)
        try:
            value = next(steps)
            while True:
                value = steps.send(value)
        except StopIteration:
            pass
