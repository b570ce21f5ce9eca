"""Datagrams that are waited for: closing, full peers, cancellation, loops; every kind, blocking and not."""

from __future__ import annotations

import asyncio
import gc
import select
import signal
import threading
import weakref
from collections.abc import Iterator
from typing import Any

import pytest

from websock.net import datagram as blocking
from websock.net.asyncio import datagram as looping
from websock.net.errors import BusyError, ClosedError

from . import datagrams
from .datagrams import FORMS, KINDS, PATIENCE, Driver, Peer, eventually

UDP = ["udp4", "udp6"]
UNIX = ["unixgram", "abstract"]


@pytest.fixture(params=FORMS)
def driver(request: pytest.FixtureRequest, short_path: str) -> Iterator[Driver]:
    with datagrams.driver(request.param, short_path) as one:
        yield one


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def two(driver: Driver, kind: str) -> tuple[Peer, Peer]:
    """Two that are bound."""
    return driver.bind(driver.address(kind)), driver.bind(driver.address(kind))


def connected(driver: Driver, kind: str) -> tuple[Peer, Peer]:
    """One that is bound, and one that is connected to it, with an address of its own."""
    one = driver.bind(driver.address(kind))
    return one, driver.connect(one.local, local=driver.address(kind))


# Closing.


def test_closing_wakes_a_receive(driver: Driver, kind: str) -> None:
    for one in (driver.bind(driver.address(kind)), connected(driver, kind)[1]):
        for name, args in (("receive", ()), ("receive_from", ()), ("receive_many", (3,))):
            waiting = one.start(name, *args)
            with pytest.raises(BusyError):
                one.receive()
            one.close()
            with pytest.raises(ClosedError, match=f"{one.local}".replace("[", r"\[")):
                waiting.result(PATIENCE)
            one = driver.bind(driver.address(kind))


def test_closing_wakes_a_receive_with_a_timeout(driver: Driver, kind: str) -> None:
    one = driver.bind(driver.address(kind))
    if driver.name == "blocking":
        one.raw.receive_timeout = PATIENCE
    waiting = one.start("receive")
    one.close()
    with pytest.raises(ClosedError):
        waiting.result(PATIENCE)
    assert one.fileno() == -1


@pytest.mark.parametrize("wakes", [True, False])
def test_who_has_closed_can_bind_there_again(
    kind: str, wakes: bool, short_path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocking, "_SHUTDOWN_WAKES", wakes)
    with datagrams.driver("blocking", short_path) as driver:
        one = driver.bind(driver.address(kind))
        for _ in range(10):
            where = one.local
            waiting = one.start("receive")
            one.raw.close()
            assert one.fileno() == -1
            one = driver.bind(str(where))
            with pytest.raises(ClosedError):
                waiting.result(PATIENCE)


def test_a_second_socket_wakes_where_shutting_down_does_not(
    driver: Driver, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocking, "_SHUTDOWN_WAKES", False)
    one, other = two(driver, kind)
    waiting = one.start("receive")
    other.send_to(b"1", one.local)
    assert waiting.result(PATIENCE) == b"1"
    waiting = one.start("receive")
    one.close()
    with pytest.raises(ClosedError):
        waiting.result(PATIENCE)
    other.close()  # nobody waits


def test_after_closing(driver: Driver, kind: str) -> None:
    server, client = connected(driver, kind)
    mine, where = client.local, server.local
    client.close()
    client.close()
    assert client.closed and client.fileno() == -1
    assert (client.local, client.remote) == (mine, where)
    assert "closed" in repr(client.raw)
    calls = [
        lambda: client.send(b""), lambda: client.send_to(b"", where), lambda: client.send_many([(b"", None)]),
        client.receive, client.receive_from, lambda: client.receive_many(1), lambda: client.lost, client.options,
        client.tell_local, lambda: client.join("239.1.1.1"), lambda: client.leave("239.1.1.1"),
    ]  # fmt: skip
    for call in calls:
        with pytest.raises(ClosedError, match="is closed"):
            call()


def test_closed_behind_our_back(driver: Driver, kind: str) -> None:
    one, _ = two(driver, kind)
    mine = one.local
    one.sock.close()
    with pytest.raises(OSError, match="can't send to"):
        one.send_to(b"", mine)
    with pytest.raises(OSError, match="can't receive from"):
        one.receive()
    with pytest.raises(OSError, match="can't receive from"):
        one.within(PATIENCE, "receive")
    assert one.local == mine
    one.close()


def test_closing_from_a_signal_handler(kind: str, short_path: str) -> None:
    """The thread that waits is the one that closes."""
    address = {"udp4": "udp://127.0.0.1:0", "udp6": "udp://[::1]:0", "abstract": f"unixgram:@{short_path}"}
    one = blocking.bind_datagram(address.get(kind, f"unixgram:{short_path}/x"))
    before = signal.signal(signal.SIGALRM, lambda *_: one.close())
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.01)
        with pytest.raises(ClosedError):
            one.receive()
    finally:
        signal.signal(signal.SIGALRM, before)
    assert one.fileno() == -1


def test_closing_while_several_threads_send(kind: str, short_path: str) -> None:
    with datagrams.driver("blocking", short_path) as driver:
        server = driver.bind(driver.address(kind))
        client = driver.connect(server.local)
        begun = threading.Barrier(5)

        def send() -> None:
            begun.wait(PATIENCE)
            while True:
                client.send(b"")

        senders = [driver.start(send) for _ in range(4)]
        begun.wait(PATIENCE)
        server.receive_many(5)
        client.close()
        for sender in senders:
            with pytest.raises(ClosedError):
                sender.result(PATIENCE)
        assert client.fileno() == -1


@pytest.mark.parametrize("kind", UNIX)
@pytest.mark.parametrize("is_connected", [True, False])
def test_a_full_peer_is_waited_for(driver: Driver, kind: str, is_connected: bool) -> None:
    server = driver.bind(driver.address(kind))
    client = driver.connect(server.local) if is_connected else driver.bind(driver.address(kind))

    def send(number: int) -> tuple[Any, ...]:
        data = str(number).encode()
        return ("send", data) if is_connected else ("send_to", data, server.local)

    count = 0
    with pytest.raises(TimeoutError):
        while count < 10_000:
            client.within(0.02, *send(count))
            count += 1
    assert 1 <= count < 10_000
    waiting = client.start(*send(count))
    assert server.receive() == b"0"
    waiting.result(PATIENCE)
    assert [server.receive() for _ in range(count)] == [str(number).encode() for number in range(1, count + 1)]
    for number in range(count):
        client.within(PATIENCE, *send(number))
    waiting = client.start(*send(count))
    client.close()
    with pytest.raises(ClosedError):
        waiting.result(PATIENCE)
    server.receive_many(1000)


@pytest.mark.parametrize("kind", UNIX)
def test_a_full_peer_that_goes(driver: Driver, kind: str) -> None:
    one, other = two(driver, kind)
    with pytest.raises(TimeoutError):
        while True:
            one.within(0.02, "send_to", b"", other.local)
    waiting = one.start("send_to", b"", other.local)
    other.close()
    with pytest.raises((ConnectionRefusedError, FileNotFoundError)):
        waiting.result(PATIENCE)


# What the event loop asks for.


@pytest.fixture(params=FORMS[1:])
def loop(request: pytest.FixtureRequest, short_path: str) -> Iterator[Driver]:
    with datagrams.driver(request.param, short_path) as one:
        yield one


def test_a_cancelled_receive_loses_nothing(loop: Driver, kind: str) -> None:
    one, other = two(loop, kind)

    async def run() -> None:
        for number in range(50):
            task = asyncio.create_task(one.raw.receive())
            await asyncio.sleep(0)
            if number % 3:
                await other.raw.send_to(b"%d" % number, one.raw.local)
            if number % 2:
                await asyncio.sleep(0)
            task.cancel()
            try:
                data = await task
            except asyncio.CancelledError:
                if not number % 3:
                    continue
                data = await one.raw.receive()
            assert data == b"%d" % number

    loop.call(run)


@pytest.mark.parametrize("kind", UNIX)
@pytest.mark.parametrize("is_connected", [True, False])
def test_a_cancelled_send_has_sent_nothing(loop: Driver, kind: str, is_connected: bool) -> None:
    server = loop.bind(loop.address(kind))
    client = loop.connect(server.local) if is_connected else loop.bind(loop.address(kind))

    async def run() -> int:
        count = 0
        raw = client.raw

        async def send() -> None:
            await (raw.send(b"%d" % count) if is_connected else raw.send_to(b"%d" % count, server.raw.local))

        try:
            while True:
                async with asyncio.timeout(0.02):
                    await send()
                count += 1
        except TimeoutError:
            pass
        several = [asyncio.create_task(send()) for _ in range(3)]
        await asyncio.sleep(0)
        for task in several[:2]:
            task.cancel()
        await asyncio.wait(several[:2])
        for number in range(count):
            assert await server.raw.receive() == b"%d" % number
        await several[2]
        assert await server.raw.receive() == b"%d" % count
        return count

    assert loop.call(run) > 0


def test_what_is_always_ready_leaves_others_their_turn(loop: Driver, kind: str) -> None:
    one, _ = two(loop, kind)

    async def run() -> None:
        turns = 0

        async def other() -> None:
            nonlocal turns
            while True:
                await asyncio.sleep(0)
                turns += 1

        task = asyncio.create_task(other())
        for _ in range(500):
            await one.raw.send_to(b"", one.raw.local)
            await one.raw.receive()
        task.cancel()
        assert turns >= 10

    loop.call(run)


def forget(tasks: list[asyncio.Task[bytes]]) -> None:
    tasks.clear()
    gc.collect()


def test_a_lost_one_is_noticed(loop: Driver, kind: str) -> None:
    """The loop does not keep what nobody has any more, unless a task waits for it."""

    async def run() -> None:
        one = await looping.bind_datagram(loop.address(kind))
        tasks = [asyncio.create_task(one.receive())]
        await asyncio.sleep(0.01)
        gone = weakref.ref(one)
        del one
        gc.collect()
        assert gone() is not None
        tasks[0].cancel()
        await asyncio.wait(tasks)
        with pytest.warns(ResourceWarning, match="unclosed"):
            forget(tasks)
        assert gone() is None

    loop.call(run)


def test_receiving_in_a_loop(driver: Driver, kind: str) -> None:
    one, other = two(driver, kind)

    def blocking_loop() -> list[bytes]:
        return [received.data for received in one.raw]

    async def waiting_loop() -> list[bytes]:
        return [received.data async for received in one.raw]

    found = driver.start(blocking_loop if driver.name == "blocking" else waiting_loop)
    for data in (b"1", b"2", b"3"):
        other.send_to(data, one.local)
    eventually(lambda: not readable(one))
    one.close()
    assert found.result(PATIENCE) == [b"1", b"2", b"3"]


def readable(peer: Peer) -> bool:
    return bool(select.select([peer.fileno()], [], [], 0)[0])
