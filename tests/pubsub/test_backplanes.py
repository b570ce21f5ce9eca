"""One suite over all backplanes, each with the real thing: what `Backplane` and `Ledger` say is what they do."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, ExitStack
from typing import Any

import pytest

from websock.pubsub import broker, wire, workers
from websock.pubsub.backplane import Added, Backplane, BackplaneDown
from websock.pubsub.history import History
from websock.pubsub.positions import ZERO, Position, Record

from ..programs import PATIENCE, Program
from .recorder import HISTORY, Recorder, record, until
from .recorder_process import backplane_for
from .servers import RedisServer, pause, redis_server

if sys.platform == "win32":
    pytest.skip("no Unix sockets", allow_module_level=True)

KINDS = ["workers", "redis"]


@pytest.fixture(scope="module")
def shared_redis() -> Iterator[RedisServer]:
    """One for all tests that leave it alone; each has a prefix of its own."""
    with tempfile.TemporaryDirectory(prefix="ws-", dir="/tmp") as folder, redis_server(folder) as server:
        yield server


@pytest.fixture(params=KINDS)
def place(request: pytest.FixtureRequest, short_path: str) -> str:
    """Where backplanes meet."""
    if request.param == "workers":
        return f"workers:{short_path}/hub.sock"
    server: RedisServer = request.getfixturevalue("shared_redis")
    return f"unix://{server.path}?prefix={os.path.basename(short_path)}"


Connect = Callable[..., Awaitable[Recorder]]


def run(place: str, test: Callable[[Connect], Awaitable[None]]) -> None:
    """A test with recorders, which are closed."""

    async def main() -> None:
        async with AsyncExitStack() as stack:

            async def connect(open: str | None = "room") -> Recorder:  # noqa: A002 - what it does
                recorder = Recorder(backplane_for(place))
                stack.push_async_callback(recorder.backplane.close)
                await recorder.start()
                if open is not None:
                    await recorder.open(open)
                return recorder

            await test(connect)

    asyncio.run(main())


def test_all_see_the_same_order(place: str) -> None:
    async def test(connect: Connect) -> None:
        a, b = await connect(), await connect()

        async def publish(recorder: Recorder, origin: str) -> None:
            for n in range(1, 51):
                (added,) = await recorder.add(record(origin, n))
                assert not added.repeated

        await asyncio.gather(publish(a, "a"), publish(b, "b"))
        await until(lambda: len(a.news) == len(b.news) == 100, "all records")
        assert a.news == b.news
        a.check()
        assert [name for name in a.names() if name.startswith("a")] == [f"a.{n}" for n in range(1, 51)]
        c = await connect()
        assert c.news == a.news

    run(place, test)


def test_a_record_arrives_as_it_was_sent(place: str) -> None:
    sent = [
        Record("room", "a", 1, {"text": "grüße\n\x00", "list": [1, None, 2.5]}, "ann", 1.25, "u-1", "note"),
        Record("room", "a", 2, bytes(range(256)), None, 2.0),
        Record("room", "a", 3, "x" * 300_000),
        Record("room", "a", 4, "").lost(Position(5, 6), Position(7, 8)),
    ]

    async def test(connect: Connect) -> None:
        a, b = await connect(), await connect()
        done = await a.backplane.add("room", sent, HISTORY, ZERO)
        await until(lambda: len(a.news) == len(b.news) == 4, "the records")
        assert [one for _, _, one in b.news] == sent
        assert [position for _, position, _ in b.news] == [one.position for one in done]
        c = await connect()
        assert [one for _, _, one in c.news] == sent

    run(place, test)


def test_adding_is_idempotent(place: str) -> None:
    async def test(connect: Connect) -> None:
        a = await connect()
        first, second = await a.backplane.add("room", [record("a", 1), record("a", 2)], HISTORY, ZERO)
        again = await a.backplane.add("room", [record("a", 1), record("a", 2), record("a", 3)], HISTORY, ZERO)
        assert again[:2] == [Added(first.position, True), Added(second.position, True)]
        assert not again[2].repeated
        # What is cut off, and what was skipped: refused, and nobody knows where it stood.
        await a.backplane.add("room", [record("b", 5)], History(1, 2**20, 3600), ZERO)
        assert await a.backplane.add("room", [record("a", 1)], HISTORY, ZERO) == [Added(None, True)]
        assert await a.backplane.add("room", [record("b", 4)], HISTORY, ZERO) == [Added(None, True)]
        await until(lambda: len(a.news) == 4, "what is new")
        assert a.names() == ["a.1", "a.2", "a.3", "b.5"]

    run(place, test)


def test_a_uid_is_added_once(place: str) -> None:
    async def test(connect: Connect) -> None:
        a, b = await connect(), await connect()
        ((first, repeated),) = await a.add(record("a", 1, uid="x:log"))
        assert not repeated
        again, other = await b.add(record("b", 1, uid="x:log"), record("b", 2, uid="y"))
        assert again == Added(first, True)
        assert not other.repeated
        # A number that was refused is used up.
        assert await b.add(record("b", 1, uid="z")) == [Added(None, True)]
        await b.open("other")
        assert not (await b.add(record("b", 1, "other", uid="x:log"), topic="other"))[0].repeated
        await until(lambda: len(b.names()) == 2, "the records")
        assert b.names() == ["a.1", "b.2"]

    run(place, test)


def test_positions_are_behind_all_that_was_known(place: str) -> None:
    future = Position(9_999_999_999_999, 7)

    async def test(connect: Connect) -> None:
        a = await connect()
        (one,) = await a.backplane.add("room", [record("a", 1)], HISTORY, future)
        assert one.position == Position(future.ms, 8)
        two, three = await a.backplane.add("room", [record("a", 2), record("a", 3)], HISTORY, ZERO)
        assert (two.position, three.position) == (Position(future.ms, 9), Position(future.ms, 10))
        # A topic that nobody has yet is made behind what is known, too.
        opened = await a.backplane.open("other", HISTORY, future)
        assert opened == ([], Position(future.ms, 8), Position(future.ms, 8), Position(future.ms, 8))
        (first,) = await a.backplane.add("third", [record("a", 1, "third")], HISTORY, future)
        assert first.position is not None and first.position > future

    run(place, test)


def test_a_log_begins_where_it_was_made(place: str) -> None:
    async def test(connect: Connect) -> None:
        a, b = await connect(None), await connect(None)
        opened = await a.backplane.open("room", HISTORY, ZERO)
        assert opened.entries == [] and opened.made == opened.floor == opened.last > ZERO
        assert await b.backplane.open("room", HISTORY, ZERO) == opened
        (added,) = await b.add(record("b", 1))
        again = await a.backplane.open("room", HISTORY, opened.last)
        assert again == ([(added.position, record("b", 1))], opened.floor, added.position, opened.made)
        assert (await a.backplane.open("room", HISTORY, added.position)).entries == []

    run(place, test)


def test_who_opens_while_others_add_misses_nothing(place: str) -> None:
    async def test(connect: Connect) -> None:
        a, b = await connect(), await connect(None)
        adding = asyncio.create_task(a.add(*(record("a", n) for n in range(1, 6))))
        for n in range(6, 200):
            await adding
            adding = asyncio.create_task(a.add(record("a", n)))
            if n % 10 == 0:
                await b.open("room")
            if n % 50 == 0:
                await b.backplane.forget("room")
        await adding
        await b.open("room")
        await until(lambda: len(b.names()) >= 199, "all records")
        b.check()
        assert b.names() == [f"a.{n}" for n in range(1, 200)]

    run(place, test)


@pytest.mark.parametrize(
    ("history", "left"),
    [
        (History(3, 2**20, 3600), [8, 9, 10]),
        (History(100, 2 * record("a", 9).octets + record("a", 10).octets, 3600), [8, 9, 10]),
        (History(0, 2**20, 3600), []),
        (History(100, 5, 3600), []),
    ],
)
def test_a_log_is_cut_and_says_so(place: str, history: History, left: list[int]) -> None:
    async def test(connect: Connect) -> None:
        a = await connect()
        done = await a.add(*(record("a", n) for n in range(1, 11)), history=history)
        # All of them were told, although some are not kept.
        await until(lambda: len(a.news) == 10, "all records")
        opened = await a.backplane.open("room", HISTORY, ZERO)
        assert [one.n for _, one in opened.entries] == left
        assert opened.floor == done[10 - len(left) - 1].position
        assert opened.last == done[-1].position

    run(place, test)


def test_what_is_too_old_is_cut(place: str) -> None:
    async def test(connect: Connect) -> None:
        a = await connect()
        short = History(100, 2**20, 0.05)
        (old,) = await a.add(record("a", 1), history=short)
        await asyncio.sleep(0.1)
        (new,) = await a.add(record("a", 2), history=short)
        opened = await a.backplane.open("room", HISTORY, ZERO)
        assert opened.floor == old.position
        assert opened.entries == [(new.position, record("a", 2))]

    run(place, test)


def test_what_was_lost_is_added_again_with_its_floor(place: str) -> None:
    lost = [record("a", n).lost(Position(1000, n), Position(1000, 9)) for n in range(1, 4)]

    async def test(connect: Connect) -> None:
        a = await connect()
        # All of it, said by one hub: the new log holds what stood behind the old floor.
        _, second, _ = await a.backplane.add("room", lost, HISTORY, Position(1000, 9), Position(1000, 0))
        assert (await a.backplane.open("room", HISTORY, ZERO)).floor == Position(1000, 0)
        # The next hub is refused, and its floor is not believed.
        done = await a.backplane.add("room", lost, HISTORY, Position(1000, 9), ZERO)
        assert all(one.repeated for one in done)
        assert (await a.backplane.open("room", HISTORY, ZERO)).floor == Position(1000, 0)
        # Then it is cut as any other.
        await a.backplane.add("room", [record("a", 4)], History(2, 2**20, 3600), ZERO)
        opened = await a.backplane.open("room", HISTORY, ZERO)
        assert opened.floor == second.position
        assert [one.n for _, one in opened.entries] == [3, 4]
        # Refused in part: what it lacks is not known.
        await a.backplane.add("other", [record("b", 2, "other")], HISTORY, ZERO)
        made = (await a.backplane.open("other", HISTORY, ZERO)).floor
        await a.backplane.add(
            "other", [record("b", 2, "other"), record("b", 3, "other")], HISTORY, ZERO, Position(1, 0)
        )
        assert (await a.backplane.open("other", HISTORY, ZERO)).floor == made

    run(place, test)


def test_casts_go_to_who_follows_or_listens(place: str) -> None:
    async def test(connect: Connect) -> None:
        a, b, c = await connect(), await connect(None), await connect("other")
        await b.backplane.listen("room")
        await b.backplane.listen("room")  # it does already
        # Who listens is heard of by all before it casts itself.
        await b.backplane.cast("room", b"first\n\0")
        for n in range(20):
            await a.backplane.cast("room", str(n).encode())
        expected = [("room", b"first\n\0"), *(("room", str(n).encode()) for n in range(20))]
        await until(lambda: len(a.casts) == len(b.casts) == 21, "the casts")
        assert a.casts == b.casts == expected
        assert c.casts == []
        await b.backplane.unlisten("room")
        await a.backplane.forget("room")
        await c.backplane.cast("room", b"nobody")
        await c.backplane.cast("other", b"last")
        await until(lambda: c.casts, "the last one")
        assert c.casts == [("other", b"last")] and len(a.casts) == len(b.casts) == 21

    run(place, test)


def test_what_is_forgotten_is_not_told(place: str) -> None:
    async def test(connect: Connect) -> None:
        a, b = await connect(), await connect()
        await b.backplane.listen("room")
        await b.backplane.forget("room")
        await a.add(record("a", 1))
        await a.backplane.cast("room", b"heard")
        await until(lambda: b.casts, "the cast")
        assert b.news == []
        await b.open("room")
        assert b.names() == ["a.1"]

    run(place, test)


def test_a_log_that_is_larger_than_what_may_wait_for_a_client(short_path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broker, "BACKLOG", 2**20)
    large = History(100, 2**25, 3600.0)

    async def test(connect: Connect) -> None:
        a = await connect()
        for n in range(1, 17):
            (added,) = await a.backplane.add("room", [record("a", n, data="x" * 2**19)], large, ZERO)
        b = await connect(None)
        opened = await b.backplane.open("room", large, ZERO)
        assert [(one.n, len(one.data)) for _, one in opened.entries] == [(n, 2**19) for n in range(1, 17)]
        assert opened.last == added.position
        await a.add(record("a", 17), history=large)
        await until(lambda: b.names() == ["a.17"], "what follows")
        assert a.states == b.states == ["up"]

    run(f"workers:{short_path}/hub.sock", test)


@pytest.mark.parametrize(("cut", "first"), [(1, 1), (3, 4)])
def test_what_is_cut_while_a_log_is_opened(
    short_path: str, monkeypatch: pytest.MonkeyPatch, cut: int, first: int
) -> None:
    monkeypatch.setattr(wire, "CHUNK", 1)  # a record in each part
    six = History(6, 2**20, 3600.0)

    async def test(connect: Connect) -> None:
        a, b = await connect(None), await connect(None)
        added = await a.backplane.add("room", [record("a", n) for n in range(1, 7)], six, ZERO)
        more = [record("a", 6 + n) for n in range(1, cut + 1)]
        assert isinstance(b.backplane, workers.Workers)
        ask = b.backplane._ask

        async def ask_and_cut(head: Any, records: Any = ()) -> Any:
            answer = await ask(head, records)
            if more:
                await a.backplane.add("room", more, six, ZERO)
                more.clear()
            return answer

        before = (await b.backplane.open("room", six, ZERO)).floor
        monkeypatch.setattr(b.backplane, "_ask", ask_and_cut)
        opened = await b.backplane.open("room", six, ZERO)
        assert [one.n for _, one in opened.entries] == [*range(first, 7 + cut)]
        assert opened.floor == ([place.position for place in added][first - 2] if first > 1 else before)

    run(f"workers:{short_path}/hub.sock", test)


def test_what_is_too_large_for_one_step_is_added_in_several(short_path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "MAX_MESSAGE", 2**21)
    large, floor = History(100, 2**25, 3600.0), Position(1, 0)

    async def test(connect: Connect) -> None:
        a = await connect()
        records = [record("lost", n, data="x" * 2**19) for n in range(1, 5)]
        assert not any(one.repeated for one in await a.backplane.add("room", records, large, ZERO, floor))
        await until(lambda: len(a.news) == 4, "all of them")
        assert (await a.backplane.open("room", large, ZERO)).floor > floor  # it does not say what was before
        assert a.states == ["up"]

    run(f"workers:{short_path}/hub.sock", test)


def test_many_topics_at_once(place: str) -> None:
    async def test(connect: Connect) -> None:
        a, b = await connect(None), await connect(None)
        topics = [f"room {n} ü}}{{:*" for n in range(300)]
        await asyncio.gather(*(recorder.open(topic) for recorder in (a, b) for topic in topics))
        await asyncio.gather(*(a.add(record("a", 1, topic), topic=topic) for topic in topics))
        await until(lambda: len(b.news) == 300, "a record of each")
        assert {topic for topic, _, _ in b.news} == {*topics}

    run(place, test)


def test_concurrent_adds_of_a_topic_keep_their_order(place: str) -> None:
    async def test(connect: Connect) -> None:
        a = await connect()
        done = await asyncio.gather(*(a.backplane.add("room", [record("a", n)], HISTORY, ZERO) for n in range(1, 301)))
        assert not any(one.repeated for ones in done for one in ones)
        await until(lambda: len(a.news) == 300, "all records")
        assert a.names() == [f"a.{n}" for n in range(1, 301)]

    run(place, test)


def test_after_the_end_all_calls_say_so(place: str) -> None:
    async def main() -> None:
        recorder = Recorder(backplane_for(place))
        backplane: Backplane = recorder.backplane
        calls: list[Callable[[], Awaitable[Any]]] = [
            lambda: backplane.open("room", HISTORY, ZERO),
            lambda: backplane.add("room", [record("a", 1)], HISTORY, ZERO),
            lambda: backplane.cast("room", b""),
            lambda: backplane.listen("room"),
        ]
        for when in ("before", "after"):
            for call in calls:
                with pytest.raises(BackplaneDown, match="away"):
                    await call()
            await backplane.forget("room")
            await backplane.unlisten("room")
            if when == "before":
                await recorder.start()
                await recorder.open("room")
                await backplane.close()
        await backplane.close()

    asyncio.run(main())


def start(place: str, *origins: str) -> list[Program]:
    return [Program("-m", "tests.pubsub.recorder_process", place, origin) for origin in origins]


def tell(programs: list[Program], line: str) -> list[str]:
    for program in programs:
        program.say(line)
    return [program.out() for program in programs]


def broker_among(programs: list[Program]) -> int:
    """Which of them runs the broker; soon it is one of them."""
    deadline = time.monotonic() + PATIENCE
    while (found := tell(programs, "broker")).count("True") != 1:
        assert time.monotonic() < deadline, found
        time.sleep(0.01)
    return found.index("True")


def test_processes(place: str) -> None:
    with ExitStack() as stack:
        programs = [stack.enter_context(one) for one in start(place, "a", "b", "c")]
        assert [one.out() for one in programs] == ["ready"] * 3
        assert tell(programs, "add 100") == ["added"] * 3
        assert tell(programs, "wait 300") == ["came"] * 3
        assert len({*tell(programs, "names")}) == 1
        for program in programs:
            status, _, errors = program.run()
            assert (status, errors) == (0, [])


def test_a_paused_process_gets_all_of_it_afterwards(place: str) -> None:
    with ExitStack() as stack:
        programs = [stack.enter_context(one) for one in start(place, "a", "b", "c")]
        assert [one.out() for one in programs] == ["ready"] * 3
        paused = programs[-1]
        if place.startswith("workers"):  # not the one with the broker
            paused = programs[broker_among(programs) - 1]
        others = [one for one in programs if one is not paused]
        pause(paused.process.pid)
        assert tell(others, "add 200") == ["added"] * 2
        assert tell(others, "wait 400") == ["came"] * 2
        os.kill(paused.process.pid, signal.SIGCONT)
        assert tell([paused], "wait 400") == ["came"]
        assert len({*tell(programs, "names")}) == 1
