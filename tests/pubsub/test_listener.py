"""Programs that hear topics without a connection."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from websock.asyncio import connect, serve
from websock.pubsub import BlockingHub, BlockingReceipt, Event, History, Hub, HubClosed

from ..sockets import Logs
from .memory import Service
from .test_hub import ask, handler_of, run, told
from .test_hubs import hubs


class Ears:
    """What was heard."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def __call__(self, event: Event) -> None:
        self.events.append(event)

    @property
    def kinds(self) -> list[str]:
        return [event.kind for event in self.events]

    def said(self) -> list[Any]:
        return [event.data for event in self.events if event.kind == "message"]


async def soon() -> None:
    await asyncio.sleep(0.1)


@pytest.mark.parametrize("history", [True, False])
def test_a_program_hears_what_connections_do(history: bool) -> None:
    async def main() -> None:
        kept = History() if history else None
        async with Hub(history=kept) as hub, serve(handler_of(hub), "mem://a"), connect("mem://a/ann") as ann:
            ears = Ears()
            async with await hub.listen("room", ears) as listener:
                await ask(ann, "sub", "room")
                await told(ann)
                await ask(ann, "pub", "room", "one")
                assert (event := await told(ann))["data"] == "one"
                await soon()
                assert ears.kinds == ["subscribed", "message"]
                assert (ears.events[1].by, ears.events[1].id) == ("ann", event["id"])
                assert (listener.topic, listener.subscribed.recovered) == ("room", True)
                assert hub.state.members == 1
            await ask(ann, "pub", "room", "two")
            assert (await told(ann))["data"] == "two"
            await soon()
            assert ears.said() == ["one"]
            listener.leave()

    run(main)


def test_it_recovers_as_a_connection_does() -> None:
    async def main() -> None:
        async with Hub() as hub:
            receipts = [await hub.publish("room", n) for n in range(5)]
            after, last = Ears(), Ears()
            one = await hub.listen("room", after, after=receipts[1].id)
            other = await hub.listen("room", last, last=2)
            await hub.publish("room", 5)
            await soon()
            assert (one.subscribed.replayed, after.said()) == (3, [2, 3, 4, 5])
            assert (other.subscribed.replayed, last.said()) == (2, [3, 4, 5])
            unknown = await hub.listen("room", Ears(), after="made up")
            assert (unknown.subscribed.recovered, unknown.subscribed.why) == (False, "unknown")

    run(main)


def test_between_hubs_each_message_is_heard_once_and_in_order() -> None:
    async def main() -> None:
        async with hubs(Service(), presence=True) as (a, b), connect("mem://b/ben") as ben:
            ears = Ears()
            await a.listen("room", ears)
            await ask(ben, "sub", "room")
            await told(ben)
            for n in range(20):
                await (a if n % 2 else b).publish("room", n)
            await soon()
            assert ears.said() == [*range(20)]
            assert ears.kinds[:2] == ["subscribed", "join"]
            assert [one.user for one in await a.present("room")] == ["ben"]  # a program is not present

    run(main)


def test_what_it_publishes_comes_behind_what_it_hears() -> None:
    async def main() -> None:
        async with Hub() as hub, serve(handler_of(hub), "mem://a"), connect("mem://a/ann") as ann:

            def answer(event: Event) -> None:
                if event.kind == "message" and event.by is not None:
                    hub.publish_nowait("room", f"{event.data}!")

            await hub.listen("room", answer)
            await ask(ann, "sub", "room")
            await told(ann)
            for word in ("one", "two"):
                await ask(ann, "pub", "room", word)
                assert [(await told(ann))["data"] for _ in range(2)] == [word, f"{word}!"]

    run(main)


def test_an_error_of_its_own_is_one_line_and_no_end(logs: Logs) -> None:
    async def main() -> None:
        async with Hub() as hub:
            heard = Ears()

            def fail(event: Event) -> None:
                heard(event)
                raise RuntimeError("on purpose")

            await hub.listen("room", fail)
            for n in range(2):
                await hub.publish("room", n)
            await soon()
            assert heard.said() == [0, 1]

    run(main)
    assert [one.getMessage() for one in logs.tracebacks()] == ["a listener of 'room' failed"] * 3
    logs.expected = 3


def test_what_is_refused() -> None:
    async def main() -> None:
        async with Hub() as hub:
            for what, options, error, text in (
                ("", {}, ValueError, "1 to 200 characters"),
                ("room", {"last": -1}, ValueError, "last is a number of messages from 0, not -1"),
                ("room", {"last": True}, ValueError, "last is a number"),
            ):
                with pytest.raises(error, match=text):
                    await hub.listen(what, Ears(), **options)
            with pytest.raises(TypeError, match="a function is to hear a topic, not 5"):
                await hub.listen("room", 5)  # type: ignore[arg-type]

            async def coroutine(event: Event) -> None: ...

            with pytest.raises(TypeError, match="let it put events into a queue"):
                await hub.listen("room", coroutine)
            listener = await hub.listen("room", Ears())
        listener.leave()
        with pytest.raises(HubClosed):
            await hub.listen("room", Ears())

    run(main)


def test_blocking() -> None:
    ears = Ears()
    done: list[BlockingReceipt] = []

    def hear(event: Event) -> None:
        ears(event)
        if event.data == "last":
            listener.leave()
            done.append(hub.publish_nowait("other", "done"))

    with Hub().blocking() as hub:
        assert isinstance(hub, BlockingHub)
        others = Ears()
        listener = hub.listen("room", hear)
        assert repr(listener).startswith("<BlockingListener 'room'")
        with hub.listen("other", others) as other:
            for data in ("one", "last", "nothing"):
                hub.publish("room", data)
            hub.publish("other", "end")
            hub.publish("room", "the thread has heard that")
        assert other.topic == "other"
    assert ears.said() == ["one", "last"]
    assert done and others.said() == ["done", "end"]
