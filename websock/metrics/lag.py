"""How late an event loop is: a timer that looks when it was called."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

__all__ = ["LoopLag"]

INTERVAL: Final = 0.5  # seconds; a stall of s seconds is seen with probability s / INTERVAL, and surely from there on


class LoopLag:
    """Measures from now on, until `stop`. To be made and stopped in the loop.

    Args:
        loop: it.
        observe: called with the seconds between when the timer was due and when it was called.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, observe: Callable[[float], object]) -> None:
        self._loop = loop
        self._observe = observe
        self._due = loop.time() + INTERVAL
        self._timer = loop.call_at(self._due, self._look)

    def _look(self) -> None:
        now = self._loop.time()
        self._observe(max(0.0, now - self._due))
        self._due = now + INTERVAL
        self._timer = self._loop.call_at(self._due, self._look)

    def stop(self) -> None:
        """No more."""
        self._timer.cancel()
