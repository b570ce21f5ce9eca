"""`Protocol.leave`: a Close of ours that lets the application answer what came first. Time is a number."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from websock.core.codec import Fragment
from websock.core.draining import Plan
from websock.core.inbox import Inbox
from websock.core.options import Options
from websock.core.protocol import Protocol, State
from websock.exceptions import CloseCause, ConnectionClosedOK, ProtocolError
from websock.frames import Close

from .frames import CLOSE, TEXT, frame, state_of

KEY = b"\x01\x02\x03\x04"
T = 1000.0


def leaving(patience: float = 5.0) -> Protocol:
    protocol = Protocol(server=True, options=Options(ping_interval=None))
    protocol.tick(T)
    protocol.leave(1012, "restart", patience)
    return protocol


def test_it_waits_for_the_application() -> None:
    protocol = leaving()
    assert protocol.leaving
    assert protocol.wants_tick
    assert protocol.tick(T) == T + 5
    assert protocol.receive(frame(TEXT, b"a question", key=KEY)) == ["a question"]
    protocol.settle()  # the inbox is empty, while the application is busy with the message
    assert not protocol.close_sent
    protocol.send("the answer")
    protocol.left()
    assert state_of(protocol) is State.CLOSE_SENT
    assert protocol.close_sent == Close(1012, "restart")
    assert not protocol.leaving
    sent = b"".join(protocol.outgoing())
    assert sent.index(b"the answer") < sent.index(b"restart")
    protocol.receive(frame(CLOSE, b"\x03\xf4", key=KEY))
    protocol.settle()
    assert protocol.closed().rcvd_then_sent is False


def test_it_does_not_wait_for_ever() -> None:
    protocol = leaving(5.0)
    assert protocol.tick(T) == T + 5
    assert protocol.tick(T + 4.9) == T + 5
    protocol.tick(T + 5)
    assert protocol.close_sent == Close(1012, "restart")
    due = protocol.tick(T + 5)
    assert due == T + 15, "the time for closing begins with our Close"


@pytest.mark.parametrize(
    ("overtake", "close_sent", "state"),
    [
        (lambda protocol: protocol.close(1000, "over"), Close(1000, "over"), State.CLOSE_SENT),
        (lambda protocol: protocol.fail(1011, "broken"), Close(1011, "broken"), State.ENDING),
        (lambda protocol: protocol.lost(), None, State.CLOSED),
        (lambda protocol: protocol.receive_eof(), None, State.CLOSED),
    ],
)
def test_what_overtakes_it(overtake: Callable[[Protocol], object], close_sent: Close | None, state: State) -> None:
    protocol = leaving()
    overtake(protocol)
    assert not protocol.leaving
    assert state_of(protocol) is state
    assert protocol.close_sent == close_sent
    protocol.left()
    assert protocol.close_sent == close_sent


def test_the_peers_close_overtakes_it() -> None:
    protocol = leaving()
    protocol.tick(T)
    protocol.receive(frame(TEXT, b"last", key=KEY) + frame(CLOSE, b"\x03\xe8bye", key=KEY))
    assert not protocol.leaving
    assert protocol.tick(T + 0.5) == T + 1.5, "a Close of the peer's waits as long as always"
    protocol.settle()
    assert isinstance(protocol.closed(), ConnectionClosedOK)
    assert protocol.closed().rcvd_then_sent is True
    assert protocol.close_sent == Close(1000, "bye")


def test_a_broken_rule_overtakes_it() -> None:
    protocol = leaving()
    protocol.receive(frame(TEXT, b"unmasked"))
    assert isinstance(protocol.unsettled, ProtocolError)
    protocol.settle()
    assert protocol.close_sent is not None
    assert protocol.close_sent.code == 1002


def test_only_an_open_connection_leaves() -> None:
    protocol = leaving()
    protocol.left()
    protocol.leave(1001)
    assert not protocol.leaving
    with pytest.raises(ValueError, match="1006"):
        protocol.leave(1006)


def test_an_inbox_that_is_shut_takes_nothing_more() -> None:
    inbox = Inbox(None)
    inbox.add(["before"], 6)
    assert not inbox.amid
    inbox.shut()
    inbox.add(["after"], 5)
    assert inbox.take_all() == ["before"]


def test_a_message_that_is_taken_in_parts_is_under_way() -> None:
    inbox = Inbox(None)
    protocol = Protocol(server=True)
    inbox.start_stream(protocol)
    assert not inbox.amid, "nothing of it was taken"
    inbox.add([Fragment("one", False)], 3)
    assert inbox.part_of(inbox.take()) == ("one", False)
    assert inbox.amid
    inbox.add([Fragment("two", True)], 3)
    assert inbox.part_of(inbox.take()) == ("two", True)
    assert not inbox.amid


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"deadline": -1}, ValueError),
        ({"deadline": "30"}, TypeError),
        ({"deadline": float("inf")}, ValueError),
        ({"deadline": float("nan")}, ValueError),
        ({"spread": 31}, ValueError),
        ({"spread": True}, TypeError),
        ({"code": 1006}, ValueError),
        ({"reason": "x" * 124}, ValueError),
    ],
)
def test_a_plan_is_checked(wrong: dict[str, object], error: type[Exception]) -> None:
    good: dict[str, object] = {"deadline": 30.0, "code": 1012, "reason": "", "spread": 0.0}
    Plan(**good)  # type: ignore[arg-type]  # so that wrong ones can be tried
    with pytest.raises(error):
        Plan(**{**good, **wrong})  # type: ignore[arg-type]


def test_the_peer_has_ended_its_direction_before() -> None:
    """Much came with the end, and is decoded in parts: no answer to our Close can come any more."""
    protocol = Protocol(server=True, options=Options(ping_interval=None))
    protocol.tick(T)
    got = protocol.receive(frame(TEXT, b"", key=KEY) * 20_000)
    assert protocol.behind
    protocol.receive_eof()
    protocol.leave(1012, "restart", 5.0)
    while protocol.behind:
        got += protocol.receive(b"")
    assert len(got) == 20_000
    protocol.left()
    assert state_of(protocol) is State.CLOSED
    assert protocol.closed().cause is CloseCause.ENDED_WITHOUT_CLOSE
