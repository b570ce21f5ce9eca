"""Why a connection ended, as both adapters tell it: in the exception, and in one line of the log."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from websock.exceptions import CloseCause, ConnectionClosed

from .drivers import BOUND, Background, until
from .raw import CLOSE, PING, TEXT, close_payload
from .test_peers import ended

C = CloseCause


def reset(end: Any, raw: Any) -> None:
    raw.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    raw.sock.close()


def we_close(end: Any, raw: Any) -> None:
    closing = Background(end.close, 1001)
    assert raw.recv_close() == 1001
    raw.close()
    raw.drop()
    closing.result()


WAYS: list[tuple[str, Callable[[Any, Any], object], CloseCause, str | None]] = [
    ("peer closes", lambda end, raw: raw.close(), C.PEER_CLOSED, "peer"),
    ("we close", we_close, C.WE_CLOSED, "we"),
    ("we fail", lambda end, raw: end.fail(1008, "enough"), C.WE_CLOSED, "we"),
    ("reset", reset, C.CONNECTION_LOST, None),
    ("end of the stream", lambda end, raw: raw.drop(), C.ENDED_WITHOUT_CLOSE, None),
    ("broken rule", lambda end, raw: raw.send(0x3), C.PEER_BROKE_RULE, "we"),
    ("too big", lambda end, raw: raw.send(TEXT, b"x" * 1001), C.OVER_LIMIT, "we"),
    ("no answer", lambda end, raw: end.close(), C.CLOSE_TIMEOUT, "we"),
]
GIVEN_UP = {C.PEER_BROKE_RULE, C.OVER_LIMIT, C.CLOSE_TIMEOUT, C.PEER_SILENT, C.WRITE_STUCK}


def loud_lines(logs: Any) -> list[str]:
    return [logs.text(one) for one in logs.loud()]


@pytest.mark.parametrize(("way", "cause", "began"), [one[1:] for one in WAYS], ids=[one[0] for one in WAYS])
def test_ways_to_the_end(
    against_tcp: Any, way: Callable[[Any, Any], object], cause: CloseCause, began: str | None, logs: Any
) -> None:
    end, raw = against_tcp(max_size=1000, close_timeout=0.3)
    raw.send(TEXT, b"a")
    assert end.recv() == "a"
    way(end, raw)
    error = ended(end)
    assert (error.cause, error.began) == (cause, began)
    assert isinstance(error.os_error, ConnectionResetError) is (cause is C.CONNECTION_LOST)
    assert error.last_activity is not None
    assert 0 <= error.last_activity < 5
    assert error.unsent == 0
    assert error.stalled is None
    raw.drop()
    end.wait_closed()
    assert end.close_exc.cause is cause
    lines = loud_lines(logs)
    assert [cause.name in line for line in lines] == ([True] if cause in GIVEN_UP else []), lines


def test_a_silent_peer(against_tcp: Any, logs: Any) -> None:
    end, raw = against_tcp(ping_interval=0.1, ping_timeout=0.15)
    error = ended(end)
    assert error.cause is C.PEER_SILENT
    assert error.stalled is not None
    assert error.last_activity is not None
    assert 0.14 < error.stalled <= error.last_activity + 0.1 < 5
    assert f"peer silent for {error.stalled:.1f} s" in str(error)
    assert raw.recv()[0] == PING
    assert raw.recv_close() == 1011
    end.wait_closed()
    (line,) = [one for one in loud_lines(logs) if "kept: we stalled" not in one]  # a busy machine
    assert "given up: PEER_SILENT, sent 1011" in line
    assert "peer silent for" in line


@pytest.mark.parametrize("kind", ["tcp4", "tls", "unix"])
def test_a_peer_that_does_not_read(bench: Any, name: str, kind: str, logs: Any) -> None:
    end, raw = bench.raw(name, "server", kind, ping_interval=1.2, ping_timeout=0.6, close_timeout=20)
    sending = Background(end.send, b"x" * 2**23)
    started = time.monotonic()
    error = ended(end)
    end.wait_closed()
    assert time.monotonic() - started < 6
    assert error.cause is C.WRITE_STUCK
    assert error.stalled is not None
    assert error.stalled >= 0.59  # 1.8 when the ping could not leave either
    assert end.close_exc.unsent > 2**20
    with pytest.raises(ConnectionClosed):
        sending.result()
    assert end.is_over
    (line,) = [one for one in loud_lines(logs) if "kept: we stalled" not in one]  # a busy machine
    assert "given up: WRITE_STUCK" in line
    raw.drop()


def test_what_a_reset_leaves_unsent(bench: Any, name: str) -> None:
    end, raw = bench.raw(name, "server", "tcp4")
    sending = Background(end.send, b"x" * 2**24)
    until(lambda: end.ws._protocol is not None and not sending.done)
    threading.Event().wait(0.1)
    reset(end, raw)
    with pytest.raises(ConnectionClosed):
        sending.result()
    error = ended(end)
    assert error.cause is C.CONNECTION_LOST
    assert 2**20 < error.unsent <= 2**24 + 14


def test_a_handler_that_fails(bench: Any, name: str, logs: Any) -> None:
    logs.expected = 1
    where = bench.where("tcp4")
    found: list[Any] = []

    def handler(end: Any) -> None:
        found.append(end)
        raise ValueError("no")

    bench.serve(name, where, handler)
    end = bench.connect("sync", where)
    assert ended(end).cause is C.PEER_CLOSED
    error = until(lambda: found[0].close_exc)
    assert (error.cause, error.began) == (C.HANDLER_FAILED, "we")


def test_a_block_that_fails(bench: Any) -> None:
    end, other = bench.pair("sync", "sync", "tcp4")
    answering = Background(ended, other)
    with pytest.raises(ValueError, match="no"), end.ws:
        raise ValueError("no")
    assert end.close_exc.cause is C.HANDLER_FAILED
    assert answering.result().code == 1011


def test_parts_that_fail(bench: Any, name: str) -> None:
    end, raw = bench.raw(name, "server", "tcp4")

    def parts() -> Iterator[str]:
        yield "a"
        yield "b"
        raise ValueError("no")

    sending = Background(end.send, parts())
    raw.recv()
    raw.drop()
    with pytest.raises(ValueError, match="no"):
        sending.result()
    assert end.close_exc.cause is C.HANDLER_FAILED


def test_a_server_that_stops(bench: Any, name: str) -> None:
    where = bench.where("tcp4")
    server, ends = bench.serve_parked(name, where)
    client = bench.connect("sync", where)
    end = ends.get(timeout=BOUND)
    receiving = Background(ended, client)
    closing = Background(server.close)
    assert receiving.result().cause is C.PEER_CLOSED
    server.release()
    closing.result()
    assert end.close_exc.cause is C.DRAINED


def test_a_transport_that_the_program_aborts(bench: Any) -> None:
    end, raw = bench.raw("asyncio", "server", "tcp4")
    end.kill()
    error = end.close_exc
    assert (error.cause, error.began) == (C.WE_CLOSED, None)
    assert "we ended the connection" in str(error)
    raw.drop()


def test_a_reason_does_not_forge_the_log(bench: Any, name: str, logs: Any) -> None:
    end, raw = bench.raw(name, "server", "tcp4", close_timeout=0.2)
    raw.send(CLOSE, close_payload(1002, "a\nwebsock INFO forged"))
    ended(end)
    raw.drop()
    end.wait_closed()
    assert not any("\n" in line for line in loud_lines(logs))


# A program that stops altogether.

CHILD = """
import sys, websock.sync
with websock.sync.connect(sys.argv[1], ping_interval=None, compression=None) as ws:
    print("up", flush=True)
    for message in ws:
        pass
"""


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="no SIGSTOP")
@pytest.mark.parametrize("full", [False, True])
def test_a_frozen_process(bench: Any, name: str, full: bool) -> None:
    interval, timeout = 1.2, 0.4  # time enough to fill what the system takes before the first ping
    where = bench.where("tcp4")
    options = {"ping_interval": interval, "ping_timeout": timeout, "close_timeout": 20, "compression": None}
    _, ends = bench.serve_parked(name, where, **options)
    with subprocess.Popen([sys.executable, "-c", CHILD, where.uri], stdout=subprocess.PIPE) as child:
        try:
            assert child.stdout is not None
            assert child.stdout.readline() == b"up\n"
            end = ends.get(timeout=BOUND)
            child.send_signal(signal.SIGSTOP)
            started = time.monotonic()
            sending = Background(end.send, os.urandom(2**24)) if full else None
            receiving = Background(ended, end)
            error = receiving.result()
            end.wait_closed()
            assert time.monotonic() - started < interval + timeout + 1.5
            assert error.cause is (C.WRITE_STUCK if full else C.PEER_SILENT)
            assert end.is_over
            if sending is not None:
                with pytest.raises(ConnectionClosed):
                    sending.result()
        finally:
            child.kill()


# A program that is busy.


@pytest.mark.parametrize(("name", "form"), [("asyncio", "blocks"), ("asyncio", "waits"), ("sync", "blocks")])
@pytest.mark.parametrize("role", ["server", "client"])
def test_a_busy_program_loses_nobody(bench: Any, name: str, form: str, role: str, logs: Any) -> None:
    """60 messages of 40 kB, busy for 5 times ping_interval and ping_timeout: all arrive, and the connection stays."""
    where = bench.where("tcp4")
    keepalive = {"ping_interval": 0.3, "ping_timeout": 0.3}
    other = {"ping_interval": None, "compression": None}
    mine = {"compression": None, **keepalive}
    if role == "server":
        _, ends = bench.serve_parked(name, where, **mine)
        peer = bench.connect("sync", where, **other)
        end = ends.get(timeout=BOUND)
    else:
        _, ends = bench.serve_parked("sync", where, **other)
        end = bench.connect(name, where, **mine)
        peer = ends.get(timeout=BOUND)

    def send_all() -> str:
        for i in range(60):
            peer.send(f"{i:04}" + "x" * 40_000)
        assert peer.recv() == "end"
        peer.send("still here")
        return str(peer.recv())

    sending = Background(send_all)
    assert end.recv()[:4] == "0000"
    if name == "asyncio" and form == "blocks":

        async def block() -> None:
            time.sleep(1.5)  # noqa: ASYNC251 - that is what it is about

        end.adapter.run(block())
    else:
        threading.Event().wait(1.5)
    assert [int(end.recv()[:4]) for _ in range(59)] == list(range(1, 60))
    end.send("end")
    assert end.recv() == "still here"
    assert end.close_exc is None
    end.send("bye")
    assert sending.result() == "bye"
    lines = loud_lines(logs)
    assert len(lines) <= 1
    assert all("kept: we stalled (" in line for line in lines)


def test_a_stall_of_the_loop_is_told(bench: Any, logs: Any) -> None:
    end, raw = bench.raw("asyncio", "server", "tcp4", ping_interval=0.1, ping_timeout=0.2)
    assert raw.recv()[0] == PING

    async def block() -> None:
        time.sleep(0.6)  # noqa: ASYNC251 - that is what it is about

    end.adapter.run(block())
    raw.send(TEXT, b"still here")
    assert end.recv() == "still here"
    (line,) = loud_lines(logs)
    assert "WARNING" in line
    assert ", for 0." in line
    assert "connection kept: we stalled (event loop busy): 127.0.0.1" in line


def test_a_full_queue_is_told(bench: Any, logs: Any) -> None:
    end, raw = bench.raw("asyncio", "server", "tcp4", ping_interval=0.1, ping_timeout=0.1, max_queue=2)
    raw.send_bytes(raw.frame(TEXT, b"x") * 8)
    threading.Event().wait(0.6)
    assert [end.recv() for _ in range(8)] == ["x"] * 8
    (line,) = until(lambda: loud_lines(logs))
    assert "(handler busy, queue full)" in line
