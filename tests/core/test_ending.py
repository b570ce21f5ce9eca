"""Why a connection ended, from the protocol alone: each way to the end and what `ConnectionClosed` says of it."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable

import pytest

from websock.core.options import Options
from websock.core.protocol import Protocol
from websock.exceptions import CloseCause, ConnectionClosed, ConnectionClosedOK, PayloadTooBig, ReservedOpcode
from websock.frames import Close

from .frames import CLOSE, CONT, TEXT, frame

KEY = b"\x01\x02\x03\x04"
T = 1000.0
RESET = ConnectionResetError(104, "Connection reset by peer")


def peer_sends(protocol: Protocol, *frames: tuple[int, bytes]) -> None:
    protocol.receive(b"".join(frame(opcode, payload, key=KEY) for opcode, payload in frames))
    protocol.settle()


def peer_closes(protocol: Protocol, code: bytes = b"\x03\xe8") -> None:
    peer_sends(protocol, (CLOSE, code))


def we_close_and_they_answer(protocol: Protocol) -> None:
    protocol.close()
    peer_closes(protocol)


def close_then(last: Callable[[Protocol], object], why: CloseCause | None = None) -> Callable[[Protocol], object]:
    def run(protocol: Protocol) -> None:
        protocol.close(1001, why=why)
        last(protocol)

    return run


def late(protocol: Protocol) -> None:
    protocol.tick(T + 1)
    protocol.tick(T + 11)


def silent(protocol: Protocol) -> None:
    for seconds in (20, 25):
        protocol.tick(T + seconds)


def stuck(protocol: Protocol) -> None:
    for seconds in (20, 25, 35):
        protocol.tick(T + seconds, waiting=5000, taken=0, moved=T + 10)


def extension_fails(protocol: Protocol) -> None:
    protocol.fail(1011, "an extension failed", ValueError("no"), why=CloseCause.HANDLER_FAILED)


def fail_then(last: Callable[[Protocol], object]) -> Callable[[Protocol], object]:
    def run(protocol: Protocol) -> None:
        protocol.fail(1008, "enough")
        last(protocol)

    return run


def cut_behind_their_close(protocol: Protocol) -> None:
    protocol.receive(frame(TEXT, b"a", key=KEY) + frame(CLOSE, b"\x03\xe8", key=KEY))
    protocol.lost(RESET)


C = CloseCause
CASES: list[tuple[str, Callable[[Protocol], object], CloseCause, str | None, str]] = [
    ("peer closes", peer_closes, C.PEER_CLOSED, "peer", "received 1000 (OK); then sent 1000 (OK)"),
    ("peer closes with 1011", lambda p: peer_closes(p, b"\x03\xf3"), C.PEER_CLOSED, "peer", "then sent 1011"),
    ("we close", we_close_and_they_answer, C.WE_CLOSED, "we", "sent 1000 (OK); then received 1000 (OK)"),
    ("we drain", close_then(peer_closes, C.DRAINED), C.DRAINED, "we", "our server stops"),
    ("handler failed", close_then(peer_closes, C.HANDLER_FAILED), C.HANDLER_FAILED, "we", "our program failed"),
    ("no answer", close_then(late), C.CLOSE_TIMEOUT, "we", "no close frame received within 10 s"),
    ("no answer to a drain", close_then(late, C.DRAINED), C.CLOSE_TIMEOUT, "we", "within 10 s"),
    ("no answer, slow", close_then(late, C.SLOW_CONSUMER), C.SLOW_CONSUMER, "we", "within 10 s"),
    ("reset after our close", close_then(lambda p: p.lost(RESET)), C.CONNECTION_LOST, "we", "reset by peer"),
    ("end after our close", close_then(lambda p: p.receive_eof()), C.ENDED_WITHOUT_CLOSE, "we", "ended without"),
    ("reset", lambda p: p.lost(RESET), C.CONNECTION_LOST, None, "no close frame received or sent: [Errno 104]"),
    ("end of the stream", lambda p: p.receive_eof(), C.ENDED_WITHOUT_CLOSE, None, "ended without a close frame"),
    ("gone", lambda p: p.lost(), C.ENDED_WITHOUT_CLOSE, None, "ended without a close frame"),
    ("aborted by us", lambda p: p.lost(by_us=True), C.WE_CLOSED, None, "we ended the connection"),
    ("reset behind their close", cut_behind_their_close, C.PEER_CLOSED, "peer", "received 1000 (OK)"),
    ("broken rule", lambda p: peer_sends(p, (0x3, b"")), C.PEER_BROKE_RULE, "we", "reserved opcode"),
    ("no UTF-8", lambda p: peer_sends(p, (TEXT, b"\xff")), C.PEER_BROKE_RULE, "we", "invalid UTF-8"),
    ("no UTF-8 in a close", lambda p: peer_closes(p, b"\x03\xe8\xff"), C.PEER_BROKE_RULE, "we", "not UTF-8"),
    ("continuation", lambda p: peer_sends(p, (CONT, b"")), C.PEER_BROKE_RULE, "we", "unexpected continuation"),
    ("too big", lambda p: peer_sends(p, (TEXT, b"x" * 1001)), C.OVER_LIMIT, "we", "1009"),
    ("we fail", lambda p: p.fail(1008, "enough"), C.WE_CLOSED, "we", "sent 1008 (policy violation) enough"),
    ("we fail, then the end", fail_then(lambda p: p.receive_eof()), C.WE_CLOSED, "we", "sent 1008"),
    ("we fail, then late", fail_then(late), C.WE_CLOSED, "we", "sent 1008"),
    ("extension", extension_fails, C.HANDLER_FAILED, "we", "no"),
    ("policy", lambda p: p.fail(1013, "slow", why=C.SLOW_CONSUMER), C.SLOW_CONSUMER, "we", "took too long to read"),
    ("silent", silent, C.PEER_SILENT, "we", "no close frame received: peer silent for 25.0 s"),
    ("stuck", stuck, C.WRITE_STUCK, "we", "network write stuck for 25.0 s"),
]  # fmt: skip


def protocol_for_tests() -> Protocol:
    options = Options(max_size=1000, ping_interval=20, ping_timeout=5, close_timeout=10)
    protocol = Protocol(server=True, options=options)
    protocol.tick(T)
    return protocol


@pytest.mark.parametrize(("end", "cause", "began", "text"), [one[1:] for one in CASES], ids=[one[0] for one in CASES])
def test_ways_to_the_end(end: Callable[[Protocol], object], cause: CloseCause, began: str | None, text: str) -> None:
    protocol = protocol_for_tests()
    end(protocol)
    protocol.lost(by_us=True)  # the adapter has closed the transport: that changes nothing
    error = protocol.closed()
    assert (error.cause, error.began) == (cause, began)
    assert text in str(error)
    assert isinstance(error, ConnectionClosedOK) is (
        {one.code for one in (error.rcvd, error.sent) if one} <= {1000, 1001} and None not in (error.rcvd, error.sent)
    )
    assert error.os_error is (RESET if "reset" in request_name(end) else None)
    assert (error.stalled is not None) is (cause in (CloseCause.PEER_SILENT, CloseCause.WRITE_STUCK))
    for double in (copy.copy(error), copy.deepcopy(error), pickle.loads(pickle.dumps(error))):
        assert (str(double), double.cause, double.began) == (str(error), cause, began)
        assert (double.stalled, double.last_activity, double.unsent) == (error.stalled, error.last_activity, 0)


def request_name(end: Callable[[Protocol], object]) -> str:
    return next(name for name, other, *_ in CASES if other is end)


def test_every_cause_has_a_way() -> None:
    assert {one[2] for one in CASES} == set(CloseCause)


@pytest.mark.parametrize(
    ("error", "cause", "began"),
    [
        (ConnectionClosed(None, None), CloseCause.ENDED_WITHOUT_CLOSE, None),
        (ConnectionClosed(Close(1000), None), CloseCause.PEER_CLOSED, "peer"),
        (ConnectionClosed(Close(1000), Close(1000), True), CloseCause.PEER_CLOSED, "peer"),
        (ConnectionClosed(None, Close(1000)), CloseCause.WE_CLOSED, "we"),
        (ConnectionClosed(Close(1000), Close(1000), False), CloseCause.WE_CLOSED, "we"),
    ],
)
def test_as_far_as_the_frames_tell(error: ConnectionClosed, cause: CloseCause, began: str | None) -> None:
    assert (error.cause, error.began) == (cause, began)
    assert (error.os_error, error.last_activity, error.unsent, error.stalled) == (None, None, 0, None)


def test_when_the_peer_was_last_heard() -> None:
    protocol = protocol_for_tests()
    protocol.tick(T + 3, heard_at=T + 2.5)
    protocol.ending.ended_at = T + 4
    protocol.lost()
    assert protocol.closed().last_activity == pytest.approx(1.5)


def test_what_was_never_sent() -> None:
    protocol = protocol_for_tests()
    protocol.send("four")
    assert protocol.unsent == 6
    protocol.ending.unsent = protocol.unsent
    protocol.lost(RESET)
    assert protocol.closed().unsent == 6


@pytest.mark.parametrize("kind", [ReservedOpcode, PayloadTooBig])
def test_a_failure_brings_its_cause(kind: type[ReservedOpcode] | type[PayloadTooBig]) -> None:
    protocol = protocol_for_tests()
    protocol.fail(1002, "", kind())
    assert protocol.closed().cause is kind.cause
