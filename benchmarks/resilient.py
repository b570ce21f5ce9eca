"""The clients of `resilience.py`: ``python resilient.py OPTIONS``, a dictionary in JSON.

It prints a line when all have subscribed, begins at a line with the time to begin, and prints what it published when
all of that is acknowledged. The next line of its input tells what all clients published and when something happened,
and then it prints what it counted.

A client loses its connection at any time, goes to any server with back-off and jitter, subscribes with its cursors, and
publishes anew whatever has no acknowledgement, with the same uid. What it gets is ``[publisher, number, time]``. While
a server says that it has taken a message and cannot spread it yet, and the connection lives, it is not published
elsewhere: those who got it already would get it again.
"""

from __future__ import annotations

import asyncio
import bisect
import collections
import contextlib
import itertools
import json
import logging
import random
import sys
import time
from typing import Any

from soak import raise_limit

import websock.asyncio
from websock.exceptions import ConnectionClosed, InvalidHandshake

FIRST_WAIT, LONGEST_WAIT = 0.05, 2.0  # seconds between two attempts to connect
PING = 2.0  # seconds after which a silent server is asked, and again for the answer
UNSURE = 5.0  # seconds without an acknowledgement after which a client tries another server
OPENING = 100  # connections that are being opened at a time at the beginning


class Got:
    """What a client has of one room."""

    def __init__(self) -> None:
        self.cursor: str | None = None
        self.waiting = True  # for the event that begins a subscription
        self.last: dict[str, int] = {}  # the highest number of each publisher
        self.missing: dict[str, set[int]] = {}  # lower ones that did not come


class Client:
    def __init__(self, run: Run, name: str, rooms: list[str]) -> None:
        self.run = run
        self.name = name
        self.rooms = {room: Got() for room in rooms}
        self.numbers = dict.fromkeys(rooms, 0)
        self.outbox: dict[str, tuple[str, list[Any]]] = {}  # by uid, as long as it is not acknowledged
        self.taken: set[str] = set()  # of those: delivered by this server, which will spread it as soon as it can
        self.news = asyncio.Event()
        self.ready = asyncio.Event()
        self.is_here = False
        self.where = ""
        self.random = random.Random(name)

    def publish(self, room: str) -> None:
        self.numbers[room] = number = self.numbers[room] + 1
        self.outbox[f"{self.name}/{room}/{number}"] = (room, [self.name, number, time.time()])
        self.news.set()

    async def live(self) -> None:
        wait = FIRST_WAIT
        while True:
            host, port = self.random.choice(self.run.servers)
            try:
                async with contextlib.AsyncExitStack() as stack:
                    async with contextlib.nullcontext() if self.ready.is_set() else self.run.opening:
                        ws = await stack.enter_async_context(
                            websock.asyncio.connect(
                                f"ws://{host}:{port}/{self.name}",
                                open_timeout=5,
                                close_timeout=1,
                                ping_interval=PING,
                                ping_timeout=2 * PING,
                                compression=None,
                            )
                        )
                    self.run.counts["connections"] += 1
                    self.where = f"{host}:{port}"
                    await self.talk(ws)
                    wait = FIRST_WAIT
            except (ConnectionClosed, InvalidHandshake, OSError):
                pass
            self.is_here = False
            await asyncio.sleep(wait * self.random.uniform(0.5, 1.0))
            wait = min(2 * wait, LONGEST_WAIT)

    async def talk(self, ws: Any) -> None:
        self.taken.clear()
        async with contextlib.AsyncExitStack() as stack:
            for room in self.rooms:
                await self.subscribe(ws, room)
            writer = asyncio.create_task(self.write(ws))
            stack.callback(writer.cancel)
            async for message in ws:
                await self.heard(ws, json.loads(message))

    async def subscribe(self, ws: Any, room: str) -> None:
        got = self.rooms[room]
        got.waiting = True
        await ws.send(json.dumps({"do": "subscribe", "topic": room, "after": got.cursor}))

    async def write(self, ws: Any) -> None:
        """Say what is in the outbox; who has waited for too long goes to another server."""
        sent: dict[str, float] = {}
        with contextlib.suppress(ConnectionClosed):
            while True:
                now = time.monotonic()
                for uid in [uid for uid in sent if uid not in self.outbox]:
                    del sent[uid]
                unsure = (at for uid, at in sent.items() if uid not in self.taken)
                if now - next(unsure, now) > UNSURE:
                    self.run.counts["gone elsewhere"] += 1
                    await ws.close()
                    return
                for uid, (room, data) in list(self.outbox.items()):
                    if uid not in sent:
                        sent[uid] = now
                        await ws.send(json.dumps({"do": "publish", "topic": room, "data": data, "uid": uid}))
                self.news.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(1):
                        await self.news.wait()

    async def heard(self, ws: Any, event: dict[str, Any]) -> None:
        match event["kind"]:
            case "message":
                got = self.rooms[event["topic"]]
                if got.waiting:
                    return  # of the subscription before
                if event["prev"] is not None and event["prev"] != got.cursor:
                    self.run.counts["gaps noticed"] += 1
                    await self.subscribe(ws, event["topic"])
                    return
                got.cursor = event["id"]
                self.take(got, *event["data"])
            case "subscribed":
                got = self.rooms[event["topic"]]
                got.waiting, got.cursor = False, event["id"]
            case "gap":
                self.run.counts["gaps told"] += 1
                self.rooms[event["topic"]].cursor = event["id"]
            case "got":
                if not event["recovered"]:
                    self.run.refused[event["why"]] += 1
                if not any(got.waiting for got in self.rooms.values()):
                    self.is_here = True
                    self.ready.set()
            case "taken":
                self.taken.add(event["uid"])
            case "published":
                self.outbox.pop(event["uid"], None)
                self.taken.discard(event["uid"])
                self.run.counts["repeated"] += event["repeated"]
            case other:
                raise AssertionError(other)

    def take(self, got: Got, publisher: str, number: int, at: float) -> None:
        last = got.last.get(publisher, 0)
        counts = self.run.counts
        counts["deliveries"] += 1
        if number > last:
            if number > last + 1:
                got.missing.setdefault(publisher, set()).update(range(last + 1, number))
            got.last[publisher] = number
        elif number in (missing := got.missing.get(publisher, set())):
            missing.discard(number)
            counts["disordered"] += 1
        else:
            counts["doubled"] += 1
            self.run.complain(f"{self.name} at {self.where} got {publisher}/{number} twice, now as {got.cursor}")
        self.run.came(at)

    def lost(self, published: dict[str, dict[str, int]]) -> int:
        """How much is missing of what was published, by room and publisher."""
        return sum(
            max(count - got.last.get(publisher, 0), 0) + len(got.missing.get(publisher, ()))
            for room, got in self.rooms.items()
            for publisher, count in published.get(room, {}).items()
        )


class Run:
    """All clients of this process."""

    def __init__(self, options: dict[str, Any]) -> None:
        self.options = options
        self.servers: list[tuple[str, int]] = [tuple(one) for one in options["servers"]]
        self.opening = asyncio.Semaphore(OPENING)
        self.counts: collections.Counter[str] = collections.Counter()
        self.refused: collections.Counter[str] = collections.Counter()
        self.latencies: list[tuple[float, float]] = []
        first, step, rooms = options["first"], options["step"], options["rooms"]
        self.clients = [
            Client(self, f"c{number}", sorted({f"room/{(number + k * 7) % rooms}" for k in range(options["each"])}))
            for number in range(first, options["clients"], step)
        ]
        self.complaints = 0

    def complain(self, what: str) -> None:
        self.complaints += 1
        if self.complaints <= 20:
            print(f"{time.time():.3f} {what}", file=sys.stderr, flush=True)

    def came(self, at: float) -> None:
        self.latencies.append((at, time.time() - at))

    async def publish(self, began: float, seconds: float) -> None:
        random_ = random.Random(self.options["first"])
        pace = self.options["rate"] / self.options["step"]
        for number in itertools.count():
            due = began + number / pace
            if due >= began + seconds:
                return
            await asyncio.sleep(max(due - time.time(), 0))
            client = random_.choice(self.clients)
            client.publish(random_.choice(list(client.rooms)))

    async def until(self, happened: Any, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not happened() and time.monotonic() < deadline:  # noqa: ASYNC110 - what ends it has many places
            await asyncio.sleep(0.1)

    def figures(self, windows: list[tuple[str, float]]) -> dict[str, dict[str, int]]:
        """How often each latency came, in tenths of milliseconds, for each time of publishing."""
        begins = [begin for _, begin in windows]
        found: dict[str, collections.Counter[str]] = {name: collections.Counter() for name, _ in windows}
        for at, took in self.latencies:
            found[windows[max(bisect.bisect(begins, at) - 1, 0)][0]][str(round(took * 10_000))] += 1
        return {name: dict(counter) for name, counter in found.items()}

    async def main(self) -> None:
        loop = asyncio.get_running_loop()

        async def line() -> Any:
            return json.loads(await loop.run_in_executor(None, sys.stdin.readline))

        def tell(what: Any) -> None:
            print(json.dumps(what), flush=True)

        grace = self.options["grace"]
        tasks = [loop.create_task(client.live()) for client in self.clients]
        for client in self.clients:
            await client.ready.wait()
        tell("ready")
        began = await line()
        await self.publish(began, self.options["seconds"])
        await self.until(lambda: not any(client.outbox for client in self.clients), grace)
        published: dict[str, dict[str, int]] = {}
        for client in self.clients:
            for room, number in client.numbers.items():
                unsure = sum(one[0] == room for one in client.outbox.values())
                published.setdefault(room, {})[client.name] = number - unsure
        unacknowledged = sum(len(client.outbox) for client in self.clients)
        tell({"published": published})
        told = await line()
        everything = told["published"]
        await self.until(
            lambda: all(one.is_here for one in self.clients) and not any(one.lost(everything) for one in self.clients),
            grace,
        )
        await asyncio.sleep(1)  # what would come twice
        tell(
            {
                **dict.fromkeys(("doubled", "disordered"), 0),
                **self.counts,
                "published": sum(sum(client.numbers.values()) for client in self.clients),
                "unacknowledged": unacknowledged,
                "lost": sum(client.lost(everything) for client in self.clients),
                "away": sum(not client.is_here for client in self.clients),
                "refused": dict(self.refused),
                "latencies": self.figures(told["windows"]),
            }
        )
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


if __name__ == "__main__":
    raise_limit()
    logging.basicConfig(level=logging.ERROR)  # connections that end, and stalls, are what this is about
    asyncio.run(Run(json.loads(sys.argv[1])).main())
