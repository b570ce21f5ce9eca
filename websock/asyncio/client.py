"""Connecting with asyncio: `connect` and `unix_connect`."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl as ssl_module
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from typing import Any, Unpack, cast

from ..core.endpoint import default_logger
from ..core.handshake import ClientHandshake
from ..core.options import OptionKeywords, options_from
from ..core.protocol import LINGER_TIME
from ..core.reconnect import backoff, process_exception
from ..core.uri import URI, over_unix, parse_uri
from ..exceptions import InvalidHandshake, InvalidMessage
from ..net.address import Address
from ..net.asyncio import SocketTransport, can_watch, transport_for
from ..net.asyncio.memory import connected as connected_in_memory
from ..net.asyncio.race import connected
from ..net.sockets import no_delay
from ..net.tls import client_context
from ..typing import Data, HeadersLike, LoggerLike
from ..version import USER_AGENT
from .connection import Connection, check_callback

__all__ = ["ClientConnection", "connect", "unix_connect"]


class ClientConnection(Connection):
    """The client's end of a connection: what `connect` gives."""

    __slots__ = ()


class connect:  # noqa: N801 - it is used like a function
    """Connect to a WebSocket server.

    ::

        async with connect("ws://localhost:8765/") as ws:      # closed at the end
        ws = await connect("ws://localhost:8765/")             # ws.close() is yours
        async for ws in connect("ws://localhost:8765/"):       # connects again each time the body ends or fails
                                                               # with ConnectionClosed (then ``continue``)

    Args:
        uri: ``ws://``, ``wss://``, ``ws+unix:///path.sock:/resource``, ``wss+unix://``, or ``mem://name`` in a
            simulation (`websock.testing`).
        on_message: called with connection and message, from the read that brought it and without a task: an ordinary
            function, which sends with ``ws.send(...)`` and need not await that. When it raises, the connection is
            closed with 1011. There is no ``recv`` beside it.
        origin: the Origin header.
        additional_headers: more fields for the request.
        user_agent_header: the User-Agent header; None for none.
        ssl: TLS settings; the default context for ``wss://``.
        server_hostname: the name that the certificate must have, when it is not the URI's.
        sock: a connected socket to use; it belongs to the connection from now on.
        host, port: connect there, and ask for the URI's host.
        family, local_addr: as in ``loop.create_connection``.
        proxy: None; there is no support for proxies yet.
        process_exception: for ``async for``: gets what a failed attempt raised; returns None to try again, or the
            exception to raise.
        create_connection: a subclass of `ClientConnection` to use.
        logger: default ``logging.getLogger("websock.client")``.
        options: the fields of `Options`: ``subprotocols``, ``max_size``, ``ping_interval``, ...

    Raises:
        InvalidURI: `uri` is not one.
        OSError: no connection; the message names the address.
        InvalidHandshake: the server's answer; `InvalidStatus` has the response.
        TimeoutError: it took more than ``open_timeout`` seconds.
        TypeError, ValueError: an option is not one, or has a wrong value.
    """

    def __init__(
        self,
        uri: str | URI,
        *,
        on_message: Callable[[ClientConnection, Data], object] | None = None,
        origin: str | None = None,
        additional_headers: HeadersLike | None = None,
        extra_headers: HeadersLike | None = None,
        user_agent_header: str | None = USER_AGENT,
        ssl: ssl_module.SSLContext | bool | None = None,
        server_hostname: str | None = None,
        sock: socket.socket | None = None,
        host: str | None = None,
        port: int | None = None,
        family: int = 0,
        local_addr: tuple[str, int] | None = None,
        proxy: None = None,
        process_exception: Callable[[Exception], Exception | None] = process_exception,
        create_connection: type[ClientConnection] = ClientConnection,
        logger: LoggerLike | None = None,
        **options: Unpack[OptionKeywords],
    ) -> None:
        if proxy is not None:
            raise ValueError("proxies aren't supported yet: leave out proxy=")
        check_callback(on_message)
        self._on_message = on_message
        self._uri = parse_uri(uri)
        self._options = options_from(options, "connect()", _KEYWORDS)
        self._origin = origin
        # Both names, for ever: programs for older libraries use the second.
        self._headers = additional_headers if additional_headers is not None else extra_headers
        self._user_agent = user_agent_header
        self._ssl = ssl
        self._server_hostname = server_hostname
        self._sock = sock
        self._address = (host, port)
        self._family = family
        self._local_addr = local_addr
        self._process_exception = process_exception
        self._create_connection = create_connection
        self._logger = logger or default_logger("client")
        self._connection: ClientConnection | None = None
        self._handshake()  # bad headers are the caller's error now, not at the first connection

    def _handshake(self) -> ClientHandshake:
        return ClientHandshake(
            self._uri,
            origin=self._origin,
            headers=self._headers,
            user_agent=self._user_agent,
            options=self._options,
        )

    def __await__(self) -> Generator[Any, None, ClientConnection]:
        return self._open().__await__()

    async def __aenter__(self) -> ClientConnection:
        self._connection = await self._open()
        return self._connection

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: Any) -> None:
        if self._connection is not None:
            connection, self._connection = self._connection, None
            await connection.__aexit__(kind, error, traceback)

    async def __aiter__(self) -> AsyncIterator[ClientConnection]:
        delays: Iterator[float] | None = None
        while True:
            try:
                connection = await self._open()
            except Exception as error:
                failure = self._process_exception(error)
                if failure is error:
                    raise
                if failure is not None:
                    raise failure from error
                delays = delays or backoff()
                delay = next(delays)
                self._logger.info("connect failed, next attempt in %.1f s: %s", delay, error or type(error).__name__)
                await asyncio.sleep(delay)
                continue
            delays = None
            async with connection:
                yield connection

    async def _open(self) -> ClientConnection:
        timeout = self._options.open_timeout
        try:
            async with asyncio.timeout(timeout):
                return await self._open_now()
        except TimeoutError as error:
            if str(error):
                raise
            raise TimeoutError(f"timed out during the opening handshake ({timeout} s)") from None

    async def _open_now(self) -> ClientConnection:
        loop = asyncio.get_running_loop()
        uri = self._uri
        ssl = client_context(uri.secure, self._ssl)
        if (sock := self._sock) is None:
            sock = await self._connect()
        else:
            no_delay(sock)
        sock.setblocking(False)
        opening = _Opening(loop, self._handshake(), self._create_connection(loop, self._logger), self._on_message)
        name = None if ssl is None else self._server_hostname or uri.host
        try:
            if can_watch(loop):
                opening.start(transport_for(loop, sock, opening, context=ssl, server_side=False, server_hostname=name))
            else:
                await loop.create_connection(
                    lambda: opening,
                    sock=sock,
                    ssl=ssl,
                    server_hostname=name,
                    ssl_shutdown_timeout=None if ssl is None else LINGER_TIME,  # both Closes have passed
                )
        except BaseException:
            opening.abandon()
            sock.close()
            raise
        return await opening.result()

    async def _connect(self) -> socket.socket:
        uri, (host, port) = self._uri, self._address
        if uri.memory:
            return await connected_in_memory(uri.host)
        if uri.unix_path is not None:
            return await connected(Address("unix", path=uri.unix_path))
        address = Address("tcp", host or uri.host, uri.port if port is None else port)
        local = None if self._local_addr is None else Address("tcp", *self._local_addr)
        return await connected(address, local=local, family=self._family)


_KEYWORDS = tuple(connect.__init__.__annotations__)


def unix_connect(path: str | os.PathLike[str], uri: str | None = None, **options: Any) -> connect:
    """Connect over a Unix socket: as `connect`, with the path of the socket.

    Args:
        path: of the socket.
        uri: what to ask the server for, default ``ws://localhost/``.
        options: as `connect`.
    """
    return connect(over_unix(os.fspath(path), uri), **options)


class _Opening(asyncio.Protocol):
    """The opening handshake: ends with handing the transport to the connection."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        handshake: ClientHandshake,
        connection: ClientConnection,
        on_message: Callable[[ClientConnection, Data], object] | None,
    ) -> None:
        self._on_message = on_message
        self._handshake = handshake
        self._connection = connection
        self._result: asyncio.Future[ClientConnection] = loop.create_future()
        self._transport: asyncio.Transport | None = None
        self._connected = False  # and the TLS handshake is done

    def start(self, transport: SocketTransport) -> None:
        self._transport = transport
        transport.start()

    async def result(self) -> ClientConnection:
        try:
            return await self._result
        except BaseException:
            self.abandon()
            raise

    def abandon(self) -> None:
        """Nobody waits any more."""
        if not self._result.cancel() and not self._result.cancelled():
            self._result.exception()  # nobody will ask for it
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports have the methods of asyncio's, but not its class.
        transport = self._transport = cast("asyncio.Transport", transport)
        self._connected = True
        if self._result.done():
            transport.abort()
        transport.writelines(self._handshake.outgoing())

    def data_received(self, data: bytes) -> None:
        if self._result.done():
            return
        try:
            self._handshake.receive(data)
        except InvalidHandshake as failure:
            self._result.set_exception(failure)
            return
        if self._handshake.done:
            self._opened()

    def eof_received(self) -> None:
        if self._result.done():
            return
        try:
            self._handshake.receive_eof()
        except InvalidHandshake as failure:
            self._result.set_exception(failure)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._result.done():
            return
        if not self._connected:
            self._result.set_exception(exc or ConnectionResetError("the peer ended the TLS handshake"))
            return
        failure = InvalidMessage("the connection was lost during the opening handshake")
        failure.__cause__ = exc
        self._result.set_exception(failure)

    def _opened(self) -> None:
        handshake, connection = self._handshake, self._connection
        assert handshake.protocol is not None and self._transport is not None  # noqa: S101, PT018 - for the type checker
        connection.request = handshake.request
        connection.response = handshake.response
        self._result.set_result(connection)
        connection.open(self._transport, handshake.protocol, handshake.leftover, self._on_message)
