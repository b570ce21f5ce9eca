"""The transport of a connected socket."""

from __future__ import annotations

import asyncio
import socket
import ssl
from typing import Any

from ..memory import MemorySocket
from .tls import TLSTransport
from .transport import SocketTransport, StandInTransport

__all__ = ["transport_for"]


def transport_for(
    loop: asyncio.AbstractEventLoop,
    sock: socket.socket,
    protocol: asyncio.BaseProtocol,
    peer: Any = None,
    *,
    context: ssl.SSLContext | None = None,
    server_side: bool,
    server_hostname: str | None = None,
) -> SocketTransport:
    """The transport of a connected socket, with TLS if there is a context; nothing happens before its `start`.

    Raises:
        TypeError: an ``ssl.SSLSocket``: we write to the socket itself, so what is written would not be encrypted.
        ValueError, ssl.SSLError: TLS settings of the wrong side, or a name that is not one.
    """
    if isinstance(sock, ssl.SSLSocket):
        raise TypeError("the socket must be a plain one, not an SSLSocket: TLS is what ssl= is for")
    if context is None:
        kind = StandInTransport if isinstance(sock, MemorySocket) else SocketTransport
        return kind(loop, sock, protocol, peer)
    return TLSTransport(
        loop, sock, protocol, peer, context=context, server_side=server_side, server_hostname=server_hostname
    )
