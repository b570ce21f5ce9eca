"""The transport of a connected socket."""

from __future__ import annotations

import asyncio
import socket
import ssl
from typing import Any

from .tls import TLSTransport
from .transport import SocketTransport

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
    """The transport of a connected socket, with TLS if there is a context; nothing happens before its `start`."""
    if context is None:
        return SocketTransport(loop, sock, protocol, peer)
    return TLSTransport(
        loop, sock, protocol, peer, context=context, server_side=server_side, server_hostname=server_hostname
    )
