"""The socket layer for tasks: the names of `websock.net`, and the transports that it stands on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...lazy import lazily

if TYPE_CHECKING:
    from .connecting import connect
    from .datagram import Datagram, bind_datagram, connect_datagram
    from .listener import Listener, listen
    from .making import transport_for
    from .pool import Pool, PoolStats
    from .resolving import resolve
    from .stream import Stream
    from .tls import TLSTransport
    from .transport import SocketTransport, can_watch

__getattr__, __dir__ = lazily(
    __name__,
    {
        "connecting": ("connect",),
        "datagram": (
            "Datagram",
            "bind_datagram",
            "connect_datagram",
        ),
        "listener": (
            "Listener",
            "listen",
        ),
        "making": ("transport_for",),
        "pool": (
            "Pool",
            "PoolStats",
        ),
        "resolving": ("resolve",),
        "stream": ("Stream",),
        "tls": ("TLSTransport",),
        "transport": (
            "SocketTransport",
            "can_watch",
        ),
    },
)

__all__ = [
    "Datagram",
    "Listener",
    "Pool",
    "PoolStats",
    "SocketTransport",
    "Stream",
    "TLSTransport",
    "bind_datagram",
    "can_watch",
    "connect",
    "connect_datagram",
    "listen",
    "resolve",
    "transport_for",
]
