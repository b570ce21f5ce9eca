"""Keepalive that knows who stalled: our lateness, our writing, and the peer's silence, with time as a number."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from websock.core.keepalive import GRACE, GRACES
from websock.core.options import Options
from websock.core.protocol import MAX_PONGS, Protocol, State
from websock.exceptions import CloseCause

from .frames import CODECS, PING, PONG, TEXT, frame, outcome, state_of

KEY = b"\x01\x02\x03\x04"
T = 1000.0


def protocol_with(interval: float | None = 20, timeout: float | None = 5) -> Protocol:
    protocol = Protocol(server=True, options=Options(ping_interval=interval, ping_timeout=timeout))
    protocol.tick(T)
    return protocol


def sent(protocol: Protocol, opcode: int) -> int:
    result = outcome(CODECS[0], [b"".join(protocol.outgoing())], masked=False, judge_close=False)
    return [one for one, _ in result.controls].count(opcode)


def hears(protocol: Protocol) -> None:
    protocol.receive(frame(TEXT, b"a", key=KEY))


# Our lateness.


@pytest.mark.parametrize("late", [0.2, 1, 60])
def test_a_deadline_that_passed_while_we_were_busy(late: float) -> None:
    protocol = protocol_with()
    assert protocol.tick(T + 20) == T + 25
    now = T + 25 + late
    due = now + min(GRACE, 5 * late)
    assert protocol.tick(now) == due and state_of(protocol) is State.OPEN
    stall = protocol.take_stall()
    assert stall is not None and stall.seconds == pytest.approx(late) and not stall.paused
    assert protocol.take_stall() is None
    hears(protocol)  # what had come meanwhile
    assert protocol.tick(due) is not None
    assert state_of(protocol) is State.OPEN


def test_a_peer_that_is_silent_after_our_stall_too() -> None:
    protocol = protocol_with()
    protocol.tick(T + 20)
    due = protocol.tick(T + 30)
    assert due == T + 30.5
    assert protocol.tick(due) is None
    error = protocol.closed()
    assert state_of(protocol) is State.CLOSED and error.cause is CloseCause.PEER_SILENT


def test_a_timer_that_is_a_little_late_is_no_stall() -> None:
    protocol = protocol_with()
    protocol.tick(T + 20)
    due = protocol.tick(T + 25.05)  # but what came in that time has not been read in every loop
    assert due is not None and due == pytest.approx(T + 25.3) and protocol.take_stall() is None
    assert protocol.tick(due) is None and state_of(protocol) is State.CLOSED


def test_a_program_that_is_always_late_does_not_keep_a_dead_peer() -> None:
    protocol = protocol_with()
    now = T + 20
    due = protocol.tick(now)
    calls = 0
    while due is not None:
        due = protocol.tick(due + 10)
        calls += 1
        assert calls < 20
    assert calls == GRACES + 1 and protocol.closed().cause is CloseCause.PEER_SILENT


def test_being_called_early_is_not_being_late() -> None:
    protocol = protocol_with()
    protocol.tick(T + 20)
    protocol.tick(T + 24)
    assert protocol.tick(T + 25) is None and state_of(protocol) is State.CLOSED


# Our pauses.


def test_a_pause_that_outlasts_the_deadline_is_told() -> None:
    protocol = protocol_with()
    protocol.tick(T + 20)
    protocol.pause(T + 21)
    protocol.resume(T + 28)
    protocol.tick(T + 28)
    stall = protocol.take_stall()
    assert stall is not None and stall.paused and stall.seconds == pytest.approx(7)


def test_what_was_heard_in_a_pause() -> None:
    """A side read brought it: silence counts from then, without the rest of the pause."""
    protocol = protocol_with()
    protocol.tick(T + 20)
    protocol.pause(T + 21)
    protocol.tick(T + 23, heard_at=T + 23)
    hears(protocol)
    protocol.tick(T + 40, heard_at=T + 39)
    protocol.resume(T + 41)
    due = protocol.tick(T + 41, heard_at=T + 39)
    while protocol.state is State.OPEN:
        assert due is not None
        now, due = due, protocol.tick(due, heard_at=T + 39)
    assert protocol.closed().stalled == pytest.approx(now - (T + 41))


@pytest.mark.parametrize(("until", "least"), [(23, 0.0), (28, 10.0)])
def test_other_pauses_are_not(until: float, least: float) -> None:
    protocol = protocol_with()
    protocol.tick(T + 20)
    protocol.pause(T + 21)
    protocol.resume(T + until, least=least)
    protocol.tick(T + until)
    assert protocol.take_stall() is None and state_of(protocol) is State.OPEN


# Our writing.


def test_the_pongs_clock_starts_when_the_ping_leaves() -> None:
    protocol = protocol_with()
    protocol.tick(T + 20, waiting=1000, taken=0, moved=T + 19)
    assert protocol.wants_tick and sent(protocol, PING) == 1
    size = 1000 + 6
    protocol.tick(T + 20, waiting=size, taken=0, moved=T + 19)
    protocol.tick(T + 25, waiting=600, taken=406, moved=T + 24)  # it is not through yet
    assert state_of(protocol) is State.OPEN
    due = protocol.tick(T + 40, waiting=0, taken=1006, moved=T + 39)
    assert due == T + 44 and state_of(protocol) is State.OPEN
    protocol.receive(frame(PONG, protocol._keepalive_ping, key=KEY))
    protocol.tick(T + 39.5, waiting=0, taken=1006, moved=T + 39)
    assert protocol.latency == pytest.approx(0.5)


def test_a_ping_that_left_at_once_has_no_more_time() -> None:
    protocol = protocol_with()
    protocol.tick(T + 20, waiting=0, taken=77, moved=T + 1)
    sent(protocol, PING)
    assert protocol.tick(T + 20, waiting=0, taken=77, moved=T + 1) == T + 25
    assert protocol.tick(T + 25, waiting=0, taken=77, moved=T + 1) is None
    assert protocol.closed().cause is CloseCause.PEER_SILENT and protocol.closed().stalled == pytest.approx(25)


def test_a_ping_that_waits_is_not_sent_twice() -> None:
    protocol = protocol_with()
    now, pings = T, 0
    for _ in range(10):  # the peer sends, and reads so slowly that the ping does not get through
        now += 20
        hears(protocol)
        protocol.tick(now, waiting=10**6, taken=int(now - T), moved=now)
        pings += sent(protocol, PING)
    assert pings == 1 and state_of(protocol) is State.OPEN


def stuck_for(protocol: Protocol, until: float, *, hearing: bool) -> float:
    """Nothing is taken after T + 10; when the connection was given up, or `until`."""
    now = T + 20
    while now < until:
        due = protocol.tick(now, waiting=5000, taken=10, moved=T + 10)
        protocol.outgoing()
        if protocol.state is not State.OPEN:
            return now
        if protocol.wants_tick:
            due = protocol.tick(now, waiting=5000, taken=10, moved=T + 10)
        assert due is not None and due > now
        now = due
        if hearing:
            hears(protocol)
    return until


def test_a_write_that_is_stuck() -> None:
    protocol = protocol_with()
    protocol.tick(T + 12, waiting=0, taken=0, moved=T + 5, heard_at=T + 12)
    assert stuck_for(protocol, T + 1000, hearing=False) == pytest.approx(T + 12 + 25, abs=8.1)
    error = protocol.closed()
    assert error.cause is CloseCause.WRITE_STUCK and error.stalled is not None and error.stalled >= 25


def test_a_peer_that_sends_and_does_not_read_is_not_ours_to_give_up() -> None:
    protocol = protocol_with()
    assert stuck_for(protocol, T + 500, hearing=True) == T + 500


def test_octets_that_wait_without_a_count() -> None:
    """A transport that only tells how much waits: what shrinks was taken."""
    protocol = protocol_with()
    protocol.tick(T + 19, waiting=500)
    protocol.tick(T + 20, waiting=1000)
    sent(protocol, PING)
    protocol.tick(T + 20, waiting=1006)
    protocol.tick(T + 24, waiting=800)
    protocol.tick(T + 44, waiting=500)
    assert state_of(protocol) is State.OPEN
    due = protocol.tick(T + 50, waiting=0)
    assert due == T + 55 and state_of(protocol) is State.OPEN
    assert protocol.tick(due, waiting=0) is None
    assert protocol.closed().cause is CloseCause.PEER_SILENT


@given(
    steps=st.lists(st.tuples(st.floats(0, 30), st.integers(0, 3000), st.integers(0, 3000), st.booleans()), max_size=30),
    counted=st.booleans(),
)
def test_given_up_for_silence_only(steps: list[tuple[float, int, int, bool]], counted: bool) -> None:
    """Whatever writing does: never within ping_timeout of an octet from the peer, nor while the ping has not left."""
    protocol = protocol_with()
    now = heard = moved = T
    taken = waiting = 0
    for seconds, more, takes, hear in steps:
        now += seconds
        takes = min(takes, waiting)
        if takes or (more and not waiting):
            moved = now
        taken += takes
        waiting += more - takes
        if hear:
            hears(protocol)
            heard = now
        how = {"taken": taken, "moved": moved} if counted else {}
        due = protocol.tick(now, waiting=waiting, **how)  # type: ignore[arg-type]
        waiting += sum(map(len, protocol.outgoing()))
        if protocol.state is not State.OPEN:
            error = protocol.closed()
            assert now - heard >= 5 and error.stalled is not None and error.stalled >= 5 - 1e-6
            return
        assert due is None or due >= now - 1e-6 or protocol.wants_tick


# Pongs.


def test_one_pong_waits_while_the_peer_takes_nothing() -> None:
    protocol = protocol_with(None)
    pings = [frame(PING, bytes([i]), key=KEY) for i in range(40)]
    protocol.receive(b"".join(pings))
    assert sent(protocol, PONG) == MAX_PONGS
    protocol.writing_paused = True
    protocol.receive(b"".join(pings))
    result = outcome(CODECS[0], [b"".join(protocol.outgoing())], masked=False)
    assert result.controls == [(PONG, bytes([39]))]
    protocol.writing_paused = False
    protocol.receive(b"".join(pings[:10]))
    assert sent(protocol, PONG) == 10
