"""Serving from blocking code: `serve` and `unix_serve`. What runs a connection is a `Model`, by default `Threads`."""

from __future__ import annotations

import os
import socket
import ssl as ssl_module
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Unpack, cast

from ..core.endpoint import default_logger, log_outcome
from ..core.handshake import ServerHandshake
from ..core.options import SAME_ORIGIN, OptionKeywords, Origins, options_from
from ..core.protocol import LINGER_TIME, State
from ..core.service import HandlerRun, Service, check_kind
from ..exceptions import InvalidState, RequestTimeout, ServerClosing
from ..http11 import Request, Response
from ..net.address import Address
from ..net.channel import Channel
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
from .refusing import Refusals

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
    sock: socket.socket | Sequence[socket.socket] | None = None,
    model: Model | None = None,
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
    """Serve WebSocket connections, each in a thread, or as `model` has it.

    ::

        with serve(handler, "localhost", 8765) as server:
            server.serve_forever()

    `handler` gets each connection; when it returns the connection is closed with 1000, when it raises with 1011.

    Args:
        handler: a function.
        host, port: where to listen; host None is every address, port 0 any free one.
        sock: a listening socket to use instead, or several.
        model: where connections run: ``Threads()``, the default, ``Pool()`` or ``Processes()`` of ``websock.serving``.
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
    model = model or Threads()
    check_kind(handler, asynchronous=False, model=model.name)
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
            listeners += sock if isinstance(sock, Sequence) else [sock]
            for listener in listeners:
                no_delay(listener)  # what is accepted inherits it
        else:
            for name in hosts:
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
    """A server: what `serve` gives. It listens from the beginning, and accepts in `serve_forever`."""

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
        self._listener = Listener(sockets, logger=self.logger)
        self._lock = threading.RLock()  # a signal handler may call shutdown in the thread that accepts
        self._refusals = Refusals(service.options, ssl)
        self.model = model or Threads()
        try:
            self.model.open(_Host(self._listener, self.logger))
        except BaseException:  # it has a server already
            self._listener.close()
            raise
        self._closing = False
        self._refusing = True  # what is not open yet, once it closes
        self._close_with: tuple[int, str] = (CloseCode.GOING_AWAY, "")  # what opens meanwhile
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
        session = _Session(self, sock, address)
        try:
            self.model.start(session)
        except (OSError, RuntimeError) as error:  # the system has no room for one more thread or process
            self.logger.error("can't serve a connection: %s; trying again in %s s", error, BACK_OFF)
            session.forget()
            time.sleep(BACK_OFF)

    def shutdown(
        self,
        close_connections: bool = True,
        code: int = CloseCode.GOING_AWAY,
        reason: str = "",
        *,
        refuse: bool = True,
    ) -> None:
        """Stop accepting, close all connections with `code`, and wait until every handler has ended.

        Args:
            close_connections: False lets the open ones end by themselves.
            refuse: answer those that are not open yet with 503; False opens them first.
        """
        with self._lock:
            if self._closing:
                return
            self._refusing = refuse
            self._close_with = (code, reason)
            self._closing = True
            acceptor = self._acceptor
        self._listener.close()
        if acceptor is not threading.current_thread():  # else a signal handler: it goes on when this returns
            self._stopped.wait()
        self.model.stop(close_connections, code, reason, refuse)
        self.model.join()
        self._refusals.close()

    def __enter__(self) -> Server:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: Any) -> None:
        self.shutdown()


class _Host:
    """What a model sees of the server."""

    def __init__(self, listener: Listener, logger: LoggerLike) -> None:
        self.logger = logger
        self.watch = listener.watch
        self.unwatch = listener.unwatch
        self.forget = listener.forget


class _Session:
    """One connection from its acceptance to its end: a `Job`, wherever the model runs it."""

    def __init__(self, server: Server, sock: socket.socket, address: Any) -> None:
        timeout = server.service.options.open_timeout
        self._server = server
        self._stream = Channel(sock)
        self._peer = address
        self._wire = Wire(self._stream, None if timeout is None else time.monotonic() + timeout)
        self._lock = threading.Lock()  # guards the moment in which the opening handshake is answered
        self._opened = False  # it was answered with 101
        self._told: tuple[bool, int, str, bool] | None = None  # what `stop` was told
        self.connection: ServerConnection | None = None

    def __str__(self) -> str:
        return str(self._peer)

    def stop(
        self,
        close_connections: bool = True,
        code: int = CloseCode.GOING_AWAY,
        reason: str = "",
        refuse: bool = True,
    ) -> None:
        """The server stops: start closing, or end the opening handshake. Does not wait."""
        with self._lock:
            self._told = close_connections, code, reason, refuse
            if not self._opened:
                if refuse:
                    self._stream.shutdown_read()  # the answer is 503
                return
        connection = self.connection
        if close_connections and connection is not None and connection.state is not State.CONNECTING:
            connection._start_close(code, reason)  # else `run` does

    def wait(self) -> None:
        """After `stop`: the closing handshake, which a busy handler would not get done."""
        connection = self.connection
        if self._told is None or not self._told[0] or connection is None or connection.state is State.CONNECTING:
            return
        connection.wait_closed()

    def abort(self) -> None:
        """End the connection at once: whoever waits for it is told that it is lost."""
        self._stream.shutdown()

    def refuse(self) -> None:
        """There is no room for it: 503."""
        self._server._refusals.add(self._stream.sock)

    def forget(self) -> None:
        """It does not run here."""
        self._stream.close()

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
            close_connections, code, reason, _ = self._told
            if close_connections:
                connection._start_close(code, reason)
        elif server._closing:
            connection._start_close(*server._close_with)
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
            stopped = self._told[3] if self._told is not None else server._closing and server._refusing
            if not stopped:
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
