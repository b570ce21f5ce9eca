"""Blocking programs in a simulation: threads, of which exactly one runs."""

from __future__ import annotations

import asyncio
import contextlib
import math
import queue
import random
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import websock.asyncio
from websock.exceptions import ConnectionClosed, ConnectionClosedError, InvalidHandshake
from websock.sync import Server, broadcast, connect, serve
from websock.testing import Faults, Stuck, fail_each, simulate

from ..sockets import Logs

FAULTS = Faults(latency=(0.01, 0.5), chop=True, capacity=3000)


def echo(ws: Any) -> None:
    for message in ws:
        ws.send(message)


@contextlib.contextmanager
def served(handler: Any = echo, **options: Any) -> Iterator[Server]:
    with serve(handler, "mem://chat", **options) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
    thread.join()


def talk(count: int = 10) -> list[Any]:
    with served(), connect("mem://chat/room?x=1") as ws:
        got = []
        for number in range(count):
            ws.send("é" * 1000 * number)
            got.append(ws.recv())
        assert ws.request is not None and ws.request.path == "/room?x=1"
        return got


def test_a_program_is_the_same_in_memory() -> None:
    with simulate() as sim:
        assert talk() == ["é" * 1000 * number for number in range(10)]
        assert sim.now == 0
    sim.check()


def test_the_same_seed_is_the_same_run() -> None:
    def program() -> None:
        with served():
            threads = [threading.Thread(target=client, args=(number,)) for number in range(5)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

    def client(number: int) -> None:
        with connect("mem://chat") as ws:
            for _ in range(number):
                time.sleep(random.random())
                ws.send(b"x" * random.randrange(10_000))
                ws.recv()

    prints = []
    for seed in (1, 1, 2):
        with simulate(seed, FAULTS) as sim:
            program()
        sim.check()
        prints.append((sim.fingerprint, sim.now, sim.operations))
    assert prints[0] == prints[1]
    assert prints[0] != prints[2]


def test_chance_outside_goes_on_as_before() -> None:
    random.seed(5)
    numbers = [random.random(), random.random()]
    random.seed(5)
    assert random.random() == numbers[0]
    with simulate():
        random.random()
    assert random.random() == numbers[1]


def test_all_that_waits_waits_in_virtual_time() -> None:
    jobs: queue.Queue[str] = queue.Queue()
    found = []

    def work() -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                found.append((jobs.get(timeout=100), time.monotonic()))
                event.set()
        found.append(("empty", time.monotonic()))

    with simulate() as sim:
        jobs = queue.Queue(maxsize=1)
        event = threading.Event()
        thread = threading.Thread(target=work)
        thread.start()
        time.sleep(10)
        jobs.put("a")
        assert event.wait(1)
        lock = threading.Lock()
        with lock:
            assert not lock.acquire(timeout=20)
            assert not lock.acquire(blocking=False)
        condition = threading.Condition()
        with threading.RLock(), condition:
            assert not condition.wait(30)
        assert not threading.Semaphore(0).acquire(timeout=5)
        thread.join(1)
        assert thread.is_alive()
        thread.join()
        assert not thread.is_alive()
        with ThreadPoolExecutor(2) as pool:
            assert list(pool.map(lambda seconds: time.sleep(seconds) or seconds, [3, 2, 1])) == [3, 2, 1]  # type: ignore[func-returns-value]
    sim.check()
    assert [name for name, _ in found] == ["a", "empty"]
    assert [at for _, at in found] == pytest.approx([10, 110])
    assert sim.now == pytest.approx(113)
    # What was made inside works on.
    jobs.put("later")
    assert jobs.get() == "later" and not lock.acquire(blocking=False) if lock.acquire(timeout=1) else False


def test_other_threads_have_real_time() -> None:
    def outside() -> None:
        ready.wait(10)
        before = time.monotonic()
        time.sleep(0.01)
        found.append(time.monotonic() - before)
        thread = threading.Thread(target=found.append, args=(1,))
        thread.start()
        thread.join()
        with threading.Lock(), threading.RLock():
            found.append(2)

    found: list[float] = []
    ready = threading.Event()
    thread = threading.Thread(target=outside)
    thread.start()
    real_join = thread.join
    with simulate() as sim:
        time.sleep(1000)
        ready.set()
        real_join(10)
    assert found[0] >= 0.01 and found[1:] == [1, 2]
    assert sim.now == 1000


def test_keepalive_gives_up_a_peer_that_is_stalled() -> None:
    with simulate() as sim, served(ping_interval=None, close_timeout=1):
        ws = connect("mem://chat", ping_interval=20, ping_timeout=10, close_timeout=5)
        sim.stall(math.inf)
        started = time.monotonic()
        with pytest.raises(ConnectionClosedError):
            ws.recv()
        assert 30 <= time.monotonic() - started <= 36
        ws.wait_closed()
    sim.check()


def test_timeouts() -> None:
    with simulate() as sim:
        with served() as server, connect("mem://chat") as ws:
            with pytest.raises(TimeoutError):
                ws.recv(timeout=50)
            assert sim.now == pytest.approx(50)
            assert len(server.connections) == 1
        with pytest.raises(ConnectionRefusedError, match="nobody listens there"):
            connect("mem://chat")
        sim.faults = Faults(latency=30)
        with served(), pytest.raises(TimeoutError):
            connect("mem://chat", open_timeout=5)
    sim.check()


def test_broadcast_to_one_who_does_not_read() -> None:
    def handler(ws: Any) -> None:
        over.wait()

    with simulate(faults=Faults(capacity=1000, latency=0.1)) as sim:
        over = threading.Event()
        with served(handler) as server:
            slow, quick = connect("mem://chat"), connect("mem://chat")
            broadcast(server.connections, "x" * 5000)
            assert quick.recv() == "x" * 5000
            time.sleep(10)
            assert slow.recv() == "x" * 5000
            over.set()
            for ws in (slow, quick):
                ws.close()
    sim.check()


def test_both_adapters_in_one_simulation() -> None:
    async def main() -> str:
        async def handler(ws: Any) -> None:
            async for message in ws:
                await ws.send(message)

        async with websock.asyncio.serve(handler, "mem://chat"):
            return await asyncio.to_thread(client)

    def client() -> str:
        with connect("mem://chat") as ws:
            time.sleep(3)
            ws.send("from a thread")
            return str(ws.recv())

    with simulate(faults=FAULTS) as sim:
        assert sim.run(main()) == "from a thread"
    sim.check()


def test_who_waits_for_ever_is_named() -> None:
    with simulate(5), pytest.raises(Stuck, match=r"thread main waits(?s:.*)thread idle waits(?s:.*)seed 5"):
        thread = threading.Thread(target=threading.Event().wait, name="idle")
        thread.start()
        thread.join()


def test_threads_that_are_left_end_with_the_simulation() -> None:
    def wait() -> None:
        try:
            threading.Event().wait()
        finally:
            ended.append(True)

    ended: list[bool] = []
    with simulate() as sim:
        for _ in range(3):
            threading.Thread(target=wait, name="left").start()
        time.sleep(1)
    assert ended == [True] * 3
    with pytest.raises(AssertionError, match="thread left"):
        sim.check()


def test_an_error_in_the_block_goes_through() -> None:
    with pytest.raises(ZeroDivisionError), simulate():
        threading.Thread(target=threading.Event().wait).start()
        _ = 1 // 0
    with simulate():
        pass


def test_a_thread_starts_once() -> None:
    with simulate():
        thread = threading.Thread(target=int)
        thread.start()
        with pytest.raises(RuntimeError):
            thread.start()
        thread.join()


def test_the_nth_operation_fails_for_every_n(logs: Logs) -> None:
    outcomes: list[int | str] = []
    for n, sim in fail_each():
        with sim:
            try:
                outcomes.append(len(talk(3)))
            except (OSError, ConnectionClosed, InvalidHandshake) as error:
                outcomes.append(type(error).__name__)
        assert (sim.failed == "") == (sim.operations < n)
        sim.check()
    assert outcomes[-1] == 3 and outcomes[0] == "ConnectionRefusedError"
    assert set(outcomes[:-1]) >= {"InvalidMessage", "ConnectionClosedError"}
