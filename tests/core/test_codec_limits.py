"""What a peer can make the decoder spend: memory, objects and time (RFC 6455 section 10.4)."""

from __future__ import annotations

import sys
import time
import tracemalloc
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from websock.core import codec as python_codec
from websock.core.codec import FRAMES_AT_ONCE
from websock.exceptions import LengthTooBig, PayloadTooBig, TooManyFragments
from websock.spec import MAX_FRAGMENTS

from .frames import BINARY, CLOSE, CODECS, CONT, PING, TEXT, Outcome, frame, header, keys, outcome, pieces, sizes

pytestmark = pytest.mark.parametrize("codec", CODECS)
KEY = b"\x11\x00\xfe\x80"


def peak(function: Callable[[], object]) -> int:
    """The most memory that Python allocates during a call."""
    tracemalloc.start()
    try:
        function()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


# max_size


@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
@pytest.mark.parametrize("limit", [0, 1, 125, 126, 127, 1000, 65535, 65536])
@pytest.mark.parametrize("step", [1, 7, 60_000, 10**9])
def test_a_message_of_exactly_max_size_and_no_more(
    codec: Any, masked: bool, opcode: int, limit: int, step: int
) -> None:
    if step == 1 and limit > 60_000:
        step = 60_001  # it would only take longer
    key = KEY if masked else None
    good = frame(opcode, b"a" * limit, key=key)
    chunks = pieces(good * 2, [step])
    result = outcome(codec, chunks, masked=masked, max_size=limit)
    assert result.failure is None and [len(message) for message in result.messages] == [limit, limit]
    bad = frame(opcode, b"a" * (limit + 1), key=key)
    result = outcome(codec, pieces(good + bad + good, [step]), masked=masked, max_size=limit)
    assert len(result.messages) == 1
    assert (result.failure, result.code) == ("PayloadTooBig", 1009)


@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("sizes", [[0, 0, 10], [10, 0, 0], [1] * 10, [5, 5], [9, 1], [3, 0, 7]])
@pytest.mark.parametrize("step", [1, 7, 10**9])
def test_max_size_counts_over_fragments(codec: Any, masked: bool, sizes: list[int], step: int) -> None:
    def message(last: bytes) -> bytes:
        key = KEY if masked else None
        data = b"".join(
            frame(CONT if i else BINARY, b"a" * size, fin=False, key=key) + frame(PING, b"x" * 100, key=key)
            for i, size in enumerate(sizes)
        )
        return data + frame(CONT, last, key=key)

    result = outcome(codec, pieces(message(b"") * 2, [step]), masked=masked, max_size=10)
    assert result.failure is None and result.messages == [b"a" * 10] * 2
    result = outcome(codec, pieces(message(b"") + message(b"a"), [step]), masked=masked, max_size=10)
    assert result.messages == [b"a" * 10] and (result.failure, result.code) == ("PayloadTooBig", 1009)


@given(
    message=st.lists(st.binary(max_size=20), min_size=1, max_size=6), key=keys, sizes=sizes, limit=st.integers(0, 60)
)
def test_max_size_in_any_fragments(codec: Any, message: list[bytes], key: bytes, sizes: list[int], limit: int) -> None:
    data = b"".join(
        frame(CONT if i else BINARY, part, fin=i == len(message) - 1, key=key) for i, part in enumerate(message)
    )
    whole = b"".join(message)
    result = outcome(codec, pieces(data, sizes), masked=True, max_size=limit)
    if len(whole) <= limit:
        assert result == Outcome([whole], [], None, None, False)
    else:
        assert result == Outcome([], [], "PayloadTooBig", 1009, True)


def test_max_size_counts_octets_of_text(codec: Any) -> None:
    assert outcome(codec, [frame(TEXT, "€".encode())], masked=False, max_size=3).messages == ["€"]
    assert outcome(codec, [frame(TEXT, "€".encode())], masked=False, max_size=2).failure == "PayloadTooBig"


@pytest.mark.parametrize("begun", [b"", frame(BINARY, b"a" * 60, fin=False, key=KEY)])
def test_a_large_frame_is_refused_at_its_header(codec: Any, begun: bytes) -> None:
    """Before its mask and before any payload."""
    decoder = codec.Decoder(lambda *_: None, masked=True, max_size=150)
    opcode = CONT if begun else BINARY
    decoder.decode(begun + header(opcode, 151 - (60 if begun else 0), mask=True))
    assert isinstance(decoder.failure, PayloadTooBig)
    decoder = codec.Decoder(lambda *_: None, masked=True, max_size=150)
    decoder.decode(begun + header(opcode, 150 - (60 if begun else 0), mask=True))
    assert decoder.failure is None


def test_no_max_size(codec: Any) -> None:
    data = frame(BINARY, bytes(3_000_000))
    assert outcome(codec, pieces(data, [65536]), masked=False, max_size=None).messages == [bytes(3_000_000)]


@pytest.mark.parametrize("masked", [True, False])
def test_a_huge_length_allocates_nothing(codec: Any, masked: bool) -> None:
    for length, kind in (
        (2**63, LengthTooBig),
        (2**64 - 1, LengthTooBig),
        (2**63 - 1, type(None)),
        (2**40, type(None)),
    ):
        decoder = codec.Decoder(lambda *_: None, masked=masked, max_size=None)
        data = header(BINARY, length, mask=masked, form=64) + (KEY if masked else b"") + b"abc"

        def feed(decoder: Any = decoder, data: bytes = data) -> None:
            decoder.decode(data[:10])
            decoder.decode(data[10:])

        assert peak(feed) < 50_000
        assert type(decoder.failure) is kind
    decoder = codec.Decoder(lambda *_: None, masked=masked, max_size=2**20)
    decoder.decode(header(BINARY, 2**63 - 1, mask=masked))
    assert isinstance(decoder.failure, PayloadTooBig)


# Fragments


def test_a_message_in_seventy_thousand_fragments(codec: Any) -> None:
    data = frame(BINARY, b"", fin=False) + frame(CONT, b"a", fin=False) * 69_998 + frame(CONT)
    for step in (65536, 10**9):
        result = outcome(codec, pieces(data, [step]), masked=False, max_size=2**20)
        assert result.failure is None and result.messages == [b"a" * 69_998]


def test_no_more_fragments_than_the_limit(codec: Any) -> None:
    data = frame(TEXT, b"", fin=False) + frame(CONT, b"", fin=False) * (MAX_FRAGMENTS - 2)
    assert outcome(codec, [data + frame(CONT) + frame(TEXT, b"next")], masked=False).messages == ["", "next"]
    decoder = codec.Decoder(lambda *_: None, masked=False, max_size=None)
    assert all_of(decoder, frame(TEXT, b"before") + data + frame(CONT, fin=False)) == ["before"]
    assert decoder.failure is None
    assert all_of(decoder, frame(CONT)) == []
    assert isinstance(decoder.failure, TooManyFragments) and decoder.failure.code == 1008


@pytest.mark.parametrize("limit", [1, 2, 5])
def test_another_number_of_fragments(codec: Any, limit: int) -> None:
    data = frame(BINARY, b"a", fin=False) + frame(CONT, b"a", fin=False) * (limit - 2)
    good = data + frame(CONT, b"a") if limit > 1 else frame(BINARY, b"a")
    decoder = codec.Decoder(lambda *_: None, masked=False, max_size=None, max_fragments=limit)
    assert decoder.decode(good * 2) == [b"a" * limit] * 2 and decoder.failure is None
    decoder.decode(frame(BINARY, b"a", fin=False) + frame(CONT, b"a", fin=False) * limit)
    assert isinstance(decoder.failure, TooManyFragments) and f"more than {limit} " in str(decoder.failure)


def all_of(decoder: Any, data: bytes) -> list[Any]:
    """What the decoder makes of a read in as many calls as it needs."""
    messages: list[Any] = decoder.decode(data)
    while decoder.behind:
        messages += decoder.decode(b"")
    return messages


# Work for one call: so many frames, and the loop has its turn.


@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("kind", ["messages", "fragments", "pings", "mixed"])
def test_a_read_of_empty_frames_is_taken_in_steps(codec: Any, masked: bool, kind: str) -> None:
    key = KEY if masked else None
    message, part, ping = frame(TEXT, key=key), frame(CONT, fin=False, key=key), frame(PING, key=key)
    unit = {"messages": message, "fragments": part, "pings": ping, "mixed": ping + message}[kind]
    seen: list[int] = []
    decoder = codec.Decoder(lambda opcode, payload: seen.append(opcode), masked=masked, max_size=None)
    if kind == "fragments":
        decoder.decode(frame(TEXT, fin=False, key=key))
    data, frames = unit * (2**16 // len(unit)), 2**16 // len(message)
    for taken in range(0, frames, FRAMES_AT_ONCE):
        assert not taken or decoder.behind
        before = len(seen)
        messages = decoder.decode(b"" if taken else data)
        here = min(FRAMES_AT_ONCE, frames - taken)
        controls = {"pings": here, "mixed": here // 2}.get(kind, 0)
        assert (len(messages), len(seen) - before) == (0 if kind == "fragments" else here - controls, controls)
    assert not decoder.behind and decoder.decode(b"") == []


def test_what_is_cut_off_behind_the_last_frame_of_a_call(codec: Any) -> None:
    """Octets that come meanwhile belong behind those that wait."""
    full = frame(TEXT, b"a") * FRAMES_AT_ONCE
    for cut in range(1, 6):
        decoder = codec.Decoder(lambda *_: None, masked=False, max_size=None)
        assert len(decoder.decode(full)) == FRAMES_AT_ONCE and not decoder.behind
        last = frame(TEXT, b"late")
        assert len(decoder.decode(full + last[:cut])) == FRAMES_AT_ONCE and decoder.behind
        assert decoder.decode(last[cut:]) == ["late"] and not decoder.behind


def test_a_failure_and_a_close_end_what_waits(codec: Any) -> None:
    for end in (frame(CLOSE), frame(3)):
        decoder = codec.Decoder(lambda *_: None, masked=False, max_size=None)
        decoder.decode(frame(TEXT) * FRAMES_AT_ONCE + end + frame(TEXT) * FRAMES_AT_ONCE)
        assert decoder.behind
        assert decoder.decode(b"") == [] and decoder.stopped and not decoder.behind
        decoder = codec.Decoder(lambda *_: None, masked=False, max_size=None)
        decoder.decode(frame(TEXT) * FRAMES_AT_ONCE * 2)
        decoder.stop()
        assert not decoder.behind and decoder.decode(b"") == []


def flood(unit: bytes, count: int, first: bytes) -> Iterable[bytes]:
    """A million fragments in reads of 64 KiB."""
    read = unit * (65536 // len(unit))
    yield first
    for _ in range(count * len(unit) // len(read) + 1):
        yield read


@pytest.mark.parametrize(
    ("opcode", "payload", "ping"),
    [(TEXT, b"", b""), (BINARY, b"a", b""), (TEXT, b"ab", frame(PING, b"p" * 20))],
    ids=["empty", "one-octet", "with-pings"],
)
def test_a_flood_of_fragments_is_bounded(codec: Any, opcode: int, payload: bytes, ping: bytes) -> None:
    decoder = codec.Decoder(lambda *_: None, masked=False, max_size=2**20)
    unit = frame(CONT, payload, fin=False) + ping

    def feed() -> None:
        for read in flood(unit, 1_000_000, frame(opcode, payload, fin=False)):
            all_of(decoder, read)

    # A read, its copy, and a message of at most 256 KiB; the fragments themselves leave nothing.
    assert peak(feed) < 2_000_000
    assert isinstance(decoder.failure, TooManyFragments)


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
@pytest.mark.parametrize("masked", [True, False])
def test_a_message_in_tiny_chunks_keeps_no_objects(codec: Any, opcode: int, masked: bool) -> None:
    """Chunks of two octets: single octets are objects that CPython has anyway, and would hide a list of them."""
    decoder = codec.Decoder(lambda *_: None, masked=masked, max_size=2**20)
    decoder.decode(header(opcode, 200_000, mask=masked) + (KEY if masked else b""))
    # As many different chunks as two letters make; the mask turns by two octets from one chunk to the next.
    chunks = [
        bytes(octet ^ (KEY[i + 2 * (number % 2)] if masked else 0) for i, octet in enumerate(letters))
        for number, letters in enumerate(bytes((0x40 + n % 8, 0x50 + n // 8)) for n in range(64))
    ]

    def feed() -> None:
        for _ in range(40_000 // 64):
            for chunk in chunks:
                decoder.decode(chunk)

    feed()
    blocks = sys.getallocatedblocks()
    feed()
    assert sys.getallocatedblocks() - blocks < 500
    (message,) = decoder.decode(bytes(40_000)) if not masked else [b""]
    assert decoder.failure is None
    assert masked or len(message) == 200_000


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_a_message_in_tiny_chunks_takes_little_memory(codec: Any, opcode: int) -> None:
    """The worst are characters of four octets, each in a chunk of its own."""
    decoder = codec.Decoder(lambda *_: None, masked=False, max_size=2**20)
    decoder.decode(header(opcode, 400_000))
    character = "\U0001f600".encode()

    def feed() -> None:
        for _ in range(30_000):
            decoder.decode(character)

    assert peak(feed) < 4 * 120_000


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_fragments_octet_by_octet_keep_no_objects(codec: Any, opcode: int) -> None:
    decoder = codec.Decoder(lambda *_: None, masked=True, max_size=2**20)
    decoder.decode(frame(opcode, b"", fin=False, key=KEY))
    octets = pieces(frame(CONT, b"abc", fin=False, key=KEY) + frame(PING, b"x", key=KEY), [1])

    def feed() -> None:
        for _ in range(2_000):
            for octet in octets:
                decoder.decode(octet)

    feed()
    blocks = sys.getallocatedblocks()
    assert peak(feed) < 100_000  # the message grows by 6,000 octets
    assert sys.getallocatedblocks() - blocks < 500
    assert decoder.decode(frame(CONT, key=KEY)) == ["abc" * 4_000 if opcode == TEXT else b"abc" * 4_000]


def test_a_header_that_never_ends_keeps_little(codec: Any) -> None:
    decoder = codec.Decoder(lambda *_: None, masked=True, max_size=None)
    for octet in pieces(frame(PING, b"a" * 125, key=KEY)[:-1], [1]):
        decoder.decode(octet)
    assert len(decoder._tail if codec is python_codec else decoder.__getstate__()[13]) == 130


# Time grows with the octets and not with their square.


def seconds(function: Callable[[], object]) -> float:
    def once() -> float:
        start = time.process_time()
        function()
        return time.process_time() - start

    return min(once() for _ in range(3))


@pytest.mark.parametrize("step", [1, 100])
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_time_is_linear_in_the_size_of_a_message(codec: Any, step: int, opcode: int) -> None:
    def feed(size: int) -> None:
        outcome(codec, pieces(frame(opcode, b"a" * size), [step]), masked=False, max_size=None)

    small, factor = 2_000 * step, 32
    # Linear is 32, quadratic is 1024.
    assert seconds(lambda: feed(small * factor)) < 8 * factor * max(seconds(lambda: feed(small)), 0.0005)
