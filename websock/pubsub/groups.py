"""Subscribers of a topic who have seen the same, so that one encoded message does for all of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Generic, TypeVar

from .positions import Cursor, Position, Record

__all__ = ["Group", "merged"]

T = TypeVar("T")
Name = tuple[str, int]


class Group(Generic[T]):
    """They have seen all up to `base`, all that the topic's hub has seen, and of some origins all up to a number.

    Attributes:
        base: where a client was further than this hub is; else nothing new.
        fresh: they have just come, `base` is nothing but the time.
        extras: of these origins all up to a number, although the hub's log is not there yet.
        held: not 0: the log that the hub knows is behind `base`, and what is not in there, of our own up to this number
            and of others, they may have or not: they wait for the log.
        torn: they are to be told of a gap.
        sent: the cursor that all of them have.
        targets: who they are, each with the position with which it came. It stands for what was seen of logs that are
            lost since.
    """

    __slots__ = ("base", "extras", "fresh", "held", "sent", "targets", "torn")

    def __init__(self, base: Position, extras: dict[str, int], sent: str | None = None, *, fresh: bool = False) -> None:
        self.base = base
        self.extras = extras
        self.sent = sent
        self.fresh = fresh
        self.held = 0
        self.torn = False
        self.targets: dict[T, Position] = {}

    def cursor(self, at: Position) -> str:
        """What they have seen when the hub is at `at`."""
        return str(Cursor(max(at, self.base), self.extras))

    def has(self, names: Iterable[Name]) -> bool:
        """Whether they have seen one of these beside the log."""
        return bool(self.extras) and any(n <= self.extras.get(origin, 0) for origin, n in names)

    def note(self, origin: str, n: int) -> None:
        """They have seen this one, and the log is not there yet."""
        self.extras.pop(origin, None)  # it is the last one now
        self.extras[origin] = n

    def passed(self, origin: str, n: int) -> None:
        """The log is there."""
        if self.extras and 0 < self.extras.get(origin, 0) <= n:
            del self.extras[origin]

    def split(self, record: Record) -> Group[T] | None:
        """Take out those who have seen a record in a log that has lost it since: a group of their own."""
        seen = [target for target, came in self.targets.items() if record.stood_at(came)]
        if not seen:
            return None
        apart: Group[T] = Group(self.base, dict(self.extras), self.sent, fresh=self.fresh)
        apart.held = self.held
        for target in seen:
            apart.targets[target] = self.targets.pop(target)
        return apart


def merged(groups: Sequence[Group[T]], at: Position) -> list[Group[T]]:
    """One group of those who have seen the same, and none that is empty."""
    found: dict[object, Group[T]] = {}
    for group in groups:
        if not group.targets:
            continue
        base = group.base if group.base > at else None
        key = (base, group.fresh, group.held, group.sent, tuple(sorted(group.extras.items())))
        other = found.get(key)
        if other is None:
            found[key] = group
        elif len(other.targets) >= len(group.targets):
            other.targets.update(group.targets)
        else:
            group.targets.update(other.targets)
            found[key] = group
    return list(found.values())
