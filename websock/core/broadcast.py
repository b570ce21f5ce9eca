"""One message for many connections: encoded once."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from typing import TypeVar

from ..spec import Opcode
from ..typing import Buffer
from .accelerate import encode
from .endpoint import Endpoint
from .extensions import bits_of
from .protocol import Protocol, State, payload_of

__all__ = ["Broadcast", "to_all"]

_Connection = TypeVar("_Connection", bound=Endpoint)


class Broadcast:
    """A message that goes to many connections, and is encoded once for all those that can share that.

    Args:
        message: it.
        text: True sends bytes as text, False ``str`` as binary.
        compress: as in ``send``.

    Raises:
        TypeError: neither text nor bytes.
        ValueError: `text` is true and the bytes are not UTF-8.

    Attributes:
        plain: the frame for servers' connections without extensions, once one has had it.
    """

    __slots__ = ("_compress", "_frames", "_opcode", "_payload", "plain")

    def __init__(self, message: str | Buffer, text: bool | None = None, compress: bool | None = None) -> None:
        self._opcode, payload = payload_of(message, text)
        self._payload = bytes(payload)  # for the type checker: payload_of has copied what may change
        if self._opcode == Opcode.TEXT and not isinstance(message, str):
            str(self._payload, "utf-8")
        self._compress = compress
        self._frames: dict[Hashable, tuple[Buffer, ...]] = {}  # by what the extensions of a connection make of it
        self.plain: tuple[Buffer, ...] | None = None

    def queue(self, protocol: Protocol) -> None:
        """Queue it in one connection, unless that is not open."""
        if protocol.state is not State.OPEN:
            return
        pipeline = protocol.pipeline
        transforms = () if pipeline is None else pipeline.sending(len(self._payload), self._compress)
        alone = None if pipeline is None or not transforms else pipeline.alone
        if protocol.masks or protocol.sending_parts or (transforms and alone is None):
            # Each client has its own keys (RFC 6455 section 5.3), and what waits for its turn is encoded then.
            protocol.send_payload(self._opcode, self._payload, self._compress)
            return
        frame = self._frames.get(alone)
        if frame is None:
            payload = transforms[0].encode_alone(self._payload) if transforms else self._payload
            frame = self._frames[alone] = encode(self._opcode, payload, masked=False, rsv=bits_of(transforms))
        if transforms:
            transforms[0].sent_alone()
        else:
            self.plain = frame
        protocol.send_encoded(frame)


def to_all(
    connections: Iterable[_Connection], deliver: Callable[[_Connection], None], *, raise_exceptions: bool
) -> None:
    """Call `deliver` for each connection; what fails for one of them must not keep the others from it.

    Raises:
        ExceptionGroup: with `raise_exceptions`, of what failed, after all had their turn; it is logged in any case.
    """
    errors: list[Exception] = []
    for connection in connections:
        try:
            deliver(connection)
        except Exception as error:
            connection.logger.warning("broadcast to %r failed: %r", connection, error)
            errors.append(error)
    if errors and raise_exceptions:
        raise ExceptionGroup("broadcast failed", errors)
