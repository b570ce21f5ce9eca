"""Broadcasts to a peer that does not read: what each policy makes of it, in every adapter that can serve."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

import pytest

import websock
from websock import SlowConsumers
from websock.exceptions import ConnectionClosed

from .drivers import BOUND, Background, until

BIG = 2**16
MANY = 60  # several times what the system takes of them

Send = Callable[..., Any]


@pytest.fixture(params=["asyncio", "sync"])
def slow(request: pytest.FixtureRequest, bench: Any) -> Any:
    """A server's connection whose peer does not read, the peer, and how to broadcast to it."""

    def make(policy: SlowConsumers | str, **options: Any) -> tuple[Any, Any, Send]:
        name = request.param
        server, peer = bench.raw(name, "server", "unix", compression=None, slow_consumers=policy, **options)
        package: Any = getattr(websock, name)

        def send(number: int, key: Any = None) -> None:
            message = number.to_bytes(4, "big") + bytes(BIG - 4)
            if name == "sync":
                package.broadcast([server.ws], message, key=key, raise_exceptions=True)
            else:

                async def go() -> None:
                    package.broadcast([server.ws], message, key=key, raise_exceptions=True)

                bench.adapter(name).run(go())

        return server, peer, send

    return make


def numbers(peer: Any, count: int) -> list[int]:
    got = []
    for _ in range(count):
        opcode, payload = peer.recv()
        assert (opcode, len(payload)) == (2, BIG)
        got.append(int.from_bytes(payload[:4], "big"))
    return got


def test_dropping_the_newest(slow: Any) -> None:
    dropped: list[Any] = []
    server, peer, send = slow(
        SlowConsumers("drop_newest", 10 * BIG, lambda ws, message: dropped.append((ws, message[:4])))
    )
    for number in range(MANY):
        send(number)
    assert 0 < server.dropped == len(dropped) < MANY
    assert all(ws is server.ws for ws, _ in dropped)
    kept = MANY - server.dropped
    lost = {int.from_bytes(start, "big") for _, start in dropped}
    got = numbers(peer, kept)
    assert got == sorted(set(range(MANY)) - lost)
    assert got[0] == 0
    assert lost == set(range(MANY - len(lost), MANY))  # nobody read meanwhile: it is the end that is missing
    # The peer has the last octet before the thread that wrote it has noted that.
    until(lambda: not (server.ws._protocol.has_outgoing or getattr(server.ws, "_unsent", ())))
    send(99)
    assert numbers(peer, 1) == [99]


def test_dropping_the_oldest(slow: Any) -> None:
    dropped: list[int] = []

    def on_drop(ws: Any, message: Any) -> None:
        dropped.append(int.from_bytes(message[:4], "big"))

    server, peer, send = slow(SlowConsumers("drop_oldest", 10 * BIG, on_drop))
    for number in range(MANY):
        send(number)
    assert 0 < server.dropped == len(dropped) < MANY
    got = numbers(peer, MANY - len(dropped))
    assert sorted(got + dropped) == list(range(MANY))
    assert got == sorted(got)
    assert got[-10:] == list(range(MANY - 10, MANY))  # as many as the limit lets wait


def test_keeping_the_latest(slow: Any) -> None:
    server, peer, send = slow("keep_latest")
    for number in range(MANY):
        send(number, key=number % 3)
    assert server.dropped
    got = numbers(peer, MANY - server.dropped)
    assert got == sorted(got)
    assert got[-3:] == [MANY - 3, MANY - 2, MANY - 1]
    assert got[:-3] == list(range(len(got) - 3))  # what went out before the peer was slow


def test_closing(slow: Any, caplog: pytest.LogCaptureFixture) -> None:
    server, peer, send = slow(SlowConsumers("close", 10 * BIG))
    for number in range(MANY):
        send(number)
    receiving = Background(server.recv)
    while (got := peer.recv())[0] == 2:
        pass
    assert got[0] == 8
    assert got[1][:2] == (1013).to_bytes(2, "big")
    with pytest.raises(ConnectionClosed) as caught:
        receiving.result()
    assert caught.value.sent is not None
    assert caught.value.sent.code == 1013
    peer.drop()
    (record,) = until(lambda: [one for one in caplog.records if one.levelno == logging.WARNING])
    assert "given up" not in caplog.text  # one line is enough
    assert "(SLOW_CONSUMER): it did not take what was broadcast" in record.getMessage()


def test_what_waited_is_forgotten_when_the_connection_is_closed(slow: Any) -> None:
    server, peer, send = slow("close")
    server.ws.slow_consumers = SlowConsumers("close", 10 * BIG)
    for number in range(MANY):
        send(number)
    peer.drop()
    server.wait_closed()
    assert server.ws._protocol.queued == 0


def test_waiting(slow: Any) -> None:
    server, peer, send = slow("wait")
    sending = Background(lambda: [send(number) for number in range(MANY)])
    assert numbers(peer, MANY) == list(range(MANY))
    sending.result()
    assert server.dropped == 0


def test_awaiting_a_broadcast_waits_for_those_who_are_to_be_waited_for(bench: Any) -> None:
    waited, peer = bench.raw("asyncio", "server", "unix", compression=None, slow_consumers="wait")
    other, _ = bench.raw("asyncio", "server", "tcp4", compression=None, slow_consumers="drop_newest")
    done: list[str] = []

    async def go() -> None:
        for number in range(MANY):
            await websock.asyncio.broadcast([other.ws], number.to_bytes(4, "big") + bytes(BIG - 4))
        done.append("other")
        for number in range(MANY):
            await websock.asyncio.broadcast([waited.ws, other.ws], number.to_bytes(4, "big") + bytes(BIG - 4))
        done.append("waited")

    running = Background(bench.adapter("asyncio").run, go())
    until(lambda: done)
    assert done == ["other"]
    assert numbers(peer, MANY) == list(range(MANY))
    running.result()
    assert done == ["other", "waited"]


def test_pongs_go_in_front_of_what_waits(slow: Any) -> None:
    server, peer, send = slow(SlowConsumers("drop_oldest", 100 * BIG))
    for number in range(MANY):
        send(number)
    receiving = Background(server.recv)  # who reads answers pings
    peer.send(9, b"there?")
    peer.send(1, b"over")
    assert receiving.result() == "over"
    kinds = [peer.recv()[0] for _ in range(MANY + 1)]
    assert sorted(kinds) == [2] * MANY + [10]
    assert kinds.index(10) < MANY


def test_what_on_drop_raises_is_an_error_of_the_broadcast(slow: Any, caplog: pytest.LogCaptureFixture) -> None:
    def fail(ws: Any, message: Any) -> None:
        raise RuntimeError("of the callback")

    server, _, send = slow(SlowConsumers("drop_newest", BIG, fail))
    with pytest.raises(ExceptionGroup, match="broadcast failed"):
        for number in range(MANY):
            send(number)
    assert server.dropped == 1
    assert sum("of the callback" in record.getMessage() for record in caplog.records) == 1
    assert sum("does not keep up" in record.getMessage() for record in caplog.records) == 1


@pytest.mark.parametrize("name", ["asyncio", "sync"])
def test_a_wrong_policy_is_refused_at_once(bench: Any, name: str) -> None:
    with pytest.raises(ValueError, match="drop_oldest"):
        bench.serve(name, bench.where("tcp4"), lambda end: None, slow_consumers="dropoldest")


@pytest.mark.parametrize("policy", ["drop_newest", "drop_oldest"])
def test_on_drop_may_end_the_connection(slow: Any, policy: str) -> None:
    calls: list[Any] = []

    def on_drop(ws: Any, message: Any) -> None:
        calls.append(ws)
        ws.fail(1008, "too slow for us")

    server, _, send = slow(SlowConsumers(policy, 10 * BIG, on_drop))
    Background(lambda: [send(number) for number in range(MANY)]).result()
    assert calls == [server.ws]
    assert server.ws.close_exc.sent.code == 1008


def test_what_waited_counts_as_unsent(slow: Any) -> None:
    server, peer, send = slow(SlowConsumers("drop_oldest", 10 * BIG))
    for number in range(MANY):
        send(number)
    peer.drop()
    server.wait_closed()
    assert server.ws.close_exc.unsent >= 9 * BIG


def test_a_drain_waits_for_what_waits(slow: Any, bench: Any) -> None:
    server, peer, send = slow(SlowConsumers("drop_oldest", 10 * BIG))
    for number in range(MANY):
        send(number)
    kept = MANY - server.dropped
    owner = server.ws.server
    if hasattr(server, "adapter"):
        draining = Background(server.adapter.run, owner.drain(4))
    else:
        draining = Background(owner.drain, 4)
    until(lambda: server.ws._protocol.leaving)
    assert numbers(peer, kept)[-1] == MANY - 1
    assert peer.recv_close() == 1012
    peer.drop()
    draining.result()


def test_the_thread_that_writes_what_is_left_survives(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """One connection's failure, and a system without room for a thread, are nothing to the others."""
    from websock.sync import broadcasting, connection

    where = bench.where("unix")
    _, ends = bench.serve_parked("sync", where, compression=None, slow_consumers=SlowConsumers("close", 100 * BIG))
    peers = [where.raw_client() for _ in range(2)]
    (bad, good), peer = [(one.ask(), ends.get(timeout=BOUND))[1] for one in peers], peers[1]
    catch_up = connection.Connection._catch_up

    def fail(self: Any) -> bool:
        if self is bad.ws:
            raise RuntimeError("an extension")
        return catch_up(self)

    start, room = threading.Thread.start, threading.Event()

    def refuse(self: Any) -> None:
        if self.name == "websock-broadcast" and not room.is_set():
            raise RuntimeError("can't start new thread")
        start(self)

    monkeypatch.setattr(connection.Connection, "_catch_up", fail)
    monkeypatch.setattr(threading.Thread, "start", refuse)
    for number in range(MANY):
        websock.sync.broadcast([bad.ws, good.ws], number.to_bytes(4, "big") + bytes(BIG - 4))
        if number == MANY // 2:
            room.set()
    assert numbers(peer, MANY) == list(range(MANY))
    until(lambda: not broadcasting._remainders._running)
    for end, one in zip((bad, good), peers, strict=True):
        one.drop()
        end.kill()
