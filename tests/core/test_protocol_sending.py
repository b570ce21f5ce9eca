"""What an open connection sends: messages, parts of messages, and what it refuses (RFC 6455 sections 5.4 and 5.6)."""

from __future__ import annotations

import array
from collections.abc import Callable
from typing import Any

import pytest

from websock.core.protocol import Protocol

from .frames import BINARY, CODECS, PING, TEXT, outcome
from .peers import ROLES, from_peer, sent, take


@ROLES
@pytest.mark.parametrize(
    ("message", "text", "expected"),
    [
        ("é", None, "é"), ("é", True, "é"), ("é", False, "é".encode()),
        (b"\xff", None, b"\xff"), (b"\xff", False, b"\xff"), (b"ok", True, "ok"),
        (bytearray(b"ab"), None, b"ab"), (bytearray(b"ab"), True, "ab"),
        (memoryview(b"ab"), None, b"ab"), (memoryview(b"ab"), True, "ab"),
        (memoryview(b"abcd")[::2], None, b"ac"), (memoryview(b"abcd")[::-1], True, "dcba"),
        (memoryview(array.array("H", [1, 2])), None, array.array("H", [1, 2]).tobytes()),
        (memoryview(bytes(range(12))).cast("B", (3, 4)), None, bytes(range(12))),
        (memoryview(bytes(5000)).cast("B", (50, 100)), None, bytes(5000)),
        (memoryview(b"abcd").cast("c"), None, b"abcd"),
        ("", None, ""), (b"", None, b""), (type("S", (str,), {})("sub"), None, "sub"),
        (type("B", (bytes,), {})(b"sub"), None, b"sub"),
    ],
)  # fmt: skip
def test_what_can_be_sent(server: bool, message: Any, text: bool | None, expected: Any) -> None:
    protocol = Protocol(server=server)
    protocol.send(message, text=text)
    protocol.send_part(message, last=False, text=text)
    protocol.send_part(message, last=True, text=text)
    messages, _ = sent(protocol)
    assert messages == [expected, expected + expected]
    assert all(isinstance(got, str) == isinstance(expected, str) for got in messages)


@pytest.mark.parametrize("message", [None, 1, 1.5, ["a"], {"a": 1}, object(), array.array("B", b"a")])
def test_what_cannot_be_sent(message: Any) -> None:
    protocol = Protocol(server=True)
    with pytest.raises(TypeError):
        protocol.send(message)
    with pytest.raises(TypeError):
        protocol.send_part(message, last=True)
    assert not protocol.has_outgoing and not protocol.sending_parts


@pytest.mark.parametrize(
    "message", [b"\xff", b"\xe2\x82", bytearray(b"\xed\xa0\x80"), memoryview(b"\xc0\x80"), "\ud800"]
)
def test_text_that_is_not_utf8_is_our_own_error(message: Any) -> None:
    protocol = Protocol(server=True)
    with pytest.raises(ValueError, match="utf-8"):
        protocol.send(message, text=True)
    with pytest.raises(ValueError, match="utf-8"):
        protocol.send_part(message, last=True, text=True)
    assert not protocol.has_outgoing and not protocol.sending_parts
    protocol.send("still open")
    assert sent(protocol) == (["still open"], [])


@ROLES
@pytest.mark.parametrize("size", [10, 5000])
@pytest.mark.parametrize("wrap", [bytearray, lambda octets: memoryview(bytearray(octets))])
def test_send_takes_the_message_as_it_is_now(server: bool, size: int, wrap: Callable[[bytes], Any]) -> None:
    """`send` queues at once: what the caller does to its buffer afterwards is not sent."""
    protocol = Protocol(server=server)
    buffer = wrap(b"a" * size)
    protocol.send(buffer)
    protocol.send_part(buffer, last=False)
    protocol.send(buffer)
    protocol.send_part(buffer, last=True)
    buffer[:] = b"b" * size
    if isinstance(buffer, bytearray):
        buffer.clear()
    assert sent(protocol) == ([b"a" * size, b"a" * (2 * size), b"a" * size], [])


def test_bytes_are_not_copied() -> None:
    protocol = Protocol(server=True)
    payload = bytes(10_000)
    protocol.send(payload)
    assert any(buffer is payload for buffer in protocol.outgoing())


@ROLES
def test_parts(server: bool) -> None:
    protocol = Protocol(server=server)
    for part, last in (("a", False), ("", False), ("b", True)):
        protocol.send_part(part, last=last)
        assert protocol.sending_parts != last
    protocol.send_part(b"c", last=True)
    assert sent(protocol) == (["ab", b"c"], [])


@ROLES
def test_whole_messages_wait_behind_parts(server: bool) -> None:
    """RFC 6455 section 5.4: fragments of one message are not mixed with another's."""
    protocol = Protocol(server=server)
    protocol.send_part("a", last=False)
    protocol.send("first held")
    protocol.send(b"x" * 5000)
    protocol.send_encoded(CODECS[0].encode(TEXT, b"encoded", masked=protocol.masks))
    protocol.ping(b"control frames do not wait")
    protocol.send_part("b", last=False)
    before = take(protocol)
    assert outcome(CODECS[0], [before], masked=protocol.masks).messages == []
    protocol.send_part("c", last=True)
    result = outcome(CODECS[0], [before, take(protocol)], masked=protocol.masks)
    assert result.messages == ["abc", "first held", b"x" * 5000, "encoded"]
    assert result.controls == [(PING, b"control frames do not wait")]
    protocol.send("not held")
    assert sent(protocol) == (["not held"], [])


def test_parts_are_of_one_type() -> None:
    protocol = Protocol(server=True)
    protocol.send_part("a", last=False)
    with pytest.raises(TypeError):
        protocol.send_part(b"b", last=True)
    protocol.send_part("c", last=True)
    protocol.send_part(b"d", last=False)
    with pytest.raises(TypeError):
        protocol.send_part("e", last=True)
    protocol.send_part(b"f", last=True)
    assert sent(protocol) == (["ac", b"df"], [])


def test_text_parts_in_bytes_are_checked_over_the_whole_message() -> None:
    protocol = Protocol(server=True)
    protocol.send_part(b"\xe2\x82", last=False, text=True)
    with pytest.raises(ValueError, match="utf-8"):
        protocol.send_part(b"a", last=False, text=True)
    with pytest.raises(ValueError, match="utf-8"):
        protocol.send_part(b"", last=True, text=True)
    protocol.send_part(b"\xac", last=True, text=True)
    protocol.send_part(b"ok", last=True, text=True)
    assert sent(protocol) == (["€", "ok"], [])


def test_a_str_part_cannot_follow_half_a_character() -> None:
    protocol = Protocol(server=True)
    protocol.send_part(b"\xe2\x82", last=False, text=True)
    with pytest.raises(ValueError, match="utf-8"):
        protocol.send_part("a", last=True)
    protocol.send_part(b"\xac", last=False, text=True)
    protocol.send_part("a", last=False)
    protocol.send_part(b"\xe2\x82\xac", last=True, text=True)
    assert sent(protocol) == (["€a€"], [])


@ROLES
def test_send_encoded(server: bool) -> None:
    buffers = CODECS[0].encode(BINARY, b"x" * 5000, masked=not server)
    for _ in range(2):
        protocol = Protocol(server=server)
        protocol.send_encoded(buffers)
        assert protocol.queued == sum(map(len, buffers))
        assert sent(protocol) == ([b"x" * 5000], [])


@ROLES
def test_queued_counts_what_waits(server: bool) -> None:
    protocol = Protocol(server=server)
    steps: list[Callable[[], object]] = [
        lambda: protocol.send("a"),
        lambda: protocol.send(b"b" * 300),
        lambda: protocol.send_part("c", last=False),
        lambda: protocol.send("held" * 20),
        lambda: protocol.ping(b"d"),
        lambda: protocol.pong(b"e"),
        lambda: protocol.receive(from_peer(protocol, PING, b"f")),
        lambda: protocol.send_part("g" * 70_000, last=True),
        lambda: protocol.close(1000, "h"),
    ]
    for step in steps:
        before = protocol.queued
        step()
        waits = sum(map(len, protocol._out))
        # A few octets too many for each frame do not matter, too few would.
        assert waits <= protocol.queued <= waits + 14 * len(protocol._out)
        assert protocol.queued >= before
    take(protocol)
    assert protocol.queued == 0 and not protocol.has_outgoing


def test_what_was_taken_does_not_grow() -> None:
    """Nor when there was nothing: who keeps that list would write what comes later twice."""
    protocol = Protocol(server=True)
    nothing = protocol.outgoing()
    protocol.send("one")
    something = protocol.outgoing()
    protocol.send("two")
    assert (len(nothing), len(something), len(protocol.outgoing())) == (0, 1, 1)
