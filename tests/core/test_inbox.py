"""Messages that wait for the application, and one of them in parts."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from websock.core.inbox import BACKLOG, Inbox
from websock.core.options import Options
from websock.core.protocol import Protocol
from websock.exceptions import ConcurrencyError

from .frames import BINARY, CONT, PING, TEXT, frame


def test_first_in_first_out() -> None:
    inbox = Inbox(None)
    inbox.add(["a", b"b"], 10)
    inbox.add([], 3)
    inbox.add(["c"], 1)
    assert [inbox.take() for _ in range(len(inbox))] == ["a", b"b", "c"] and not inbox


def test_full_by_number_and_low_well_below() -> None:
    inbox = Inbox(16)
    assert not inbox.full and inbox.low
    inbox.add(["x"] * 16, 16)
    assert not inbox.full
    inbox.add(["x"], 1)
    assert inbox.full and not inbox.low
    while len(inbox) > 4:
        assert not inbox.low
        inbox.take()
    assert inbox.low and not inbox.full


@pytest.mark.parametrize("limit", [1, 2, 3])
def test_small_limits_become_low_again(limit: int) -> None:
    inbox = Inbox(limit)
    inbox.add(["x"] * (limit + 1), 1)
    assert inbox.full
    while inbox:
        inbox.take()
    assert inbox.low


@pytest.mark.parametrize("limit", [16, None])
def test_full_by_octets(limit: int | None) -> None:
    inbox = Inbox(limit)
    inbox.add([b"x" * 10] * 2, BACKLOG + 1)
    assert inbox.full
    inbox.take()
    inbox.take()
    assert inbox.low and not inbox.full
    inbox.add([b"x"], 1)
    assert not inbox.full


def test_an_incomplete_message_does_not_pause_reading() -> None:
    """The rest of it would never come."""
    inbox = Inbox(1)
    for _ in range(100):
        inbox.add([], BACKLOG)
        assert not inbox.full
    assert inbox.low


# Parts, with a protocol that brings them.


class Reader:
    def __init__(self) -> None:
        self.protocol = Protocol(server=False)
        self.inbox = Inbox(None)

    def read(self, data: bytes) -> None:
        self.inbox.add(self.protocol.receive(data), len(data))

    def parts(self) -> list[Any]:
        taken = []
        while self.inbox and self.inbox.streaming:
            taken.append(self.inbox.part_of(self.inbox.take()))
        return taken

    def messages(self) -> list[Any]:
        return [self.inbox.take() for _ in range(len(self.inbox))]


def test_a_message_in_parts() -> None:
    reader = Reader()
    reader.inbox.start_stream(reader.protocol)
    with pytest.raises(ConcurrencyError):
        reader.inbox.start_stream(reader.protocol)
    reader.read(frame(TEXT, b"a", fin=False))
    assert reader.parts() == [("a", False)]
    reader.read(frame(CONT, b"b") + frame(TEXT, b"next"))
    assert reader.parts() == [("b", True)] and not reader.inbox.streaming
    assert reader.messages() == ["next"]


def test_a_message_that_is_here_comes_as_one_part() -> None:
    reader = Reader()
    reader.read(frame(TEXT, b"whole") + frame(BINARY, b"x", fin=False))
    reader.inbox.start_stream(reader.protocol)
    assert reader.parts() == [("whole", True)]
    reader.read(frame(CONT, b"y"))
    assert reader.messages() == [b"xy"]


def test_a_message_that_has_begun() -> None:
    reader = Reader()
    reader.read(frame(BINARY, b"x", fin=False))
    reader.inbox.start_stream(reader.protocol)
    reader.read(frame(CONT, b"y"))
    assert reader.parts() == [(b"x", False), (b"y", True)]


@pytest.mark.parametrize("taken", [1, 2, 3])
def test_an_abandoned_message_is_dropped_to_its_end(taken: int) -> None:
    reader = Reader()
    reader.inbox.start_stream(reader.protocol)
    got = 0
    for i, part in enumerate([b"a", b"b", b"c"]):
        reader.read(frame(CONT if i else TEXT, part, fin=False))
        while reader.inbox and got < taken:
            reader.inbox.part_of(reader.inbox.take())
            got += 1
    reader.inbox.stop_stream(reader.protocol)
    assert reader.messages() == []
    reader.read(frame(CONT, b"d", fin=False) + frame(PING))
    reader.read(frame(CONT, b"e") + frame(TEXT, b"next"))
    assert reader.messages() == ["next"]
    reader.inbox.start_stream(reader.protocol)
    reader.read(frame(TEXT, b"again"))
    assert reader.parts() == [("again", True)]


def test_a_message_that_one_consumer_left_can_be_streamed_by_the_next() -> None:
    reader = Reader()
    reader.inbox.start_stream(reader.protocol)
    reader.read(frame(TEXT, b"a", fin=False))
    reader.inbox.stop_stream(reader.protocol)
    reader.read(frame(CONT, b"b", fin=False))
    reader.inbox.start_stream(reader.protocol)
    taken = reader.parts()
    reader.read(frame(CONT, b"c", fin=False))
    reader.read(frame(CONT, b"d") + frame(TEXT, b"next"))
    taken += reader.parts()
    assert "".join(data for data, _ in taken) == "abcd" and [last for _, last in taken].count(True) == 1
    assert reader.messages() == ["next"]


# What stands in front of, in, and behind the moment in which the consumer gives up without having taken anything.
WAYS = {
    "nothing has come": ([], [frame(TEXT, b"abc")]),
    "a whole one waits": ([frame(TEXT, b"abc")], []),
    "half a frame has come": ([frame(TEXT, b"abc")[:3]], [frame(TEXT, b"abc")[3:]]),
    "a fragment has come": ([frame(TEXT, b"ab", fin=False)], [frame(CONT, b"c")]),
    "all fragments have come": ([frame(TEXT, b"ab", fin=False), frame(CONT, b"c")], []),
    "two fragments have come": ([frame(TEXT, b"a", fin=False), frame(CONT, b"b", fin=False)], [frame(CONT, b"c")]),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("early", [False, True])
def test_a_message_of_which_nothing_was_taken_stays(way: str, early: bool) -> None:
    """A consumer that is cancelled before it got anything has lost nothing, and neither has the next one."""
    before, after = WAYS[way]
    reader = Reader()
    if early:
        reader.inbox.start_stream(reader.protocol)
    for read in before:
        reader.read(read)
    if not early:
        reader.inbox.start_stream(reader.protocol)
    reader.inbox.stop_stream(reader.protocol)
    for read in after:
        reader.read(read)
    reader.read(frame(TEXT, b"next"))
    assert reader.messages() == ["abc", "next"]


@given(
    messages=st.lists(st.lists(st.binary(max_size=3), min_size=1, max_size=4), max_size=5),
    steps=st.lists(st.sampled_from(["read", "start", "part", "stop", "take"]), max_size=40),
)
def test_whole_messages_survive_any_streaming(messages: list[list[bytes]], steps: list[str]) -> None:
    """Whatever is started and abandoned: each message comes whole, or in all its parts, or was abandoned in part."""
    reader = Reader()
    frames = [frame(CONT if i else BINARY, part, fin=i == len(m) - 1) for m in messages for i, part in enumerate(m)]
    got: list[bytes] = []
    parts: list[bytes] = []
    abandoned = 0

    def take() -> None:
        nonlocal parts
        item = reader.inbox.take()
        if reader.inbox.streaming:
            data, last = reader.inbox.part_of(item)
            parts.append(data)  # type: ignore[arg-type]
            if last:
                got.append(b"".join(parts))
                parts = []
        else:
            assert isinstance(item, bytes)
            got.append(item)

    for step in [*steps, "stop"]:
        if step == "read" and frames:
            reader.read(frames.pop(0))
        elif step == "start" and not reader.inbox.streaming:
            reader.inbox.start_stream(reader.protocol)
        elif step == "stop" and reader.inbox.streaming:
            reader.inbox.stop_stream(reader.protocol)
            abandoned += bool(parts)
            parts = []
        elif step in ("part", "take") and reader.inbox:
            take()
    while frames:
        reader.read(frames.pop(0))
    while reader.inbox:
        take()
    whole = [b"".join(parts) for parts in messages]
    assert len(got) == len(whole) - abandoned
    rest = iter(whole)
    assert all(message in rest for message in got)  # in order


def test_what_was_dropped_does_not_count() -> None:
    """Leaving a stream early must not make the inbox look full of what is gone."""
    protocol = Protocol(server=True, options=Options(max_size=None))
    inbox = Inbox(16)
    inbox.start_stream(protocol)
    key = b"\x01\x02\x03\x04"
    inbox.add(protocol.receive(frame(BINARY, b"x" * 1000, fin=False, key=key)), BACKLOG)
    inbox.part_of(inbox.take())
    inbox.stop_stream(protocol)
    inbox.add(protocol.receive(frame(CONT, b"x" * 1000, key=key)), BACKLOG)
    inbox.add(["m"], 1)
    assert not inbox.overfull and not inbox.full and inbox.take_all() == ["m"]
