"""Scripted peers, for clients of both adapters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import websock.asyncio
import websock.sync
from websock.exceptions import ConnectionClosed, ConnectionClosedError, InvalidStatus
from websock.testing import Faults, Peer, ScriptedPeer, Simulation, simulate

FAULTS = Faults(latency=(0.01, 0.2), chop=True, capacity=500)


def by_asyncio(sim: Simulation, body: Callable[[Any], list[Any]], **options: Any) -> list[Any]:
    """`body` is a generator function's list of what to do: ``("send", x)``, ``("recv",)``, ..."""

    async def main() -> list[Any]:
        got = []
        async with websock.asyncio.connect("mem://chat", **options) as ws:
            for name, *arguments in body(None):
                got.append(await getattr(ws, name)(*arguments))
        return got

    return sim.run(main())


def by_threads(sim: Simulation, body: Callable[[Any], list[Any]], **options: Any) -> list[Any]:
    with websock.sync.connect("mem://chat", **options) as ws:
        return [getattr(ws, name)(*arguments) for name, *arguments in body(None)]


BOTH = pytest.mark.parametrize("client", [by_asyncio, by_threads])


@BOTH
def test_a_conversation(client: Any) -> None:
    def script(peer: Peer) -> None:
        request = peer.handshake(X_Fine="yes")
        assert request.path == "/"
        peer.expect("hello" * 1000)
        peer.send("text")
        peer.send(b"bytes" * 1000)
        peer.send_frame(1, b"fragm", fin=False)
        peer.send_frame(9, b"ping")
        peer.send_frame(0, b"ented")
        peer.sleep(5)
        peer.expect_close(1000)
        peer.close()
        peer.end()

    with simulate(1, FAULTS) as sim:
        with ScriptedPeer("mem://chat", script) as scripted:
            did = [("send", "hello" * 1000), ("recv",), ("recv",), ("recv",)]
            assert client(sim, lambda _: did)[1:] == ["text", b"bytes" * 1000, "fragmented"]
        assert scripted.done == 1
    sim.check()


@BOTH
def test_a_peer_may_break_rules(client: Any) -> None:
    def script(peer: Peer) -> None:
        peer.handshake()
        peer.send_frame(3, b"reserved")
        assert peer.expect_close(1002).reason
        peer.expect_end()

    with simulate() as sim, ScriptedPeer("mem://chat", script), pytest.raises(ConnectionClosedError):
        client(sim, lambda _: [("recv",)])
    sim.check()


def refuse(peer: Peer) -> None:
    peer.handshake(503)


def reset(peer: Peer) -> None:
    peer.handshake()
    peer.expect("anybody there?")
    peer.reset()


def work(peer: Peer) -> None:
    peer.handshake()
    peer.expect("anybody there?")
    peer.send_raw(b"\x81\x03yes")
    peer.expect_close()
    peer.close()


def test_a_client_that_connects_again() -> None:
    async def main() -> list[str]:
        outcomes = []
        async for ws in websock.asyncio.connect("mem://chat"):
            try:
                await ws.send("anybody there?")
                outcomes.append(str(await ws.recv()))
                break
            except ConnectionClosed as closed:
                outcomes.append(type(closed).__name__)
        return outcomes

    with simulate() as sim:
        with ScriptedPeer("mem://chat", refuse, reset, refuse, work) as scripted:
            assert sim.run(main()) == ["ConnectionClosedError", "yes"]
        assert scripted.done == 4
    sim.check()


@BOTH
def test_a_refusal(client: Any) -> None:
    with simulate() as sim, ScriptedPeer("mem://chat", refuse), pytest.raises(InvalidStatus):
        client(sim, lambda _: [])


def test_what_is_not_as_expected_is_told_at_the_end() -> None:
    with (
        simulate(),
        pytest.raises(AssertionError, match="'anybody there\\?' was expected, and 'hello' came"),
        ScriptedPeer("mem://chat", work),
    ):
        ws = websock.sync.connect("mem://chat")
        ws.send("hello")
        with pytest.raises(ConnectionClosed):
            ws.recv()


def test_a_script_that_is_not_run_is_told() -> None:
    with (
        simulate(),
        pytest.raises(AssertionError, match="script 2 of 2 was never run"),
        ScriptedPeer("mem://chat", refuse, work),
        pytest.raises(InvalidStatus),
    ):
        websock.sync.connect("mem://chat")


def test_a_client_that_breaks_rules_is_told() -> None:
    def script(peer: Peer) -> None:
        peer.handshake()
        peer.receive()

    with (
        simulate(),
        pytest.raises(AssertionError, match="what it must not"),
        ScriptedPeer("mem://chat", script),
    ):
        ws = websock.sync.connect("mem://chat")
        ws._stream.sock.send(b"\x81\x01x")  # not masked
        with pytest.raises(ConnectionClosed):
            ws.recv()


def test_a_place_in_memory_is_needed() -> None:
    with simulate(), pytest.raises(ValueError, match="no place in memory"):
        ScriptedPeer("ws://localhost", work)
    with pytest.raises(RuntimeError, match="simulate"):
        ScriptedPeer("mem://chat", work)
