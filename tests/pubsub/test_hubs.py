"""Several hubs over a backplane, in virtual time: messages, presence, direct messages, outages."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from collections.abc import AsyncIterator
from typing import Any

import pytest

import websock.pubsub.hub
from websock.asyncio import connect, serve
from websock.exceptions import ConnectionClosed
from websock.pubsub import BackplaneFull, History, Hub, NotHere, NotSpread

from .memory import Memory, Service
from .test_hub import ask, handler_of, run, told
from .test_worlds import EXAMPLES


@contextlib.asynccontextmanager
async def hubs(service: Service, count: int = 2, **options: Any) -> AsyncIterator[list[Hub]]:
    """Hubs, each with a server: mem://a, mem://b, ..."""
    async with contextlib.AsyncExitStack() as stack:
        found = []
        for name in "abcdefgh"[:count]:
            hub = await stack.enter_async_context(Hub(service.plane(), origin=name, **options))
            await stack.enter_async_context(serve(handler_of(hub), f"mem://{name}"))
            found.append(hub)
        yield found


async def until_up(found: list[Hub]) -> None:
    while not all(hub.state.backplane == "up" and hub.state.hubs == len(found) - 1 for hub in found):  # noqa: ASYNC110
        await asyncio.sleep(0.1)


def test_messages_go_between_hubs() -> None:
    async def main() -> None:
        async with hubs(Service()) as (a, b), connect("mem://a/ann") as ann, connect("mem://b/ben") as ben:
            await ask(ann, "sub", "room")
            await ask(ben, "sub", "room")
            await told(ann), await told(ben)
            receipt = await a.publish("room", {"x": 1}, by="ann")
            assert (receipt.spread, receipt.repeated) == (True, False)
            got = [await told(one) for one in (ann, ben)]
            assert got[0] == got[1]
            assert (got[0]["id"], got[0]["data"]) == (receipt.id, {"x": 1})
            await b.publish("room", b"\x00\xff")
            assert [(await told(one))["data"] for one in (ann, ben)] == [{"base64": "AP8="}] * 2
            assert a.state.pending == b.state.pending == 0

    run(main)


def test_while_the_backplane_is_away_local_delivery_goes_on() -> None:
    async def main() -> None:
        service = Service()
        async with hubs(service) as (a, b), connect("mem://a/ann") as ann, connect("mem://b/ben") as ben:
            for one in (ann, ben):
                await ask(one, "sub", "room")
                await told(one)
            service.down()
            receipts = [await a.publish("room", n) for n in range(3)]
            assert [one.spread for one in receipts] == [False] * 3
            assert a.state.pending == 3
            got = [await told(ann) for _ in range(3)]
            assert [one["data"] for one in got] == [0, 1, 2]
            assert all("+a." in one["id"] for one in got)
            service.back()
            for receipt in receipts:
                await receipt.settled()
            got = [await told(ben) for _ in range(3)]
            assert [(one["data"], one["id"]) for one in got] == [(n, receipts[n].id) for n in range(3)]
            await b.publish("room", "after")
            assert [(await told(one))["data"] for one in (ann, ben)] == ["after"] * 2
            assert (a.state.pending, a.state.not_spread, a.state.backplane) == (0, 3, "up")

    run(main)


def test_a_backplane_that_is_slow_is_waited_for_with_patience() -> None:
    async def main() -> None:
        service = Service((2.0, 3.0))
        async with hubs(service, patience=0.5) as (a, _), connect("mem://a/ann") as ann:
            await asyncio.sleep(30)
            await ask(ann, "sub", "room")
            await told(ann)
            await asyncio.sleep(30)
            loop = asyncio.get_running_loop()
            before = loop.time()
            receipt = await a.publish("room", 1)
            assert (receipt.spread, round(loop.time() - before, 6)) == (False, 0.5)
            assert (await told(ann))["data"] == 1
            await receipt.settled()
            assert loop.time() - before > 2
            await a.publish("room", 2)
            assert (await told(ann))["data"] == 2

    run(main)


def test_what_waits_is_bounded_and_fails_with_the_hub() -> None:
    async def main() -> None:
        service = Service()
        service.up = False
        async with hubs(service, 1, pending=3, pending_octets=10_000) as (a,):
            receipts = [await a.publish("room", n) for n in range(2)]
            with pytest.raises(BackplaneFull, match="2 messages"):
                await a.publish("room", "x" * 10_000)
            receipts.append(a.publish_nowait("other", 3))
            with pytest.raises(BackplaneFull):
                a.publish_nowait("room", 4)
            waiter = asyncio.ensure_future(receipts[0].settled())
        with pytest.raises(NotSpread, match="hub has ended"):
            await waiter
        with pytest.raises(NotSpread):
            await receipts[2].settled()

    run(main)


def test_a_repetition_is_sent_once() -> None:
    async def main() -> None:
        async with hubs(Service()) as (a, b), connect("mem://b/ben") as ben:
            await ask(ben, "sub", "room")
            await told(ben)
            first = await a.publish("room", 1, uid="u")
            again = await b.publish("room", 1, uid="u")
            assert (again.id, again.repeated) == (first.id, True)
            both = [a.publish_nowait("room", 2, uid="v"), a.publish_nowait("room", 2, uid="v")]
            for receipt in both:
                await receipt.settled()
            assert both[0].id == both[1].id
            assert [receipt.repeated for receipt in both] == [False, True]
            await a.publish("room", 3)
            assert [(await told(ben))["data"] for _ in range(3)] == [1, 2, 3]

    run(main)


def test_topics_without_history() -> None:
    async def main() -> None:
        service = Service()
        async with hubs(service, history=None) as (a, b), connect("mem://a/ann") as ann, connect("mem://b/ben") as ben:
            await until_up([a, b])
            for one in (ann, ben):
                await ask(one, "sub", "room", {"after": "1-0"})
                assert (await told(one))["data"]["why"] == "no history"
            await asyncio.sleep(1)
            receipts = [a.publish_nowait("room", n) for n in range(20)]
            for receipt in receipts:
                assert (await receipt.settled()).id is None
            for one in (ann, ben):
                got = [await told(one) for _ in range(20)]
                assert [(event["data"], event["id"]) for event in got] == [(n, None) for n in range(20)]
            service.down()
            receipt = await a.publish("room", "here only")
            assert (await told(ann))["data"] == "here only"
            assert receipt.spread is False
            with pytest.raises(NotSpread):
                await receipt.settled()
            assert a.state.not_spread == 1

    run(main)


def test_who_is_there() -> None:
    async def main() -> None:
        service = Service()
        async with hubs(service, 3, presence=True) as found, connect("mem://a/ann") as ann:
            a, _b, c = found
            await until_up(found)
            await ask(ann, "sub", "room")
            assert [one["user"] for one in (await told(ann))["data"]["present"]] == ["ann"]
            async with connect("mem://b/ben") as ben:
                await ask(ben, "sub", "room")
                event = await told(ben)
                assert [one["user"] for one in event["data"]["present"]] == ["ann", "ben"]
                event = await told(ann)
                assert (event["kind"], event["by"], event["data"]) == ("join", "ben", {"name": "ben"})
                assert [one.user for one in await c.present("room")] == ["ann", "ben"]
                await ask(ben, "unsub", "room")
                assert (await told(ann))["kind"] == "leave"
                await ask(ben, "sub", "room")
                assert (await told(ann))["kind"] == "join"
            event = await told(ann)
            assert (event["kind"], event["by"]) == ("leave", "ben")
            async with connect("mem://c/cy") as cy:
                await ask(cy, "sub", "room")
                await told(ann)
                plane = c._backplane
                assert isinstance(plane, Memory)
                before = asyncio.get_running_loop().time()
                plane.cut()  # its hub is not heard any more
                assert ((await told(ann))["kind"], a.state.hubs) == ("leave", 1)
                assert 4 < asyncio.get_running_loop().time() - before < 8
                assert len(await a.present("room")) == 1
                plane.connect()
                assert ((await told(ann))["kind"], a.state.hubs) == ("join", 2)
                service.down()  # nobody hears anybody, and nobody is gone for that
                await asyncio.sleep(60)
                service.back()
                await asyncio.sleep(10)
                await ask(cy, "unsub", "room")
                assert (await told(ann))["kind"] == "leave"

    run(main)


def test_direct_messages_and_calls() -> None:
    async def main() -> None:
        async with hubs(Service(), 3) as found, connect("mem://b/ben") as ben, connect("mem://c/ben") as other:
            a, b, _ = found
            await until_up(found)
            assert await a.send_to("ben", "hi", by="ann") == 2
            for one in (ben, other):
                event = await told(one)
                assert (event["kind"], event["data"], event["by"]) == ("direct", "hi", "ann")
            assert await a.send_to("nobody", 1) == 0
            asked = asyncio.ensure_future(a.call("ben", b"?"))
            for one in [ben, other]:
                with contextlib.suppress(TimeoutError):
                    event = json.loads(await asyncio.wait_for(one.recv(), 2))
                    break
            assert (event["kind"], event["data"]) == ("call", {"base64": "Pw=="})
            answering = one
            stranger = other if answering is ben else ben
            await ask(stranger, "answer", event["call"], "wrong")
            await ask(answering, "answer", event["call"], {"right": 1})
            await ask(answering, "answer", event["call"], "late")
            assert await asked == {"right": 1}
            with pytest.raises(NotHere, match="nobody"):
                await b.call("nobody", 1)
            with pytest.raises(TimeoutError, match="no answer from 'ben' within 3"):
                await b.call("ben", 1, timeout=3.0)
            asked = asyncio.ensure_future(b.call("ben", 2))
            await told(ben, "call")
            await ben.close()
            with pytest.raises(NotHere, match="has gone"):
                await asked

    run(main)


def test_a_connection_that_the_handler_forgot_leaves_by_itself() -> None:
    async def main() -> None:
        async with hubs(Service(), presence=True) as found, connect("mem://b/ben") as ben:

            async def forgetful(ws: Any) -> None:
                await found[0].join(ws, "ann").subscribe("room")
                await ws.wait_closed()

            await until_up(found)
            async with serve(forgetful, "mem://f"):
                async with connect("mem://f/ann") as ann:
                    await told(ann)
                    await ask(ben, "sub", "room")
                    assert len((await told(ben))["data"]["present"]) == 2
                assert (await told(ben))["kind"] == "leave"
                assert found[0].state.members == 0

    run(main)


def test_who_answers_nothing_can_be_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(websock.pubsub.hub, "MAX_CALLS", 3)

    async def main() -> None:
        async with Hub() as hub, serve(handler_of(hub), "mem://a"), connect("mem://a/ben") as ben:
            await ask(ben, "sub", "room")
            await told(ben)
            for _ in range(5):
                with pytest.raises(TimeoutError):
                    await hub.call("ben", 1, timeout=1.0)
            calls = [(await told(ben, "call"))["call"] for _ in range(5)]
            asked = asyncio.ensure_future(hub.call("ben", "?"))
            await ask(ben, "answer", calls[0], "late")
            await ask(ben, "answer", (await told(ben, "call"))["call"], "!")
            assert await asked == "!"
            assert len(hub._open_members("ben")[0]._calls) < 3

    run(main)


def test_a_connection_that_has_ended_is_not_called() -> None:
    async def main() -> None:
        async with hubs(Service(), 3) as found, connect("mem://b/ben") as ben:
            a, _, c = found

            async def forgetful(ws: Any) -> None:
                c.join(ws, "ben")
                await ws.wait_closed()

            async with serve(forgetful, "mem://z"):
                await until_up(found)
                for _ in range(10):
                    await (await connect("mem://z")).close()
                    asked = asyncio.ensure_future(a.call("ben", "?"))
                    await ask(ben, "answer", (await told(ben, "call"))["call"], "!")
                    assert await asked == "!"

    run(main)


def test_a_subscribe_that_was_given_up_leaves_nothing() -> None:
    async def main() -> None:
        service = Service((2.0, 3.0))

        async def handler(ws: Any) -> None:
            async with hub.join(ws) as member:
                for _ in range(3):
                    with pytest.raises(TimeoutError):
                        await asyncio.wait_for(member.subscribe("a"), 0.1)
                    assert member.topics == []
                first = asyncio.ensure_future(member.subscribe("b"))
                second = asyncio.ensure_future(member.subscribe("b"))
                await asyncio.sleep(0.1)
                first.cancel()
                assert (await second).recovered
                assert member.topics == ["b"]
                again = asyncio.ensure_future(member.subscribe("b"))
                await asyncio.sleep(0)
                again.cancel()
                await asyncio.wait([again])
                assert member.topics == ["b"]
                await ws.send("done")

        async with (
            Hub(service.plane(), origin="a", max_topics=1) as hub,
            serve(handler, "mem://a"),
            connect("mem://a") as ws,
        ):
            while await ws.recv() != "done":
                pass

    run(main)


def test_a_uid_is_remembered_longer_than_its_message() -> None:
    async def main() -> None:
        async with Hub(history=History(seconds=1.0)) as hub:
            assert not (await hub.publish("room", 1, uid="u")).repeated
            await asyncio.sleep(300)
            assert (await hub.publish("room", 1, uid="u")).repeated
            await asyncio.sleep(600)
            assert hub.state.topics == 0
            assert not (await hub.publish("room", 1, uid="u")).repeated

    run(main)


def test_a_close_that_was_given_up_ends_all_the_same() -> None:
    async def main() -> None:
        service = Service()
        hub = Hub(service.plane(), origin="a", patience=60.0)
        await hub.publish("room", 1)
        service.delay = (30.0, 30.0)
        receipt = hub.publish_nowait("room", 2)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(hub.close(), 1)
        assert service.planes[0].closed
        with pytest.raises(NotSpread):
            await receipt.settled()

    run(main)


def test_a_topic_that_nobody_needs_is_forgotten() -> None:
    async def main() -> None:
        service = Service()
        async with hubs(service) as (a, _b):
            await a.publish("room", 1)
            assert a.state.topics == 1
            await asyncio.sleep(70)
            assert (a.state.topics, a._backplane.follows) == (0, set())  # type: ignore[union-attr]
            receipt = await a.publish("room", 2)
            assert receipt.spread and not receipt.repeated

    run(main)


class Visitor:
    """A client that moves between hubs, and comes back with its cursor."""

    def __init__(self, name: str, rooms: list[str]) -> None:
        self.name, self.rooms = name, rooms
        self.cursors: dict[str, str] = {}
        self.seen: dict[str, list[Any]] = {room: [] for room in rooms}
        self.gaps = 0

    async def live(self, chance: random.Random) -> None:
        while True:
            place = chance.choice("abc")
            with contextlib.suppress(ConnectionClosed, OSError, TimeoutError):
                async with connect(f"mem://{place}/{self.name}") as ws, asyncio.timeout(chance.uniform(0.5, 15)):
                    for room in self.rooms:
                        await ask(ws, "sub", room, {"after": self.cursors.get(room)})
                    while True:
                        self.note(json.loads(await ws.recv()))

    def note(self, event: dict[str, Any]) -> None:
        room = event["topic"]
        if event["kind"] == "gap" or (event["kind"] == "subscribed" and not event["data"]["recovered"]):
            self.gaps += 1
        if event["kind"] == "message":
            assert event["prev"] == self.cursors.get(room) or event["prev"] is None
            self.seen[room].append(event["data"])
        if event["id"] is not None:
            self.cursors[room] = event["id"]


@pytest.mark.parametrize("seed", range(EXAMPLES // 75))
@pytest.mark.parametrize("forget", [False, True])
def test_visitors_miss_nothing(seed: int, forget: bool) -> None:
    """Hubs are cut off one by one and together; where the backplane forgets, all hubs have heard all before."""

    async def main() -> None:
        chance = random.Random(seed)
        service = Service((0.0, 0.05))
        rooms = ["x", "y"]
        async with hubs(service, 3, history=History(100_000, 2**30)) as found:
            await until_up(found)
            for hub in found:  # all know both from the beginning
                for room in rooms:
                    await hub.publish(room, None)
            visitors = [Visitor(f"v{n}", rooms) for n in range(4)]
            tasks = [asyncio.ensure_future(one.live(chance)) for one in visitors]
            await asyncio.sleep(5)
            sent: dict[str, list[Any]] = {room: [] for room in rooms}
            receipts = []
            for n in range(400):
                room = chance.choice(rooms)
                hub = chance.choice(found)
                receipts.append(hub.publish_nowait(room, [hub.origin, n], uid=f"{n}"))
                sent[room].append([hub.origin, n])
                await asyncio.sleep(chance.uniform(0, 0.1))
                plane = chance.choice(service.planes)
                if chance.random() < 0.03:
                    plane.cut() if plane.up else plane.connect()
                if n in (150, 250):
                    if forget:
                        for one in service.planes:
                            one.connect()
                        await asyncio.sleep(8)  # so that nobody knows more than the others
                        for task in tasks:
                            task.cancel()
                        await asyncio.gather(*tasks, return_exceptions=True)
                        await asyncio.sleep(1)
                    service.down(forget=forget)
                    if forget:
                        tasks = [asyncio.ensure_future(one.live(chance)) for one in visitors]
                    await asyncio.sleep(3)
                    service.back()
            service.back()
            for receipt in receipts:
                assert (await receipt.settled()).spread
            await asyncio.sleep(40)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for visitor in visitors:
                assert visitor.gaps == 0
                for room in rooms:
                    got = [one for one in visitor.seen[room] if one is not None]
                    assert sorted(got) == sorted(sent[room])
                    for hub in found:
                        mine = [n for origin, n in got if origin == hub.origin]
                        assert mine == sorted(mine)
            assert all(hub.state.pending == 0 for hub in found)

    run(main, seed)
