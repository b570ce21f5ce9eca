"""A backplane in memory, for hubs of one event loop: it takes time, goes down, and forgets."""

from __future__ import annotations

import asyncio
import collections
import functools
import random
from collections.abc import Callable, Sequence
from typing import Any

from websock.pubsub import Added, BackplaneDown, History, Opened, Position, Receiver, Record
from websock.pubsub.ledger import Ledger
from websock.pubsub.positions import milliseconds


def _added(topic: str, position: Position, record: Record, receiver: Receiver) -> None:
    receiver.added(topic, position, record)


class Service:
    """What the hubs of a test share."""

    def __init__(self, delay: tuple[float, float] = (0.0, 0.01)) -> None:
        self.delay = delay
        self.up = True
        self.ledgers: dict[str, Ledger] = {}
        self.planes: list[Memory] = []
        self.added = 0

    def plane(self) -> Memory:
        plane = Memory(self)
        self.planes.append(plane)
        return plane

    def down(self, *, forget: bool = False) -> None:
        self.up = False
        if forget:
            self.ledgers.clear()
        for plane in self.planes:
            plane.cut()

    def back(self) -> None:
        self.up = True
        for plane in self.planes:
            plane.connect()


class Memory:
    """One hub's way to it."""

    name = "memory"

    def __init__(self, service: Service) -> None:
        self.service = service
        self.receiver: Receiver | None = None
        self.up = False
        self.closed = False
        self.follows: set[str] = set()
        self.hears: set[str] = set()
        self._last = 0.0
        self._handles: set[asyncio.TimerHandle] = set()
        self._queue: collections.deque[Callable[[], None]] = collections.deque()
        self._fate: asyncio.Future[None] | None = None

    async def start(self, receiver: Receiver) -> None:
        self.receiver = receiver
        self.connect()

    def connect(self) -> None:
        if self.service.up and self.receiver is not None and not self.closed and not self.up:
            self._later(self._connected)

    def _connected(self) -> None:
        if self.service.up and not self.up and not self.closed:
            assert self.receiver is not None
            self.up = True
            self.receiver.up()

    def cut(self, why: str = "cut") -> None:
        """The connection ends; what is on its way is lost."""
        was, self.up = self.up, False
        self.follows.clear()
        self.hears.clear()
        for handle in self._handles:
            handle.cancel()
        self._handles.clear()
        self._queue.clear()
        if self._fate is not None:
            fate, self._fate = self._fate, None
            fate.set_result(None)
        if was and self.receiver is not None:
            self.receiver.down(why)

    async def close(self) -> None:
        self.closed, self.receiver = True, None
        self.cut()

    def _later(self, what: Callable[[], None]) -> None:
        """In order, after some time."""
        loop = asyncio.get_running_loop()
        self._last = max(self._last, loop.time() + random.uniform(*self.service.delay))

        def do() -> None:
            self._handles.discard(handle)
            self._queue.popleft()()

        self._queue.append(what)  # timers of the same time are in no order
        handle = loop.call_at(self._last, do)
        self._handles.add(handle)

    async def _ask(self, what: Callable[[], Any]) -> Any:
        """Ask the service, and wait for the answer: it may be asked although there is none."""
        if not self.up:
            raise BackplaneDown("away")
        if self._fate is None:
            self._fate = asyncio.get_running_loop().create_future()
        answered: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        def there() -> None:
            answer = what()
            self._later(lambda: None if answered.done() else answered.set_result(answer))

        self._later(there)
        fate = self._fate
        await asyncio.wait([answered, fate], return_when=asyncio.FIRST_COMPLETED)
        if not answered.done():
            answered.cancel()
            raise BackplaneDown("cut")
        return answered.result()

    async def open(self, topic: str, history: History, after: Position) -> Opened:
        def there() -> Opened:
            ledger = self.service.ledgers.get(topic)
            if ledger is None:
                ledger = self.service.ledgers[topic] = Ledger(milliseconds(), after)
            self.follows.add(topic)
            return ledger.opened(after)

        found: Opened = await self._ask(there)
        return found

    async def forget(self, topic: str) -> None:
        self.follows.discard(topic)

    async def add(
        self, topic: str, records: Sequence[Record], history: History, above: Position, floor: Position | None = None
    ) -> list[Added]:
        # As bytes, as between processes.
        copies = [Record.from_bytes(one.to_bytes()) for one in records]

        def there() -> list[Added]:
            ledger = self.service.ledgers.get(topic)
            if ledger is None:
                ledger = self.service.ledgers[topic] = Ledger(milliseconds(), above)
            done = ledger.add(copies, history, above, milliseconds(), floor)
            for record, one in zip(copies, done, strict=True):
                if not one.repeated and one.position is not None:
                    self.service.added += 1
                    for plane in self.service.planes:
                        if topic in plane.follows:
                            plane._bring(functools.partial(_added, topic, one.position, record))
            return done

        found: list[Added] = await self._ask(there)
        return found

    def _bring(self, call: Callable[[Receiver], None]) -> None:
        def do() -> None:
            if self.receiver is not None:
                call(self.receiver)

        self._later(do)

    async def cast(self, topic: str, data: bytes) -> None:
        def there() -> None:
            for plane in self.service.planes:
                if topic in plane.follows or topic in plane.hears:
                    plane._bring(lambda r: r.cast(topic, data))

        await self._ask(there)

    async def listen(self, topic: str) -> None:
        await self._ask(lambda: self.hears.add(topic))

    async def unlisten(self, topic: str) -> None:
        self.hears.discard(topic)
