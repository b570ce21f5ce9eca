"""A hub alone in its process, over a network in memory, with virtual time."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from websock.asyncio import connect, serve
from websock.pubsub import History, Hub
from websock.testing import simulate


def run(main: Callable[[], Coroutine[Any, Any, None]], seed: int = 0) -> None:
    with simulate(seed) as sim:
        sim.run(main())
    sim.check()


async def told(ws: Any, kind: str | None = None) -> dict[str, Any]:
    """The next event, or the next of a kind."""
    while True:
        event: dict[str, Any] = json.loads(await asyncio.wait_for(ws.recv(), 30))
        if kind in (None, event["kind"]):
            return event


def handler_of(hub: Hub) -> Callable[[Any], Coroutine[Any, Any, None]]:
    """A little protocol: what the tests' clients may ask for."""

    async def handler(ws: Any) -> None:
        assert ws.request is not None
        user = ws.request.path.strip("/") or None
        async with hub.join(ws, user, {"name": user}) as member:
            async for message in ws:
                what, topic, *rest = json.loads(message)
                if what == "sub":
                    await member.subscribe(topic, **(rest[0] if rest else {}))
                elif what == "unsub":
                    await member.unsubscribe(topic)
                elif what == "pub":
                    await member.publish(topic, rest[0], uid=rest[1] if rest[1:] else None)
                elif what == "answer":
                    await member.answer(topic, rest[0])

    return handler


async def ask(ws: Any, *what: Any) -> None:
    await ws.send(json.dumps(what))


def test_a_message_goes_to_those_who_have_subscribed() -> None:
    async def main() -> None:
        async with (
            Hub() as hub,
            serve(handler_of(hub), "mem://a"),
            connect("mem://a/ann") as ann,
            connect("mem://a/ben") as ben,
        ):
            await ask(ann, "sub", "room")
            await ask(ben, "sub", "room")
            assert (await told(ann))["kind"] == "subscribed"
            assert (await told(ben))["kind"] == "subscribed"
            await ask(ann, "pub", "room", "hello")
            got = [await told(one) for one in (ann, ben)]
            assert got[0] == got[1]
            assert (got[0]["data"], got[0]["by"], got[0]["topic"], got[0]["kind"]) == (
                "hello",
                "ann",
                "room",
                "message",
            )

    run(main)


def test_a_client_that_comes_back_gets_what_it_missed() -> None:
    async def main() -> None:
        async with Hub() as hub, serve(handler_of(hub), "mem://a"):
            async with connect("mem://a/ann") as ann:
                await ask(ann, "sub", "room")
                await told(ann)
                await hub.publish("room", 1)
                seen = (await told(ann))["id"]
            for number in range(2, 5):
                await hub.publish("room", number)
            async with connect("mem://a/ann") as ann:
                await ask(ann, "sub", "room", {"after": seen})
                event = await told(ann)
                assert event["data"] == {"recovered": True, "why": "", "replayed": 3}
                last = seen
                for number in range(2, 5):
                    event = await told(ann)
                    assert (event["data"], event["prev"]) == (number, last)
                    last = event["id"]
                await hub.publish("room", 5)
                event = await told(ann)
                assert (event["data"], event["prev"]) == (5, last)

    run(main)


@pytest.mark.parametrize(
    ("after", "why"), [("1-0", "too old"), ("x", "unknown"), ("9999999999999-0", "unknown"), (7, "unknown")]
)
def test_a_cursor_that_cannot_be_served_is_told(after: Any, why: str) -> None:
    async def main() -> None:
        async with Hub() as hub, serve(handler_of(hub), "mem://a"), connect("mem://a/ann") as ann:
            for number in range(5):
                await hub.publish("room", number)
            await ask(ann, "sub", "room", {"after": after, "last": 2})
            assert (await told(ann))["data"] == {"recovered": False, "why": why, "replayed": 2}
            assert [(await told(ann))["data"] for _ in range(2)] == [3, 4]

    run(main)


def test_settings_by_the_name_of_a_topic() -> None:
    async def main() -> None:
        hub = Hub(
            history=lambda name: History(count=1) if name.startswith("room/") else None,
            presence=lambda name: name.startswith("room/"),
        )
        async with hub, serve(handler_of(hub), "mem://a"), connect("mem://a/ann") as ann:
            for topic in ("room/1", "typing/1"):
                await hub.publish(topic, "too old")
                await hub.publish(topic, "kept")
                await ask(ann, "sub", topic, {"last": 9})
            assert [event["data"]["replayed"] for event in [await told(ann, "subscribed") for _ in range(2)]] == [1, 0]
            assert [one.user for one in await hub.present("room/1")] == ["ann"]
            with pytest.raises(ValueError, match="no presence"):
                await hub.present("typing/1")
            hub.topic("typing/2", presence=True)
            assert await hub.present("typing/2") == []

    run(main)


def test_settings_of_a_wrong_type_are_refused() -> None:
    with pytest.raises(TypeError, match="history is a History, None or a function"):
        Hub(history=100)  # type: ignore[arg-type]
