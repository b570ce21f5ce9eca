"""How much of a topic is kept, and the log that is kept so.

Strategy: a log has a *floor*: it holds everything that stands behind that. What is cut off at the beginning raises it,
whether its own `History` asks for that or the bound of all logs together (`Histories`), which is told of each record.
"""

from __future__ import annotations

import collections
import dataclasses
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from .positions import ZERO, Position, Record

__all__ = ["HISTORY_OCTETS", "Histories", "History", "Log", "weight"]

HISTORY_OCTETS: Final = 2**28
"""What all histories of a hub or a broker take at most, where nothing else is said."""
RECORD: Final = 640
"""Octets that a record takes beside what is in it: measured, with its numbers, names and place in a log."""
LOG: Final = 4096
"""Octets that a topic takes beside its records; measured."""
VALUE, LIST, OBJECT = 40, 80, 200
"""Octets that take, in nested data: a small value, a list, an object. A thousand empty lists are no small record."""


@dataclasses.dataclass(frozen=True, slots=True)
class History:
    """How much of a topic is kept; what comes first counts.

    Args:
        count: messages.
        octets: of all of them, as they are written down.
        seconds: for so long.

    Raises:
        TypeError, ValueError: not a number from 0.
    """

    count: int = 100
    octets: int = 2**20
    seconds: float = 3600.0

    def __post_init__(self) -> None:
        for name in ("count", "octets", "seconds"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int if name != "seconds" else int | float):
                raise TypeError(f"{name} of a history is a number, not {value!r}")
            if not 0 <= value < 2**53:
                raise ValueError(f"{name} of a history is a number from 0, not {value!r}")


def weight(record: Record) -> int:
    """Octets of memory that a record takes, about: it is kept as it came and as it is written.

    Exact to some tens for text and octets. Other data counts as large as it is written, and for all that it may hold:
    texts in it that have both narrow and wide characters may take three times that.
    """
    data, raw = record.data, record.to_bytes()
    if isinstance(data, str | bytes):
        return RECORD + len(raw) + sys.getsizeof(data)
    return RECORD + 2 * len(raw) + VALUE * raw.count(b",") + LIST * raw.count(b"[") + OBJECT * (raw.count(b"{") - 1)


class Histories:
    """All logs of a hub or of a broker: when they take too much, those that were used least recently lose their oldest
    records first.

    A record that is added costs the same with however many logs; what is cut for it is not more than it weighs itself,
    its log's `LOG`, and one record.

    Args:
        octets: of memory that they may take together: each record its `weight`, and `LOG` for each log that has some.
            So many small records are bounded too, and many topics with one of them.

    Attributes:
        taken: what they take.
    """

    __slots__ = ("_logs", "octets", "taken")

    def __init__(self, octets: float = HISTORY_OCTETS) -> None:
        self.octets = octets
        self.taken = 0
        self._logs: collections.OrderedDict[Log, None] = collections.OrderedDict()  # with records; used last: last

    def used(self, log: Log) -> None:
        """Somebody reads it."""
        if log in self._logs:
            self._logs.move_to_end(log)

    def grown(self, log: Log, by: int) -> None:
        """It has one record more."""
        logs = self._logs
        if log in logs:
            logs.move_to_end(log)
        else:
            logs[log] = None
            by += LOG
        self.taken += by
        while self.taken > self.octets:
            next(iter(logs)).cut()

    def shrunk(self, log: Log, by: int) -> None:
        """It has fewer."""
        if not len(log):
            del self._logs[log]
            by += LOG
        self.taken -= by


class Log:
    """The last records of a topic, in the order of their positions.

    Args:
        histories: the bound of this and others together.
        was_cut: called with each record that is cut off at the beginning, for whatever reason.

    Attributes:
        floor: all that stands behind it is here.
        last: the highest position that was given; nothing with a lower one comes.
        octets: of all records, as they are written.
    """

    __slots__ = ("_entries", "_histories", "_was_cut", "_weights", "floor", "last", "octets")

    def __init__(
        self,
        floor: Position = ZERO,
        last: Position | None = None,
        histories: Histories | None = None,
        was_cut: Callable[[Position, Record], object] | None = None,
    ) -> None:
        self._entries: collections.deque[tuple[Position, Record]] = collections.deque()
        self._weights: collections.deque[int] = collections.deque()  # as they were told: what is told back is the same
        self._histories = Histories(sys.maxsize) if histories is None else histories
        self._was_cut = was_cut
        self.floor = floor
        self.last = floor if last is None else last
        self.octets = 0

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[tuple[Position, Record]]:
        return iter(self._entries)

    def __reversed__(self) -> Iterator[tuple[Position, Record]]:
        return reversed(self._entries)

    def append(self, position: Position, record: Record) -> None:
        """Add one; `trim` is another step. What is too much for all logs together is cut at once, here or elsewhere.

        Raises:
            ValueError: its position is not behind all others.
        """
        if position <= self.last:
            raise ValueError(f"{position} is not behind {self.last}")
        by = weight(record)
        self._entries.append((position, record))
        self._weights.append(by)
        self.octets += record.octets
        self.last = position
        self._histories.grown(self, by)

    def trim(self, history: History, ms: int) -> None:
        """Cut off at the beginning what is too much at the time `ms`, milliseconds since 1970."""
        oldest = ms - int(history.seconds * 1000)
        while self._entries and (
            len(self._entries) > history.count or self.octets > history.octets or self._entries[0][0].ms < oldest
        ):
            self.cut()

    def cut(self) -> None:
        """Cut off the oldest one."""
        position, record = self._entries.popleft()
        self.octets -= record.octets
        self.floor = max(self.floor, position)
        self._histories.shrunk(self, self._weights.popleft())
        if self._was_cut is not None:
            self._was_cut(position, record)

    def drop_last(self) -> tuple[Position, Record]:
        """Take back the newest one, which the log of the backplane has lost; `last` stays."""
        position, record = self._entries.pop()
        self.octets -= record.octets
        self._histories.shrunk(self, self._weights.pop())
        return position, record

    def begin(self, floor: Position = ZERO) -> None:
        """Be another log, which is empty: also when this one is needed no more."""
        if self._entries:
            weights = sum(self._weights)
            self._entries.clear()
            self._weights.clear()
            self._histories.shrunk(self, weights)
        self.octets = 0
        self.floor = self.last = floor

    def used(self) -> None:
        """Somebody reads it: others are cut before."""
        self._histories.used(self)

    @property
    def newest(self) -> tuple[Position, Record] | None:
        """The last record, or None."""
        return self._entries[-1] if self._entries else None

    def after(self, position: Position) -> list[tuple[Position, Record]]:
        """Those that stand behind `position`."""
        found = []
        for entry in reversed(self._entries):
            if entry[0] <= position:
                break
            found.append(entry)
        found.reverse()
        return found

    def newer(self, count: int) -> list[tuple[Position, Record]]:
        """The last `count` of them."""
        return list(self._entries)[-count:] if count > 0 else []

    def extend(self, entries: Iterable[tuple[Position, Record]]) -> None:
        """Add several."""
        for position, record in entries:
            self.append(position, record)
