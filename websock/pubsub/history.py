"""How much of a topic is kept, and the log that is kept so.

Strategy: a log has a *floor*: it holds everything that stands behind that. What is cut off at the beginning raises it.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterable, Iterator

from .positions import ZERO, Position, Record

__all__ = ["History", "Log"]


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


class Log:
    """The last records of a topic, in the order of their positions.

    Attributes:
        floor: all that stands behind it is here.
        last: the highest position that was given; nothing with a lower one comes.
        octets: of all records.
    """

    __slots__ = ("_entries", "floor", "last", "octets")

    def __init__(self, floor: Position = ZERO, last: Position | None = None) -> None:
        self._entries: collections.deque[tuple[Position, Record]] = collections.deque()
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
        """Add one; `trim` is another step.

        Raises:
            ValueError: its position is not behind all others.
        """
        if position <= self.last:
            raise ValueError(f"{position} is not behind {self.last}")
        self._entries.append((position, record))
        self.octets += record.octets
        self.last = position

    def trim(self, history: History, ms: int) -> list[tuple[Position, Record]]:
        """Cut off at the beginning what is too much at the time `ms`, milliseconds since 1970."""
        oldest = ms - int(history.seconds * 1000)
        cut = []
        while self._entries and (
            len(self._entries) > history.count or self.octets > history.octets or self._entries[0][0].ms < oldest
        ):
            position, record = self._entries.popleft()
            self.octets -= record.octets
            self.floor = max(self.floor, position)
            cut.append((position, record))
        return cut

    def drop_last(self) -> tuple[Position, Record]:
        """Take back the newest one, which the log of the backplane has lost; `last` stays."""
        position, record = self._entries.pop()
        self.octets -= record.octets
        return position, record

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
