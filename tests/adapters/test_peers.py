"""Peers that break rules or leave: one of our ends, in both roles, against octets made by hand."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from typing import Any

import pytest

import websock
from websock.exceptions import (
    ConcurrencyError,
    ConnectionClosed,
    ConnectionClosedError,
    ConnectionClosedOK,
    InvalidUTF8,
    MissingMask,
    PayloadTooBig,
    ProtocolError,
    UnexpectedMask,
)

from .drivers import Background, until
from .raw import BINARY, CLOSE, CONT, PING, PONG, TEXT, close_payload


def ended(end: Any) -> ConnectionClosed:
    with pytest.raises(ConnectionClosed) as caught:
        end.recv()
    return caught.value


def test_end_without_close(against: Any) -> None:
    end, raw = against()
    raw.send(TEXT, b"last")
    raw.drop()
    assert end.recv() == "last"
    error = ended(end)
    assert isinstance(error, ConnectionClosedError)
    assert error.rcvd is None
    assert error.sent is None
    assert error.rcvd_then_sent is None
    assert end.close_code == 1006
    assert end.close_reason == ""
    with pytest.raises(ConnectionClosedError):
        end.send("x")


def test_end_without_close_has_a_cause(against: Any) -> None:
    """DESIGN.md 1.10: a bare 1006 without a cause is a bug."""
    end, raw = against()
    raw.drop()
    assert ended(end).__cause__ is not None


def test_half_closed_without_close(against: Any) -> None:
    end, raw = against()
    raw.send(TEXT, b"last")
    raw.shutdown_write()
    assert end.recv() == "last"
    assert isinstance(ended(end), ConnectionClosedError)
    end.close()
    assert end.close_code == 1006


def test_reset(against: Any) -> None:
    end, raw = against()
    raw.send(TEXT, b"before")
    assert end.recv() == "before"
    if raw.sock.family != socket.AF_UNIX:
        raw.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    raw.sock.close()
    error = ended(end)
    assert isinstance(error, ConnectionClosedError)
    if raw.sock.family != socket.AF_UNIX:
        assert isinstance(error.__cause__, ConnectionError)


def test_end_inside_a_message(against: Any) -> None:
    end, raw = against()
    raw.send(TEXT, b"whole")
    raw.send(TEXT, b"part", fin=False)
    raw.send_bytes(raw.frame(CONT, b"x" * 1000)[:500])
    raw.drop()
    assert end.recv() == "whole"
    assert isinstance(ended(end), ConnectionClosedError)


@pytest.mark.parametrize("code", [1000, 1001, None, 1011, 3000])
def test_peer_closes(against_tcp: Any, code: int | None) -> None:
    end, raw = against_tcp()
    raw.send(TEXT, b"last")
    raw.send(CLOSE, b"" if code is None else close_payload(code, "why"))
    assert end.recv() == "last"
    error = ended(end)
    assert isinstance(error, ConnectionClosedOK if code in (1000, 1001, None) else ConnectionClosedError)
    assert raw.recv_close() == (code or 1005)
    assert error.rcvd == websock.Close(code or 1005, "why" if code else "")
    assert error.rcvd_then_sent is True


def test_server_closes_the_transport_first(against: Any) -> None:
    """RFC 6455 section 7.1.1. The end of a client waits for the server; the end of a server ends at once."""
    end, raw = against()
    raw.close()
    error = ended(end)
    assert isinstance(error, ConnectionClosedOK)
    assert raw.recv_close() == 1000
    if raw.client:
        raw.recv_eof()
        end.wait_closed()
    else:
        raw.drop()
        end.wait_closed()
    assert end.is_over


def test_answers_go_out_before_the_close(against: Any) -> None:
    """A message and a Close in one read: the echo still goes out, and after it the Close."""
    end, raw = against()
    raw.send_bytes(raw.frame(TEXT, b"question") + raw.frame(CLOSE, close_payload(1000)))
    end.send("answer to " + end.recv())
    assert isinstance(ended(end), ConnectionClosedOK)
    assert raw.recv() == (TEXT, b"answer to question")
    assert raw.recv_close() == 1000


FAILURES = [
    ("utf8", InvalidUTF8, 1007, lambda raw: raw.frame(TEXT, b"\xff")),
    ("utf8-fragment", InvalidUTF8, 1007, lambda raw: raw.frame(TEXT, b"\xce\xba\xff", fin=False)),
    ("size", PayloadTooBig, 1009, lambda raw: raw.frame(BINARY, b"x" * 1001)),
    (
        "size-fragments",
        PayloadTooBig,
        1009,
        lambda raw: raw.frame(BINARY, b"x" * 600, fin=False) + raw.frame(CONT, b"x" * 600),
    ),
    ("size-announced", PayloadTooBig, 1009, lambda raw: raw.frame(BINARY, b"x" * 70000)[:14]),
    ("rsv", ProtocolError, 1002, lambda raw: raw.frame(TEXT, b"x", rsv=4)),
    ("opcode", ProtocolError, 1002, lambda raw: raw.frame(0x3, b"x")),
    ("continuation", ProtocolError, 1002, lambda raw: raw.frame(CONT, b"x")),
    ("close-code", ProtocolError, 1002, lambda raw: raw.frame(CLOSE, close_payload(1005))),
    ("close-size", ProtocolError, 1002, lambda raw: raw.frame(CLOSE, b"x")),
    ("mask", (MissingMask, UnexpectedMask), 1002, lambda raw: raw.frame(TEXT, b"x", mask=not raw.client)),
]


@pytest.mark.parametrize(("kind", "code", "make"), [one[1:] for one in FAILURES], ids=[one[0] for one in FAILURES])
def test_broken_rules(against_tcp: Any, kind: type[Exception], code: int, make: Any) -> None:
    """In one write: good messages, then the broken rule, then more that must not be looked at."""
    end, raw = against_tcp(max_size=1000)
    raw.send_bytes(raw.frame(TEXT, b"one") + raw.frame(TEXT, b"two") + make(raw) + raw.frame(PING, b"not answered"))
    assert end.recv() == "one"
    end.send("echo one")
    assert end.recv() == "two"
    end.send("echo two")
    error = ended(end)
    assert isinstance(error, ConnectionClosedError)
    assert isinstance(error.__cause__, kind)
    assert error.sent is not None
    assert error.sent.code == code
    assert raw.recv() == (TEXT, b"echo one")
    assert raw.recv() == (TEXT, b"echo two")
    assert raw.recv_close() == code
    raw.recv_eof()  # we end the stream, in both roles
    raw.drop()
    end.close()
    with pytest.raises(ConnectionClosedError):
        end.send("")


def test_broken_rule_over_every_socket(against: Any) -> None:
    end, raw = against(max_size=1000)
    raw.send_bytes(raw.frame(TEXT, b"one") + raw.frame(BINARY, b"x" * 1001))
    assert end.recv() == "one"
    assert isinstance(ended(end).__cause__, PayloadTooBig)
    assert raw.recv_close() == 1009
    raw.recv_eof()


def test_message_of_exactly_max_size(against_tcp: Any) -> None:
    end, raw = against_tcp(max_size=1000)
    raw.send(BINARY, b"x" * 1000)
    assert end.recv() == b"x" * 1000


def test_failure_while_nobody_reads(against_tcp: Any) -> None:
    """Messages and a broken rule, and an application that does not read: the Close goes out in bounded time."""
    end, raw = against_tcp()
    raw.send_bytes(raw.frame(TEXT, b"one") + raw.frame(0x3, b"x"))
    if not hasattr(end, "adapter"):
        until(lambda: end.ws._stream.wait(read=True, write=False, timeout=0)[0])
        Background(end.ws.wait_closed)
    assert raw.recv_close() == 1002
    assert end.recv() == "one"
    assert isinstance(ended(end).__cause__, ProtocolError)


def test_ping_is_answered(against: Any) -> None:
    end, raw = against()
    receiving = Background(end.recv)
    raw.send(PING, b"payload")
    assert raw.recv() == (PONG, b"payload")
    raw.send(PONG, b"unsolicited")
    raw.send(TEXT, b"x")
    assert receiving.result() == "x"


def test_ping_inside_a_fragmented_message(against_tcp: Any) -> None:
    end, raw = against_tcp()
    raw.send_bytes(raw.frame(TEXT, b"a", fin=False) + raw.frame(PING, b"p") + raw.frame(CONT, b"b"))
    assert end.recv() == "ab"
    assert raw.recv() == (PONG, b"p")


def test_ping_flood_without_reading_is_bounded(against_tcp: Any) -> None:
    """RFC 6455 section 5.5.3: Pongs that cannot be written are merged."""
    end, raw = against_tcp()
    receiving = Background(end.recv, 30)
    raw.sock.settimeout(0.5)
    flood = raw.frame(PING, b"x" * 125) * 2000
    sent = 0
    try:
        while sent < 40 * 2**20:
            sent += raw.sock.send(flood)
    except TimeoutError:
        pass
    assert end.ws._protocol.queued < 64 * 1024
    if hasattr(end, "adapter"):
        assert end.ws.transport.get_write_buffer_size() < 256 * 1024
    raw.drop()
    with pytest.raises(ConnectionClosedError):
        receiving.result()


def test_same_ping_twice(against_tcp: Any) -> None:
    end, raw = against_tcp()
    end.start_ping(b"same")
    with pytest.raises(ConcurrencyError):
        end.start_ping(b"same")
    assert raw.recv() == (PING, b"same")


def test_later_pong_answers_earlier_pings(against_tcp: Any) -> None:
    end, raw = against_tcp()
    first = Background(end.latency_of, b"1")
    assert raw.recv() == (PING, b"1")
    second = Background(end.latency_of, b"2")
    assert raw.recv() == (PING, b"2")
    raw.send(PONG, b"2")
    assert first.result() >= second.result() > 0


def test_pong_that_never_comes(against_tcp: Any) -> None:
    end, raw = against_tcp()
    waiting = Background(end.latency_of)
    assert raw.recv()[0] == PING
    raw.drop()
    with pytest.raises((ConnectionClosed, AssertionError)):
        waiting.result(5)


def test_close_timeout(against: Any) -> None:
    """A peer that never answers our Close holds nobody longer than close_timeout."""
    end, raw = against(close_timeout=0.3)
    started = time.monotonic()
    end.close(1001)
    assert 0.25 < time.monotonic() - started < 2
    error = ended(end)
    assert isinstance(error, ConnectionClosedError)
    assert error.rcvd is None
    assert error.sent == websock.Close(1001, "")
    assert isinstance(error.__cause__, TimeoutError)
    assert raw.recv_close() == 1001
    assert end.is_over


def test_close_timeout_after_both_closes(against: Any) -> None:
    """The Closes have passed, and the peer leaves its transport open: that too ends in time."""
    end, raw = against(close_timeout=0.3)
    raw.close()
    started = time.monotonic()
    assert isinstance(ended(end), ConnectionClosedOK)
    end.close()
    assert time.monotonic() - started < 2
    assert raw.recv_close() == 1000
    assert end.is_over


def test_close_timeout_while_the_peer_reads_nothing(against: Any) -> None:
    """The Close stands behind megabytes that the peer does not take."""
    end, raw = against(close_timeout=0.3)
    sending = Background(end.send, b"x" * 2**24)
    until(lambda: end.ws._protocol is not None and not sending.done)
    started = time.monotonic()
    Background(end.close).result(5)
    assert time.monotonic() - started < 4
    try:
        sending.result(5)
    except ConnectionClosedError:
        pass
    assert end.is_over
    raw.drop()


def test_close_while_the_peer_floods(against_tcp: Any) -> None:
    """Closing ends in time and memory is bounded, whatever the peer goes on sending."""
    end, raw = against_tcp(close_timeout=0.5)
    over = threading.Event()

    def flood() -> None:
        data = raw.frame(BINARY, b"x" * 1000) * 50
        try:
            while not over.is_set():
                raw.sock.sendall(data)
        except OSError:
            pass

    flooding = Background(flood)
    try:
        until(lambda: len(end.ws._inbox) > 0 or not hasattr(end, "adapter"))
        started = time.monotonic()
        Background(end.close).result(10)
        assert time.monotonic() - started < 5
        assert sum(map(len, end.ws._inbox)) < 6 * 2**20
    finally:
        over.set()
        raw.drop()
        flooding.result()


def test_receive_timeout_while_the_peer_pings(against_tcp: Any) -> None:
    """What is no message does not count: recv ends when its time is over."""
    end, raw = against_tcp()
    over = threading.Event()

    def ping() -> None:
        data = raw.frame(PONG, b"x" * 100) * 100
        try:
            while not over.is_set():
                raw.sock.sendall(data)
        except OSError:
            pass

    pinging = Background(ping)
    receiving = Background(end.recv, 0.3)
    try:
        with pytest.raises(TimeoutError):
            receiving.result(5)  # a busy machine takes its time
    finally:
        over.set()
        raw.drop()
        pinging.result()
        with pytest.raises((TimeoutError, ConnectionClosed)):
            receiving.result(4)


def test_fail_wakes_the_receiver(against: Any) -> None:
    """``fail`` does not wait for the peer, and who waits in recv learns of it, silent peer or not."""
    end, raw = against()
    receiving = Background(end.recv, None)
    raw.send(PING, b"x")
    assert raw.recv() == (PONG, b"x")
    end.fail(1008, "enough")
    with pytest.raises(ConnectionClosedError) as caught:
        receiving.result(4)
    assert caught.value.sent == websock.Close(1008, "enough")
    assert raw.recv_close() == 1008


def test_a_message_that_is_being_sent_is_finished_when_the_peer_closes(against: Any) -> None:
    """The peer closes while half of our message is out: the rest and our Close follow it, nothing is cut."""
    end, raw = against()
    size = 2**23
    sending = Background(end.send, b"x" * size)
    first = raw.exactly(1)  # it has begun
    raw.buffer = first + raw.buffer
    raw.close()
    closing = Background(end.close)  # as at the end of a handler
    opcode, payload = raw.recv()
    assert (opcode, len(payload)) == (BINARY, size)
    assert raw.recv_close() == 1000
    raw.drop()
    closing.result()
    try:
        sending.result()
    except ConnectionClosedOK:
        pass


def test_unread_messages_do_not_destroy_our_close(against_tcp: Any) -> None:
    """We fail the connection while the peer still sends: it must see why, and no reset in front of that."""
    end, raw = against_tcp(max_size=1000)
    raw.send_bytes(raw.frame(BINARY, b"x" * 2000) + b"y" * 300000)
    assert isinstance(ended(end).__cause__, PayloadTooBig)
    closing = Background(end.close)
    assert raw.recv_close() == 1009
    raw.drop()
    closing.result()


def test_octets_behind_the_handshake(bench: Any, name: str) -> None:
    """Frames that come in one write with the request, or the answer, are not lost."""
    from .raw import REQUEST, frame

    where = bench.where("tcp4")
    _, ends = bench.serve_parked(name, where)
    with where.raw_client() as raw:
        raw.ask(REQUEST + frame(TEXT, b"early") + frame(PING, b"p") + frame(TEXT, b"late")[:5])
        end = ends.get(timeout=30)
        assert end.recv() == "early"
        receiving = Background(end.recv)
        assert raw.recv() == (PONG, b"p")
        raw.sock.close()
        with pytest.raises(ConnectionClosedError):
            receiving.result()


def test_tls_end_without_close_notify(bench: Any, name: str) -> None:
    """The end of the TCP stream says nothing: it may be an attacker's. So 1006, never 1000."""
    for role in ("server", "client"):
        end, raw = bench.raw(name, role, "tls")
        raw.send(TEXT, b"whole")
        raw.drop()
        assert end.recv() == "whole"
        assert ended(end).code == 1006


def test_tls_close_notify_without_close(bench: Any, name: str) -> None:
    end, raw = bench.raw(name, "server", "tls")
    raw.send(TEXT, b"whole")

    def unwrap() -> None:
        try:
            raw.sock.unwrap()  # type: ignore[attr-defined,unused-ignore]
        except (OSError, ssl.SSLError):
            pass

    unwrapping = Background(unwrap)
    assert end.recv() == "whole"
    assert ended(end).code == 1006
    raw.drop()
    unwrapping.result()


def test_tls_damaged_record_after_a_message(bench: Any, client_ssl: ssl.SSLContext) -> None:
    """A message and octets that are not TLS in one read: the message is delivered, then the error.

    (asyncio's own TLS drops the message.)
    """
    where = bench.where("tls")
    _, ends = bench.serve_parked("sync", where)
    sock = where.reach()
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = client_ssl.wrap_bio(incoming, outgoing, server_hostname="127.0.0.1")

    def pump(call: Any, *args: Any) -> Any:
        while True:
            try:
                result = call(*args)
            except ssl.SSLWantReadError:
                sock.sendall(outgoing.read())
                incoming.write(sock.recv(65536))
            else:
                sock.sendall(outgoing.read())
                return result

    from .raw import REQUEST, frame

    with sock:
        pump(tls.do_handshake)
        pump(tls.write, REQUEST)
        assert pump(tls.read, 10000).startswith(b"HTTP/1.1 101")
        end = ends.get(timeout=30)
        tls.write(frame(TEXT, b"whole"))
        sock.sendall(outgoing.read() + b"\x17\x03\x03\x00\x20" + b"garbage!" * 4)
        assert end.recv() == "whole"
        error = ended(end)
        assert error.code == 1006
