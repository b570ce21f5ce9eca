"""One message for many connections: encoded once."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any, TypeVar

from ..spec import Opcode
from ..typing import Buffer
from .accelerate import encode
from .endpoint import Endpoint
from .extensions import bits_of
from .protocol import Protocol, State, payload_of
from .slow import Backlog, SlowPolicy

__all__ = ["Broadcast", "place", "tell_dropped", "to_all"]

_Connection = TypeVar("_Connection", bound=Endpoint)


class Broadcast:
    """A message that goes to many connections, and is encoded once for all those that can share that.

    Args:
        message: it.
        text: True sends bytes as text, False ``str`` as binary.
        compress: as in ``send``.
        key: of what it is the news, for those who keep only the latest (`SlowPolicy.KEEP_LATEST`).

    Raises:
        TypeError: neither text nor bytes, or a key that cannot be hashed.
        ValueError: `text` is true and the bytes are not UTF-8.

    Attributes:
        dropped: broadcasts that are not sent to a connection, itself or older ones: `tell_dropped` is to be called.
        plain: the frame for servers' connections without extensions, once one has had it.
        waiting: connections in which it waits for the peer, and whose policy is to wait for that.
    """

    __slots__ = ("_compress", "_frames", "_opcode", "_payload", "dropped", "key", "plain", "waiting")

    def __init__(
        self,
        message: str | Buffer,
        text: bool | None = None,
        compress: bool | None = None,
        key: Hashable = None,
    ) -> None:
        hash(key)  # found now, not when the first peer is slow
        self.key = key
        self.waiting: list[Any] = []
        self.dropped: Sequence[Broadcast] = ()
        self._opcode, payload = payload_of(message, text)
        self._payload = bytes(payload)  # for the type checker: payload_of has copied what may change
        if self._opcode == Opcode.TEXT and not isinstance(message, str):
            str(self._payload, "utf-8")
        self._compress = compress
        self._frames: dict[Hashable, tuple[Buffer, ...]] = {}  # by what the extensions of a connection make of it
        self.plain: tuple[Buffer, ...] | None = None

    @property
    def size(self) -> int:
        """Octets of the payload."""
        return len(self._payload)

    @property
    def message(self) -> str | bytes:
        """What is sent."""
        return self._payload.decode() if self._opcode == Opcode.TEXT else self._payload

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


def place(connection: Endpoint, encoded: Broadcast, waiting: int) -> bool:
    """What a connection does with a broadcast while its peer does not take what was sent before.

    Args:
        waiting: octets that wait in the connection.

    Returns:
        Whether it is to be queued now. When the connection is to be closed, its ``_too_slow`` was called. What is not
        sent is in ``encoded.dropped``: `tell_dropped` is for when no lock is held.
    """
    slow = connection.slow_consumers
    policy = slow.policy
    if policy is SlowPolicy.DROP_OLDEST or policy is SlowPolicy.KEEP_LATEST:
        if connection._backlog is None:
            connection._backlog = Backlog()
        encoded.dropped = connection._backlog.add(encoded, encoded.key, policy, slow.limit)
        return False
    if policy is SlowPolicy.WAIT:
        encoded.waiting.append(connection)
        return True
    if waiting + encoded.size <= slow.limit:
        return True
    if policy is SlowPolicy.CLOSE:
        connection._too_slow()
    encoded.dropped = [encoded]
    return False


def tell_dropped(connection: Endpoint, encoded: Broadcast) -> None:
    """Count what `place` found is not sent, and call ``on_drop``, which may do with the connection what it likes.

    What that raises is an error of the broadcast to this connection.
    """
    dropped, encoded.dropped = encoded.dropped, ()
    if not dropped:
        return
    if not connection.dropped and connection.slow_consumers.policy is not SlowPolicy.CLOSE:
        # Once for a connection: who wants to know of each has on_drop.
        connection._warn("does not keep up: dropping")
    connection.dropped += len(dropped)
    if (on_drop := connection.slow_consumers.on_drop) is not None:
        for one in dropped:
            on_drop(connection, one.message)


def to_all(
    connections: Iterable[_Connection], deliver: Callable[[_Connection], None], *, raise_exceptions: bool
) -> None:
    """Call `deliver` for each connection; what fails for one of them must not keep the others from it.

    Raises:
        ExceptionGroup: with `raise_exceptions`, of what failed, after all had their turn; it is logged in any case.
    """
    errors: list[Exception] = []
    for connection in list(connections):  # a callback may take one off the caller's
        try:
            deliver(connection)
        except Exception as error:
            connection.logger.warning("broadcast to %r failed: %r", connection, error)
            errors.append(error)
    if errors and raise_exceptions:
        raise ExceptionGroup("broadcast failed", errors)
