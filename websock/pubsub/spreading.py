"""A hub's side of its backplane: follows topics, adds what is pending, casts, and goes on when the service is away.

Strategy: what is known of a topic is in its `Topic`; here is who calls the backplane when. One task at a time opens a
topic or adds to it, so that what is added is always in order. Every call may fail at any time, and whatever was under
way is then begun anew from what the `Topic` knows.
"""

from __future__ import annotations

import asyncio
import collections
import logging
import math
import time
from collections.abc import Callable, Coroutine
from typing import Any, Final

from ..typing import LoggerLike
from .backplane import Backplane
from .errors import BackplaneDown, BackplaneFull
from .link import Waits
from .positions import Position, Record, milliseconds
from .receipts import Receipt
from .topic import Topic

__all__ = ["Spread"]

AT_ONCE: Final = 64  # topics that are opened at the same time
CLOSE: Final = 1e-6  # seconds: what is due so soon is due, however sums of times are rounded
CASTS: Final = 10_000  # that wait
AGAIN: Final = (0.1, 5.0)  # seconds after which something is tried again that failed though the service is there


class _Followed:
    """A topic that is followed, or will be."""

    __slots__ = ("buffer", "busy", "failures", "following", "open", "ready", "topic", "waits")

    def __init__(self, topic: Topic[Any]) -> None:
        self.topic = topic
        self.open = True  # False when it is forgotten
        self.following = False
        self.busy = False  # a task works on it
        self.buffer: list[tuple[Position, Record]] | None = None  # what came while the answer to open is on its way
        self.ready = asyncio.Event()
        self.waits = Waits(*AGAIN)
        self.failures = 0  # in a row


class Spread:
    """The receiver of a backplane.

    Args:
        backplane: it.
        patience: seconds that a message waits for it before it is delivered to the subscribers here.
        heard: called with topic and data of each cast.
        changed: called when the service has come or gone.
        channels: topics whose casts are heard always.

    Attributes:
        is_up: None before that is known.
        not_cast: messages of topics without history that reached this hub's subscribers only.
        since: seconds since 1970, of that.
    """

    def __init__(
        self,
        backplane: Backplane,
        *,
        patience: float,
        heard: Callable[[str, bytes], object],
        changed: Callable[[], object],
        channels: list[str],
        logger: LoggerLike,
    ) -> None:
        self.backplane = backplane
        self.is_up: bool | None = None
        self.since = time.time()
        self.why = ""
        self.not_cast = 0
        self._patience = patience
        self._heard = heard
        self._changed = changed
        self._channels = channels
        self._logger = logger
        self._topics: dict[str, _Followed] = {}
        self._listening: set[str] = set()
        self._forgetting: dict[str, asyncio.Task[None]] = {}
        self._epoch = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._casts: collections.deque[tuple[str, bytes, Receipt | None]] = collections.deque()
        self._casting = False
        self._waiting: dict[Topic[Any], None] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()

    def _run(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self._loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._logger.error("backplane %s failed", self.backplane.name, exc_info=error)

    def start(self) -> None:
        """Begin to connect."""
        self._run(self.backplane.start(self))

    async def close(self, grace: float) -> None:
        """End; what waits to be cast or added has so many seconds."""
        deadline = self._loop.time() + grace
        try:
            while self.is_up and self._loop.time() < deadline and self._has_work():  # noqa: ASYNC110 - once in a life
                await asyncio.sleep(0.01)
        finally:  # also if nobody waits for it any more
            self._change(False, "closed")
            if self._timer is not None:
                self._timer.cancel()
            await self.backplane.close()
            tasks = [*self._tasks]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._fail_casts("the hub has ended")

    def _has_work(self) -> bool:
        return bool(self._casts or self._casting or any(one.topic.pending for one in self._topics.values()))

    # Topics.

    def follow(self, topic: Topic[Any]) -> None:
        """Open it, now or when the service is there."""
        if topic.name not in self._topics:
            followed = self._topics[topic.name] = _Followed(topic)
            self._work(followed)

    async def ready(self, topic: Topic[Any]) -> None:
        """Wait until its log is known, if that may be soon."""
        followed = self._topics.get(topic.name)
        if followed is None or topic.made is not None or self.is_up is False:
            return
        try:
            await asyncio.wait_for(followed.ready.wait(), self._patience)
        except TimeoutError:
            pass  # it will be known later

    def forget(self, topic: Topic[Any]) -> None:
        """Follow it no more."""
        followed = self._topics.pop(topic.name)
        followed.open = followed.following = False
        self._waiting.pop(topic, None)
        name = topic.name

        async def forget() -> None:
            try:
                await self.backplane.forget(name)
            finally:
                del self._forgetting[name]

        self._forgetting[name] = self._run(forget())

    def published(self, topic: Topic[Any]) -> None:
        """It has something to add."""
        followed = self._topics[topic.name]
        self._work(followed)
        self._wait(topic)

    def _wait(self, topic: Topic[Any]) -> None:
        """Deliver here what the backplane does not take in time: at once, when it is known to be away, unless what was
        published before is known to be missing here."""
        if self.is_up is False and not topic.behind:
            topic.release(math.inf)
        elif topic.pending:
            self._waiting[topic] = None
            if self._timer is None:
                self._timer = self._loop.call_later(self._patience, self._release)

    def _release(self) -> None:
        """Deliver here what has waited for too long."""
        self._timer = None
        now, first = self._loop.time(), math.inf
        due = now - self._patience + CLOSE
        for topic in list(self._waiting):
            since = topic.release(math.inf if self.is_up is False and not topic.behind else due)
            if since is None:
                del self._waiting[topic]
            else:
                first = min(first, since)
        if first < math.inf:
            self._timer = self._loop.call_later(max(0.0, first + self._patience - now), self._release)

    def _work(self, followed: _Followed) -> None:
        """Do what is to be done for a topic, if nobody does."""
        if followed.busy or not self.is_up or not followed.open:
            return
        if not followed.following or followed.topic.waits_to_be_added:
            followed.busy = True
            self._run(self._works(followed))

    async def _works(self, followed: _Followed) -> None:
        epoch = self._epoch
        failed = True
        try:
            if followed.topic.name in self._forgetting:
                await self._forgetting[followed.topic.name]
            if not followed.following:
                async with self._slots:
                    await self._open(followed, epoch)
            while followed.following and epoch == self._epoch and followed.topic.waits_to_be_added:
                await self._add(followed, epoch)
            failed = False
        except BackplaneDown as error:
            followed.failures += 1
            # The first may be the end of the connection, which is told elsewhere; then it is this topic's own trouble.
            level = logging.WARNING if followed.failures == 2 else logging.DEBUG
            self._logger.log(level, "topic %.100r is not spread, and tried again: %s", followed.topic.name, error)
        finally:
            followed.busy = False
            if failed and epoch == self._epoch:
                # What was under way is not known: it is to be opened again, and not at once.
                followed.following = False
                self._loop.call_later(followed.waits.take(), self._work, followed)
            else:
                followed.waits.reset()
                followed.failures = 0
                if epoch != self._epoch:
                    followed.following = False
                self._work(followed)

    async def _open(self, followed: _Followed, epoch: int) -> None:
        topic = followed.topic
        after = topic.asks_after
        followed.buffer = []
        try:
            while epoch == self._epoch and followed.open:
                opened = await self.backplane.open(topic.name, topic.history, after)
                if epoch != self._epoch or not followed.open:
                    return
                if topic.opened(opened, after, milliseconds()):
                    followed.following = True
                    for position, record in followed.buffer:
                        topic.added(position, record, milliseconds())
                    break
                after = topic.log.floor
        finally:
            followed.buffer = None
        followed.ready.set()

    async def _add(self, followed: _Followed, epoch: int) -> None:
        topic = followed.topic
        batch, floor = topic.take()
        done = await self.backplane.add(topic.name, batch, topic.history, topic.high, floor)
        if epoch == self._epoch:
            topic.replied(batch, done)

    # Casts.

    def send(self, topic: str, data: bytes, receipt: Receipt | None = None) -> None:
        """To all hubs, in order.

        Raises:
            BackplaneFull: too many wait. Without a receipt it is dropped then.
        """
        if self.is_up is False:
            self._failed(receipt)
            return
        if len(self._casts) >= CASTS:
            if receipt is not None:
                raise BackplaneFull(f"{CASTS:,} messages wait for the backplane")
            return
        self._casts.append((topic, data, receipt))
        if not self._casting and self.is_up:
            self._casting = True
            self._run(self._cast_all())

    async def _cast_all(self) -> None:
        receipt: Receipt | None = None
        try:
            while self._casts and self.is_up:
                topic, data, receipt = self._casts.popleft()
                try:
                    await self.backplane.cast(topic, data)
                except BackplaneDown:
                    self._failed(receipt)
                else:
                    if receipt is not None:
                        receipt.settle(None)
                receipt = None
        finally:
            self._failed(receipt)
            self._casting = False

    def _failed(self, receipt: Receipt | None, why: str = "the backplane is away") -> None:
        if receipt is not None:
            self.not_cast += 1
            receipt.fail(why)

    def _fail_casts(self, why: str) -> None:
        while self._casts:
            self._failed(self._casts.popleft()[2], why)

    def listen(self, topic: str) -> None:
        """Hear the casts of a topic."""
        self._listening.add(topic)
        if self.is_up:
            self._run(self._listen([topic]))

    def unlisten(self, topic: str) -> None:
        """No more."""
        self._listening.discard(topic)
        if self.is_up:
            self._run(self.backplane.unlisten(topic))

    async def _listen(self, topics: list[str]) -> None:
        epoch, waits = self._epoch, Waits(*AGAIN)
        while topics and epoch == self._epoch:
            try:
                if topics[0] in self._listening or topics[0] in self._channels:
                    await self.backplane.listen(topics[0])
                topics = topics[1:]
            except BackplaneDown:
                await asyncio.sleep(waits.take())

    # What the backplane calls.

    def added(self, topic: str, position: Position, record: Record) -> None:
        followed = self._topics.get(topic)
        if followed is None:
            return
        if followed.buffer is not None:
            followed.buffer.append((position, record))
        elif followed.following:
            followed.topic.added(position, record, milliseconds())

    def cast(self, topic: str, data: bytes) -> None:
        self._heard(topic, data)

    def up(self) -> None:
        self._change(True, "")
        self._run(self._begin())

    async def _begin(self) -> None:
        epoch = self._epoch
        await self._listen(list(self._channels))
        if epoch != self._epoch:
            return
        self._changed()
        for followed in list(self._topics.values()):
            self._work(followed)
        if self._casts and not self._casting:
            self._casting = True
            self._run(self._cast_all())
        await self._listen(list(self._listening))

    def down(self, why: str) -> None:
        self._change(False, why)
        for followed in list(self._topics.values()):
            self._wait(followed.topic)
        self._fail_casts("the backplane is away")
        self._changed()

    def _change(self, up: bool, why: str) -> None:
        self._epoch += 1
        if self.is_up is not up:
            self.since = time.time()
        self.is_up, self.why = up, why
        for followed in self._topics.values():
            if followed.following:
                followed.topic.parted(milliseconds())
            followed.following = False
