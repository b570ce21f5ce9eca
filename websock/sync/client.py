"""Connecting from blocking code: `connect` and `unix_connect`."""

from __future__ import annotations

import errno
import os
import socket
import ssl as ssl_module
from typing import Any, Unpack

from ..core.endpoint import default_logger
from ..core.handshake import ClientHandshake
from ..core.options import OptionKeywords, options_from
from ..core.uri import URI, over_unix, parse_uri
from ..exceptions import InvalidMessage
from ..net import memory
from ..net.address import Address
from ..net.channel import channel_for
from ..net.connecting import connected
from ..net.guard import deadline_after
from ..net.sockets import no_delay
from ..net.tls import TLS, client_context
from ..typing import HeadersLike, LoggerLike
from ..version import USER_AGENT
from .connection import Connection
from .opening import Wire

__all__ = ["ClientConnection", "connect", "unix_connect"]


class ClientConnection(Connection):
    """The client's end of a connection: what `connect` gives."""

    __slots__ = ()


def connect(
    uri: str | URI,
    *,
    origin: str | None = None,
    additional_headers: HeadersLike | None = None,
    extra_headers: HeadersLike | None = None,
    user_agent_header: str | None = USER_AGENT,
    ssl: ssl_module.SSLContext | bool | None = None,
    server_hostname: str | None = None,
    sock: socket.socket | None = None,
    host: str | None = None,
    port: int | None = None,
    proxy: None = None,
    create_connection: type[ClientConnection] = ClientConnection,
    logger: LoggerLike | None = None,
    **options: Unpack[OptionKeywords],
) -> ClientConnection:
    """Connect to a WebSocket server.

    ::

        with connect("ws://localhost:8765/") as ws:
            ws.send("hello")
            print(ws.recv(timeout=10))

    Args:
        uri: ``ws://``, ``wss://``, ``ws+unix:///path.sock:/resource``, ``wss+unix://``, or ``mem://name`` in a
            simulation (`websock.testing`).
        origin: the Origin header.
        additional_headers: more fields for the request.
        user_agent_header: the User-Agent header; None for none.
        ssl: TLS settings; the default context for ``wss://``.
        server_hostname: the name that the certificate must have, when it is not the URI's.
        sock: a connected socket to use; it belongs to the connection from now on.
        host, port: connect there, and ask for the URI's host.
        proxy: None; there is no support for proxies yet.
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
    if proxy is not None:
        raise ValueError("proxies aren't supported yet: leave out proxy=")
    address = parse_uri(uri)
    handshake = ClientHandshake(
        address,
        origin=origin,
        # Both names, for ever: programs for older libraries use the second.
        headers=additional_headers if additional_headers is not None else extra_headers,
        user_agent=user_agent_header,
        options=options_from(options, "connect()", _KEYWORDS),
    )
    context = client_context(address.secure, ssl)
    deadline = deadline_after(handshake.options.open_timeout)
    if sock is not None:
        no_delay(sock)
    elif address.memory:
        sock = memory.connected(address.host, deadline)
    elif address.unix_path is not None:
        sock = connected(Address("unix", path=address.unix_path), deadline=deadline)
    else:
        place = Address("tcp", host or address.host, address.port if port is None else port)
        sock = connected(place, deadline=deadline)
    stream = channel_for(sock)
    try:
        wire = Wire(stream, deadline)
        if context is not None:
            try:
                wire.secure(TLS(context, server_side=False, server_hostname=server_hostname or address.host))
            except EOFError:
                raise ConnectionResetError(errno.ECONNRESET, f"{uri} ended the TLS handshake") from None
        try:
            wire.drive(handshake, lambda: handshake.done)
        except EOFError:
            handshake.receive_eof()
        except ConnectionError as error:
            raise InvalidMessage("the connection was lost during the opening handshake") from error
    except BaseException:
        stream.close()
        raise
    connection = create_connection(logger or default_logger("client"), stream, wire.tls)
    connection.request = handshake.request
    connection.response = handshake.response
    assert handshake.protocol is not None  # noqa: S101 - for the type checker: the handshake is done
    connection.open(handshake.protocol, handshake.leftover)
    return connection


_KEYWORDS = tuple(connect.__annotations__)


def unix_connect(path: str | os.PathLike[str], uri: str | None = None, **options: Any) -> ClientConnection:
    """Connect over a Unix socket: as `connect`, with the path of the socket.

    Args:
        path: of the socket.
        uri: what to ask the server for, default ``ws://localhost/``.
        options: as `connect`.
    """
    return connect(over_unix(os.fspath(path), uri), **options)
