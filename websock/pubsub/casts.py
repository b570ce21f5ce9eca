"""A topic of which nothing is kept: what is published goes to whoever is there, at most once."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, Generic, TypeVar

from .events import Event
from .positions import Record
from .topic import Joined

__all__ = ["Casts"]

T = TypeVar("T")


class Casts(Generic[T]):
    """The subscribers of a topic without history."""

    def __init__(self, name: str, send: Callable[[Collection[T], Event], object]) -> None:
        self.name = name
        self._out = send
        self._targets: dict[T, None] = {}

    @property
    def subscribers(self) -> int:
        """How many."""
        return len(self._targets)

    @property
    def idle(self) -> bool:
        """Whether nobody needs it."""
        return not self._targets

    def join(self, target: T, after: str | None, more: dict[str, Any] | None = None) -> Joined:
        """Send to a subscriber what comes from now on."""
        why = "" if after is None else "no history"
        data = {"recovered": not why, "why": why, "replayed": 0, **(more or {})}
        self._out([target], Event("subscribed", self.name, data=data))
        self._targets[target] = None
        return Joined(None, not why, why, 0)

    def leave(self, target: T) -> bool:
        """Whether it was a subscriber, which it is no more."""
        return self._targets.pop(target, self) is None

    def deliver(self, record: Record) -> None:
        """What was published, here or elsewhere."""
        self.announce(Event(record.kind, self.name, data=record.data, by=record.by, at=record.at, uid=record.uid))

    def announce(self, event: Event) -> None:
        """To all subscribers."""
        if self._targets:
            self._out(self._targets.keys(), event)
