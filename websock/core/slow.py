"""Peers that do not keep up with a broadcast: what is done with what they do not take.

Strategy: a broadcast goes to a connection at once while the system takes it. Where it does not, the connection's policy
says what happens: most of them need nothing but the number of octets that wait; two may change their mind about
messages that wait, so those stay in a `Backlog`, not encoded, until there is room for them.
"""

from __future__ import annotations

import collections
import dataclasses
import enum
from collections.abc import Callable, Hashable
from typing import Any, Final, Generic, Protocol, TypeVar

__all__ = ["DEFAULT", "Backlog", "SlowConsumers", "SlowPolicy", "checked_policy"]


class _Sized(Protocol):
    """What can wait: it knows its octets."""

    @property
    def size(self) -> int: ...


T = TypeVar("T", bound=_Sized)


class SlowPolicy(enum.Enum):
    """What is done with a broadcast when a connection's peer does not take what is sent to it.

    Control frames and what ``send`` sends are not concerned; where broadcasts wait in a backlog, they go in front.

    Attributes:
        WAIT: all of it waits; awaiting ``broadcast(...)`` waits for the peer.
        CLOSE: over the limit the connection is closed with 1013 (try again later).
        DROP_NEWEST: over the limit the message is not sent to this peer.
        DROP_OLDEST: over the limit the oldest one that waits is not sent.
        KEEP_LATEST: one message of each key waits, and a newer one takes its place; over the limit as DROP_OLDEST.
    """

    WAIT = "wait"
    CLOSE = "close"
    DROP_NEWEST = "drop_newest"
    DROP_OLDEST = "drop_oldest"
    KEEP_LATEST = "keep_latest"


@dataclasses.dataclass(frozen=True, slots=True)
class SlowConsumers:
    """What ``serve(slow_consumers=...)`` and ``connection.slow_consumers`` take.

    Args:
        policy: a `SlowPolicy` or its value.
        limit: octets that may wait in one connection before the policy acts. They are counted only when the peer
            has stopped taking them (``write_limit``), so one large message to a good peer is never over it.
        on_drop: called with connection and message for each one that is not sent. What it raises is an error of the
            broadcast to that connection.

    Raises:
        TypeError, ValueError: not one of these.
    """

    policy: SlowPolicy | str = SlowPolicy.CLOSE
    limit: int = 2**22
    on_drop: Callable[[Any, str | bytes], object] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.policy, SlowPolicy):
            try:
                object.__setattr__(self, "policy", SlowPolicy(self.policy))
            except ValueError:
                names = ", ".join(repr(one.value) for one in SlowPolicy)
                raise ValueError(f"policy of slow consumers is one of {names}, not {self.policy!r}") from None
        if not isinstance(self.limit, int) or isinstance(self.limit, bool):
            raise TypeError(f"limit is a number of octets, not {self.limit!r}")
        if self.limit < 0:
            raise ValueError(f"limit is a number of octets from 0, not {self.limit!r}")
        if self.on_drop is not None and not callable(self.on_drop):
            raise TypeError(f"on_drop must be a function, not {self.on_drop!r}")


DEFAULT: Final = SlowConsumers()


def checked_policy(value: SlowConsumers | SlowPolicy | str | None) -> SlowConsumers:
    """What was given as ``slow_consumers``: None is the default, a policy alone has the default limit.

    Raises:
        TypeError, ValueError: not one of these.
    """
    if value is None or isinstance(value, SlowConsumers):
        return value or DEFAULT
    if isinstance(value, SlowPolicy | str):
        return SlowConsumers(value)
    raise TypeError(f"slow_consumers must be a SlowConsumers, the name of a policy or None, not {value!r}")


class Backlog(Generic[T]):
    """Broadcasts that wait in one connection until there is room for them."""

    __slots__ = ("_waiting", "octets")

    def __init__(self) -> None:
        self._waiting: collections.OrderedDict[Hashable, T] = collections.OrderedDict()
        self.octets = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, encoded: T, key: Hashable, policy: SlowPolicy | str, limit: int) -> list[T]:
        """Let one more wait; those that shall not be sent because of it."""
        dropped: list[T] = []
        place: Hashable = object()  # unlike all others
        if policy is SlowPolicy.KEEP_LATEST:
            place = ("key", key)
            if (older := self._waiting.pop(place, None)) is not None:
                self.octets -= older.size
                dropped.append(older)
        self._waiting[place] = encoded
        self.octets += encoded.size
        while self.octets > limit and self._waiting:
            dropped.append(self.take())
        return dropped

    def take(self) -> T:
        """The one that waits longest."""
        encoded = self._waiting.popitem(last=False)[1]
        self.octets -= encoded.size
        return encoded

    def clear(self) -> int:
        """Forget all; how many they were."""
        count = len(self._waiting)
        self._waiting.clear()
        self.octets = 0
        return count
