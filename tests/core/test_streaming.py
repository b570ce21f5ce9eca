"""A message in parts, as it comes: `Decoder.stream`."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from websock.core.codec import Fragment
from websock.typing import Data

from .frames import BINARY, CLOSE, CODECS, CONT, PING, TEXT, Stream, frame, pieces, sizes, streams

pytestmark = pytest.mark.parametrize("codec", CODECS)


def decoder_of(codec: Any, masked: bool = False, max_size: int | None = None) -> Any:
    return codec.Decoder(lambda *_: None, masked=masked, max_size=max_size)


def parts_of(codec: Any, entries: list[Any]) -> list[tuple[Data, bool]]:
    assert all(type(entry) is Fragment for entry in entries)
    return [(entry.data, entry.last) for entry in entries]


@given(stream=streams(close=False), sizes=sizes, which=st.integers(0, 5), at=st.integers(0, 400))
def test_parts_make_the_message(codec: Any, stream: Stream, sizes: list[int], which: int, at: int) -> None:
    """Ask for parts at any moment: the same messages come, one of them in parts."""
    assume(stream.messages)
    decoder = decoder_of(codec, stream.masked)
    got: list[Any] = []
    asked = False
    fed = 0
    for chunk in pieces(stream.data, sizes):
        if not asked and len(got) >= which % len(stream.messages) and fed >= at % (len(stream.data) + 1):
            asked = True
            part = decoder.stream(True)
            got += [] if part is None else [part]
        got += decoder.decode(chunk)
        fed += len(chunk)
    messages: list[Data] = []
    parts: list[Data] = []
    lasts = 0
    for entry in got:
        if isinstance(entry, str | bytes):
            assert not parts
            messages.append(entry)
            continue
        assert type(entry) is Fragment
        parts.append(entry.data)
        if entry.last:
            kind = type(parts[0])
            assert {type(part) for part in parts} == {kind}
            messages.append(kind().join(parts))  # type: ignore[arg-type]
            parts = []
            lasts += 1
    assert messages == stream.messages and not parts
    assert lasts <= 1 and [type(m) for m in messages] == [type(m) for m in stream.messages]


def test_parts_come_with_each_read(codec: Any) -> None:
    decoder = decoder_of(codec)
    assert decoder.stream(True) is None
    data = frame(BINARY, b"abcdef")
    assert parts_of(codec, decoder.decode(data[:4])) == [(b"ab", False)]
    assert parts_of(codec, decoder.decode(data[4:5])) == [(b"c", False)]
    assert parts_of(codec, decoder.decode(data[5:])) == [(b"def", True)]
    assert decoder.decode(frame(BINARY, b"whole")) == [b"whole"]


def test_parts_from_the_middle_of_a_message(codec: Any) -> None:
    decoder = decoder_of(codec)
    assert decoder.decode(frame(TEXT, b"ab", fin=False) + frame(CONT, b"cd\xe2", fin=False)) == []
    part = decoder.stream(True)
    assert (part.data, part.last) == ("abcd", False)
    assert parts_of(codec, decoder.decode(frame(CONT, b"\x82\xacef"))) == [("€ef", True)]


def test_an_empty_message_in_parts(codec: Any) -> None:
    decoder = decoder_of(codec)
    decoder.stream(True)
    assert parts_of(codec, decoder.decode(frame(TEXT))) == [("", True)]
    assert decoder.decode(frame(TEXT)) == [""]


def test_a_small_message_in_parts_and_the_next_ones_whole(codec: Any) -> None:
    decoder = decoder_of(codec)
    decoder.stream(True)
    first, *rest = decoder.decode(
        frame(TEXT, b"one") + frame(TEXT, b"two") + frame(BINARY, b"3") + frame(TEXT, b"4")[:2]
    )
    assert parts_of(codec, [first]) == [("one", True)]
    assert rest == ["two", b"3"]


def test_the_wish_can_be_taken_back(codec: Any) -> None:
    decoder = decoder_of(codec)
    decoder.stream(True)
    decoder.stream(False)
    assert decoder.decode(frame(TEXT, b"one")) == ["one"]


def test_no_part_is_empty_but_the_last(codec: Any) -> None:
    """A read that brought a ping, half a header or half a character has brought no part."""
    decoder = decoder_of(codec)
    decoder.stream(True)
    got = parts_of(codec, decoder.decode(frame(TEXT, b"ab", fin=False)))
    for read in (frame(PING, b"x"), b"", b"\x00", b"\x02\xe2", b"\x82", b"\x00\x00"):
        got += parts_of(codec, decoder.decode(read))
    got += parts_of(codec, decoder.decode(frame(CONT, b"\xac")))
    assert got == [("ab", False), ("€", True)]


def test_asking_again_brings_nothing_twice(codec: Any) -> None:
    decoder = decoder_of(codec)
    decoder.decode(frame(BINARY, b"ab", fin=False))
    assert decoder.stream(True).data == b"ab"
    assert decoder.stream(True) is None


def test_parts_before_a_failure_and_a_close(codec: Any) -> None:
    for end in (frame(0x3), frame(CLOSE)):
        decoder = decoder_of(codec)
        decoder.stream(True)
        assert parts_of(codec, decoder.decode(frame(TEXT, b"ab", fin=False))) == [("ab", False)]
        assert decoder.decode(end) == []
        assert decoder.stopped and decoder.stream(True) is None


def test_parts_are_bounded_by_max_size(codec: Any) -> None:
    decoder = decoder_of(codec, max_size=10)
    decoder.stream(True)
    for _ in range(2):
        decoder.decode(frame(BINARY if _ == 0 else CONT, b"abcde", fin=False))
    assert decoder.failure is None
    decoder.decode(frame(CONT, b"f"))
    assert getattr(decoder.failure, "code", None) == 1009


def test_a_bad_octet_fails_in_parts_too(codec: Any) -> None:
    decoder = decoder_of(codec)
    decoder.stream(True)
    assert parts_of(codec, decoder.decode(frame(TEXT, b"ab\xe2" + b"c" * 100)[:5])) == [("ab", False)]
    decoder.decode(b"c")
    assert getattr(decoder.failure, "code", None) == 1007
