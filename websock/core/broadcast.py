"""One message for many connections: encoded once."""

from __future__ import annotations

from ..spec import Opcode
from ..typing import Buffer
from .codec import encode
from .protocol import Protocol, State, payload_of

__all__ = ["Broadcast"]


class Broadcast:
    """A message that goes to many connections.

    Raises:
        TypeError: neither text nor bytes.
        ValueError: `text` is true and the bytes are not UTF-8.
    """

    __slots__ = ("_frame", "_opcode", "_payload")

    def __init__(self, message: str | Buffer, text: bool | None = None) -> None:
        self._opcode, payload = payload_of(message, text)
        self._payload = bytes(payload)  # the caller may change a buffer while connections still hold it
        if self._opcode == Opcode.TEXT and not isinstance(message, str):
            str(self._payload, "utf-8")
        self._frame: tuple[Buffer, ...] | None = None

    def queue(self, protocol: Protocol) -> None:
        """Queue it in one connection, unless that is not open."""
        if protocol.state is not State.OPEN:
            return
        if protocol.masks:  # each client has its own keys (RFC 6455 section 5.3), so there is nothing to share
            protocol.send_encoded(encode(self._opcode, self._payload, masked=True))
            return
        if self._frame is None:
            self._frame = encode(self._opcode, self._payload, masked=False)
        protocol.send_encoded(self._frame)
