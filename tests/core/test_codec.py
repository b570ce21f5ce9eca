"""Bytes to messages and back: any chunking of any stream means the same (RFC 6455 section 5)."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from websock.exceptions import InvalidUTF8
from websock.typing import Data

from .frames import (
    BINARY,
    CLOSE,
    CODECS,
    CONT,
    PING,
    PONG,
    TEXT,
    Outcome,
    Stream,
    broken_streams,
    frame,
    header,
    keys,
    outcome,
    pieces,
    sizes,
    slow_mask,
    streams,
)

pytestmark = pytest.mark.parametrize("codec", CODECS)
KEY = b"\x11\x00\xfe\x80"


# Any chunking of a stream.


@given(stream=streams(), sizes=sizes)
def test_any_chunking_of_a_valid_stream(codec: Any, stream: Stream, sizes: list[int]) -> None:
    result = outcome(codec, pieces(stream.data, sizes), masked=stream.masked)
    closed = any(opcode == CLOSE for opcode, _ in stream.controls)
    assert result == Outcome(stream.messages, stream.controls, None, None, closed)
    assert [type(message) for message in result.messages] == [type(message) for message in stream.messages]


@given(broken=broken_streams(), sizes=sizes, max_size=st.sampled_from([None, 0, 10, 126, 1000]))
def test_any_chunking_of_a_broken_stream(
    codec: Any, broken: tuple[bool, bytes], sizes: list[int], max_size: int | None
) -> None:
    masked, data = broken
    whole = outcome(codec, [data], masked=masked, max_size=max_size)
    assert outcome(codec, pieces(data, [1]), masked=masked, max_size=max_size) == whole
    assert outcome(codec, pieces(data, sizes), masked=masked, max_size=max_size) == whole


@given(masked=st.booleans(), data=st.binary(max_size=300), sizes=sizes)
def test_any_chunking_of_noise(codec: Any, masked: bool, data: bytes, sizes: list[int]) -> None:
    whole = outcome(codec, [data], masked=masked)
    assert outcome(codec, pieces(data, sizes), masked=masked) == whole


@given(stream=streams(), sizes=sizes)
def test_input_is_read_only_during_the_call(codec: Any, stream: Stream, sizes: list[int]) -> None:
    """An adapter has one buffer for all reads, and the next read overwrites it."""
    messages: list[Data] = []
    controls: list[tuple[int, bytes]] = []
    decoder = codec.Decoder(lambda *control: controls.append(control), masked=stream.masked, max_size=None)
    buffer = bytearray(b"\xff" * (len(stream.data) + 1))
    for chunk in pieces(stream.data, sizes):
        with memoryview(buffer)[: len(chunk)] as view:
            view[:] = chunk
            messages += decoder.decode(view)
            view[:] = b"\xff" * len(chunk)
    assert (messages, controls) == (stream.messages, stream.controls)
    decoder = codec.Decoder(lambda *_: None, masked=stream.masked, max_size=None)
    data = bytearray(stream.data)
    messages = decoder.decode(data)
    data[:] = bytes(len(data))
    assert messages == stream.messages
    assert all(type(message) in (str, bytes) for message in messages)


@given(stream=streams(close=False), sizes=sizes)
def test_controls_come_in_their_place(codec: Any, stream: Stream, sizes: list[int]) -> None:
    """Between the messages, before the end of the one that they interrupt, also when all comes at once."""
    log: list[object] = []
    decoder = codec.Decoder(lambda *control: log.append(control), masked=stream.masked, max_size=None)
    for octet in pieces(stream.data, [1]):
        log += decoder.decode(octet)
    assert [entry for entry in log if isinstance(entry, tuple)] == stream.controls
    before = [
        sum(not isinstance(other, tuple) for other in log[:position])
        for position, entry in enumerate(log)
        if isinstance(entry, tuple)
    ]
    # Cut the stream before each control frame: as many messages must have come.
    for count, (position, messages) in enumerate(zip(control_positions(stream), before, strict=True)):
        result = outcome(codec, [stream.data[:position]], masked=stream.masked)
        assert len(result.messages) == messages and len(result.controls) == count


def control_positions(stream: Stream) -> list[int]:
    """Where the control frames begin, walked through by hand."""
    positions = []
    position = 0
    while position < len(stream.data):
        first, second = stream.data[position : position + 2]
        size, octets = second & 0x7F, 0
        if size > 125:
            octets = 2 if size == 126 else 8
            size = int.from_bytes(stream.data[position + 2 : position + 2 + octets], "big")
        if first & 0x08:
            positions.append(position)
        position += 2 + octets + (4 if stream.masked else 0) + size
    return positions


# Text fails as early as it can.

# RFC 3629 section 4: the octets that may follow each beginning of a character.
TAIL = range(0x80, 0xC0)
UTF8: dict[bytes, range] = {
    **{bytes((first,)): TAIL for first in range(0xC2, 0xF5)},
    b"\xe0": range(0xA0, 0xC0),
    b"\xed": range(0x80, 0xA0),
    b"\xf0": range(0x90, 0xC0),
    b"\xf4": range(0x80, 0x90),
    **{bytes((first, second)): TAIL for first in range(0xE0, 0xF5) for second in (0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF)},
    **{bytes((first, second, 0x80)): TAIL for first in range(0xF0, 0xF5) for second in (0x80, 0x8F, 0x90, 0xBF)},
}


def reachable(beginning: bytes) -> bool:
    return all(beginning[i] in UTF8[beginning[:i]] for i in range(1, len(beginning)))


BEGINNINGS = [beginning for beginning in UTF8 if reachable(beginning)]
FIRST = {*range(0x80), *range(0xC2, 0xF5)}


@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("before", ["", "ok", "\U0001f600"])
@pytest.mark.parametrize("beginning", [b"", b"\xc2", b"\xe0", b"\xe1", b"\xed", b"\xee", b"\xf0", b"\xf1", b"\xf4"])
def test_text_fails_at_the_octet_that_is_bad(codec: Any, masked: bool, before: str, beginning: bytes) -> None:
    """In a frame of which most has not come: nobody waits for its end."""
    starts = [b""] if not beginning else [b for b in BEGINNINGS if b.startswith(beginning)]
    for start in starts:
        good = FIRST if not start else UTF8[start]
        for octet in range(256):
            decoder = codec.Decoder(lambda *_: None, masked=masked, max_size=None)
            text = before.encode() + start
            data = frame(TEXT, text + bytes((octet,)) + b"a" * 1000, key=KEY if masked else None)[:-1000]
            assert decoder.decode(data[:-1]) == [] and decoder.failure is None
            assert decoder.decode(data[-1:]) == []
            assert (decoder.failure is None) == (octet in good), (start, octet)
            if decoder.failure is not None:
                assert isinstance(decoder.failure, InvalidUTF8) and decoder.failure.code == 1007


def test_bad_text_in_one_chunk_with_good_messages(codec: Any) -> None:
    good = frame(TEXT, b"one") + frame(BINARY, b"\xff") + frame(TEXT, b"two", fin=False) + frame(CONT, b"!")
    for bad in (
        frame(TEXT, b"a\xffb"),
        frame(TEXT, b"a\xffb", fin=False),
        frame(TEXT, b"\xe2\x82"),
        frame(TEXT, b"\xe2\x82", fin=False) + frame(CONT, b""),
        frame(TEXT, b"\xe2", fin=False) + frame(CONT, b"", fin=False) + frame(PING) + frame(CONT, b"\x82a", fin=False),
        frame(TEXT, b"x" * 5000 + b"\xf4\x90" + b"x" * 5000)[:-5000],
    ):
        result = outcome(codec, [good + bad + frame(TEXT, b"three")], masked=False)
        assert result.messages == ["one", b"\xff", "two!"]
        assert (result.failure, result.code) == ("InvalidUTF8", 1007)


def test_a_character_may_be_split_over_fragments(codec: Any) -> None:
    octets = "é€\U0001f600".encode()
    data = frame(TEXT, octets[:1], fin=False) + b"".join(frame(CONT, bytes((o,)), fin=False) for o in octets[1:])
    assert outcome(codec, [data + frame(CONT)], masked=False).messages == ["é€\U0001f600"]


def test_newlines_stay_as_they_are(codec: Any) -> None:
    text = "a\rb\nc\r\nd\r"
    data = b"".join(frame(TEXT if i == 0 else CONT, t.encode(), fin=False) for i, t in enumerate(text)) + frame(CONT)
    assert outcome(codec, [data], masked=False).messages == [text]
    assert outcome(codec, pieces(data, [1]), masked=False).messages == [text]


# Nothing after the end.


@pytest.mark.parametrize("cut", [0, 1, 2, 7])
def test_nothing_behind_a_close_is_looked_at(codec: Any, cut: int) -> None:
    behind = frame(TEXT, b"late") + frame(PING, b"late") + frame(CLOSE) + b"\xff\xff\xff"
    data = frame(TEXT, b"on time") + frame(CLOSE, b"\x03\xe8")
    result = outcome(codec, [data + behind[:cut], behind[cut:], b"", frame(TEXT, b"late")], masked=False)
    assert result == Outcome(["on time"], [(CLOSE, b"\x03\xe8")], None, None, True)


@pytest.mark.parametrize("cut", [0, 1, 3])
def test_nothing_behind_a_failure_is_looked_at(codec: Any, cut: int) -> None:
    behind = frame(TEXT, b"late") + frame(PING, b"late") + frame(CLOSE)
    data = frame(TEXT, b"on time") + frame(PING) + frame(0x3)
    result = outcome(codec, [data + behind[:cut], behind[cut:], frame(TEXT, b"late")], masked=False)
    assert result == Outcome(["on time"], [(PING, b"")], "ReservedOpcode", 1002, True)


def test_a_close_may_stand_between_fragments(codec: Any) -> None:
    data = frame(TEXT, b"begun", fin=False) + frame(CLOSE) + frame(CONT, b"never")
    assert outcome(codec, [data], masked=False) == Outcome([], [(CLOSE, b"")], None, None, True)


def test_the_application_may_stop_the_decoder_in_on_control(codec: Any) -> None:
    messages: list[Data] = []
    decoder: Any = codec.Decoder(lambda *_: decoder.stop(), masked=False, max_size=None)
    messages += decoder.decode(frame(TEXT, b"one") + frame(PING) + frame(TEXT, b"two") + b"\x81")
    messages += decoder.decode(frame(TEXT, b"three"))
    assert messages == ["one"] and decoder.stopped and decoder.failure is None


def test_on_control_may_refuse_a_frame(codec: Any) -> None:
    def refuse(*_: object) -> None:
        raise InvalidUTF8

    decoder = codec.Decoder(refuse, masked=False, max_size=None)
    assert decoder.decode(frame(TEXT, b"one") + frame(CLOSE) + frame(TEXT, b"two")) == ["one"]
    assert isinstance(decoder.failure, InvalidUTF8) and decoder.stopped


# Encoding.

LENGTHS = [0, 1, 2, 3, 4, 5, 124, 125, 126, 127, 128, 129, 4095, 4096, 4097, 65534, 65535, 65536, 65537, 200_000]


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("opcode", [CONT, TEXT, BINARY, PING, PONG, CLOSE])
@pytest.mark.parametrize("fin", [True, False])
def test_encode_is_what_the_rfc_draws(codec: Any, length: int, opcode: int, fin: bool) -> None:
    payload = (b"0123456789abcdefghi" * (length // 19 + 1))[:length]
    assert b"".join(codec.encode(opcode, payload, masked=False, fin=fin)) == frame(opcode, payload, fin=fin)
    masked = b"".join(codec.encode(opcode, payload, masked=True, fin=fin, key=KEY))
    assert masked[:20] == frame(opcode, payload, fin=fin, key=KEY)[:20]
    if length < 5000:
        assert masked == frame(opcode, payload, fin=fin, key=KEY)


@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("wrap", [bytes, bytearray, memoryview, lambda b: memoryview(b"!!!" + b + b"!")[3:-1]])
def test_what_is_encoded_is_decoded(codec: Any, masked: bool, length: int, wrap: Any) -> None:
    payload = (b"0123456789abcdefghi" * (length // 19 + 1))[:length]
    data = b"".join(codec.encode(BINARY, wrap(payload), masked=masked))
    data += b"".join(codec.encode(TEXT, wrap(payload), masked=masked))
    for chunks in ([data], pieces(data, [1000]), pieces(data, [length + 1]), pieces(data, [3, length or 1])):
        assert outcome(codec, chunks, masked=masked).messages == [payload, payload.decode()]


@given(payload=st.binary(max_size=300), key=keys, opcode=st.sampled_from([TEXT, BINARY, CONT, PING]), fin=st.booleans())
def test_encode_masks_with_the_key(codec: Any, payload: bytes, key: bytes, opcode: int, fin: bool) -> None:
    assert b"".join(codec.encode(opcode, payload, masked=True, fin=fin, key=key)) == frame(
        opcode, payload, fin=fin, key=key
    )


def test_encode_sets_reserved_bits(codec: Any) -> None:
    for rsv, first in ((0x40, 0xC1), (0x20, 0xA1), (0x10, 0x91), (0x70, 0xF1)):
        assert b"".join(codec.encode(TEXT, b"a", masked=False, rsv=rsv)) == bytes((first, 1)) + b"a"


def test_encode_masks_with_a_new_key_each_time(codec: Any) -> None:
    frames = {b"".join(codec.encode(TEXT, b"the same", masked=True)) for _ in range(100)}
    assert len(frames) == 100
    assert {slow_mask(data[6:], data[2:6]) for data in frames} == {b"the same"}


def test_encode_does_not_copy_a_large_unmasked_payload(codec: Any) -> None:
    payload = bytes(100_000)
    head, body = codec.encode(BINARY, payload, masked=False)
    assert body is payload and head == header(BINARY, 100_000)


def test_decoded_messages_are_the_users_own(codec: Any) -> None:
    """Exact types, and bytes that hold on to no larger buffer."""
    decoder = codec.Decoder(lambda *_: None, masked=False, max_size=None)
    first, second = decoder.decode(frame(BINARY, b"a" * 10) + frame(TEXT, b"b" * 10))
    assert type(first) is bytes and type(second) is str


def test_long_text_of_every_width(codec: Any) -> None:
    for character in ("a", "é", "€", "\U0001f600"):
        text = character * 70_000
        assert outcome(codec, pieces(frame(TEXT, text.encode()), [4099]), masked=False).messages == [text]
