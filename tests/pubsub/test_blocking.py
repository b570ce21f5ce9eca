"""The hub for blocking handlers: a server with threads, connections that block, and other threads that publish."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from websock.exceptions import ConnectionClosed
from websock.pubsub import BlockingHub, Hub, HubClosed, NotHere, Receipt
from websock.sync import Server, connect, serve
from websock.testing import simulate


class Place:
    """A hub, and a server with it in a thread."""

    def __init__(self, hub: BlockingHub, where: str | None = None) -> None:
        self.hub = hub
        self.server: Server = (
            serve(self.handler, where, ping_interval=None) if where else serve(self.handler, "127.0.0.1", 0)
        )
        self._thread = threading.Thread(target=self.server.serve_forever)
        self._thread.start()
        self.uri = f"{where}/" if where else f"ws://127.0.0.1:{self.server.socket.getsockname()[1]}/"

    def handler(self, ws: Any) -> None:
        user = ws.request.path.strip("/") or None
        with self.hub.join(ws, user=user) as member:
            try:
                for message in ws:
                    what, topic, *rest = json.loads(message)
                    if what == "sub":
                        got = member.subscribe(topic, **(rest[0] if rest else {}))
                        assert member.topics == [topic] and got.topic == topic
                    elif what == "pub":
                        member.publish(topic, rest[0])
                    elif what == "soon":
                        member.publish_nowait(topic, rest[0])
                    elif what == "unsub":
                        member.unsubscribe(topic)
                    elif what == "answer":
                        member.answer(topic, rest[0])
            except ConnectionClosed:
                pass

    def close(self) -> None:
        self.server.shutdown()
        self._thread.join()


@pytest.fixture
def place() -> Iterator[Place]:
    with Hub(presence=True).blocking() as hub:
        place = Place(hub)
        try:
            yield place
        finally:
            place.close()


def told(ws: Any, kind: str = "message") -> dict[str, Any]:
    while True:
        event: dict[str, Any] = json.loads(ws.recv(timeout=30))
        if event["kind"] == kind:
            return event


def ask(ws: Any, *what: Any) -> None:
    ws.send(json.dumps(what))


def test_blocking_handlers_publish_and_subscribe(place: Place) -> None:
    with connect(place.uri + "ann") as ann, connect(place.uri + "ben") as ben:
        for one in (ann, ben):
            ask(one, "sub", "room")
            told(one, "subscribed")
        ask(ann, "pub", "room", 1)
        ask(ann, "soon", "room", 2)
        for one in (ann, ben):
            events = [told(one) for _ in range(2)]
            assert [(event["data"], event["by"]) for event in events] == [(1, "ann"), (2, "ann")]
        seen = events[0]["id"]
        assert [one.user for one in place.hub.present("room")] == ["ann", "ben"]
        ask(ben, "unsub", "room")
        told(ann, "leave")
        receipt = place.hub.publish("room", 3, by="a thread", uid="u")
        assert (receipt.topic, receipt.spread, receipt.repeated) == ("room", True, False)
        assert receipt.id is not None and receipt.settled(timeout=30) is receipt
        ask(ben, "sub", "room", {"after": seen})
        assert [told(ben)["data"] for _ in range(2)] == [2, 3]
        assert place.hub.state.members == 2


def test_it_goes_in_virtual_time() -> None:
    with simulate(preempt=0.01) as sim:
        with Hub().blocking() as hub:
            place = Place(hub, "mem://a")
            with connect(place.uri + "ann", ping_interval=None) as ann:
                ask(ann, "sub", "room")
                told(ann, "subscribed")
                for n in range(3):
                    time.sleep(1000)
                    hub.publish("room", n)
                    assert told(ann)["data"] == n
                with pytest.raises(TimeoutError):
                    hub.call("ann", 1, timeout=3600)
            place.close()
        assert sim.now > 6000
    sim.check()


def test_many_threads_publish(place: Place) -> None:
    with connect(place.uri) as ws, ThreadPoolExecutor(8) as pool:
        ask(ws, "sub", "room")
        told(ws, "subscribed")

        def publish(thread: int) -> None:
            for n in range(50):
                place.hub.publish("room", [thread, n])

        list(pool.map(publish, range(8)))
        got = [told(ws)["data"] for _ in range(400)]
        for thread in range(8):
            assert [n for one, n in got if one == thread] == [*range(50)]


def test_direct_messages_and_calls(place: Place) -> None:
    with connect(place.uri + "ben") as ben, ThreadPoolExecutor(1) as pool:
        while not place.hub.state.members:
            pass
        assert place.hub.send_to("ben", "hi") == 1
        assert told(ben, "direct")["data"] == "hi"
        asked = pool.submit(place.hub.call, "ben", "?", timeout=30.0)
        ask(ben, "answer", told(ben, "call")["call"], "!")
        assert asked.result(30) == "!"
        with pytest.raises(NotHere):
            place.hub.call("nobody", 1)
        with pytest.raises(TimeoutError):
            place.hub.call("ben", 1, timeout=0.05)


def test_what_is_wrong_is_raised_where_it_was_asked_for(place: Place) -> None:
    with pytest.raises(ValueError, match="no control characters"):
        place.hub.publish("a\nb", 1)
    with pytest.raises(TypeError):
        place.hub.publish_nowait("a", object())
    with pytest.raises(TypeError, match=r"a connection of websock.sync.connection is wanted"):
        place.hub.join(None)


def test_the_hubs_own_thread_does_not_wait_for_itself() -> None:
    with Hub().blocking() as hub:
        hub.topic("room", history=None)
        found: list[Any] = []

        async def within() -> None:
            found.append(hub.publish_nowait("room", 1))
            with pytest.raises(RuntimeError, match="own thread"):
                hub.publish("room", 2)

        hub._call(within())
        assert found[0].spread


def test_a_hub_that_has_ended() -> None:
    hub = Hub().blocking()
    hub.close()
    hub.close()
    with pytest.raises(HubClosed):
        hub.publish("a", 1)
    with Hub().blocking() as hub:
        hub.publish("a", 1)
    with pytest.raises(HubClosed):
        hub.present("a")


def test_who_waits_for_a_hub_that_ends_is_told(place: Place) -> None:
    with connect(place.uri + "ben") as ben, ThreadPoolExecutor(8) as pool:
        while not place.hub.state.members:
            pass
        asked = pool.submit(place.hub._call, asyncio.sleep(3600))
        called = pool.submit(place.hub.call, "ben", "?", timeout=3600.0)
        told(ben, "call")
        closing = [pool.submit(place.hub.close) for _ in range(4)]
        for one in closing:
            one.result(30)
        with pytest.raises(HubClosed):
            asked.result(30)
        with pytest.raises(NotHere):
            called.result(30)


def test_threads_publish_until_a_hub_ends() -> None:
    def publish(hub: BlockingHub) -> None:
        with pytest.raises(HubClosed):
            while True:
                hub.publish("room", 1)

    with ThreadPoolExecutor(4) as pool:
        for _ in range(20):
            with Hub().blocking() as hub:
                publishing = [pool.submit(publish, hub) for _ in range(4)]
                hub.publish("room", 1)
            for one in publishing:
                one.result(30)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_in_a_forked_child_its_thread_is_missing() -> None:
    with Hub().blocking() as hub:
        hub.publish("room", 1)
        if (child := os.fork()) == 0:
            ended = 1
            try:
                signal.alarm(30)
                try:
                    hub.publish("room", 2)
                except RuntimeError:
                    ended = 0
                hub.close()
            finally:
                os._exit(ended)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_hub_that_is_in_use_elsewhere() -> None:
    async def main() -> None:
        async with Hub() as hub:
            assert isinstance(await hub.publish("a", 1), Receipt)
            with pytest.raises(RuntimeError, match="in use"):
                hub.blocking()

    asyncio.run(main())
