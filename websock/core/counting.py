"""Log lines that are counted: what happens ten thousand times a minute is said once a minute."""

from __future__ import annotations

import logging
from typing import Final

from ..typing import LoggerLike

__all__ = ["CountedLog"]

INTERVAL: Final = 60.0  # seconds


class _Count:
    __slots__ = ("level", "number", "others", "since", "who")

    def __init__(self, since: float, level: int) -> None:
        self.level = level
        self.number = 0
        self.who: object = None
        self.others = False
        self.since = since  # when the last line was written


class CountedLog:
    """The first of its kind is logged at once, and then how many there were, at most once in `interval` seconds.

    Args:
        logger: gets them.
        interval: seconds.
    """

    def __init__(self, logger: LoggerLike, interval: float = INTERVAL) -> None:
        self._logger = logger
        self._interval = interval
        self._counts: dict[str, _Count] = {}  # by kind; these are few, and no peer chooses them

    def count(self, what: str, who: object, now: float, level: int = logging.WARNING) -> None:
        """It has happened again: `what`, a text that is the same each time, by `who`."""
        count = self._counts.get(what)
        if count is None:
            self._counts[what] = _Count(now, level)
            self._logger.log(level, "%s: %s", what, who)
            return
        if count.number == 0:
            count.who, count.others = who, False
        elif count.who != who:
            count.who, count.others = who, True
        count.number += 1
        if now - count.since >= self._interval:
            self._tell(what, count, now)

    def flush(self, now: float) -> None:
        """Say what was counted and not said."""
        for what, count in self._counts.items():
            if count.number:
                self._tell(what, count, now)

    def _tell(self, what: str, count: _Count, now: float) -> None:
        self._logger.log(
            count.level,
            "%s: %s times in the last %.0f s, %s %s",
            what,
            f"{count.number:,}",
            now - count.since,
            "at last" if count.others else "all by",
            count.who,
        )
        count.number, count.since = 0, now
