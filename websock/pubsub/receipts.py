"""What a publisher is told of its message."""

from __future__ import annotations

import asyncio

from .errors import NotSpread
from .positions import Position, Record

__all__ = ["Pending", "Receipt"]


class Receipt:
    """Where a published message has got.

    Attributes:
        topic: where it was published.
        id: its position as text; None as long as it has none, and for topics without history.
        spread: the log that all hubs see has it. False: it was delivered to this hub's subscribers only, so far.
        repeated: a message with the same uid was published before, and this one is not sent: `id` is that of the first.
    """

    __slots__ = ("_delivered", "_done", "_failure", "_others", "_waiters", "id", "repeated", "spread", "topic")

    def __init__(self, topic: str) -> None:
        self.topic = topic
        self.id: str | None = None
        self.spread = False
        self.repeated = False
        self._delivered = False  # to the subscribers here
        self._done = False
        self._failure: str | None = None
        self._others: list[Receipt] = []
        self._waiters: list[tuple[asyncio.Future[None], bool]] = []

    def __repr__(self) -> str:
        return f"Receipt({self.topic!r}, id={self.id!r}, spread={self.spread}, repeated={self.repeated})"

    def _tell(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter, finally_ in waiters:
            if self._done or not finally_:
                if not waiter.done():
                    waiter.set_result(None)
            else:
                self._waiters.append((waiter, finally_))

    def tell(self, other: Receipt) -> None:
        """The receipt of a repetition: it is to have the same news."""
        other.repeated = True
        if self._delivered:
            other.ahead()
        self._others.append(other)

    def ahead(self) -> None:
        """It was delivered here, and waits for the backplane."""
        self._delivered = True
        self._tell()
        for other in self._others:
            other.ahead()

    def settle(self, position: Position | None, *, repeated: bool = False) -> None:
        """The log has it."""
        if not self._done:
            self.id = None if position is None else str(position)
            self.spread, self.repeated, self._delivered, self._done = True, repeated, True, True
            self._tell()
            for other in self._others:
                other.settle(position, repeated=True)

    def fail(self, why: str) -> None:
        """It will not be spread."""
        if not self._done:
            self._failure, self._done, self._delivered = why, True, True
            self._tell()
            for other in self._others:
                other.fail(why)

    async def _wait(self, finally_: bool) -> None:
        if self._done or (self._delivered and not finally_):
            return
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append((waiter, finally_))
        await waiter

    async def settled(self) -> Receipt:
        """Wait until it is spread; itself.

        Raises:
            NotSpread: it will not be.
        """
        await self._wait(True)
        if self._failure is not None:
            raise NotSpread(self._failure)
        return self


class Pending:
    """A record of this hub that the log of its topic has not given back yet.

    Attributes:
        record: it.
        receipt: what its publisher waits for.
        since: when it was published, on the clock of patience.
        ahead: whether the subscribers here have it already.
        octets: how large it is.
        position: what the backplane has said of where it stands.
    """

    __slots__ = ("ahead", "octets", "position", "receipt", "record", "since")

    def __init__(self, record: Record, receipt: Receipt, since: float) -> None:
        self.record = record
        self.receipt = receipt
        self.since = since
        self.ahead = False
        self.position: Position | None = None
        self.octets = record.octets  # as they were counted when it came
