"""What a server of either adapter lets its peers take (`Limits`)."""

from __future__ import annotations

import asyncio
import socket
import threading
from typing import Any

import pytest

import websock
from websock import Limits
from websock.core.codec import FRAMES_AT_ONCE
from websock.core.inbox import SIDE_MESSAGES
from websock.exceptions import ConnectionClosed, InvalidStatus

from .drivers import BOUND, Where, until
from .raw import BINARY, CLOSE, CONT, PING, REQUEST, TEXT, Raw, frame

KINDS = ["tcp4", "tls", "unix"]


def echo(end: Any) -> None:
    while True:
        end.send(end.recv(60))


def status(where: Where, request: bytes = REQUEST) -> tuple[int, bytes]:
    """What a request is answered with, and all of the answer; 0 when there is none."""
    with where.raw_client() as raw:
        try:
            raw.send_bytes(request)
        except OSError:
            pass  # refused before it was read
        answer = raw.until(b"\r\n\r\n") if raw.sock.recv(1, socket.MSG_PEEK) else b""
        if not answer:
            return 0, b""
        number = int(answer.split()[1])
        return number, answer + (raw.all() if number != 101 else b"")


def warnings(logs: Any) -> list[str]:
    return [r.getMessage() for r in logs.records if r.levelname == "WARNING"]


def gate_of(server: Any) -> Any:
    return server.server._gate


# Before a connection is open.


@pytest.mark.parametrize("limit", [{"connections": 2}, {"per_client": 2}], ids=["connections", "per_client"])
def test_no_more_connections_than_the_limit(bench: Any, name: str, limit: dict[str, int], logs: Any) -> None:
    where = bench.where("tcp4")
    server = bench.serve(name, where, echo, limits=Limits(**limit, retry_after=17), process_request=lambda ws, r: None)
    first, second = (bench.connect(name, where) for _ in range(2))
    wanted = 503 if "connections" in limit else 429
    for _ in range(3):
        number, answer = status(where)
        assert number == wanted and b"\r\nRetry-After: 17\r\n" in answer and b"too many connections" in answer
    with pytest.raises(InvalidStatus) as caught:
        bench.connect(name, where)
    assert caught.value.response.status_code == wanted
    first.send("still here")
    assert first.recv() == "still here"
    second.close()
    until(lambda: gate_of(server)._open == 1)
    third = bench.connect(name, where)
    third.send("x")
    assert third.recv() == "x"
    assert len(warnings(logs)) == 1 and warnings(logs)[0].startswith(f"refused with {wanted}, too many connections")
    first.close()
    third.close()
    server.close()
    (line,) = warnings(logs)[1:]
    assert "3 times" in line and line.endswith("all by 127.0.0.1")


def test_over_tls_there_is_no_answer(bench: Any, name: str) -> None:
    where = bench.where("tls")
    bench.serve(name, where, echo, limits=Limits(connections=1))
    end = bench.connect(name, where)
    for _ in range(3):
        with socket.create_connection((where.host, where.port), timeout=BOUND) as sock:
            try:
                assert sock.recv(1) == b""
            except ConnectionResetError:
                pass
    end.send("x")
    assert end.recv() == "x"


def test_unix_peers_are_no_clients(bench: Any, name: str) -> None:
    where = bench.where("unix")
    bench.serve(name, where, echo, limits=Limits(per_client=1))
    for end in [bench.connect(name, where) for _ in range(3)]:
        end.send("x")
        assert end.recv() == "x"


def test_handshakes_per_second(bench: Any, name: str) -> None:
    where = bench.where("tcp4")
    bench.serve(name, where, echo, limits=Limits(handshakes_per_second=1e-3))
    end = bench.connect(name, where)
    for _ in range(3):
        assert status(where)[0] == 429
    end.send("x")
    assert end.recv() == "x"


def test_more_refusals_than_are_answered(bench: Any, name: str) -> None:
    """They take no thread and no task each, and the port answers others all the time."""
    where = bench.where("tcp4")
    server = bench.serve(name, where, echo, limits=Limits(connections=1, half_open=1000))
    end = bench.connect(name, where)
    threads = threading.active_count()
    crowd = [where.reach() for _ in range(150)]
    try:
        end.send("x")
        assert end.recv() == "x"
        away = server.server._away
        assert len(away._deadlines) <= 64 and threading.active_count() <= threads + 1
        answered = 0
        for sock in crowd:
            try:
                answered += sock.recv(65536).startswith(b"HTTP/1.1 503 ")
            except ConnectionResetError:
                pass
        assert answered >= 64
    finally:
        for sock in crowd:
            sock.close()
    until(lambda: not away._deadlines)


@pytest.mark.parametrize("kind", KINDS)
def test_half_open_ones_keep_nobody_out(bench: Any, name: str, kind: str, logs: Any) -> None:
    where = bench.where(kind)
    server = bench.serve(name, where, echo, limits=Limits(half_open=8))
    before = bench.connect(name, where)
    crowd = [where.reach() for _ in range(40)]
    try:
        until(lambda: len(gate_of(server)) == 8)
        end = bench.connect(name, where)
        for one in (end, before):
            one.send("x")
            assert one.recv() == "x"
        gone = 0
        for sock in crowd[:32]:
            try:
                gone += sock.recv(1) == b""
            except ConnectionResetError:
                gone += 1
        assert gone == 32
        assert len(warnings(logs)) == 1 and "half-open" in warnings(logs)[0]
    finally:
        for sock in crowd:
            sock.close()
    until(lambda: not len(gate_of(server)))


def test_who_has_sent_something_is_told(bench: Any, name: str) -> None:
    where = bench.where("tcp4")
    server = bench.serve(name, where, echo, limits=Limits(half_open=1, retry_after=3))
    with where.raw_client() as slow:
        slow.send_bytes(REQUEST[:30])
        opening = until(lambda: _heard(server))
        assert opening
        with where.raw_client() as other:
            answer = slow.until(b"\r\n\r\n")
            assert answer.startswith(b"HTTP/1.1 503 ") and b"Retry-After: 3\r\n" in answer
            assert other.ask().startswith(b"HTTP/1.1 101 ")


def _heard(server: Any) -> bool:
    """Whether the server has read something of the one that is half-open."""
    inner = server.server
    if hasattr(inner, "_openings"):
        return any(opening._heard for opening in list(inner._openings))
    return any(session._wire.heard for session in list(inner.model.jobs()))


def test_hooks_are_not_half_open(bench: Any, name: str) -> None:
    """A request that is complete makes room, however long its hook takes."""
    where = bench.where("tcp4")
    begun, go_on = threading.Event(), threading.Event()

    def slow(ws: Any, request: Any) -> None:
        begun.set()
        if name == "sync":
            go_on.wait(BOUND)

    server = bench.serve(name, where, echo, limits=Limits(half_open=1), process_request=slow)
    with where.raw_client() as raw:
        raw.send_bytes(REQUEST)
        assert begun.wait(BOUND)
        with where.raw_client() as other:
            until(lambda: len(gate_of(server)) == 1)
            go_on.set()
            assert raw.until(b"\r\n\r\n").startswith(b"HTTP/1.1 101 ")
            assert other.ask().startswith(b"HTTP/1.1 101 ")


@pytest.mark.parametrize("how", ["refused", "broken", "left", "opened"])
def test_what_is_counted_is_given_back(bench: Any, name: str, how: str, logs: Any) -> None:
    where = bench.where("tcp4")

    def refuse(ws: Any, request: Any) -> Any:
        return ws.respond(403, "no") if how == "refused" else None

    server = bench.serve(name, where, echo, limits=Limits(connections=2, per_client=2), process_request=refuse)
    gate = gate_of(server)
    for _ in range(6):
        with where.raw_client() as raw:
            if how == "broken":
                raw.ask(b"nonsense\r\n\r\n")
            elif how != "left":
                raw.ask()
            else:
                until(lambda: len(gate) == 1)
        until(lambda: not gate._clients and not gate._open and not len(gate))
    assert not warnings(logs)


def test_headers(bench: Any, name: str) -> None:
    where = bench.where("tcp4")
    bench.serve(name, where, echo, limits=Limits(max_headers=6))
    more = REQUEST[:-2] + b"X-One: 1\r\n\r\n"
    assert status(where, more)[0] == 101
    assert status(where, more[:-2] + b"X-Two: 1\r\n\r\n")[0] == 431


def test_hosts(bench: Any, name: str) -> None:
    where = bench.where("tcp4")
    seen: list[Any] = []
    bench.serve(name, where, echo, hosts=["localhost"], process_request=lambda ws, request: seen.append(request))
    assert status(where)[0] == 101
    assert status(where, REQUEST.replace(b"localhost", b"evil.example"))[0] == 421
    assert status(where, REQUEST.replace(b"Host: localhost\r\n", b""))[0] == 400
    assert len(seen) == 1


@pytest.mark.parametrize("option", [{"limits": 5}, {"hosts": "localhost"}, {"trusted_proxies": "10.0.0.0/8"}])
def test_what_is_no_limit(bench: Any, name: str, option: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match=next(iter(option))):
        bench.serve(name, bench.where("tcp4"), echo, **option)


# Afterwards.


def closed_with(raw: Raw) -> tuple[int, str]:
    while True:
        opcode, payload = raw.recv()
        if opcode == CLOSE:
            return int.from_bytes(payload[:2], "big"), payload[2:].decode()


RATES = [
    ({"messages_per_second": 5}, [(TEXT, b"")] * 6, "more than 5 messages per second"),
    ({"messages_per_second": 100}, [(TEXT, b"a" * 70)] * 200, "more than 100 messages per second"),
    ({"bytes_per_second": 50_000}, [(BINARY, bytes(60_000))], "more than 50000 bytes per second"),
    ({"bytes_per_second": 1000}, [(PING, bytes(100))] * 12, "more than 1000 bytes per second"),
    ({"messages_per_second": 1e9, "bytes_per_second": 3e3}, [(TEXT, b"a" * 30)] * 99,
     "more than 3000 bytes per second"),
]  # fmt: skip


@pytest.mark.parametrize(("limit", "frames", "reason"), RATES, ids=[reason for *_, reason in RATES])
@pytest.mark.parametrize("kind", ["tcp4", "tls"])
def test_rates(
    bench: Any, name: str, kind: str, limit: dict[str, float], frames: list[Any], reason: str, logs: Any
) -> None:
    where = bench.where(kind)
    bench.serve(name, where, echo, limits=Limits(**limit))  # type: ignore[arg-type]
    other = bench.connect(name, where)
    with where.raw_client() as raw:
        assert raw.ask().startswith(b"HTTP/1.1 101 ")
        raw.send_bytes(b"".join(frame(*one) for one in frames))
        assert closed_with(raw) == (1008, reason)
    until(lambda: [one for one in logs.loud() if reason in logs.text(one)])
    other.send("x")
    assert other.recv() == "x"


def test_who_stays_below_the_rate_is_left_alone(bench: Any, name: str) -> None:
    where = bench.where("tcp4")
    bench.serve(name, where, echo, limits=Limits(messages_per_second=1000, bytes_per_second=10**6))
    end = bench.connect(name, where)
    for number in range(900):
        end.send(str(number))
        assert end.recv() == str(number)


def test_the_server_learns_why(bench: Any, name: str) -> None:
    where = bench.where("tcp4")
    _, ends = bench.serve_parked(name, where, limits=Limits(messages_per_second=3))
    with where.raw_client() as raw:
        raw.ask()
        end = ends.get(timeout=BOUND)
        raw.send_bytes(frame(TEXT, b"x") * 4)
        assert [end.recv() for _ in range(4)] == ["x"] * 4  # what came before the end is not lost
        with pytest.raises(ConnectionClosed) as caught:
            end.recv()
        assert isinstance(caught.value.__cause__, websock.exceptions.RateExceeded)
        assert closed_with(raw)[0] == 1008


def test_what_waited_while_the_program_was_busy_is_not_too_fast(bench: Any, name: str) -> None:
    """One message at a time is taken, seconds apart; the peer sends at its limit."""
    where = bench.where("tcp4")
    _, ends = bench.serve_parked(name, where, limits=Limits(messages_per_second=20), max_queue=1)
    with where.raw_client() as raw:
        raw.ask()
        end = ends.get(timeout=BOUND)
        raw.send_bytes(frame(TEXT, b"x") * 18)
        assert end.recv() == "x"
        threading.Event().wait(1.2)
        for _ in range(17):
            assert end.recv() == "x"
        raw.send_bytes(frame(TEXT, b"y") * 20)
        for _ in range(20):
            assert end.recv() == "y"


def test_fragments(bench: Any, name: str) -> None:
    where = bench.where("tcp4")
    bench.serve(name, where, echo, limits=Limits(max_fragments=3))
    with where.raw_client() as raw:
        raw.ask()
        good = frame(TEXT, b"a", fin=False) + frame(CONT, b"b", fin=False)
        raw.send_bytes(good + frame(CONT, b"c"))
        assert raw.recv() == (TEXT, b"abc")
        raw.send_bytes(good + frame(CONT, b"c", fin=False) + frame(CONT))
        assert closed_with(raw) == (1008, "more than 3 fragments")


# Much work in one read.

FLOODS = {"text": frame(TEXT), "part": frame(CONT, fin=False), "ping": frame(PING)}


@pytest.mark.parametrize("kind", ["tcp4", "tls"])
@pytest.mark.parametrize("flood", FLOODS)
def test_a_flood_of_empty_frames_keeps_nobody_from_the_server(bench: Any, name: str, kind: str, flood: str) -> None:
    where = bench.where(kind)
    over = threading.Event()

    def handler(end: Any) -> None:
        if end.recv(60) == "alive?":
            end.send("yes")
        over.wait(BOUND)

    bench.serve(name, where, handler, max_queue=8)
    with where.raw_client() as raw:
        raw.ask()
        raw.sock.settimeout(0.2)
        try:
            raw.send_bytes(frame(TEXT, fin=False) * (flood == "part") + FLOODS[flood] * 100_000)
        except TimeoutError:
            pass  # nobody takes them
        end = bench.connect(name, where)
        end.send("alive?")
        assert end.recv() == "yes"
        over.set()


@pytest.mark.parametrize("name", ["asyncio", "uvloop"])
@pytest.mark.parametrize("flood", FLOODS)
def test_the_loop_has_its_turn_within_one_read(bench: Any, name: str, flood: str) -> None:
    """A read of 256 KiB, as the transport brings it, takes eleven turns of the loop."""
    where = bench.where("tcp4")
    _, ends = bench.serve_parked(name, where, max_queue=None)
    with where.raw_client() as raw:
        raw.ask()
        end = ends.get(timeout=BOUND)
        data = frame(TEXT, fin=False) * (flood == "part") + FLOODS[flood] * 43_680

        async def read() -> int:
            ws, turns = end.ws, 0
            view = ws.get_buffer(-1)
            view[: len(data)] = data
            ws.buffer_updated(len(data))
            while ws._protocol.behind:
                assert not ws.transport.is_reading()
                turns += 1
                await asyncio.sleep(0)
            while ws._inbox:
                assert await ws.recv() == ""
            return turns

        assert 10 <= end.adapter.run(read()) <= 12
        raw.send_bytes(frame(CONT, b"end") if flood == "part" else frame(TEXT, b"end"))
        assert end.recv() == "end"


def test_the_blocking_adapter_takes_its_share_at_a_time(bench: Any) -> None:
    """Under its lock no more than one call of the decoder."""
    where = bench.where("tcp4")
    _, ends = bench.serve_parked("sync", where, max_queue=None)
    with where.raw_client() as raw:
        raw.ask()
        ws = ends.get(timeout=BOUND).ws
        raw.send(TEXT, bytes(5000))
        assert len(ws.recv()) == 5000  # so that its buffer is as large as it gets
        raw.send_bytes(frame(TEXT) * 10_000)  # 60,000 octets: less than one read
        until(lambda: len(ws._stream.sock.recv(60_000, socket.MSG_PEEK)) == 60_000)
        assert ws.recv() == "" and len(ws._inbox) == FRAMES_AT_ONCE - 1 and ws._protocol.behind
        for _ in range(9_999):
            assert ws.recv(5) == ""
        assert not ws._inbox and not ws._protocol.behind


def test_messages_that_nobody_reads_stay_few(bench: Any, name: str) -> None:
    """A read of 256 KiB has 43,690 empty messages; the inbox takes one call's more than its limit, and the rest waits
    as octets."""
    where = bench.where("tcp4")
    _, ends = bench.serve_parked(name, where, max_queue=8)
    with where.raw_client() as raw:
        raw.ask()
        end = ends.get(timeout=BOUND)
        raw.sock.settimeout(0.5)
        one = frame(TEXT, b"ab")
        sent = threading.Thread(target=_send_all, args=(raw, one * 200_000))
        sent.start()
        assert end.recv() == "ab"  # the blocking adapter reads when it is asked
        sent.join()
        assert len(end.ws._inbox) <= FRAMES_AT_ONCE + SIDE_MESSAGES + 8
        for _ in range(3 * FRAMES_AT_ONCE):
            assert end.recv() == "ab"
            assert len(end.ws._inbox) <= FRAMES_AT_ONCE + SIDE_MESSAGES + 8


def _send_all(raw: Raw, data: bytes) -> None:
    try:
        raw.sock.sendall(data)
    except OSError:
        pass  # nobody takes it
