"""What strangers and careless callers ask of a hub: each gets a clear answer, and nobody else notices."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

import websock.pubsub.hub
from websock import SlowConsumers
from websock.asyncio import connect, serve
from websock.pubsub import Event, History, Hub, HubClosed, Record, TooManyTopics, to_json
from websock.pubsub.history import Log
from websock.pubsub.hub import TICK
from websock.pubsub.positions import Cursor, Position
from websock.pubsub.receipts import Receipt
from websock.pubsub.topic import MAX_GROUPS, Topic

from .memory import Service
from .test_hub import ask, handler_of, run, told
from .worlds import balanced

NAMES = ["", "x" * 201, "a\nb", "a\0", "\x7f", "a\x85", "\ud800", None, 1, b"a", ["a"]]


def logs_of(hub: Hub) -> dict[str, Log]:
    return {name: topic.log for name, topic in hub._topics.items() if isinstance(topic, Topic)}


@pytest.mark.parametrize("name", NAMES)
def test_names_are_text_without_control_characters(name: Any) -> None:
    async def main() -> None:
        async with Hub(presence=True) as hub:
            with pytest.raises(ValueError, match=r"the name of a topic (is|has)"):
                await hub.publish(name, 1)
            with pytest.raises(ValueError, match="the name of a topic"):
                await hub.present(name)
            with pytest.raises(ValueError, match="the name of a user"):
                await hub.send_to(name, 1)
            with pytest.raises(ValueError, match="the name of a topic"):
                hub.topic(name, presence=False)
            if name is not None:
                with pytest.raises(ValueError, match="a uid"):
                    await hub.publish("a", 1, uid=name)
            assert hub.state.topics == 0

    run(main)


@pytest.mark.parametrize("by", [42, b"ann", ["ann"], False])
def test_by_is_text(by: Any) -> None:
    async def main() -> None:
        async with Hub() as hub:
            for asking in (hub.publish("a", 1, by=by), hub.send_to("ben", 1, by=by), hub.call("ben", 1, by=by)):
                with pytest.raises(TypeError, match="by is the name of a user"):
                    await asking
            assert hub.state.topics == 0

    run(main)


@pytest.mark.parametrize(
    ("data", "error"),
    [("x" * 1000, ValueError), (b"x" * 750, ValueError), (object(), TypeError), (float("nan"), ValueError)],
)
def test_what_other_hubs_could_not_take_is_refused(
    data: Any, error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(websock.pubsub.hub, "LARGEST", 1000)

    async def main() -> None:
        async with Hub(Service().plane()) as hub:
            hub.topic("cast", history=None)
            for asking in (
                hub.publish("a", data),
                hub.publish("cast", data),
                hub.send_to("x", data),
                hub.call("x", data),
            ):
                with pytest.raises(error):
                    await asking
            assert (hub.state.pending, hub.state.topics) == (0, 0)

    run(main)


def test_who_gives_no_answer_may_give_another_one() -> None:
    async def main() -> None:
        async def handler(ws: Any) -> None:
            async with hub.join(ws, "ann") as member:
                call = json.loads(await ws.recv())["call"]
                with pytest.raises(TypeError):
                    await member.answer(call, object())
                assert await member.answer(call, "right")
                assert not await member.answer(call, "late")

        async with Hub() as hub, serve(handler, "mem://a"), connect("mem://a") as ws:
            asked = asyncio.ensure_future(hub.call("ann", "?"))
            await ws.send(await ws.recv())
            assert await asked == "right"

    run(main)


@pytest.mark.parametrize("name", ["x" * 200, " ", "Räume/Küche", "😀", "<script>", "a b"])
def test_other_names_are_names(name: str) -> None:
    async def main() -> None:
        async with Hub() as hub:
            assert (await hub.publish(name, 1)).spread

    run(main)


@pytest.mark.parametrize(
    ("wrong", "error", "text"),
    [
        ({"history": 5}, TypeError, "history is a History"),
        ({"history_octets": None}, TypeError, "history_octets is a number"),
        ({"history_octets": -1}, ValueError, "history_octets is at least 0"),
        ({"patience": -1}, ValueError, "patience is at least 0"),
        ({"pending": "x"}, TypeError, "pending is a number"),
        ({"max_topics": 0}, ValueError, "max_topics is at least 1"),
        ({"encode": None}, TypeError, "encode is a function"),
        ({"origin": "A"}, ValueError, "an origin is"),
        ({"backplane": "kafka://x"}, ValueError, "a backplane is redis://"),
    ],
)
def test_options_are_checked(wrong: dict[str, Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        Hub(**wrong)


def test_one_connection_has_so_many_topics() -> None:
    async def main() -> None:
        errors: list[str] = []

        async def handler(ws: Any) -> None:
            member = hub.join(ws)
            for n in range(6):
                try:
                    await member.subscribe(f"room/{n}")
                except TooManyTopics as error:
                    errors.append(str(error))
            await member.unsubscribe("room/0")
            assert not await member.unsubscribe("room/0")
            await member.subscribe("room/9")
            await member.subscribe("room/9")
            with pytest.raises(ValueError, match="last is a number"):
                await member.subscribe("room/9", last=-1)
            assert member.topics == ["room/1", "room/2", "room/3", "room/9"]
            member.leave()
            member.leave()
            for wrong in (member.subscribe("x"), member.publish("x", 1)):
                with pytest.raises(HubClosed, match="left"):
                    await wrong
            await ws.send("done")

        async with Hub(max_topics=4) as hub, serve(handler, "mem://a"), connect("mem://a") as ws:
            while await ws.recv() != "done":
                pass
            assert errors == ["a connection may have 4 topics, and this one does"] * 2
            assert hub.state.members == 0

    run(main)


def test_what_came_before_the_end_of_a_connection_is_published_after_it(logs: Any) -> None:
    async def main() -> None:
        async def slow(ws: Any) -> None:
            async with hub.join(ws) as member:
                async for message in ws:
                    await asyncio.sleep(1.5 * TICK)
                    await member.publish("room", message)

        async def listen(ws: Any) -> None:
            async with hub.join(ws) as member:
                await member.subscribe("room")
                await ws.wait_closed()

        async with Hub() as hub, serve(listen, "mem://l"), serve(slow, "mem://s"), connect("mem://l") as ears:
            assert json.loads(await ears.recv())["kind"] == "subscribed"
            async with connect("mem://s") as ws:
                for n in range(5):
                    await ws.send(str(n))
            assert [json.loads(await ears.recv())["data"] for _ in range(5)] == [*"01234"]
            assert hub.state.members == 1

    run(main)
    assert not logs.tracebacks()


def test_who_may_join() -> None:
    async def main() -> None:
        async def handler(ws: Any) -> None:
            with pytest.raises(TypeError, match=r"a connection of websock.asyncio"):
                hub.join(object())
            with pytest.raises(TypeError):
                hub.join(ws, info=object())
            with pytest.raises(ValueError, match="name of a user"):
                hub.join(ws, user="x" * 1_000_000)
            ws.slow_consumers = SlowConsumers("wait")
            with pytest.raises(ValueError, match="waits for no subscriber"):
                hub.join(ws)
            ws.slow_consumers = SlowConsumers("close")
            async with hub.join(ws):
                with pytest.raises(ValueError, match="in the hub already"):
                    hub.join(ws)
            async with hub.join(ws) as member:
                assert not await member.answer("a.1", 1)
                assert not await member.answer({}, 1)  # type: ignore[arg-type]
            await ws.send("done")

        async with Hub() as hub, serve(handler, "mem://a"), connect("mem://a") as ws:
            assert await ws.recv() == "done"
        with pytest.raises(HubClosed):
            await hub.publish("a", 1)

    run(main)


def test_settings_of_topics() -> None:
    async def main() -> None:
        history = {"long": History(1000), "none": None}
        async with Hub(history=lambda name: history.get(name, History()), presence=lambda name: name == "long") as hub:
            hub.topic("mine", history=History(1), presence=True)
            hub.topic("mine", history=History(1))
            await hub.publish("mine", 1)
            with pytest.raises(RuntimeError, match="in use"):
                hub.topic("mine", presence=False)
            assert await hub.present("mine") == await hub.present("long") == []
            with pytest.raises(ValueError, match="has no presence"):
                await hub.present("none")
            assert (await hub.publish("none", 1)).id is None
            assert (await hub.publish("long", 1)).id is not None

    run(main)


@pytest.mark.parametrize("history", [5, "default", History, {"count": 5}])
def test_a_history_that_is_none_is_refused(history: Any) -> None:
    async def main() -> None:
        async with Hub() as hub, Hub(history=lambda name: history) as other:
            if history != "default":
                with pytest.raises(TypeError, match="the history of a topic is a History or None, not"):
                    hub.topic("room", history=history)
            for again in range(2):
                with pytest.raises(TypeError, match="the history of a topic is a History or None, not"):
                    await other.publish("room", again)
            assert (hub.state.topics, other.state.topics) == (0, 0)
            assert (await hub.publish("room", 1)).id is not None

    run(main)


def test_all_histories_together_are_bounded() -> None:
    async def main() -> None:
        async with (
            Hub(history=History(seconds=7200.0), history_octets=50_000) as hub,
            serve(handler_of(hub), "mem://a"),
            connect("mem://a/ann") as ann,
        ):
            first = await hub.publish("room/0", "x")
            second = await hub.publish("room/0", "y")
            for number in range(1, 100):
                await hub.publish(f"room/{number}", "x" * 100)
                await ask(ann, "sub", "room/0", {"after": second.id})  # it is used
                assert (await told(ann))["data"]["recovered"]
                balanced(hub._histories, *logs_of(hub).values())
            kept = [name for name, log in logs_of(hub).items() if len(log)]
            assert kept == ["room/0", *(f"room/{number}" for number in range(100 - len(kept) + 1, 100))]
            assert 5 < len(kept) < 15
            await hub.publish("room/1", "x" * 40_000)
            await hub.publish("room/2", "x" * 1000)
            await ask(ann, "sub", "room/0", {"after": first.id})
            event = await told(ann)
            assert (event["data"]["recovered"], event["data"]["why"]) == (False, "too old")
            await asyncio.sleep(600)
            assert hub.state.topics == len([log for log in logs_of(hub).values() if len(log)]) + 1  # and the one of ann
            await asyncio.sleep(7200)
            assert hub.state.topics == 1
            balanced(hub._histories, *logs_of(hub).values())
            assert hub._histories.taken == 0

    run(main)


def test_what_a_forgotten_topic_took_is_free() -> None:
    async def main() -> None:
        service = Service()
        async with Hub(service.plane()) as hub:
            for number in range(5):
                await hub.publish(f"room/{number}", "x")
            await asyncio.sleep(30)
            assert hub._histories.taken > 0
            await hub.publish("room/4", "x")
            await asyncio.sleep(50)
            assert list(logs_of(hub)) == ["room/4"]
            balanced(hub._histories, *logs_of(hub).values())
            await asyncio.sleep(50)
            assert (hub.state.topics, hub._histories.taken) == (0, 0)

    run(main)


def test_an_encoder_says_what_is_sent() -> None:
    async def main() -> None:
        def encode(event: Event) -> bytes | None:
            if event.data == "bad":
                raise ValueError("this one cannot be written")
            return None if event.kind != "message" else str(event.data).encode()

        async def handler(ws: Any) -> None:
            async with hub.join(ws) as member:
                await member.subscribe("room")
                for data in ("a", "bad", "b"):
                    await member.publish("room", data)
                await ws.wait_closed()

        async with Hub(encode=encode) as hub, serve(handler, "mem://a"), connect("mem://a") as ws:
            assert [await ws.recv(), await ws.recv()] == [b"a", b"b"]

    run(main)


@pytest.fixture
def one_traceback(logs: Any) -> None:
    logs.expected = 1


test_an_encoder_says_what_is_sent = pytest.mark.usefixtures("one_traceback")(test_an_encoder_says_what_is_sent)


def test_half_a_surrogate_pair_is_sent() -> None:
    for text in ("\ud83d", "😀", "é", "a"):
        written = to_json(Event("message", "room", data=text))
        written.encode()
        assert json.loads(written)["data"] == text


def test_who_misses_something_sees_that() -> None:
    """What a policy drops is a difference between `prev` and what came last; then it is asked for again."""

    async def main() -> None:
        async def handler(ws: Any) -> None:
            ws.slow_consumers = SlowConsumers("drop_newest", 0)
            async with hub.join(ws) as member:
                async for message in ws:
                    await member.subscribe("room", **json.loads(message))

        async with (
            Hub() as hub,
            serve(handler, "mem://a", compression=None, write_limit=1000),
            connect("mem://a", compression=None, max_queue=1) as ws,
        ):
            await ws.send("{}")
            last = (await told(ws))["id"]
            for n in range(2000):
                await hub.publish("room", f"{n:1000}")
            got: list[int] = []
            await asyncio.sleep(1)
            with pytest.raises(TimeoutError):
                while True:
                    event = json.loads(await asyncio.wait_for(ws.recv(), 5))
                    assert event["prev"] == last
                    last = event["id"]
                    got.append(int(event["data"]))
            assert 0 < len(got) < 2000
            await hub.publish("room", "0")
            event = await told(ws)
            assert event["prev"] != last

    run(main)


def topic(sent: list[tuple[str, Event]]) -> Topic[str]:
    return Topic("t", "w", History(), lambda targets, event: sent.extend((one, event) for one in targets))


def test_cursors_that_cost_are_counted() -> None:
    sent: list[tuple[str, Event]] = []
    one = Topic[str]("t", "w", History(), lambda targets, event: sent.extend((t, event) for t in targets), ms=1000)
    one.publish(Record("t", "w", 1, "x"), Receipt("t"), 0.0, 1000)
    for n in range(MAX_GROUPS + 10):
        joined = one.join(f"c{n}", str(Cursor(Position(1000, 0), {"v": n + 1})), 0, 1000, 1)
        assert joined.why == ("" if n < MAX_GROUPS else "too many")
    assert one.join("own", str(Cursor(Position(1000, 0), {"w": 2})), 5, 1000, 1).why == "unknown"
    assert len(one.groups) <= MAX_GROUPS + 1
    assert one.subscribers == MAX_GROUPS + 11
    one.publish(Record("t", "v", 10_000, "y"), Receipt("t"), 0.0, 1001)
    assert all(one.leave(f"c{n}") for n in range(MAX_GROUPS + 10))
    assert one.leave("own") and not one.leave("own") and not one.groups


def test_a_repetition_elsewhere_of_what_is_ahead_is_passed_over() -> None:
    """It was delivered here, and the log takes another hub's message with the same uid."""
    from websock.pubsub import Added, Opened

    sent: list[tuple[str, Event]] = []
    one = topic(sent)
    made = Position(1000, 0)
    assert one.opened(Opened([], made, made, made), one.asks_after, 1000)
    one.join("ann", None, 0, 1000, 0)
    receipt = Receipt("t")
    one.publish(Record("t", "w", 1, "x", uid="u"), receipt, 0.0, 1000)
    one.release(1.0)
    assert [event.data for _, event in sent[1:]] == ["x"]
    batch, _ = one.take()
    first = Position(1001, 0)
    one.added(first, Record("t", "v", 1, "x", uid="u"), 1001)
    assert (receipt.id, receipt.spread, receipt.repeated) == (str(first), True, True)
    one.replied(batch, [Added(first, True)])
    one.added(Position(1002, 0), Record("t", "v", 2, "y"), 1002)
    assert [event.data for _, event in sent[1:]] == ["x", "y"]
    assert not one.pending and one.subscribers == 1 and not one.idle
