"""What ``websock bench`` does with servers of all kinds: in memory, in virtual time, so that its figures are known."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest

from websock.asyncio import serve
from websock.cli.load.driving import Load, Phase
from websock.cli.load.plan import Plan
from websock.cli.load.report import problems
from websock.cli.load.tally import Tally
from websock.core.uri import parse_uri
from websock.http11 import Response
from websock.testing import Faults, simulate

SERVER = parse_uri("mem://server")
MS = 1_000_000
Handler = Callable[[Any], Awaitable[None]]


async def echo(ws: Any) -> None:
    async for message in ws:
        await ws.send(message)


def load(
    handler: Handler | None = echo,
    faults: Faults | None = None,
    *,
    act: Callable[[Load], Coroutine[Any, Any, None]] | None = None,
    server: dict[str, Any] | None = None,
    **how: Any,
) -> Tally:
    """Run a load in virtual time. `act` runs beside it."""

    async def main() -> Tally:
        work = Load(Plan(SERVER, **how))
        if handler is None:
            return await work.run()
        async with serve(handler, "mem://server", close_timeout=1, **server or {}):
            beside = None if act is None else asyncio.create_task(act(work))
            tally = await work.run()
            if beside is not None:
                await beside
            return tally

    with simulate(1, faults) as sim:
        tally = sim.run(main())
    sim.check()
    check(Plan(SERVER, **how), tally)
    return tally


def check(plan: Plan, tally: Tally) -> None:
    """What holds whatever happens."""
    assert tally.due == tally.sent + tally.unread + tally.cut + tally.behind
    if plan.answers:
        assert tally.sent == tally.answered + tally.altered + tally.lost + tally.unanswered
        assert tally.received == tally.answered + tally.altered + tally.doubled + tally.strange
    assert tally.open == 0
    assert tally.opened + sum(tally.failed.values()) + sum(tally.refused.values()) == tally.tried
    assert not tally.behind  # virtual time waits for us


def test_an_echo_server() -> None:
    tally = load(faults=Faults(latency=0.05), sizes=(16, 1000), duration=10.0)
    assert (tally.tried, tally.opened, tally.due, tally.answered) == (10, 10, 1000, 1000)
    assert tally.octets_sent == tally.octets_received == 500 * 1016
    assert problems(Plan(SERVER), tally) == []
    assert 99 * MS <= tally.latency.least <= tally.latency.most <= 102 * MS
    assert 199 * MS <= tally.handshakes.least <= tally.handshakes.most <= 202 * MS  # TCP, then ours
    assert (tally.handshakes.count, tally.latency.count) == (10, 1000)
    assert tally.lateness.most < MS
    assert tally.seconds == pytest.approx(10)


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("compression", ["deflate", None])
def test_messages_of_all_kinds(binary: bool, compression: Any) -> None:
    tally = load(binary=binary, compression=compression, sizes=(16, 70_000, 1_100_000), messages=10.0,
                 connections=3, duration=1.0, server={"max_size": None})  # fmt: skip
    assert tally.answered == tally.due == 10


def test_connections_open_at_a_rate() -> None:
    opened: list[float] = []

    async def note(ws: Any) -> None:
        opened.append(time.monotonic())
        await echo(ws)

    load(note, connections=21, rate=10.0, duration=1.0)
    assert [at - opened[0] for at in opened] == pytest.approx([index / 10 for index in range(21)], abs=0.01)
    opened.clear()
    load(note, connections=200, rate=math.inf, duration=1.0)
    assert opened[-1] == opened[0]


def test_latency_counts_from_when_a_message_was_due() -> None:
    """A server that stands still for 2 of 10 seconds: a fifth of all messages has waited, and the figures say so."""
    halted = False

    async def halting(ws: Any) -> None:
        nonlocal halted
        async for message in ws:
            if not halted and int(message[6:16], 16) == 40:
                halted = True
                await asyncio.sleep(2)
            await ws.send(message)

    tally = load(halting, connections=1, messages=100.0, duration=10.0)
    assert tally.answered == 1000
    assert tally.latency.quantile(0.79) < MS
    assert 990 * MS < tally.latency.quantile(0.9) < 1020 * MS
    assert 1980 * MS < tally.latency.most < 2010 * MS
    halted = False
    closed_loop = load(halting, connections=1, messages=0.0, in_flight=1, duration=10.0,
                       faults=Faults(latency=0.005))  # fmt: skip
    assert closed_loop.latency.quantile(0.99) < 20 * MS  # which is what is wrong with closed loops


def numbered(act: Callable[[Any, int, str], Awaitable[None]]) -> Handler:
    """A handler that calls `act` with each message and its number."""

    async def handle(ws: Any) -> None:
        async for message in ws:
            await act(ws, int(message[6:16], 16), message)

    return handle


async def lose(ws: Any, number: int, message: str) -> None:
    if number % 10 != 3:
        await ws.send(message)


async def double(ws: Any, number: int, message: str) -> None:
    for _ in range(2 if number % 10 == 3 else 1):
        await ws.send(message)


async def alter(ws: Any, number: int, message: str) -> None:
    await ws.send(message[:-1] + "!" if number % 10 == 3 else message)


async def alter_kind(ws: Any, number: int, message: str) -> None:
    await ws.send(message.encode() if number % 10 == 3 else message)


async def chatter(ws: Any, number: int, message: str) -> None:
    await ws.send(message)
    if number % 10 == 3:
        await ws.send("häufig")


async def foresee(ws: Any, number: int, message: str) -> None:
    """Answer what was never sent."""
    await ws.send(message)
    if number % 10 == 3:
        await ws.send(f"{message[:6]}{10**6:010x}{message[16:]}")


@pytest.mark.parametrize(
    ("act", "fault"),
    [(lose, "lost"), (double, "doubled"), (alter, "altered"), (alter_kind, "altered"), (chatter, "strange"),
     (foresee, "strange")],
)  # fmt: skip
@pytest.mark.parametrize("closed", [False, True])
def test_a_server_that_is_wrong(act: Any, fault: str, closed: bool) -> None:
    how: dict[str, Any] = {"messages": 0.0, "in_flight": 4} if closed else {"messages": 100.0}
    tally = load(numbered(act), Faults(latency=0.1), connections=2, duration=5.0, wait=1.0, **how)
    faults = {name: getattr(tally, name) for name in ("lost", "doubled", "altered", "strange", "reordered", "unread")}
    wrong = faults.pop(fault)
    assert not any(faults.values()), faults
    assert wrong == pytest.approx(tally.sent / 10, rel=0.2)
    assert wrong > 10
    assert any(fault in one for one in problems(Plan(SERVER), tally))


def test_a_server_that_reorders() -> None:
    async def swap(ws: Any) -> None:
        kept = ""
        async for message in ws:
            if int(message[6:16], 16) % 10 == 3:
                kept = message
                continue
            await ws.send(message)
            if kept:
                await ws.send(kept)
                kept = ""

    tally = load(swap, messages=100.0, duration=10.0)
    assert (tally.answered, tally.reordered, tally.lost) == (1000, 100, 0)


def test_a_server_that_mixes_up_its_clients() -> None:
    everybody: list[Any] = []

    async def next_one(ws: Any) -> None:
        everybody.append(ws)
        async for message in ws:
            await everybody[(everybody.index(ws) + 1) % len(everybody)].send(message)

    tally = load(next_one, messages=100.0, duration=1.0, wait=1.0)
    assert (tally.strange, tally.unanswered, tally.answered) == (100, 100, 0)


def test_a_server_that_stalls() -> None:
    """The last answer comes after 5 s: what waits until the end counts with its age."""

    async def stall(ws: Any) -> None:
        begun = time.monotonic()
        async for message in ws:
            if time.monotonic() - begun < 5:
                await ws.send(message)

    tally = load(stall, connections=1, messages=100.0, duration=10.0, wait=2.0)
    assert tally.answered == pytest.approx(500, abs=2)
    assert tally.unanswered == 1000 - tally.answered
    assert tally.latency.count == 1000
    assert 4400 * MS < tally.latency.quantile(0.75) < 4600 * MS
    assert 6900 * MS < tally.latency.most < 7100 * MS


@pytest.mark.parametrize("closed", [False, True])
def test_a_server_that_never_answers(closed: bool) -> None:
    async def silent(ws: Any) -> None:
        async for _ in ws:
            pass

    how: dict[str, Any] = {"messages": 0.0, "in_flight": 4} if closed else {"messages": 100.0}
    tally = load(silent, duration=5.0, wait=1.0, **how)
    assert tally.unanswered == tally.sent == (40 if closed else 500)
    assert "nothing was answered: an echo server is expected (or use --expect none)" in problems(Plan(SERVER), tally)
    assert tally.latency.count == tally.sent and tally.latency.least >= 999 * MS


def test_a_server_that_does_not_read() -> None:
    """What cannot be sent takes no memory, and is told; those that are read are served as ever."""

    async def deaf(ws: Any) -> None:
        if len(ws.server.connections) > 1:
            await echo(ws)
        else:
            await ws.wait_closed()

    queued = 0

    async def watch(work: Load) -> None:
        nonlocal queued
        while work.phase is not Phase.CLOSING:
            for lane in work._lanes:
                queued = max(queued, lane._ws.transport.get_write_buffer_size() + lane._ws._protocol.queued)
            await asyncio.sleep(0.1)

    tally = load(deaf, act=watch, connections=2, messages=100.0, sizes=(10_000,), duration=10.0, wait=1.0, timeout=2.0)
    assert 0 < queued < 100_000
    assert tally.unread > 400
    assert tally.answered == 500
    assert tally.latency.count == 1000
    assert any("unread" in one for one in problems(Plan(SERVER), tally))


def test_a_server_that_reads_late_is_caught_up_with() -> None:
    async def late(ws: Any) -> None:
        await asyncio.sleep(5)
        await echo(ws)

    tally = load(late, connections=2, messages=100.0, sizes=(10_000,), duration=10.0)
    assert (tally.due, tally.answered, tally.reordered) == (1000, 1000, 0)
    assert 4900 * MS < tally.latency.most < 5100 * MS
    assert tally.lateness.most < MS  # it was not the tool


def test_a_server_that_writes_before_it_reads_on_does_not_hold_us() -> None:
    """Both would wait for each other for ever."""
    tally = load(connections=1, messages=1000.0, sizes=(20_000,), duration=1.0, faults=Faults(capacity=30_000))
    assert tally.answered == tally.due == 1000


@pytest.mark.parametrize("in_flight", [1, 3, 16])
def test_no_more_are_in_flight(in_flight: int) -> None:
    most = 0

    async def slow(ws: Any) -> None:
        nonlocal most
        waiting: list[str] = []

        async def answer() -> None:
            nonlocal most
            while True:
                await asyncio.sleep(0.1)
                most = max(most, len(waiting))
                for message in waiting:
                    await ws.send(message)
                waiting.clear()

        task = asyncio.create_task(answer())
        async for message in ws:
            waiting.append(message)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    tally = load(slow, connections=3, messages=0.0, in_flight=in_flight, duration=10.0)
    assert most == in_flight
    assert tally.answered == pytest.approx(3 * in_flight * 100, rel=0.02)
    assert tally.latency.most <= 101 * MS


def test_a_server_that_closes() -> None:
    async def leave(ws: Any) -> None:
        begun = time.monotonic()
        async for message in ws:
            await ws.send(message)
            if time.monotonic() - begun > 5:
                await ws.close(1001, "see you")

    tally = load(leave, connections=4, rate=math.inf, messages=100.0, duration=10.0)
    assert tally.dropped == {"closed by the peer: 1001 (going away) see you": 4}
    assert tally.answered == pytest.approx(500, abs=5)
    assert tally.seconds < 6  # there is nobody left to send to
    assert "4 of 4 connections ended early: closed by the peer: 1001 (going away) see you" in problems(
        Plan(SERVER), tally
    )


def test_a_server_that_closes_some() -> None:
    count = 0

    async def leave(ws: Any) -> None:
        nonlocal count
        count += 1
        if count < 3:
            await ws.close(1013)
        await echo(ws)

    tally = load(leave, connections=4, rate=10.0, messages=100.0, duration=10.0)
    assert sum(tally.dropped.values()) == 2
    assert tally.answered == tally.due == 1000  # over those that are open when sending begins

    async def leave_later(ws: Any) -> None:
        if len(ws.server.connections) > 2:
            await asyncio.sleep(5)
            ws.transport.abort()
        await echo(ws)

    tally = load(leave_later, connections=4, messages=100.0, duration=10.0)
    assert sum(tally.dropped.values()) == 2
    assert 200 < tally.cut < 300
    assert tally.answered + tally.cut + tally.unanswered == 1000


def test_a_server_that_refuses() -> None:
    calls = 0

    def refuse(ws: Any, request: Any) -> Response | None:
        nonlocal calls
        calls += 1
        return ws.respond(503, "enough\n") if calls > 6 else None

    tally = load(server={"process_request": refuse}, duration=1.0)
    assert tally.opened == 6
    assert tally.refused == {"server rejected WebSocket connection: HTTP 503 Service Unavailable (enough)": 4}
    assert tally.answered == 100
    assert problems(Plan(SERVER), tally)[0].startswith("4 of 10 connections were not opened, 4 of them refused by the")


def test_nobody_is_there() -> None:
    tally = load(None, connections=1000, duration=10.0)
    assert tally.opened == tally.due == 0
    assert 20 <= tally.tried <= 21  # it gives up
    assert sum(tally.failed.values()) == tally.tried
    assert len(tally.failed) == len(problems(Plan(SERVER), tally)) == 1
    assert load(None, connections=3, duration=10.0).tried == 3


def test_a_server_that_does_not_open() -> None:
    async def wait(ws: Any, request: Any) -> None:
        await asyncio.sleep(100)

    tally = load(server={"process_request": wait, "open_timeout": None}, timeout=3.0, duration=10.0)
    assert tally.failed == {"timed out during the opening handshake (3.0 s)": 10}
    assert tally.opening < 4


def test_a_server_that_does_not_close() -> None:
    async def stay(ws: Any) -> None:
        async for message in ws:
            await ws.send(message)
            if int(message[6:16], 16) == 9:
                ws.transport.pause_reading()
                await asyncio.sleep(60)

    tally = load(stay, connections=1, messages=10.0, duration=1.0, timeout=2.0)
    assert tally.answered == 10
    assert tally.ended == {"no answer to our close": 1}


def test_nothing_is_expected() -> None:
    async def news(ws: Any) -> None:
        for _ in range(10):
            await ws.send("ü")
        async for _ in ws:
            pass

    tally = load(news, answers=False, messages=100.0, duration=2.0)
    assert (tally.sent, tally.received, tally.octets_received) == (200, 100, 200)
    assert (tally.strange, tally.unanswered, tally.latency.count) == (0, 0, 0)
    assert problems(Plan(SERVER, answers=False), tally) == []


def test_connections_are_only_held() -> None:
    tally = load(messages=0.0, connections=20, duration=60.0)
    assert (tally.opened, tally.due) == (20, 0)
    assert tally.seconds == pytest.approx(60)
    assert not tally.dropped and not tally.ended


@pytest.mark.parametrize("after", [0.0, 0.05, 3.0])
@pytest.mark.parametrize("in_flight", [0, 2])
def test_it_can_be_stopped(after: float, in_flight: int) -> None:
    async def stop(work: Load) -> None:
        await asyncio.sleep(after)
        work.stop()

    messages = 0.0 if in_flight else 100.0
    tally = load(act=stop, in_flight=in_flight, messages=messages, duration=math.inf, faults=Faults(latency=0.02))
    assert tally.answered == tally.sent
    assert bool(tally.sent) is (after == 3)
    assert not tally.failed and not tally.dropped and not tally.ended


def test_a_stop_does_not_wait_long_for_answers() -> None:
    async def silent(ws: Any) -> None:
        async for _ in ws:
            pass

    async def stop(work: Load) -> None:
        await asyncio.sleep(3)
        assert work.phase is Phase.WAITING
        work.stop()

    begun = ended = 0.0

    async def act(work: Load) -> None:
        nonlocal begun, ended
        begun = time.monotonic()
        await stop(work)
        while work.phase is Phase.WAITING:  # noqa: ASYNC110 - of virtual time
            await asyncio.sleep(0.01)
        ended = time.monotonic()

    tally = load(silent, act=act, messages=10.0, duration=1.0, wait=1000.0)
    assert tally.unanswered == 10
    assert ended - begun < 4.2


def test_it_can_be_cancelled() -> None:
    tally = Tally()

    async def main() -> None:
        nonlocal tally
        async with serve(echo, "mem://server"):
            work = Load(Plan(SERVER, duration=100.0))
            task = asyncio.create_task(work.run())
            await asyncio.sleep(5)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            tally = work.snapshot()

    with simulate(1) as sim:
        sim.run(main())
    sim.check()
    assert tally.answered > 400 and tally.open == 0


def test_a_network_that_fails() -> None:
    faults = Faults(latency=(0.0, 0.2), chop=True, reset_at=(100, 20_000), refuse=0.2)
    tally = load(faults=faults, connections=20, messages=100.0, duration=3.0, wait=1.0)
    assert tally.failed and tally.dropped and tally.answered
