"""A hub as a backplane sees it: it notes what comes, and opens again what it follows."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from websock.pubsub.backplane import Backplane, BackplaneDown
from websock.pubsub.history import History
from websock.pubsub.positions import ZERO, Position, Record

from ..programs import PATIENCE

__all__ = ["HISTORY", "Recorder", "record", "until"]

HISTORY = History(1000, 2**20, 3600.0)


def record(origin: str, n: int, topic: str = "room", data: Any = None, uid: str | None = None) -> Record:
    return Record(topic, origin, n, f"{origin} {n}" if data is None else data, by="ann", at=1.5, uid=uid)


async def until(happened: Callable[[], Any], what: str = "it") -> None:
    deadline = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < deadline, f"{what} did not happen"
        await asyncio.sleep(0.005)


class Recorder:
    """What one backplane has told.

    Attributes:
        news: (topic, position, record), in order.
        casts: (topic, data), in order.
        states: "up", and why it is away.
    """

    def __init__(self, backplane: Backplane) -> None:
        self.backplane = backplane
        self.news: list[tuple[str, Position, Record]] = []
        self.casts: list[tuple[str, bytes]] = []
        self.states: list[str] = []
        self.follow: set[str] = set()  # opened again when it is up again
        self._tasks: set[asyncio.Task[None]] = set()

    def added(self, topic: str, position: Position, record: Record) -> None:
        self.news.append((topic, position, record))

    def cast(self, topic: str, data: bytes) -> None:
        self.casts.append((topic, data))

    def up(self) -> None:
        self.states.append("up")
        for topic in self.follow:
            task = asyncio.get_running_loop().create_task(self.open(topic))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def down(self, why: str) -> None:
        self.states.append(why)

    @property
    def is_up(self) -> bool:
        return self.states[-1:] == ["up"]

    def at(self, topic: str) -> Position:
        return max((position for name, position, _ in self.news if name == topic), default=ZERO)

    async def open(self, topic: str) -> None:
        """Follow it from where we are, as a hub does."""
        self.follow.add(topic)
        try:
            after = self.at(topic)
            opened = await self.backplane.open(topic, HISTORY, after)
        except BackplaneDown:
            return  # `up` opens it
        # What was told meanwhile is in the answer, or stands behind it.
        told = [entry for entry in self.news if entry[0] == topic and entry[1] > after]
        self.news = [entry for entry in self.news if entry not in told]
        self.news += [(topic, *entry) for entry in opened.entries]
        self.news += [entry for entry in told if entry[1] > opened.last]

    def names(self, topic: str = "room") -> list[str]:
        """What has come, by origin and number."""
        return [f"{one.origin}.{one.n}" for name, _, one in self.news if name == topic]

    def check(self, topic: str = "room") -> None:
        """Nothing twice, and in order."""
        positions = [position for name, position, _ in self.news if name == topic]
        assert positions == sorted(set(positions))
        assert len(set(self.names(topic))) == len(self.names(topic))

    async def start(self) -> None:
        await self.backplane.start(self)
        await until(lambda: self.is_up, "the connection")

    async def add(self, *records: Record, topic: str = "room", history: History = HISTORY) -> list[Any]:
        """Add, and again until it is done, as a hub does."""
        while True:
            try:
                return list(await self.backplane.add(topic, records, history, self.at(topic)))
            except BackplaneDown:
                await asyncio.sleep(0.01)
