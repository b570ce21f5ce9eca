"""The log of a topic that several hubs add to: it gives the positions, and takes each record once."""

from __future__ import annotations

import collections
from collections.abc import Iterable, Sequence
from typing import Any, Final

from .backplane import Added, Opened
from .history import Histories, History, Log
from .positions import ZERO, Position, Record

__all__ = ["Ledger", "forget_uids"]


class Ledger:
    """What a backplane keeps of a topic. Time is a number: milliseconds since 1970.

    Args:
        ms: the time.
        after: it begins behind this.
        histories: the bound of its log and others together.

    Attributes:
        log: its records.
        made: where it began; whatever was before that was another log.
    """

    UID_SECONDS: Final = 600.0
    """For so long a uid is remembered,"""
    UIDS: Final = 10_000
    """of so many messages at most,"""
    ORIGINS: Final = 1024
    """and the numbers of so many hubs."""

    __slots__ = ("_numbers", "_uids", "_whole", "log", "made")

    def __init__(self, ms: int, after: Position = ZERO, histories: Histories | None = None) -> None:
        self.made = after.following(ms)
        self.log = Log(self.made, None, histories, self._was_cut)
        self._numbers: collections.OrderedDict[str, int] = collections.OrderedDict()
        self._uids: collections.OrderedDict[str, Position] = collections.OrderedDict()
        self._whole = True  # nothing was cut, and nobody has said what was before

    def opened(self, after: Position) -> Opened:
        """What who follows it from `after` has to know."""
        self.log.used()
        return Opened(self.log.after(after), self.log.floor, self.log.last, self.made)

    def add(
        self, records: Sequence[Record], history: History, above: Position, ms: int, floor: Position | None = None
    ) -> list[Added]:
        """See `Backplane.add`. Those that are added are the ones with ``repeated`` False."""
        last = max(self.log.last, above)
        done: list[Added] = []
        forget_uids(self._uids, ms, self.UIDS)
        for record in records:
            if record.n <= self._numbers.get(record.origin, 0):
                done.append(Added(self._find(record), True))
                continue
            self._numbers[record.origin] = record.n
            self._numbers.move_to_end(record.origin)
            if record.uid is not None and (first := self._uids.get(record.uid)) is not None:
                done.append(Added(first, True))
                continue
            last = last.following(ms)
            if record.uid is not None:
                self._uids[record.uid] = last
            self.log.append(last, record)
            done.append(Added(last, False))
        while len(self._numbers) > self.ORIGINS:
            self._numbers.popitem(last=False)
        if floor is not None and self._whole and not any(one.repeated for one in done):
            self.log.floor, self._whole = min(floor, self.log.floor), False
        self.log.trim(history, ms)
        return done

    def _was_cut(self, position: Position, record: Record) -> None:
        self._whole = False

    def remembers(self, ms: int) -> bool:
        """Whether there is something that only it knows."""
        forget_uids(self._uids, ms, self.UIDS)
        return bool(len(self.log) or self._uids)

    @property
    def whole(self) -> bool:
        """Nothing was cut from it, and nobody has said what was before it was made."""
        return self._whole

    def state(self) -> list[Any]:
        """What it knows beside its records, for JSON."""
        uids = {uid: str(position) for uid, position in self._uids.items()}
        return [str(self.made), str(self.log.floor), str(self.log.last), dict(self._numbers), uids, self._whole]

    @classmethod
    def from_state(
        cls, state: Sequence[Any], entries: Iterable[tuple[Position, Record]], histories: Histories | None = None
    ) -> Ledger:
        """The ledger that had this `state`, and these records in its log.

        Raises:
            ValueError: it is none.
        """
        made, floor, last, numbers, uids, whole = state
        ledger = cls(0, ZERO, histories)
        ledger.made = Position.parse(made)
        ledger.log.begin(Position.parse(floor))
        ledger.log.last = ZERO
        ledger.log.extend(entries)
        ledger.log.last = Position.parse(last)
        ledger._numbers.update(numbers)
        ledger._uids.update((uid, Position.parse(text)) for uid, text in uids.items())
        ledger._whole = ledger._whole and whole
        return ledger

    def _find(self, record: Record) -> Position | None:
        if record.uid is not None and (first := self._uids.get(record.uid)) is not None:
            return first
        for position, one in reversed(self.log):
            if one.origin == record.origin and one.n <= record.n:
                return position if one.n == record.n else None
        return None


def forget_uids(uids: collections.OrderedDict[str, Position], ms: int, most: int) -> None:
    """Forget those that are older than `Ledger.UID_SECONDS` at the time `ms`, and the oldest beyond `most`."""
    oldest = ms - int(Ledger.UID_SECONDS * 1000)
    while uids:
        uid, position = next(iter(uids.items()))
        if position.ms >= oldest and len(uids) <= most:
            break
        del uids[uid]
