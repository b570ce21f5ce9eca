"""What ``ping`` of a blocking connection returns."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from ..core.protocol import State

if TYPE_CHECKING:
    from .connection import Connection

__all__ = ["Pong"]


class Pong(threading.Event):
    """An event that is set when the Pong comes.

    Attributes:
        latency: seconds that it took, None before.
    """

    def __init__(self, connection: Connection) -> None:
        super().__init__()
        self._connection = connection
        self._started = time.monotonic()
        self.latency: float | None = None

    def _answered(self) -> None:
        self.latency = time.monotonic() - self._started
        self._connection._protocol.latency = self.latency
        self.set()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for the Pong, for `timeout` seconds at most; whether it came. Messages that come first are kept."""
        deadline = None if timeout is None else time.monotonic() + timeout
        connection = self._connection
        turns = connection._turns
        while not self.is_set() and connection.state is not State.CLOSED:
            if connection._inbox.full or (deadline is not None and time.monotonic() >= deadline):
                break
            connection._pump(deadline, turns)
            turns = connection._turns
        return self.is_set()
