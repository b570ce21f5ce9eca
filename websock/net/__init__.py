"""The socket layer: TCP, TLS, UDP and Unix sockets for blocking programs; for tasks it is `websock.net.asyncio`.

It knows nothing of WebSocket, and is useful without. The names here are loaded when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import lazily

if TYPE_CHECKING:
    from .address import Address
    from .connecting import connect
    from .datagram import Datagram, bind_datagram, connect_datagram
    from .datagram_socket import Received, TruncatedError
    from .errors import AddressError, BusyError, ClosedError, NotOnThisSystem
    from .info import SocketRow, TCPInfo, sockets_of, tcp_info, who_has
    from .leaks import LeakCheck
    from .listener import Listener, listen
    from .options import SocketOptions, Stage
    from .pool import Pool, PoolStats
    from .resolving import Target, resolve
    from .stream import IncompleteError, Stream
    from .tls_stream import TLSStream
    from .unix import Credentials

__getattr__, __dir__ = lazily(
    __name__,
    {
        "address": ("Address",),
        "connecting": ("connect",),
        "datagram": (
            "Datagram",
            "bind_datagram",
            "connect_datagram",
        ),
        "datagram_socket": (
            "Received",
            "TruncatedError",
        ),
        "errors": (
            "AddressError",
            "BusyError",
            "ClosedError",
            "NotOnThisSystem",
        ),
        "info": (
            "SocketRow",
            "TCPInfo",
            "sockets_of",
            "tcp_info",
            "who_has",
        ),
        "leaks": ("LeakCheck",),
        "listener": (
            "Listener",
            "listen",
        ),
        "options": (
            "SocketOptions",
            "Stage",
        ),
        "pool": (
            "Pool",
            "PoolStats",
        ),
        "resolving": (
            "Target",
            "resolve",
        ),
        "stream": (
            "IncompleteError",
            "Stream",
        ),
        "tls_stream": ("TLSStream",),
        "unix": ("Credentials",),
    },
)

__all__ = [
    "Address",
    "AddressError",
    "BusyError",
    "ClosedError",
    "Credentials",
    "Datagram",
    "IncompleteError",
    "LeakCheck",
    "Listener",
    "NotOnThisSystem",
    "Pool",
    "PoolStats",
    "Received",
    "SocketOptions",
    "SocketRow",
    "Stage",
    "Stream",
    "TCPInfo",
    "TLSStream",
    "Target",
    "TruncatedError",
    "bind_datagram",
    "connect",
    "connect_datagram",
    "listen",
    "resolve",
    "sockets_of",
    "tcp_info",
    "who_has",
]
