"""What happens on connections while nobody is in a call of theirs: pings, keepalive, ends; and side reads."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from typing import Any

import pytest

import websock
import websock.sync.tending
from websock.core.inbox import SIDE_BUDGET
from websock.exceptions import CloseCause, ConnectionClosed
from websock.sync.tending import tending

from .drivers import Background, until
from .raw import CLOSE, PING, PONG, TEXT


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection counts as left alone after a moment."""
    monkeypatch.setattr(websock.sync.tending, "_IDLE", 0.02)


def helpers() -> int:
    return sum(one.name == "websock-tending" for one in threading.enumerate())


def is_tended(end: Any) -> bool:
    return id(end.ws) in tending._tended


@pytest.mark.parametrize("role", ["server", "client"])
@pytest.mark.parametrize("kind", ["tcp4", "tls", "unix"])
def test_pings_are_answered(bench: Any, role: str, kind: str) -> None:
    end, raw = bench.raw("sync", role, kind)
    raw.send(PING, b"anyone?")
    started = time.monotonic()
    assert raw.recv() == (PONG, b"anyone?")
    assert time.monotonic() - started < 3
    for i in range(20):  # now they are answered as they come
        raw.send(PING, bytes([i]))
        assert raw.recv() == (PONG, bytes([i]))
    assert time.monotonic() - started < 4
    raw.send(TEXT, b"x")
    assert end.recv() == "x"


def test_a_silent_peer_is_given_up(bench: Any, soon: None, logs: Any) -> None:
    end, raw = bench.raw("sync", "server", "tcp4", ping_interval=0.2, ping_timeout=0.2)
    until(lambda: end.is_over)
    assert end.close_exc.cause is CloseCause.PEER_SILENT
    with pytest.raises(ConnectionClosed):
        end.recv()
    assert [r for r in logs.loud() if "PEER_SILENT" in r.getMessage()] == logs.loud()
    raw.drop()


def test_a_peer_that_answers_is_kept(bench: Any, soon: None) -> None:
    end, other = bench.pair("sync", "sync", "tcp4", ping_interval=0.1, ping_timeout=0.3)
    threading.Event().wait(0.8)
    assert end.state is other.state is websock.State.OPEN
    assert end.latency > 0
    assert other.latency > 0


def test_the_peers_close_is_answered(bench: Any, soon: None) -> None:
    end, raw = bench.raw("sync", "server", "tcp4")
    raw.close(1001)
    assert raw.recv_close() == 1001
    raw.recv_eof()
    until(lambda: end.is_over)
    assert end.close_exc.cause is CloseCause.PEER_CLOSED


def test_a_close_behind_messages_waits_for_the_program(bench: Any, soon: None) -> None:
    end, raw = bench.raw("sync", "server", "tcp4")
    raw.send_bytes(raw.frame(TEXT, b"a") + raw.frame(CLOSE, b"\x03\xe8"))
    until(lambda: len(end.ws._inbox))
    end.send("answer")
    assert end.recv() == "a"
    assert raw.recv() == (TEXT, b"answer")
    with pytest.raises(ConnectionClosed):
        end.recv()


def test_one_thread_for_all_and_none_for_nobody(bench: Any, soon: None) -> None:
    where = bench.where("tcp4")
    _, ends = bench.serve_parked("sync", where)
    clients = [bench.connect("sync", where) for _ in range(5)]
    servers = [ends.get(timeout=30) for _ in clients]
    until(lambda: all(map(is_tended, clients + servers)))
    assert helpers() == 1
    for one in clients:
        one.close()
    until(lambda: all(one.is_over for one in servers))
    started = time.monotonic()
    until(lambda: helpers() == 0)
    assert time.monotonic() - started < 1
    assert not tending._tended
    again = bench.connect("sync", where)
    assert helpers() == 1
    again.close()


def test_messages_stay_in_their_bounds_and_in_order(bench: Any, soon: None) -> None:
    end, raw = bench.raw("sync", "server", "tcp4", max_queue=4)
    sending = Background(lambda: [raw.send(TEXT, b"%04d" % i + b"x" * 20_000) for i in range(400)])
    until(lambda: len(end.ws._inbox) >= 4)
    threading.Event().wait(0.3)
    assert len(end.ws._inbox) <= 4 + SIDE_BUDGET // 20_000 + 4
    assert [int(end.recv()[:4]) for _ in range(400)] == list(range(400))
    sending.result()


def test_the_program_comes_back(bench: Any, soon: None) -> None:
    """It is forgotten then, and nothing is lost on the way there and back."""
    end, raw = bench.raw("sync", "server", "tcp4")
    for i in range(30):
        until(lambda: is_tended(end))
        raw.send(TEXT, b"%d" % i)
        assert end.recv() == str(i)
    receiving = Background(end.recv)
    until(lambda: end.ws._reading.locked() and not is_tended(end))
    threading.Event().wait(0.1)
    assert not is_tended(end)
    raw.send(TEXT, b"x")
    assert receiving.result() == "x"


def test_closing_at_any_moment(bench: Any, soon: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(websock.sync.tending, "_IDLE", 0.001)
    where = bench.where("tcp4")
    _, ends = bench.serve_parked("sync", where)
    for i in range(60):
        client = bench.connect("sync", where)
        other = ends.get(timeout=30)
        threading.Event().wait(i * 0.0003)
        other.ws._protocol.ping(b"x")
        client.close()
        other.wait_closed()
        assert client.is_over
        assert other.is_over


def test_a_connection_that_nobody_closes(soon: None, bench: Any) -> None:
    """What a program forgets is not kept by us."""
    import gc
    import weakref

    from websock.sync import connect

    where = bench.where("tcp4")
    bench.serve_parked("sync", where)
    held = [connect(where.uri)]
    until(lambda: tending._tended and all(one.events for one in list(tending._tended.values())))
    gone = weakref.ref(held[0])

    def collected() -> bool:
        held.clear()
        gc.collect()
        return gone() is None

    with pytest.warns(ResourceWarning):
        until(collected)


def test_a_connection_that_fails_does_not_take_the_others_with_it(
    bench: Any, soon: None, monkeypatch: pytest.MonkeyPatch, logs: Any
) -> None:
    logs.expected = 1
    end, raw = bench.raw("sync", "server", "tcp4")
    until(lambda: is_tended(end))

    def fail(deadline: float | None) -> bool:
        raise ValueError("a bug of ours")

    monkeypatch.setattr(type(end.ws), "_step", lambda ws, deadline: fail(deadline))
    raw.send(TEXT, b"x")
    until(lambda: logs.tracebacks())
    monkeypatch.undo()
    until(lambda: not is_tended(end))
    assert helpers() == 1
    assert end.recv() == "x"


def test_a_connection_whose_thread_cannot_start(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name == "websock-tending":
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    end, other = bench.pair("sync", "sync", "tcp4")
    end.send("x")
    assert other.recv() == "x"


# Other processes, and the end of ours.

PROGRAM = """
import os, sys, threading, time
import websock.sync, websock.sync.tending as module
from websock.sync.tending import tending
module._IDLE = 0.02
ws = websock.sync.connect(sys.argv[1])
while id(ws) not in tending._tended:
    time.sleep(0.005)
if sys.argv[2] == "fork":
    for _ in range(5):
        pid = os.fork()
        if not pid:
            assert tending._thread is None and not tending._tended
            with websock.sync.connect(sys.argv[1]) as other:
                other.send("from the child")
                assert other.recv() == "from the child"
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
    ws.send("from the parent")
    assert ws.recv() == "from the parent"
    assert tending._thread.is_alive()
    ws.close()
"""


@pytest.mark.parametrize("what", ["fork", "exit"])
def test_another_process(bench: Any, what: str) -> None:
    if what == "fork" and not hasattr(os, "fork"):
        pytest.skip("no fork")
    where = bench.where("tcp4")

    def echo(end: Any) -> None:
        for message in end.ws:
            end.send(message)

    bench.serve("sync", where, echo)
    # From 3.12 on Python warns of every fork of a process that has threads, which is what this is about.
    quiet = [] if sys.version_info < (3, 12) else ["-W", "ignore::DeprecationWarning"]
    command = [sys.executable, *quiet, "-c", PROGRAM, where.uri, what]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


# Side reads: the inbox is full.


def test_pings_behind_a_full_inbox_are_answered(against_tcp: Any) -> None:
    end, raw = against_tcp(max_queue=2)
    raw.send_bytes(raw.frame(TEXT, b"x") * 5)
    until(lambda: len(end.ws._inbox) >= 5)
    raw.send(PING, b"1")
    assert raw.recv() == (PONG, b"1")
    raw.send_bytes(raw.frame(TEXT, b"y") + raw.frame(PING, b"2"))
    assert raw.recv() == (PONG, b"2")
    assert [end.recv() for _ in range(6)] == ["x"] * 5 + ["y"]


def test_side_reads_over_tls(bench: Any, name: str) -> None:
    end, raw = bench.raw(name, "server", "tls", max_queue=2)
    raw.send_bytes(raw.frame(TEXT, b"x") * 5)
    until(lambda: len(end.ws._inbox) >= 5)
    raw.send(PING, b"1")
    assert raw.recv() == (PONG, b"1")
    assert [end.recv() for _ in range(5)] == ["x"] * 5


@pytest.mark.parametrize("name", ["asyncio", "sync"])
def test_side_reads_have_a_budget(bench: Any, name: str, monkeypatch: pytest.MonkeyPatch, soon: None) -> None:
    monkeypatch.setattr("websock.asyncio.side.SIDE_TIME", 0.02)
    end, raw = bench.raw(name, "server", "tcp4", max_queue=2)
    raw.sock.settimeout(0.4)
    message = raw.frame(TEXT, b"x" * 10_000)
    sent = 0
    try:
        while sent < 2**26:
            sent += raw.sock.send(message)
    except TimeoutError:
        pass
    before = len(end.ws._inbox)
    threading.Event().wait(0.2)
    assert len(end.ws._inbox) == before  # it is used up
    assert before * 10_000 <= SIDE_BUDGET + 2**18 + 2**16 + 20_000
    raw.drop()
