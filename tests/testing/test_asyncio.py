"""asyncio programs in a simulation."""

from __future__ import annotations

import asyncio
import logging
import math
import signal
import socket
import time
from typing import Any

import pytest

from websock.asyncio import Server, connect, serve
from websock.exceptions import ConnectionClosed, ConnectionClosedError, InvalidURI
from websock.testing import Faults, OutOfTime, Simulation, Stuck, fail_each, simulate

from ..sockets import Logs

FAULTS = Faults(latency=(0.01, 0.5), chop=True, capacity=3000)


async def echo(ws: Any) -> None:
    async for message in ws:
        await ws.send(message)


async def talk(count: int = 10) -> list[Any]:
    async with serve(echo, "mem://chat"), connect("mem://chat/room?x=1") as ws:
        got = []
        for number in range(count):
            await ws.send("é" * 1000 * number)
            got.append(await ws.recv())
        assert ws.request is not None and ws.request.path == "/room?x=1" and ws.request.headers["Host"] == "chat"
        return got


def test_a_program_is_the_same_in_memory() -> None:
    with simulate() as sim:
        assert sim.run(talk()) == ["é" * 1000 * number for number in range(10)]
        assert sim.now == 0
    sim.check()


def test_mistakes_are_told() -> None:
    with simulate() as sim:
        with pytest.raises(TypeError, match=r"run takes a coroutine, as in sim.run\(main\(\)\), not <function talk"):
            sim.run(talk)  # type: ignore[arg-type]
        with pytest.raises(RuntimeError, match="check comes behind the with block"):
            sim.check()
    sim.check()
    with pytest.raises(TypeError, match="faults must be a Faults or None"):
        simulate(faults={"chop": True})  # type: ignore[arg-type]


def test_the_same_seed_is_the_same_run() -> None:
    prints = []
    for seed in (1, 1, 2):
        with simulate(seed, FAULTS) as sim:
            sim.run(talk())
        sim.check()
        prints.append((sim.fingerprint, sim.now, sim.operations))
    assert prints[0] == prints[1]
    assert prints[0] != prints[2]


def test_hours_pass_in_no_time() -> None:
    async def main() -> None:
        started, wall, counter = time.monotonic(), time.time(), time.perf_counter_ns()
        await asyncio.sleep(3600)
        assert time.monotonic() - started == pytest.approx(3600)
        assert time.time() - wall == pytest.approx(3600)
        assert time.perf_counter_ns() - counter == pytest.approx(3600e9)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1000):
                await asyncio.Event().wait()
        assert asyncio.get_running_loop().time() == pytest.approx(4600)

    before = time.monotonic()
    with simulate() as sim:
        sim.run(main())
    assert sim.now == pytest.approx(4600)
    assert time.monotonic() - before < 100


def test_keepalive_gives_up_a_peer_that_is_stalled() -> None:
    async def main() -> float:
        async with serve(echo, "mem://chat", ping_interval=None):
            ws = await connect("mem://chat", ping_interval=20, ping_timeout=10, close_timeout=5)
            sim.stall(math.inf)
            started = time.monotonic()
            with pytest.raises(ConnectionClosedError):
                await ws.recv()
            await ws.wait_closed()
            return time.monotonic() - started

    with simulate() as sim:
        assert 30 <= sim.run(main()) <= 36


def test_who_sleeps_in_a_handler_stops_the_loop_and_the_time_goes_on() -> None:
    async def main() -> None:
        asyncio.get_running_loop().call_later(1, seen.append, "timer")
        time.sleep(5)  # noqa: ASYNC251 - that is what is tested
        assert seen == []
        await asyncio.sleep(0.1)

    seen: list[str] = []
    with simulate() as sim:
        sim.run(main())
    assert seen == ["timer"] and sim.now == pytest.approx(5.1)


def test_a_client_connects_again_when_the_connection_is_reset() -> None:
    async def main() -> list[float]:
        times: list[float] = []
        async with serve(echo, "mem://chat") as server:
            async for ws in connect("mem://chat"):
                times.append(sim.now)
                if len(times) == 1:
                    assert sim.reset("chat") == 1
                elif len(times) == 2:
                    server.close()
                    await server.wait_closed()
                    asyncio.get_running_loop().call_later(60, restart)
                else:
                    break
                with pytest.raises(ConnectionClosed):
                    while True:
                        await ws.recv()
            async with servers[0]:
                pass
        return times

    servers: list[Server] = []

    def restart() -> None:
        async def again() -> None:
            servers.append(await serve(echo, "mem://chat"))

        tasks.append(asyncio.ensure_future(again()))

    tasks: list[Any] = []
    with simulate(3) as sim:
        times = sim.run(main())
    sim.check()
    assert len(times) == 3 and times[1] < 10 and 60 < times[2] < 180


def test_nobody_listens() -> None:
    async def main() -> None:
        with pytest.raises(ConnectionRefusedError, match="nobody listens there"):
            await connect("mem://chat")
        async with serve(echo, "mem://chat"):
            with pytest.raises(OSError, match="somebody does already"):
                await serve(echo, "mem://chat")
        with pytest.raises(ConnectionRefusedError):
            await connect("mem://chat")

    with simulate() as sim:
        sim.run(main())
    sim.check()


def test_without_a_simulation() -> None:
    async def main() -> None:
        with pytest.raises(RuntimeError, match="simulate"):
            await connect("mem://chat")
        with pytest.raises(RuntimeError, match="simulate"):
            await serve(echo, "mem://chat")

    asyncio.run(main())


def test_another_loop_than_the_simulations() -> None:
    async def main() -> None:
        with pytest.raises(RuntimeError, match=r"sim\.run"):
            await connect("mem://chat")
        with pytest.raises(RuntimeError, match=r"sim\.run"):
            await serve(echo, "mem://chat")

    with simulate():
        asyncio.run(main())


def test_the_systems_sockets_are_refused() -> None:
    async def main() -> None:
        with socket.socket() as sock, pytest.raises(ValueError, match="in memory only"):
            asyncio.get_running_loop().add_reader(sock, print)
        with pytest.raises(OSError, match="no name service"):
            await asyncio.open_connection("localhost", 80)

    with simulate() as sim:
        sim.run(main())


@pytest.mark.parametrize("uri", ["mem://", "mem:///x", "mem://a:80", "mem://u:p@a", "mem+unix:///x", "mem://a#b"])
def test_what_is_no_place_in_memory(uri: str) -> None:
    with pytest.raises(InvalidURI):
        connect(uri)


def test_who_waits_for_ever_is_named() -> None:
    async def forgotten() -> None:
        await asyncio.get_running_loop().create_future()

    async def main() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(forgotten(), name="forgotten one")

    with simulate(5) as sim, pytest.raises(Stuck, match=r"forgotten one waits in .*forgotten.*(?s:.*)seed 5"):
        sim.run(main())


def test_virtual_time_is_bounded() -> None:
    async def main() -> None:
        while True:  # noqa: ASYNC110
            await asyncio.sleep(1)

    with simulate(limit=100) as sim, pytest.raises(OutOfTime, match="100 s"):
        sim.run(main())
    assert 99 <= sim.now <= 101


def test_going_round_without_time_passing_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("websock.testing.scheduler._SPIN", 1000)

    async def main() -> None:
        while True:  # noqa: ASYNC110
            await asyncio.sleep(0)

    with simulate() as sim, pytest.raises(OutOfTime, match="round and round"):
        sim.run(main())


def test_what_is_left_is_told() -> None:
    async def main() -> None:
        server = await serve(echo, "mem://chat")
        ws = await connect("mem://chat")
        asyncio.get_running_loop().call_later(10, print)
        kept.extend([server, ws])

    kept: list[Any] = []
    with simulate() as sim:
        sim.run(main())
    left = " ".join(sim.left)
    assert all(word in left for word in ("task ", "timer ", "socket mem://chat"))
    with pytest.raises(AssertionError, match="left behind"):
        sim.check()
    for transport in [kept[1].transport]:
        transport._sock.close()


def test_signals() -> None:
    async def main() -> float:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, stop.set)
        loop.call_later(7, sim.signal, signal.SIGTERM)
        async with serve(echo, "mem://chat"):
            await stop.wait()
        assert loop.remove_signal_handler(signal.SIGTERM) and not loop.remove_signal_handler(signal.SIGTERM)
        return sim.now

    with simulate() as sim:
        assert sim.run(main()) == 7


def test_executors_are_threads_of_the_simulation() -> None:
    async def main() -> None:
        assert await asyncio.to_thread(work, 5) == 5
        with pytest.raises(ZeroDivisionError):
            await asyncio.to_thread(lambda: 1 // 0)

    def work(seconds: float) -> float:
        started = time.monotonic()
        time.sleep(seconds)
        return time.monotonic() - started

    with simulate() as sim:
        sim.run(main())
    sim.check()


def test_the_nth_operation_fails_for_every_n(logs: Logs) -> None:
    logging.getLogger("websock").setLevel(logging.CRITICAL)
    outcomes: list[int | str] = []
    for n, sim in fail_each():
        with sim:
            try:
                outcomes.append(len(sim.run(talk(3))))
            except (OSError, ConnectionClosed, Exception) as error:
                outcomes.append(type(error).__name__)
        assert (sim.failed == "") == (sim.operations < n)
        sim.check()
    assert outcomes[-1] == 3 and outcomes[0] == "ConnectionRefusedError"
    assert set(outcomes[:-1]) >= {"InvalidMessage", "ConnectionClosedError"}


def test_a_simulation_that_is_not_run() -> None:
    with pytest.raises(RuntimeError, match="is to be run"):
        for _ in fail_each():
            pass


def test_a_simulation_runs_once_and_alone() -> None:
    with simulate() as sim, pytest.raises(RuntimeError, match="already"), simulate():
        pass
    with pytest.raises(RuntimeError, match="once"), sim:
        pass
    with pytest.raises(RuntimeError, match="with block"):
        sim.run(talk())


@pytest.mark.parametrize(
    "settings",
    [
        {"latency": -1}, {"latency": (2, 1)}, {"latency": math.inf}, {"capacity": 0}, {"refuse": 2},
        {"direction": "up"}, {"stall": (5, -1)}, {"reset_at": -1}, {"half_close": (3, 2)},
    ],
)  # fmt: skip
def test_faults_that_make_no_sense(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(settings))):
        Faults(**settings)


@pytest.mark.parametrize("settings", [{"limit": 0}, {"preempt": 1}, {"operations": ["write"]}])
def test_settings_that_make_no_sense(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=" "):
        Simulation(**settings)


def test_faults_of_a_seed() -> None:
    assert Faults.from_seed(5) == Faults.from_seed(5)
    many = [Faults.from_seed(seed) for seed in range(200)]
    assert all(
        any(getattr(one, name) for one in many) for name in ("chop", "reset_at", "stall", "half_close", "refuse")
    )
