"""Timers with time as a number: keepalive, latency, closing. Nothing here waits and nothing reads a clock."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from websock.core.options import Options
from websock.core.protocol import LINGER_TIME, SETTLE_TIME, Protocol, State
from websock.exceptions import ConnectionClosedError, KeepaliveTimeout

from .frames import CLOSE, CODECS, PING, PONG, TEXT, frame, outcome, state_of

KEY = b"\x01\x02\x03\x04"
T = 1000.0


def protocol_with(server: bool = True, **options: float | None) -> Protocol:
    return Protocol(server=server, options=Options(**options))  # type: ignore[arg-type]


def pings(protocol: Protocol) -> list[bytes]:
    data = b"".join(protocol.outgoing())
    result = outcome(CODECS[0], [data], masked=protocol.masks, judge_close=False)
    return [payload for opcode, payload in result.controls if opcode == PING]


def pong(protocol: Protocol, payload: bytes) -> None:
    protocol.receive(frame(PONG, payload, key=None if protocol.masks else KEY))


def run(protocol: Protocol, start: float, until: float) -> list[tuple[float, int]]:
    """Tick as an adapter does, at the times that `tick` asks for; when pings went out."""
    went: list[tuple[float, int]] = []
    due: float | None = start
    calls = 0
    while due is not None and due <= until:
        now = due
        due = protocol.tick(now)
        calls += 1
        assert calls < 1000, "tick asks to be called again and again"
        assert due is None or due > now, "tick asks for the past"
        if count := len(pings(protocol)):
            went.append((now, count))
    return went


# Keepalive.


@pytest.mark.parametrize("server", [True, False])
@pytest.mark.parametrize(("interval", "timeout"), [(20, 20), (20, 5), (20, 60), (20, 0.001), (0.5, 20), (20, None)])
def test_a_silent_peer(server: bool, interval: float, timeout: float | None) -> None:
    protocol = protocol_with(server, ping_interval=interval, ping_timeout=timeout)
    went = run(protocol, T, T + interval * 4.5)
    if timeout is None:
        assert went == [(T + interval * i, 1) for i in (1, 2, 3, 4)]
        assert state_of(protocol) is State.OPEN
        return
    assert went == [(T + interval, 1)]  # while one is unanswered, a second would prove nothing
    died = T + interval + timeout
    if died <= T + interval * 4.5:
        assert state_of(protocol) is not State.OPEN
        error = protocol.closed()
        assert type(error) is ConnectionClosedError and type(error.__cause__) is KeepaliveTimeout
        assert error.sent is not None and error.sent.code == 1011
    else:
        assert state_of(protocol) is State.OPEN
        assert protocol.tick(died - 0.01) == died and state_of(protocol) is State.OPEN
        assert protocol.tick(died) is None
        assert state_of(protocol) is State.CLOSED


def test_the_moment_of_the_keepalive_timeout() -> None:
    protocol = protocol_with(ping_interval=20, ping_timeout=5)
    assert protocol.tick(T) == T + 20
    assert protocol.tick(T + 19.999) == T + 20 and not protocol.has_outgoing
    assert protocol.tick(T + 20) == T + 25 and len(pings(protocol)) == 1
    assert protocol.tick(T + 24.999) == T + 25 and not protocol.has_outgoing
    assert protocol.tick(T + 25) is None
    result = outcome(CODECS[0], [b"".join(protocol.outgoing())], masked=False)
    assert [(opcode, payload[:2]) for opcode, payload in result.controls] == [(CLOSE, b"\x03\xf3")]
    # Nothing is waited for: neither for the peer to read our Close nor for close_timeout.
    assert state_of(protocol) is State.CLOSED and protocol.wants_close and protocol.timed_out


@pytest.mark.parametrize(
    "life", [b"\x81", frame(TEXT, b"a", key=KEY), frame(PONG, b"?", key=KEY), frame(PING, key=KEY)]
)
@pytest.mark.parametrize(("interval", "timeout"), [(20, 20), (20, 5), (20, 60)])
def test_any_byte_counts_as_life(life: bytes, interval: float, timeout: float) -> None:
    protocol = protocol_with(ping_interval=interval, ping_timeout=timeout)
    protocol.tick(T)
    protocol.tick(T + interval)
    assert len(pings(protocol)) == 1
    protocol.receive(life)
    protocol.outgoing()
    assert protocol.tick(T + interval + timeout) is not None
    assert state_of(protocol) is State.OPEN
    later = T + interval + max(interval, timeout)
    protocol.tick(later)
    assert state_of(protocol) is State.OPEN


def test_life_before_the_ping_does_not_answer_it() -> None:
    protocol = protocol_with(ping_interval=20, ping_timeout=20)
    protocol.tick(T)
    protocol.receive(frame(TEXT, b"a", key=KEY))
    protocol.tick(T + 20)
    assert len(pings(protocol)) == 1
    protocol.tick(T + 40)
    assert state_of(protocol) is State.CLOSED


@pytest.mark.parametrize(("interval", "timeout"), [(20, 20), (20, 5), (20, 60), (20, None)])
def test_a_peer_that_answers_lives_for_ever(interval: float, timeout: float | None) -> None:
    protocol = protocol_with(ping_interval=interval, ping_timeout=timeout)
    now = T
    seen = 0
    due = protocol.tick(now)
    while now < T + 100 * interval:
        assert due is not None and due > now
        now = due
        due = protocol.tick(now)
        for payload in pings(protocol):
            seen += 1
            pong(protocol, payload)
            assert protocol.wants_tick
            due = protocol.tick(now + 0.001)
        assert state_of(protocol) is State.OPEN
    assert seen == 100


def test_no_keepalive() -> None:
    protocol = protocol_with(ping_interval=None)
    assert protocol.tick(T) is None and protocol.tick(T + 10**6) is None
    assert not protocol.has_outgoing and state_of(protocol) is State.OPEN


def test_a_tick_that_comes_late_sends_one_ping() -> None:
    protocol = protocol_with(ping_interval=20, ping_timeout=20)
    protocol.tick(T)
    assert protocol.tick(T + 1000) == T + 1020
    assert len(pings(protocol)) == 1 and state_of(protocol) is State.OPEN


def test_pings_that_nobody_answers_are_not_kept_for_ever() -> None:
    """A peer that sends data and never a Pong lives, as it should; it must not cost memory for each ping."""
    protocol = protocol_with(ping_interval=1, ping_timeout=1)
    now = T
    for _ in range(2000):
        protocol.tick(now)
        protocol.outgoing()
        protocol.receive(frame(TEXT, b"a", key=KEY))
        now += 1
    assert state_of(protocol) is State.OPEN
    assert len(protocol._pings) < 100


# Reading that we paused ourselves.


def test_a_pause_is_not_held_against_the_peer() -> None:
    protocol = protocol_with(ping_interval=20, ping_timeout=5)
    protocol.tick(T)
    protocol.tick(T + 20)
    protocol.pause(T + 21)
    for now in (T + 25, T + 30, T + 1000):
        protocol.tick(now)
        assert state_of(protocol) is State.OPEN
    protocol.resume(T + 1000)
    assert protocol.wants_tick
    due = protocol.tick(T + 1000)
    assert state_of(protocol) is State.OPEN and due == pytest.approx(T + 1004)  # of 5 seconds one was over
    assert due is not None
    protocol.tick(due)
    assert state_of(protocol) is State.CLOSED


def test_life_after_a_pause() -> None:
    protocol = protocol_with(ping_interval=20, ping_timeout=5)
    protocol.tick(T)
    protocol.tick(T + 20)
    protocol.pause(T + 20)
    protocol.tick(T + 500)
    protocol.resume(T + 500)
    protocol.receive(frame(TEXT, b"a", key=KEY))
    protocol.outgoing()
    due = protocol.tick(T + 500)
    assert state_of(protocol) is State.OPEN and len(pings(protocol)) == 1
    assert due == T + 505


def test_pausing_twice_and_resuming_twice() -> None:
    protocol = protocol_with(ping_interval=20, ping_timeout=5)
    protocol.tick(T)
    protocol.tick(T + 20)
    protocol.pause(T + 21)
    protocol.pause(T + 23)
    protocol.resume(T + 31)
    protocol.resume(T + 99)
    assert protocol.tick(T + 31) == T + 35


def test_a_ping_sent_during_a_pause_gets_its_whole_time() -> None:
    protocol = protocol_with(ping_interval=20, ping_timeout=5)
    protocol.tick(T)
    protocol.pause(T + 1)
    run(protocol, T + 20, T + 300)
    assert state_of(protocol) is State.OPEN
    protocol.resume(T + 300)
    protocol.tick(T + 300)
    assert protocol.tick(T + 304.9) is not None and state_of(protocol) is State.OPEN


@given(
    interval=st.sampled_from([1.0, 5.0, 20.0, None]),
    timeout=st.sampled_from([0.5, 1.0, 5.0, 20.0, 60.0, None]),
    steps=st.lists(
        st.tuples(st.sampled_from(["wait", "late", "byte", "pong", "pause", "resume"]), st.floats(0.01, 50)),
        max_size=40,
    ),
)
def test_a_peer_is_given_up_only_for_its_own_silence(
    interval: float | None, timeout: float | None, steps: list[tuple[str, float]]
) -> None:
    """Never while it speaks or while we do not read; and no later than interval + timeout of silence."""
    protocol = protocol_with(ping_interval=interval, ping_timeout=timeout)
    now = T
    due = protocol.tick(now)
    silence = 0.0  # since the last byte, without the time in which we did not read
    paused = False

    def go(until: float) -> None:
        nonlocal now, silence
        silence += 0.0 if paused else until - now
        now = until

    for what, seconds in steps:
        if what == "wait":  # as an adapter does: tick at each deadline
            end = now + seconds
            while due is not None and due <= end and protocol.state is State.OPEN:
                go(max(now, due))
                due = protocol.tick(now)
            if protocol.state is State.OPEN:
                go(end)
        elif what == "late":  # a loop that was busy
            go(now + seconds)
            due = protocol.tick(now)
        elif what == "pause":
            protocol.pause(now)
            paused = True
        elif what == "resume" and paused:
            protocol.resume(now)
            paused = False
            due = protocol.tick(now)
        elif what in ("byte", "pong") and not paused:
            payloads = pings(protocol)
            if what == "byte" or not payloads:
                protocol.receive(frame(TEXT, b"a", key=KEY))
            else:
                pong(protocol, payloads[-1])
            silence = 0.0
            due = protocol.tick(now)
        if state_of(protocol) is not State.OPEN:
            assert interval is not None and timeout is not None and not paused
            assert silence >= timeout - 1e-6
            return
    if interval is not None and timeout is not None and not paused:
        run(protocol, now, now + 1000)
        assert protocol.state is State.CLOSED


# Latency.


def test_latency() -> None:
    protocol = protocol_with(ping_interval=20, ping_timeout=20)
    assert protocol.latency == 0.0
    protocol.tick(T)
    protocol.tick(T + 20)
    (payload,) = pings(protocol)
    protocol.wants_tick = False
    pong(protocol, b"another")
    assert not protocol.wants_tick
    pong(protocol, payload)
    assert protocol.wants_tick
    protocol.tick(T + 20.25)
    assert protocol.latency == pytest.approx(0.25) and not protocol.wants_tick
    protocol.tick(T + 39)
    assert protocol.latency == pytest.approx(0.25)


def test_latency_of_a_ping_answered_by_a_later_one() -> None:
    protocol = protocol_with(ping_interval=20, ping_timeout=None)
    protocol.tick(T)
    protocol.tick(T + 20)
    protocol.ping(b"mine")
    pings(protocol)
    pong(protocol, b"mine")
    protocol.tick(T + 20.5)
    assert protocol.latency == pytest.approx(0.5)


# Closing.


@pytest.mark.parametrize("server", [True, False])
@pytest.mark.parametrize("timeout", [0, 0.5, 10, None])
def test_a_peer_that_does_not_answer_our_close(server: bool, timeout: float | None) -> None:
    protocol = protocol_with(server, close_timeout=timeout, ping_interval=20)
    protocol.tick(T)
    protocol.close()
    assert protocol.wants_tick
    due = protocol.tick(T + 1)
    if timeout is None:
        assert due is None and protocol.tick(T + 10**6) is None and state_of(protocol) is State.CLOSE_SENT
        return
    if timeout:
        assert due == T + 1 + timeout and state_of(protocol) is State.CLOSE_SENT and not protocol.timed_out
        protocol.receive(frame(TEXT, b"still talking", key=KEY if server else None))
        assert protocol.tick(T + 1 + timeout / 2) == T + 1 + timeout
        due = protocol.tick(T + 1 + timeout)
    assert due is None and state_of(protocol) is State.CLOSED and protocol.wants_close and protocol.timed_out
    error = protocol.closed()
    assert isinstance(error.__cause__, TimeoutError)
    assert str(error) == f"sent 1000 (OK); no close frame received: no close frame received within {timeout} s"


def test_a_client_waits_for_the_server_to_close_tcp() -> None:
    """RFC 6455 section 7.1.1; and no longer than close_timeout."""
    protocol = protocol_with(False, close_timeout=10)
    protocol.tick(T)
    protocol.receive(frame(CLOSE, b"\x03\xe8"))
    protocol.settle()
    assert not protocol.wants_close
    assert protocol.tick(T) == T + 10
    assert protocol.tick(T + 10) is None
    assert protocol.wants_close and state_of(protocol) is State.CLOSED
    assert protocol.closed().__cause__ is None and "1000 (OK)" in str(protocol.closed())


def test_close_time_counts_from_our_close() -> None:
    protocol = protocol_with(False, close_timeout=10)
    protocol.tick(T)
    protocol.close()
    protocol.tick(T)
    protocol.receive(frame(CLOSE, b"\x03\xe8"))
    assert protocol.tick(T + 9) == T + 10


@pytest.mark.parametrize("timeout", [0, 0.5, LINGER_TIME, 10, None])
def test_a_failed_connection_lingers_shortly(timeout: float | None) -> None:
    protocol = protocol_with(close_timeout=timeout)
    protocol.tick(T)
    protocol.receive(frame(0x3, key=KEY))
    protocol.settle()
    assert protocol.wants_eof and not protocol.wants_close
    expected = LINGER_TIME if timeout is None else min(timeout, LINGER_TIME)
    if expected:
        assert protocol.tick(T) == T + expected
        assert state_of(protocol) is State.ENDING
    assert protocol.tick(T + expected) is None
    assert protocol.wants_close and state_of(protocol) is State.CLOSED


def test_a_failure_while_closing_shortens_the_time() -> None:
    protocol = protocol_with(close_timeout=10)
    protocol.close()
    assert protocol.tick(T) == T + 10
    protocol.receive(frame(0x3, key=KEY))
    assert protocol.tick(T + 1) == T + 1 + LINGER_TIME
    protocol = protocol_with(close_timeout=10)
    protocol.close()
    protocol.tick(T)
    protocol.receive(frame(0x3, key=KEY))
    assert protocol.tick(T + 9.9) == T + 10  # and never lengthens it


def test_no_pings_while_closing() -> None:
    protocol = protocol_with(ping_interval=1, close_timeout=100)
    protocol.tick(T)
    protocol.close()
    protocol.outgoing()
    for second in range(90):
        protocol.tick(T + second)
    assert not protocol.has_outgoing


def test_no_keepalive_timeout_while_something_waits_to_be_settled() -> None:
    protocol = protocol_with(ping_interval=20, ping_timeout=0.5)
    protocol.tick(T)
    protocol.tick(T + 20)
    protocol.receive(frame(CLOSE, b"\x03\xe8", key=KEY))
    assert protocol.tick(T + 20.6) == T + 20.6 + SETTLE_TIME
    protocol.tick(T + 20.6 + SETTLE_TIME)
    assert protocol.close_received is not None and protocol.closed().__cause__ is None


def test_closed_needs_no_tick() -> None:
    protocol = protocol_with()
    protocol.tick(T)
    protocol.lost()
    assert protocol.tick(T + 1) is None and protocol.tick(T + 10**6) is None
    assert not protocol.has_outgoing
