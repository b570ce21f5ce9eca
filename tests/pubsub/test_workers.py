"""Hubs in several processes, with clients that move between them: every message exactly once, and in order."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

import websock.asyncio
from websock.exceptions import ConnectionClosed, InvalidHandshake

from ..programs import PATIENCE
from ..serving.conftest import Serve, Served, served, start  # noqa: F401 - fixtures
from .recorder import until
from .servers import RedisServer, redis_server

if sys.platform == "win32":
    pytest.skip("no fork", allow_module_level=True)

APP = "tests.pubsub.hub_app:handler"
EACH = 40  # messages of each client


class Client:
    """One that comes back whenever it loses its connection, with its cursor, and publishes until that is certain."""

    def __init__(self, uris: Callable[[], str], name: str, topic: str, go: asyncio.Event) -> None:
        self._go = go  # all have subscribed
        self._uris = uris
        self.name = name
        self.topic = topic
        self.came: list[tuple[str, int]] = []
        self.cursor: str | None = None
        self.published = 0
        self.lives = 0
        self.refused: list[str] = []

    async def run(self) -> None:
        while True:
            try:
                async with websock.asyncio.connect(f"{self._uris()}{self.name}", close_timeout=1) as ws:
                    self.lives += 1
                    await self._live(ws)
            except (ConnectionClosed, InvalidHandshake, OSError):
                await asyncio.sleep(0.02)

    async def _live(self, ws: Any) -> None:
        await ws.send(json.dumps({"do": "subscribe", "topic": self.topic, "after": self.cursor}))
        while True:
            event = json.loads(await ws.recv())
            match event["kind"]:
                case "message":
                    assert self.cursor is None or event["prev"] == self.cursor, (self.cursor, event)
                    self.cursor = event["id"]
                    if (message := tuple(event["data"])) not in self.came:
                        self.came.append(message)
                    else:  # published again to a hub that could not know that we had it: of that, its uid tells
                        assert self.lives > 1 and event["uid"] == "{}.{}".format(*message)
                case "subscribed":
                    self.cursor = event["id"]
                case "got":
                    if not event["recovered"]:
                        self.refused.append(event["why"])
                    await self._go.wait()
                    await self._publish(ws)
                case "published":
                    assert event["spread"]
                    self.published += 1
                    await asyncio.sleep(0.005)
                    await self._publish(ws)
                case other:
                    raise AssertionError(other)

    async def _publish(self, ws: Any) -> None:
        if (n := self.published) < EACH:
            asked = {"do": "publish", "topic": self.topic, "data": [self.name, n], "uid": f"{self.name}.{n}"}
            await ws.send(json.dumps(asked))

    def check(self, others: list[Client]) -> None:
        """All that was published to its topic, once, that of each in order."""
        assert not self.refused
        for other in others:
            assert [n for name, n in self.came if name == other.name] == [*range(EACH)], (self.name, other.name)
        assert len(self.came) == EACH * len(others)


@contextlib.asynccontextmanager
async def clients(uris: Callable[[], str]) -> AsyncIterator[list[Client]]:
    """Nine in three rooms. All follow before the first one publishes: nobody reads what was before."""
    go = asyncio.Event()
    found = [Client(uris, f"client-{n}", f"room/{n % 3}", go) for n in range(9)]
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one.run()) for one in found]
        await until(lambda: all(one.cursor is not None for one in found), "the subscriptions")
        go.set()
        yield found
        for task in tasks:
            task.cancel()


def all_came(found: list[Client]) -> bool:
    return all(len(one.came) >= 3 * EACH for one in found)


def check(found: list[Client]) -> None:
    for one in found:
        one.check([other for other in found if other.topic == one.topic])


async def states(uri: str, processes: int) -> dict[int, dict[str, Any]]:
    """What the hubs of all its processes say of themselves, by process."""
    seen: dict[int, dict[str, Any]] = {}
    async with asyncio.timeout(PATIENCE):
        while len(seen) < processes or any(one["backplane"] != "up" for one in seen.values()):
            with contextlib.suppress(ConnectionClosed, InvalidHandshake, OSError):
                async with websock.asyncio.connect(f"{uri}asking", close_timeout=1) as ws:
                    # It begins when it is used.
                    await ws.send(json.dumps({"do": "subscribe", "topic": "asking", "after": None}))
                    await ws.send(json.dumps({"do": "state"}))
                    while (event := json.loads(await ws.recv()))["kind"] != "state":
                        pass
                    seen[event["pid"]] = event
            await asyncio.sleep(0.01)
    return seen


def progress(found: list[Client], more: int) -> Callable[[], bool]:
    """Whether each of them has got so many more than now, or all."""
    goals = [min(len(one.came) + more, 3 * EACH) for one in found]
    return lambda: all(len(one.came) >= goal for one, goal in zip(found, goals, strict=True))


def test_the_worker_with_the_broker_is_killed_twice(served: Serve) -> None:  # noqa: F811 - the fixture
    server = served(APP, "--workers", "3")
    server.says("server has 3 workers")

    async def main() -> None:
        async with clients(lambda: server.uri) as found:
            await until(progress(found, 20), "the beginning")
            for _ in range(2):
                brokers = [pid for pid, state in (await states(server.uri, 3)).items() if state["broker"]]
                for pid in brokers:  # one, or none for a moment
                    if pid in server.workers():
                        os.kill(pid, signal.SIGKILL)
                await until(progress(found, 20), "what came then")
            await until(lambda: all_came(found), "all messages")
            check(found)
            assert any(one.lives > 1 for one in found)

    asyncio.run(main())
    server.stop()


def test_a_reload_loses_nothing(served: Serve) -> None:  # noqa: F811 - the fixture
    server = served(APP, "--workers", "2", "--grace", "5")
    server.says("server has 2 workers")

    async def main() -> None:
        async with clients(lambda: server.uri) as found:
            await until(progress(found, 20), "the beginning")
            server.tell(signal.SIGHUP)
            await until(lambda: all(one.lives > 1 for one in found), "the new workers")
            await until(lambda: all_came(found), "all messages")
            check(found)

    asyncio.run(main())
    server.stop()


@pytest.fixture
def redis(short_path: str) -> Iterator[RedisServer]:
    with redis_server(short_path) as server:
        yield server


def test_two_hosts_lose_redis_and_what_it_knew(served: Serve, redis: RedisServer) -> None:  # noqa: F811
    hosts: list[Served] = [served(APP, WEBSOCK_BACKPLANE=redis.url) for _ in range(2)]
    turn = 0

    def uris() -> str:
        nonlocal turn
        turn += 1
        return hosts[turn % 2].uri

    async def main() -> None:
        async with clients(uris) as found:
            await until(progress(found, 20), "the beginning")
            redis.kill()
            await asyncio.sleep(0.3)
            redis.start()
            await until(progress(found, 20), "what came then")
            await until(lambda: all_came(found), "all messages")
            check(found)

    asyncio.run(main())
    for host in hosts:
        host.stop()
