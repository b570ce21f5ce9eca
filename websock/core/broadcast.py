"""One message for many connections: encoded once."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

from ..spec import Opcode
from ..typing import Buffer
from .codec import encode
from .endpoint import Endpoint
from .protocol import Protocol, State, payload_of

__all__ = ["Broadcast", "to_all"]

_Connection = TypeVar("_Connection", bound=Endpoint)


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


def to_all(
    connections: Iterable[_Connection], deliver: Callable[[_Connection], None], *, raise_exceptions: bool
) -> None:
    """Call `deliver` for each connection that is open; what fails for one of them must not keep the others from it.

    Raises:
        ExceptionGroup: with `raise_exceptions`, of what failed, after all had their turn; it is logged in any case.
    """
    errors: list[Exception] = []
    for connection in connections:
        if connection.state is not State.OPEN:
            continue
        try:
            deliver(connection)
        except Exception as error:
            connection.logger.warning("broadcast to %r failed: %r", connection, error)
            errors.append(error)
    if errors and raise_exceptions:
        raise ExceptionGroup("broadcast failed", errors)
