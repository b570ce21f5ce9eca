"""An open connection by hand: messages, control frames, closing, failing (RFC 6455 sections 5 to 7)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from websock.core.options import Options
from websock.core.protocol import MAX_PONGS, SETTLE_TIME, Protocol, State
from websock.exceptions import (
    ConcurrencyError,
    ConnectionClosed,
    ConnectionClosedError,
    ConnectionClosedOK,
    InvalidClose,
    InvalidUTF8,
    PayloadTooBig,
    ReservedOpcode,
)
from websock.frames import Close

from .frames import BINARY, CLOSE, CODECS, CONT, PING, PONG, TEXT, frame, header, outcome, state_of
from .peers import ROLES, from_peer, sent, take

# Receiving.


@ROLES
def test_messages_come_out(server: bool) -> None:
    protocol = Protocol(server=server)
    data = from_peer(protocol, TEXT, b"one") + from_peer(protocol, BINARY, b"two")
    assert protocol.receive(data[:4]) == []
    assert protocol.receive(data[4:]) == ["one", b"two"]
    assert not protocol.has_outgoing and protocol.outgoing() == []


@ROLES
def test_masks_are_what_the_role_asks_for(server: bool) -> None:
    protocol = Protocol(server=server)
    assert protocol.masks != server
    protocol.send("a")
    protocol.send_part(b"b", last=False)
    protocol.ping(b"")
    protocol.pong()
    protocol.send_part(b"", last=True)
    protocol.close()
    for buffer in protocol.outgoing():
        assert bool(bytes(buffer)[1] & 0x80) != server


@ROLES
def test_options_reach_the_decoder(server: bool) -> None:
    protocol = Protocol(server=server, options=Options(max_size=5), subprotocol="chat")
    assert protocol.subprotocol == "chat"
    assert protocol.receive(from_peer(protocol, TEXT, b"12345")) == ["12345"]
    assert protocol.receive(from_peer(protocol, TEXT, b"123456")) == []
    assert isinstance(protocol.unsettled, PayloadTooBig)


@ROLES
def test_receive_never_raises(server: bool) -> None:
    for first in range(256):
        for second in (0, 0x80, 5, 0x85, 0x7E, 0xFE, 0x7F, 0xFF):
            protocol = Protocol(server=server)
            assert isinstance(protocol.receive(bytes((first, second)) + bytes(20)), list)
            protocol.settle()
            assert protocol.receive(b"anything") == [] or state_of(protocol) is State.OPEN


# Pings of the peer.


@ROLES
def test_a_ping_is_answered_with_its_payload(server: bool) -> None:
    protocol = Protocol(server=server)
    protocol.receive(
        from_peer(protocol, PING, b"x" * 125) + from_peer(protocol, PING, b"") + from_peer(protocol, PONG, b"?")
    )
    assert sent(protocol) == ([], [(PONG, b"x" * 125), (PONG, b"")])


@ROLES
def test_answers_stand_between_our_messages(server: bool) -> None:
    protocol = Protocol(server=server)
    protocol.send_part("a", last=False)
    protocol.receive(from_peer(protocol, PING, b"x"))
    protocol.send_part("b", last=True)
    assert sent(protocol) == (["ab"], [(PONG, b"x")])


@ROLES
def test_pongs_that_wait_coalesce(server: bool) -> None:
    """RFC 6455 section 5.5.3: it may answer only the most recent one."""
    protocol = Protocol(server=server)
    for i in range(10_000):
        protocol.receive(from_peer(protocol, PING, b"%05d" % i * (i % 25 + 1)))
        assert protocol.queued <= MAX_PONGS * 131
        if i % 1000 == 0:
            protocol.send("between")
    size = sum(map(len, protocol.outgoing()))
    assert size <= MAX_PONGS * 131 + 10 * 22
    assert protocol.queued == 0


@ROLES
def test_the_last_ping_is_always_answered(server: bool) -> None:
    protocol = Protocol(server=server)
    for i in range(100):
        protocol.receive(from_peer(protocol, PING, b"%d" % i))
    _, pongs = sent(protocol)
    assert pongs == [(PONG, b"%d" % i) for i in [*range(MAX_PONGS - 1), 99]]
    for i in range(3):  # after writing, it begins anew
        protocol.receive(from_peer(protocol, PING, b"%d" % i))
    assert sent(protocol)[1] == [(PONG, b"0"), (PONG, b"1"), (PONG, b"2")]


@ROLES
def test_coalescing_touches_nothing_but_pongs(server: bool) -> None:
    protocol = Protocol(server=server)
    for i in range(MAX_PONGS):
        protocol.receive(from_peer(protocol, PING, b"%d" % i))
        protocol.send(f"message {i}")
    protocol.receive(from_peer(protocol, PING, b"last") + from_peer(protocol, PING, b"very last"))
    messages, pongs = sent(protocol)
    assert messages == [f"message {i}" for i in range(MAX_PONGS)]
    assert pongs == [(PONG, b"%d" % i) for i in range(MAX_PONGS - 1)] + [(PONG, b"very last")]


# Our pings.


@ROLES
def test_a_pong_answers_its_ping_and_all_before(server: bool) -> None:
    protocol = Protocol(server=server)
    log: list[str] = []
    for name in "abcd":
        protocol.ping(name, lambda name=name: log.append(name))  # type: ignore[misc]
    assert sent(protocol)[1] == [(PING, name.encode()) for name in "abcd"]
    protocol.receive(from_peer(protocol, PONG, b"unsolicited"))
    assert log == []
    protocol.receive(from_peer(protocol, PONG, b"c"))
    assert log == ["a", "b", "c"]
    protocol.receive(from_peer(protocol, PONG, b"a") + from_peer(protocol, PONG, b"c"))
    assert log == ["a", "b", "c"]
    protocol.receive(from_peer(protocol, PONG, b"d"))
    assert log == ["a", "b", "c", "d"]


def test_ping_payloads() -> None:
    protocol = Protocol(server=True)
    for payload in ("é", b"b", bytearray(b"c"), memoryview(b"d"), b"", b"x" * 125):
        protocol.ping(payload)
    assert [p for _, p in sent(protocol)[1]] == ["é".encode(), b"b", b"c", b"d", b"", b"x" * 125]
    with pytest.raises(ConcurrencyError):
        protocol.ping(b"b")
    for bad in (b"x" * 126, "é" * 63):
        with pytest.raises(ValueError, match="126"):
            protocol.ping(bad)
        with pytest.raises(ValueError, match="126"):
            protocol.pong(bad)
    for wrong in (1, 1.5, ["x"]):
        with pytest.raises(TypeError):
            protocol.ping(wrong)  # type: ignore[arg-type]
        with pytest.raises(TypeError):
            protocol.pong(wrong)  # type: ignore[arg-type]
    protocol.receive(from_peer(protocol, PONG, b"b"))
    protocol.ping(b"b")
    assert not protocol.receive(b"") and sent(protocol)[1] == [(PING, b"b")]


def test_own_payloads_differ() -> None:
    protocol = Protocol(server=True)
    for _ in range(1000):
        protocol.ping()
    payloads = [payload for _, payload in sent(protocol)[1]]
    assert len(set(payloads)) == 1000


def test_a_repeated_payload_of_urandom_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    draws = iter([b"aaaa", b"aaaa", b"aaaa", b"bbbb"])
    monkeypatch.setattr("websock.core.protocol.os.urandom", lambda _: next(draws))
    protocol = Protocol(server=True)
    protocol.ping()
    protocol.ping()
    assert sent(protocol)[1] == [(PING, b"aaaa"), (PING, b"bbbb")]


# Closing.


@ROLES
def test_we_close_first(server: bool) -> None:
    protocol = Protocol(server=server)
    protocol.close(1001, "bye")
    assert state_of(protocol) is State.CLOSE_SENT and protocol.close_sent == Close(1001, "bye")
    assert sent(protocol) == ([], [(CLOSE, b"\x03\xe9bye")])
    assert protocol.receive(from_peer(protocol, TEXT, b"late")) == ["late"]
    assert protocol.receive(from_peer(protocol, PING, b"not answered")) == [] and not protocol.has_outgoing
    assert not protocol.wants_close
    protocol.receive(from_peer(protocol, CLOSE, b"\x03\xe9bye"))
    assert state_of(protocol) is State.ENDING and not protocol.has_outgoing
    assert protocol.wants_close == server  # RFC 6455 section 7.1.1
    protocol.receive_eof()
    assert state_of(protocol) is State.CLOSED and protocol.wants_close
    error = protocol.closed()
    assert type(error) is ConnectionClosedOK and error.rcvd_then_sent is False
    assert str(error) == "sent 1001 (going away) bye; then received 1001 (going away) bye"
    assert error.__cause__ is None


@ROLES
def test_the_peer_closes_first(server: bool) -> None:
    protocol = Protocol(server=server)
    assert protocol.receive(from_peer(protocol, TEXT, b"a") + from_peer(protocol, CLOSE, b"\x0b\xb8why")) == ["a"]
    assert protocol.unsettled == Close(3000, "why") and protocol.wants_tick
    assert state_of(protocol) is State.OPEN and not protocol.has_outgoing
    protocol.send("answer")
    protocol.settle()
    assert protocol.unsettled is None
    assert state_of(protocol) is State.ENDING and protocol.close_received == protocol.close_sent == Close(3000, "why")
    assert sent(protocol) == (["answer"], [(CLOSE, b"\x0b\xb8why")])
    assert protocol.wants_close == server
    protocol.settle()
    protocol.receive_eof()
    assert state_of(protocol) is State.CLOSED and not protocol.has_outgoing
    error = protocol.closed()
    assert type(error) is ConnectionClosedError and error.rcvd_then_sent is True
    assert str(error) == "received 3000 (registered) why; then sent 3000 (registered) why"
    assert (error.code, error.reason) == (3000, "why")


@ROLES
@pytest.mark.parametrize(
    ("payload", "close"), [(b"", Close(1005)), (b"\x03\xe8", Close(1000)), (b"\x03\xf6x", Close(1014, "x"))]
)
def test_the_echo(server: bool, payload: bytes, close: Close) -> None:
    protocol = Protocol(server=server)
    protocol.receive(from_peer(protocol, CLOSE, payload))
    protocol.settle()
    assert protocol.close_received == protocol.close_sent == close
    assert sent(protocol) == ([], [(CLOSE, payload)])


@ROLES
def test_a_second_close_is_ignored(server: bool) -> None:
    protocol = Protocol(server=server)
    first, second = (from_peer(protocol, CLOSE, p) for p in (b"\x03\xe8", b"\x03\xe9"))
    assert protocol.receive(first + second) == []
    assert protocol.receive(second) == []
    protocol.settle()
    protocol.receive(second + from_peer(protocol, TEXT, b"late") + from_peer(protocol, PING))
    protocol.settle()
    assert protocol.close_received == Close(1000) and sent(protocol) == ([], [(CLOSE, b"\x03\xe8")])


@ROLES
def test_closing_again_does_nothing(server: bool) -> None:
    protocol = Protocol(server=server)
    protocol.close(1000)
    protocol.close(1001, "other")
    assert sent(protocol) == ([], [(CLOSE, b"\x03\xe8")]) and protocol.close_sent == Close(1000)
    protocol.receive(from_peer(protocol, CLOSE, b"\x03\xe8"))
    protocol.close(1001)
    protocol.receive_eof()
    protocol.close(1001)
    protocol.receive_eof()
    protocol.lost(OSError("too late"))
    assert not protocol.has_outgoing and protocol.close_sent == Close(1000)


@ROLES
def test_our_close_answers_one_that_waits(server: bool) -> None:
    protocol = Protocol(server=server)
    protocol.receive(from_peer(protocol, CLOSE, b"\x03\xe9"))
    protocol.close(1000, "mine")
    assert sent(protocol) == ([], [(CLOSE, b"\x03\xe9")])
    assert protocol.closed().rcvd_then_sent is True


@ROLES
def test_a_close_between_fragments(server: bool) -> None:
    """Theirs is answered normally, and ours ends a message in parts with what waits behind it."""
    protocol = Protocol(server=server)
    protocol.receive(from_peer(protocol, TEXT, b"begun", fin=False) + from_peer(protocol, CLOSE, b"\x03\xe8"))
    protocol.settle()
    assert sent(protocol) == ([], [(CLOSE, b"\x03\xe8")])
    protocol = Protocol(server=server)
    protocol.send_part("begun", last=False)
    protocol.send("held")
    protocol.close()
    assert sent(protocol) == ([], [(CLOSE, b"\x03\xe8")])


@pytest.mark.parametrize("code", [0, 999, 1004, 1006, 1015, 1016, 2999, 5000, 65536, -1])
def test_codes_that_may_not_be_sent(code: int) -> None:
    for protocol in (Protocol(server=True), Protocol(server=False)):
        for method in (protocol.close, protocol.fail):
            with pytest.raises(ValueError, match="may not be sent"):
                method(code)
        assert state_of(protocol) is State.OPEN and not protocol.has_outgoing


def test_a_reason_that_is_too_long() -> None:
    protocol = Protocol(server=True)
    for method in (protocol.close, protocol.fail):
        with pytest.raises(ValueError, match="124 octets"):
            method(1000, "é" * 62)
    assert state_of(protocol) is State.OPEN
    protocol.close(1000, "é" * 61 + "x")
    assert len(sent(protocol)[1][0][1]) == 125


@pytest.mark.parametrize("arguments", [(1000, b"bytes"), (1000, None), ("1000",), (None,), (1000.0,)])
def test_close_takes_a_number_and_a_str(arguments: tuple[Any, ...]) -> None:
    protocol = Protocol(server=True)
    with pytest.raises((TypeError, ValueError)):
        protocol.close(*arguments)
    assert state_of(protocol) is State.OPEN and not protocol.has_outgoing


# Failing.


@ROLES
@pytest.mark.parametrize(
    ("bad", "code", "kind"),
    [
        (lambda p: from_peer(p, 0x3), 1002, ReservedOpcode),
        (lambda p: from_peer(p, TEXT, b"\xff"), 1007, InvalidUTF8),
        (lambda p: from_peer(p, CLOSE, b"\x03"), 1002, InvalidClose),
        (lambda p: from_peer(p, CLOSE, b"\x03\xed"), 1002, InvalidClose),
        (lambda p: from_peer(p, CLOSE, b"\x03\xe8\xff"), 1007, InvalidUTF8),
        (lambda p: header(BINARY, 2**30, mask=not p.masks), 1009, PayloadTooBig),
    ],
)
def test_a_good_message_and_a_bad_frame_in_one_read(
    server: bool, bad: Callable[[Protocol], bytes], code: int, kind: type[Exception]
) -> None:
    """The message is answered before the Close goes out; the Ping behind the bad frame is not (Autobahn 3.2, 4.1.3)."""
    protocol = Protocol(server=server)
    data = from_peer(protocol, PING, b"before") + from_peer(protocol, TEXT, b"good") + bad(protocol)
    assert protocol.receive(data + from_peer(protocol, PING, b"behind") + from_peer(protocol, TEXT, b"behind")) == [
        "good"
    ]
    assert sent(protocol) == ([], [(PONG, b"before")])
    assert type(protocol.unsettled) is kind and state_of(protocol) is State.OPEN and protocol.wants_tick
    assert not protocol.wants_close and not protocol.wants_eof
    protocol.send("answer")
    protocol.settle()
    messages, controls = sent(protocol)
    assert messages == ["answer"]
    ((opcode, payload),) = controls
    assert opcode == CLOSE and int.from_bytes(payload[:2], "big") == code and payload[2:]
    assert state_of(protocol) is State.ENDING and protocol.wants_eof and protocol.unsettled is None
    assert protocol.receive(from_peer(protocol, TEXT, b"late")) == [] and not protocol.has_outgoing
    with pytest.raises(ConnectionClosedError) as info:
        protocol.send("late")
    assert type(info.value.__cause__) is kind
    assert info.value.sent is not None and info.value.sent.code == code and info.value.rcvd is None
    assert str(info.value).startswith(f"sent {code} (")
    protocol.receive_eof()
    assert protocol.wants_close and state_of(protocol) is State.CLOSED


@ROLES
def test_a_failure_acts_by_itself_after_a_time(server: bool) -> None:
    protocol = Protocol(server=server)
    protocol.tick(100.0)
    protocol.receive(from_peer(protocol, TEXT, b"good") + from_peer(protocol, 0x3))
    assert protocol.wants_tick
    assert protocol.tick(100.5) == 100.5 + SETTLE_TIME
    assert protocol.tick(100.5 + SETTLE_TIME - 0.001) == 100.5 + SETTLE_TIME
    assert not protocol.has_outgoing and state_of(protocol) is State.OPEN
    protocol.tick(100.5 + SETTLE_TIME)
    assert state_of(protocol) is State.ENDING
    assert sent(protocol)[1][0][1][:2] == b"\x03\xea"


@ROLES
def test_a_close_acts_by_itself_after_a_time(server: bool) -> None:
    protocol = Protocol(server=server)
    protocol.receive(from_peer(protocol, TEXT, b"good") + from_peer(protocol, CLOSE, b"\x03\xe8"))
    assert protocol.tick(7) == 7 + SETTLE_TIME
    protocol.tick(7 + SETTLE_TIME)
    assert sent(protocol) == ([], [(CLOSE, b"\x03\xe8")]) and state_of(protocol) is State.ENDING


@ROLES
def test_after_our_close_nothing_waits_to_be_settled(server: bool) -> None:
    for behind, cause in ((CLOSE, type(None)), (0x3, ReservedOpcode)):
        protocol = Protocol(server=server)
        protocol.close()
        take(protocol)
        assert protocol.receive(from_peer(protocol, TEXT, b"good") + from_peer(protocol, behind)) == ["good"]
        assert state_of(protocol) is State.ENDING and protocol.unsettled is None
        assert not protocol.has_outgoing  # RFC 6455 section 5.5.1: nothing after a Close, a second Close neither
        assert type(protocol.closed().__cause__) is cause


@ROLES
def test_fail(server: bool) -> None:
    protocol = Protocol(server=server)
    cause = RuntimeError("the handler broke")
    protocol.fail(1011, "internal error", cause)
    protocol.fail(1008)
    assert sent(protocol) == ([], [(CLOSE, b"\x03\xf3internal error")])
    assert state_of(protocol) is State.ENDING and protocol.wants_eof
    assert protocol.receive(from_peer(protocol, TEXT, b"ignored")) == []
    error = protocol.closed()
    assert type(error) is ConnectionClosedError and error.__cause__ is cause
    assert str(error) == "sent 1011 (internal error) internal error; no close frame received: the handler broke"
    protocol.receive_eof()
    assert state_of(protocol) is State.CLOSED


def test_fail_without_a_cause_names_none() -> None:
    """We gave up: that no Close came back is not why."""
    protocol = Protocol(server=True)
    protocol.fail(1008, "policy")
    for now in (0, 100, 200):
        protocol.tick(now)
    assert state_of(protocol) is State.CLOSED
    assert str(protocol.closed()) == "sent 1008 (policy violation) policy; no close frame received"


@ROLES
def test_fail_when_a_close_waits_is_a_close(server: bool) -> None:
    protocol = Protocol(server=server)
    protocol.receive(from_peer(protocol, CLOSE, b"\x03\xe8"))
    protocol.fail(1011)
    assert sent(protocol) == ([], [(CLOSE, b"\x03\xe8")]) and not protocol.wants_eof


def test_fail_after_our_close_sends_nothing() -> None:
    protocol = Protocol(server=True)
    protocol.close()
    take(protocol)
    protocol.fail(1011)
    assert not protocol.has_outgoing and protocol.wants_eof and protocol.close_sent == Close(1000)


def test_fail_inside_on_pong() -> None:
    """A callback may do anything to the protocol that calls it."""
    protocol = Protocol(server=True)
    protocol.ping(b"x", lambda: protocol.fail(1008))
    assert protocol.receive(from_peer(protocol, PONG, b"x") + from_peer(protocol, TEXT, b"late")) == ["late"]
    assert state_of(protocol) is State.ENDING


# The end of the transport.


@ROLES
def test_eof_without_a_close(server: bool) -> None:
    protocol = Protocol(server=server)
    protocol.receive_eof()
    assert state_of(protocol) is State.CLOSED and protocol.wants_close and not protocol.has_outgoing
    error = protocol.closed()
    assert type(error) is ConnectionClosedError and (error.code, error.reason) == (1006, "")
    assert str(error).startswith("no close frame received or sent")
    assert error.__cause__ is not None, "a bare 1006 without a cause is a bug (DESIGN.md, principle 10)"


@ROLES
def test_an_error_of_the_transport_is_the_cause(server: bool) -> None:
    cause = ConnectionResetError("reset")
    protocol = Protocol(server=server)
    protocol.lost(cause)
    error = protocol.closed()
    assert error.__cause__ is cause and str(error) == "no close frame received or sent: reset"
    protocol = Protocol(server=server)
    protocol.close(1000)
    protocol.lost(cause)
    assert str(protocol.closed()) == "sent 1000 (OK); no close frame received: reset"
    protocol = Protocol(server=server)
    protocol.receive(from_peer(protocol, CLOSE, b"\x03\xe8"))
    protocol.lost(cause)
    assert protocol.close_received == Close(1000) and state_of(protocol) is State.CLOSED


@ROLES
def test_an_error_after_both_closes_changes_nothing(server: bool) -> None:
    """Some peers reset the connection once they have our Close: it was closed as agreed."""
    protocol = Protocol(server=server)
    protocol.close(1000)
    protocol.receive(from_peer(protocol, CLOSE, b"\x03\xe8"))
    protocol.lost(ConnectionResetError("reset"))
    error = protocol.closed()
    assert type(error) is ConnectionClosedOK
    assert error.__cause__ is None and str(error) == "sent 1000 (OK); then received 1000 (OK)"


@ROLES
def test_eof_leaves_time_for_answers(server: bool) -> None:
    """The peer shut down its direction behind its Close, and may still read."""
    protocol = Protocol(server=server)
    protocol.receive(from_peer(protocol, TEXT, b"a") + from_peer(protocol, CLOSE, b"\x03\xe8"))
    protocol.receive_eof()
    assert state_of(protocol) is State.OPEN and not protocol.wants_close
    protocol.send("answer")
    protocol.settle()
    assert state_of(protocol) is State.CLOSED and protocol.wants_close
    assert sent(protocol) == (["answer"], [(CLOSE, b"\x03\xe8")])
    assert type(protocol.closed()) is ConnectionClosedOK


@ROLES
def test_eof_behind_a_failure(server: bool) -> None:
    protocol = Protocol(server=server)
    protocol.receive(from_peer(protocol, TEXT, b"a") + from_peer(protocol, 0x3))
    protocol.receive_eof()
    assert state_of(protocol) is State.OPEN
    protocol.tick(1)
    protocol.tick(1 + SETTLE_TIME)
    assert state_of(protocol) is State.CLOSED
    assert type(protocol.closed().__cause__) is ReservedOpcode


# What every state allows.


def in_state(state: State, server: bool) -> Protocol:
    protocol = Protocol(server=server)
    if state is State.CLOSE_SENT:
        protocol.close()
    elif state is State.ENDING:
        protocol.fail(1011)
    elif state is State.CLOSED:
        protocol.lost()
    assert protocol.state is state
    take(protocol)
    return protocol


@ROLES
@pytest.mark.parametrize("state", [State.CLOSE_SENT, State.ENDING, State.CLOSED])
@pytest.mark.parametrize(
    "call",
    [
        lambda p: p.send("a"),
        lambda p: p.send(b"a"),
        lambda p: p.send_part("a", last=False),
        lambda p: p.send_encoded((b"\x81\x00",)),
        lambda p: p.ping(),
        lambda p: p.pong(),
    ],
)
def test_nothing_is_sent_after_a_close(server: bool, state: State, call: Callable[[Protocol], None]) -> None:
    protocol = in_state(state, server)
    with pytest.raises(ConnectionClosed):
        call(protocol)
    assert not protocol.has_outgoing and protocol.state is state


@ROLES
@pytest.mark.parametrize("state", [State.OPEN, State.CLOSE_SENT, State.ENDING, State.CLOSED])
def test_every_call_in_every_state(server: bool, state: State) -> None:
    """Whatever an adapter calls, and in which order: nothing raises, and the state only goes forward."""
    calls: dict[str, Callable[[Protocol], object]] = {
        "receive": lambda p: p.receive(from_peer(p, TEXT, b"a")),
        "close frame": lambda p: p.receive(from_peer(p, CLOSE, b"\x03\xe8")),
        "bad frame": lambda p: p.receive(from_peer(p, 0x3)),
        "settle": lambda p: p.settle(),
        "eof": lambda p: p.receive_eof(),
        "lost": lambda p: p.lost(OSError("x")),
        "close": lambda p: p.close(),
        "fail": lambda p: p.fail(1011),
        "tick": lambda p: p.tick(10.0**6),
        "tick again": lambda p: p.tick(2 * 10.0**6),
        "pause": lambda p: p.pause(5.0),
        "resume": lambda p: p.resume(6.0),
        "stream": lambda p: p.stream(True),
        "closed": lambda p: p.closed(),
    }
    for first in calls:
        for second in calls:
            for third in calls:
                protocol = in_state(state, server)
                for name in (first, second, third):
                    before = protocol.state
                    calls[name](protocol)
                    assert protocol.state >= before, (first, second, third)
                protocol.lost()
                assert state_of(protocol) is State.CLOSED and protocol.wants_close
                frames = outcome(CODECS[0], [take(protocol)], masked=protocol.masks)
                assert sum(opcode == CLOSE for opcode, _ in frames.controls) <= 1


@pytest.mark.parametrize(
    ("ours", "theirs", "kind"),
    [
        (1000, b"\x03\xe8", ConnectionClosedOK),
        (1001, b"\x03\xe8", ConnectionClosedOK),
        (1000, b"", ConnectionClosedOK),
        (1005, b"\x03\xe9", ConnectionClosedOK),
        (1000, b"\x03\xea", ConnectionClosedError),
        (1011, b"\x03\xe8", ConnectionClosedError),
        (3000, b"\x0b\xb8", ConnectionClosedError),
    ],
)
def test_ok_or_error(ours: int, theirs: bytes, kind: type[ConnectionClosed]) -> None:
    protocol = Protocol(server=True)
    protocol.close(ours)
    assert type(protocol.closed()) is ConnectionClosedError  # half of a closing handshake is none
    protocol.receive(from_peer(protocol, CLOSE, theirs))
    assert type(protocol.closed()) is kind


def test_closed_while_open() -> None:
    assert str(Protocol(server=True).closed()) == "no close frame received or sent"


def test_parts_in_and_out() -> None:
    server, client = Protocol(server=True), Protocol(server=False)
    client.send_part("a", last=False)
    server.receive(take(client))
    part = server.stream(True)
    assert part is not None and (part.data, part.last) == ("a", False)
    client.send_part("b", last=True)
    client.send("whole")
    first, second = server.receive(take(client))
    assert (first.data, first.last, second) == ("b", True, "whole")  # type: ignore[union-attr]


def test_continuation_frames_of_ours() -> None:
    protocol = Protocol(server=True)
    protocol.send_part("a", last=False)
    protocol.send_part("b", last=True)
    assert take(protocol) == frame(TEXT, b"a", fin=False) + frame(CONT, b"b")
