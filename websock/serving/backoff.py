"""When a process that died is started again."""

from __future__ import annotations

from typing import Final

__all__ = ["BackOff"]

FIRST: Final = 0.1
"""Seconds before the second start of one that died quickly."""
LONGEST: Final = 30.0
"""Seconds that it waits at most."""
STEADY: Final = 10.0
"""Seconds of life after which a death is no sign of a fault in starting: it is replaced at once."""


class BackOff:
    """Seconds to wait, twice as many with each quick death; none after one that has lived."""

    __slots__ = ("_next",)

    def __init__(self) -> None:
        self._next = 0.0

    def died(self, lived: float) -> float:
        """How many seconds to wait before the next start, when the last one lived for `lived` seconds."""
        if lived >= STEADY:
            self._next = 0.0
        wait = self._next
        self._next = min(LONGEST, max(FIRST, 2 * wait))
        return wait
