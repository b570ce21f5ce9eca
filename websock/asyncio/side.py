"""What is read while reading is paused: a little, so that the peer's pings are answered.

Strategy: a full inbox pauses reading, and with the messages the peer's Pings stay where they are. A peer that keeps to
its own keepalive would give us up for a handler that is merely slow. So after a second of pause one bounded read a
second goes through, until a pause has used up its budget. One timer serves all pauses of a second, since a busy
connection pauses thousands of times a second.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

from ..core.inbox import SIDE_BUDGET, SIDE_READ, SIDE_TIME

if TYPE_CHECKING:
    from .connection import Connection

__all__ = ["SideReads"]

_EARLY: Final = 0.01  # seconds that the loop's clock and ours may differ


class SideReads:
    """The side reads of one connection, whose transport is one of ours."""

    __slots__ = ("_begun", "_connection", "_left", "_loop", "_timer")

    def __init__(self, connection: Connection, loop: asyncio.AbstractEventLoop) -> None:
        self._connection = connection
        self._loop = loop
        self._begun = 0.0  # when the pause began
        self._left = 0  # octets that it may still read
        self._timer: asyncio.TimerHandle | None = None

    def paused(self, now: float) -> None:
        """Reading pauses."""
        self._begun = now
        self._left = SIDE_BUDGET
        if self._timer is None:
            self._timer = self._loop.call_later(SIDE_TIME, self._look)

    def cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = None
        connection = self._connection
        if not connection._reading_paused or self._left <= 0:
            return  # the next pause begins anew
        wait = self._begun + SIDE_TIME - time.monotonic()
        if wait <= _EARLY:
            self._left -= connection._read_aside(min(SIDE_READ, self._left))
            wait = SIDE_TIME
        if not connection._lost:
            self._timer = self._loop.call_later(wait, self._look)
