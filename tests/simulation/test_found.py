"""What the seeds have found, each by itself."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator

import pytest

import websock.asyncio
from websock.exceptions import ConnectionClosedOK
from websock.sync import Connection, connect
from websock.testing import Faults, Peer, ScriptedPeer, simulate


def says_much_and_goes(peer: Peer) -> None:
    peer.handshake()
    peer.send("first")
    peer.send("second")
    peer.close()
    peer.end()


def test_the_end_of_the_stream_is_not_read_again_and_again() -> None:
    """Seeds 651, 924: whoever waited for the end ran in circles while the application did not take the messages."""
    with simulate() as sim, ScriptedPeer("mem://chat", says_much_and_goes):
        ws = connect("mem://chat")
        assert ws.wait_closed()
        assert sim.now == pytest.approx(1)  # SETTLE_TIME
        assert sim.operations < 20
        assert [ws.recv(), ws.recv()] == ["first", "second"]
    sim.check()


def test_sending_does_not_read_the_end_of_the_stream_again_and_again() -> None:
    def then_waits(peer: Peer) -> None:
        peer.handshake()
        peer.send("first")
        peer.close()
        peer._sock.shutdown(1)
        peer.sleep(0.5)
        peer.expect(b"x" * 200_000)

    with simulate() as sim, ScriptedPeer("mem://chat", then_waits):
        ws = connect("mem://chat")
        ws.wait_closed(0.1)
        ws.send(b"x" * 200_000)
        assert sim.operations < 30
        assert ws.recv() == "first"
        ws.close()
    sim.check()


def test_a_close_is_written_while_another_thread_reads() -> None:
    """Seeds 78, 349: who reads does not know that there is something left to write; who closes has to write it."""

    def answers(peer: Peer) -> None:
        peer.handshake()
        peer.expect_close(1000)
        peer.close()
        peer.end()

    def receive(ws: Connection) -> None:
        with pytest.raises(ConnectionClosedOK):
            ws.recv()

    for seed in range(20):
        with simulate(seed, Faults(chop=True)) as sim, ScriptedPeer("mem://chat", answers):
            ws = connect("mem://chat")
            thread = threading.Thread(target=receive, args=(ws,))
            thread.start()
            time.sleep(1)
            ws.close(reason="a longer reason, so that it is sent in parts")
            thread.join()
            assert sim.now == pytest.approx(1), seed
        sim.check()


def test_what_another_thread_has_read_meanwhile_is_seen() -> None:
    """Seed 9415: between looking into the inbox and waiting, another thread read, and went on reading."""

    def says_something(peer: Peer) -> None:
        peer.handshake()
        for number in range(5):
            peer.send(str(number))
            peer.send_frame(9, b"")
        peer.sleep(10)
        peer.end()

    for seed in range(30):
        with simulate(seed, preempt=0.5) as sim, ScriptedPeer("mem://chat", says_something):
            ws = connect("mem://chat")
            thread = threading.Thread(target=ws.wait_closed)
            thread.start()
            pong = ws.ping()
            assert [ws.recv() for _ in range(5)] == ["0", "1", "2", "3", "4"]
            assert sim.now == 0, seed
            assert not pong.wait(20)
            thread.join()
            ws.close()
        sim.check()


def test_a_message_in_parts_that_is_cancelled_behind_our_close_does_not_spoil_that() -> None:
    """asyncio, seeds 12132, 13148: nothing can follow a Close anyway, and the peer's was not read any more."""

    def answers(peer: Peer) -> None:
        peer.handshake()
        peer.sleep(1)
        assert peer.expect_close(1000)
        peer.close()

    async def main() -> None:
        async def parts() -> AsyncIterator[str]:
            yield "one"
            yield "two"
            await asyncio.sleep(5)
            yield "three"

        ws = await websock.asyncio.connect("mem://chat")
        sending = asyncio.ensure_future(ws.send(parts()))
        await asyncio.sleep(0.1)
        closing = asyncio.ensure_future(ws.close())
        await asyncio.sleep(0.1)
        sending.cancel()
        await closing
        assert isinstance(ws.close_exc, ConnectionClosedOK)
        await asyncio.wait([sending])

    with simulate() as sim, ScriptedPeer("mem://chat", answers):
        sim.run(main())
    sim.check()
