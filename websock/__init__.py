"""WebSocket (RFC 6455) for Python: a sans-IO core, an asyncio adapter and a blocking adapter.

``websock.connect`` and ``websock.serve`` are the asyncio ones; blocking code imports them from ``websock.sync``.
The names here are loaded when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .lazy import lazily
from .version import __version__

if TYPE_CHECKING:
    from .asyncio.client import ClientConnection, connect, unix_connect
    from .asyncio.connection import broadcast
    from .asyncio.server import Server, ServerConnection, serve, unix_serve
    from .core.deflate import Deflate
    from .core.draining import Drained, DrainOutcome
    from .core.extensions import Extension, Transform
    from .core.limits import Limits
    from .core.options import SAME_ORIGIN, Options
    from .core.protocol import State
    from .core.slow import SlowConsumers, SlowPolicy
    from .datastructures import Headers, MultipleValuesError
    from .exceptions import (
        CloseCause,
        ConcurrencyError,
        ConnectionClosed,
        ConnectionClosedError,
        ConnectionClosedOK,
        InvalidHandshake,
        InvalidHeader,
        InvalidOrigin,
        InvalidState,
        InvalidStatus,
        InvalidURI,
        NegotiationError,
        PayloadTooBig,
        ProtocolError,
        WebSocketException,
    )
    from .frames import Close, CloseCode, Opcode
    from .http11 import Request, Response
    from .typing import Data

__getattr__, __dir__ = lazily(
    __name__,
    {
        "asyncio.client": ("ClientConnection", "connect", "unix_connect"),
        "asyncio.connection": ("broadcast",),
        "asyncio.server": ("Server", "ServerConnection", "serve", "unix_serve"),
        "core.deflate": ("Deflate",),
        "core.draining": ("DrainOutcome", "Drained"),
        "core.extensions": ("Extension", "Transform"),
        "core.limits": ("Limits",),
        "core.options": ("Options", "SAME_ORIGIN"),
        "core.protocol": ("State",),
        "core.slow": ("SlowConsumers", "SlowPolicy"),
        "datastructures": ("Headers", "MultipleValuesError"),
        "exceptions": (
            "CloseCause",
            "ConcurrencyError",
            "ConnectionClosed",
            "ConnectionClosedError",
            "ConnectionClosedOK",
            "InvalidHandshake",
            "InvalidHeader",
            "InvalidOrigin",
            "InvalidState",
            "InvalidStatus",
            "InvalidURI",
            "NegotiationError",
            "PayloadTooBig",
            "ProtocolError",
            "WebSocketException",
        ),
        "frames": ("Close", "CloseCode", "Opcode"),
        "http11": ("Request", "Response"),
        "typing": ("Data",),
    },
)

__all__ = [
    "SAME_ORIGIN",
    "ClientConnection",
    "Close",
    "CloseCause",
    "CloseCode",
    "ConcurrencyError",
    "ConnectionClosed",
    "ConnectionClosedError",
    "ConnectionClosedOK",
    "Data",
    "Deflate",
    "DrainOutcome",
    "Drained",
    "Extension",
    "Headers",
    "InvalidHandshake",
    "InvalidHeader",
    "InvalidOrigin",
    "InvalidState",
    "InvalidStatus",
    "InvalidURI",
    "Limits",
    "MultipleValuesError",
    "NegotiationError",
    "Opcode",
    "Options",
    "PayloadTooBig",
    "ProtocolError",
    "Request",
    "Response",
    "Server",
    "ServerConnection",
    "SlowConsumers",
    "SlowPolicy",
    "State",
    "Transform",
    "WebSocketException",
    "__version__",
    "broadcast",
    "connect",
    "serve",
    "unix_connect",
    "unix_serve",
]
