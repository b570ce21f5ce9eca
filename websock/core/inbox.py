"""Received messages that wait for the application, the same in every adapter."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from ..exceptions import ConcurrencyError
from ..typing import Data
from .accelerate import Queue
from .codec import Fragment
from .protocol import Protocol

__all__ = ["Inbox"]

BACKLOG: Final = 2**22  # received octets that may wait, whatever the number of messages

# While the inbox is full and reading is paused, the peer's pings are answered all the same, within these bounds.
SIDE_TIME: Final = 1.0  # seconds of pause before the first side read, and between two
SIDE_READ: Final = 2**16  # octets of one
SIDE_BUDGET: Final = 2**18  # octets of all in one pause
SIDE_MESSAGES: Final = 1024  # that wait; with more of them there are no side reads: small ones cost more than octets


class Inbox(Queue):
    """A queue of messages, and of `Fragment` parts while one is streamed.

    Args:
        limit: messages that may wait before reading should pause; None for no limit.

    Attributes:
        streaming: a consumer takes the next message in parts.
    """

    __slots__ = ("_begun", "_joining", "_shut", "_skip")

    def __init__(self, limit: int | None) -> None:
        super().__init__(limit, BACKLOG)
        self._skip = False  # drop the parts of a message whose stream was abandoned
        self._joining: list[Any] | None = None  # parts of a message that is to be whole after all
        self._begun = False  # a part of the streamed message was taken
        self._shut = False  # what comes now is for nobody

    def add(self, items: Iterable[Any], octets: int) -> None:
        """Put in what one read brought: the messages, and how many octets it had."""
        if self._shut:
            return
        if self._skip:
            items = self._without_skipped(items)
        if self._joining is not None:
            items = self._joined(items)
        if not self:
            self.octets = 0
        self.extend(items)
        self.octets += octets
        if self.special:
            self._mark()

    def shut(self) -> None:
        """Take nothing more: we have closed, and the peer is to know by that what was not accepted."""
        self._shut = True
        self._mark()

    @property
    def amid(self) -> bool:
        """A message is being taken in parts, and the last one was not taken."""
        return self.streaming and self._begun

    @property
    def overfull(self) -> bool:
        """What comes now has to be dropped: reading cannot pause, since we wait for the peer's Close."""
        return bool(self) and self.octets > BACKLOG

    @property
    def takes_aside(self) -> bool:
        """Whether a side read may add to it, although it is full."""
        return self.octets <= BACKLOG and len(self) <= SIDE_MESSAGES

    @property
    def low(self) -> bool:
        """Reading can go on after a pause: well below the limit, so that it does not pause again at once."""
        return not self or (self.octets <= BACKLOG and self.limit >= 0 and len(self) <= self.limit // 4)

    def start_stream(self, protocol: Protocol) -> None:
        """The next message is to come in parts.

        Raises:
            ConcurrencyError: that is so already.
        """
        if self.streaming:
            raise ConcurrencyError("recv_streaming is running already")
        self.streaming = True
        self._begun = False
        if self._joining is not None:
            # The message that an earlier stream left comes in parts again, first what is here already.
            parts, self._joining = self._joining, None
            self.append(Fragment(parts[0][:0].join(parts), False))
            self._mark()
        elif not self and not self._skip and (part := protocol.stream(True)) is not None:
            self.append(part)

    def part_of(self, item: Any) -> tuple[Data, bool]:
        """What `take` gave while streaming: a part of the message, and whether it is the last."""
        self._begun = True
        if isinstance(item, Fragment):
            self.streaming = not item.last
            return item.data, item.last
        self.streaming = False
        return item, True  # it was here whole before the stream began

    def stop_stream(self, protocol: Protocol) -> None:
        """Nobody wants the rest: drop it. A message of which nothing was taken stays, and is whole again."""
        if not self.streaming:
            return
        self.streaming = False
        items = self.take_all()
        if self._begun:
            self._skip = True
            items = self._without_skipped(items)
        else:
            if items and isinstance(items[0], Fragment):
                self._joining = []
            elif not self._skip:  # else the parts of a message left earlier still come
                protocol.stream(False)
            items = self._joined(items)
        self.extend(items)
        self._mark()

    def _mark(self) -> None:
        self.special = self._skip or self._shut or self._joining is not None

    def _joined(self, items: Iterable[Any]) -> list[Any]:
        """The items, with the parts of a message put together when the last one is here."""
        whole = []
        for item in items:
            if self._joining is not None and isinstance(item, Fragment):
                self._joining.append(item.data)
                if item.last:
                    whole.append(self._joining[0][:0].join(self._joining))
                    self._joining = None
            else:
                whole.append(item)
        return whole

    def _without_skipped(self, items: Iterable[Any]) -> list[Any]:
        kept = []
        for item in items:
            if self._skip and isinstance(item, Fragment):
                self._skip = not item.last
            else:
                kept.append(item)
        return kept
