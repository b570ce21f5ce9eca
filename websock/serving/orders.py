"""What a process that serves is told: by signals, by its supervisor, or by the program that it is part of."""

from __future__ import annotations

import collections
import dataclasses
import enum
import json
from collections.abc import Callable
from typing import Protocol

from ..spec import CloseCode

__all__ = ["Do", "Order", "Orders"]


class Do(enum.Enum):
    """Kinds of orders."""

    STOP = "stop"  # gracefully: within the time for that
    QUIT = "quit"  # now
    RELOAD = "reload"  # what can be read again


@dataclasses.dataclass(frozen=True)
class Order:
    """One of them.

    Attributes:
        code, reason: of the Close frames of a stop (RFC 6455 section 7.4.1).
        refuse: whether a stop answers what is not open yet with 503, or opens it first.
    """

    do: Do
    code: int = CloseCode.GOING_AWAY
    reason: str = ""
    refuse: bool = True

    def to_line(self) -> bytes:
        """For a pipe."""
        return json.dumps([self.do.value, self.code, self.reason, self.refuse]).encode() + b"\n"

    @classmethod
    def from_line(cls, line: bytes) -> Order:
        do, code, reason, refuse = json.loads(line)
        return cls(Do(do), code, reason, refuse)


class Line(Protocol):
    """Something that can be waited for, and gives orders."""

    def fileno(self) -> int: ...
    def read(self) -> bool: ...
    def follow(self) -> None: ...


class Orders:
    """A mailbox, for any thread and for signal handlers to put orders into.

    A stop that comes by two ways is one order: a signal to a whole group of processes reaches a worker, and its
    supervisor, which passes its own on. So stops are counted for each way, and the second one is what comes again by
    the same way.

    Attributes:
        line: from where orders come too, when it has something to read; who serves reads it where there is one.
    """

    def __init__(self) -> None:
        self._waiting: collections.deque[tuple[Order, bool]] = collections.deque()
        self._stops: collections.Counter[bool] = collections.Counter()  # by way
        self._stopped = 0  # how many of them were taken
        self._wake: Callable[[], object] | None = None
        self.line: Line | None = None

    def give(self, order: Order, *, passed_on: bool = False) -> None:
        """Put one in; `passed_on` by the supervisor is one way, whatever else the other."""
        self._waiting.append((order, passed_on))
        if (wake := self._wake) is not None:
            wake()

    def listen(self, wake: Callable[[], object] | None) -> None:
        """Call `wake`, in whatever thread, when there is something to take; now, if there is already."""
        self._wake = wake
        if self._waiting and wake is not None:
            wake()

    def take(self) -> Order | None:
        """The next one. In one thread at a time."""
        while self._waiting:
            order, way = self._waiting.popleft()
            if order.do is not Do.STOP:
                return order
            self._stops[way] += 1
            if self._stops[way] > self._stopped:
                self._stopped += 1
                return order
        return None
