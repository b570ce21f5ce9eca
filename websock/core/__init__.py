"""WebSocket without I/O: bytes, text and the time go in; messages and buffers come out.

Nothing here imports ``socket``, ``asyncio``, ``threading``, ``selectors`` or ``time``; ``ssl`` only for its memory
buffers, in one file.
"""

from ..datastructures import Headers
from ..frames import Close
from ..http11 import Request, Response
from .accelerate import Decoder, apply_mask, encode
from .deflate import Deflate
from .extensions import Extension, Transform
from .handshake import ClientHandshake, ServerHandshake
from .options import SAME_ORIGIN, Options
from .protocol import Protocol, State
from .uri import URI, parse_uri

__all__ = [
    "SAME_ORIGIN",
    "URI",
    "ClientHandshake",
    "Close",
    "Decoder",
    "Deflate",
    "Extension",
    "Headers",
    "Options",
    "Protocol",
    "Request",
    "Response",
    "ServerHandshake",
    "State",
    "Transform",
    "apply_mask",
    "encode",
    "parse_uri",
]
