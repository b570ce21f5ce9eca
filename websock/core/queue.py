"""Messages that wait: the Python twin of the queue in ``_native/queue.c``."""

from __future__ import annotations

import collections
from typing import Any

__all__ = ["Queue"]


class Queue(collections.deque[Any]):
    """First in, first out.

    Args:
        limit: messages that may wait before reading should pause; None for no limit.
        backlog: octets, likewise.

    Attributes:
        octets: received since the queue was empty.
        streaming: a consumer takes the next message in parts.
        special: what comes in may have to be joined or dropped.
    """

    __slots__ = ("_backlog", "limit", "octets", "special", "streaming")

    def __init__(self, limit: int | None, backlog: int) -> None:
        super().__init__()
        self._backlog = backlog
        self.limit = -1 if limit is None else limit
        self.octets = 0
        self.streaming = False
        self.special = False

    def take(self) -> Any:
        """The next item; there must be one."""
        item = self.popleft()
        if not self:
            self.octets = 0
        return item

    def take_all(self) -> list[Any]:
        """All items, as a list."""
        items = list(self)
        self.clear()
        return items

    @property
    def full(self) -> bool:
        """Reading should pause."""
        return bool(self) and (self.octets > self._backlog or 0 <= self.limit < len(self))
