"""What compressed data can make us spend: the limit of a message holds while it is inflated (RFC 7692 section 8)."""

from __future__ import annotations

import time
import tracemalloc
import zlib
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from websock.core.deflate import PIECE, Deflate
from websock.core.protocol import Protocol
from websock.exceptions import PayloadTooBig

from .deflated import RSV1, deflated, pair
from .frames import BINARY, CONT, TEXT, frame, header, pieces, sizes
from .peers import KEY

MIB = 2**20


def bomb(size: int) -> bytes:
    """`size` octets, about a thousand times smaller."""
    compressor = zlib.compressobj(9, wbits=-15)
    block = bytes(MIB)
    packed = b"".join(compressor.compress(block) for _ in range(size // MIB))
    return packed + compressor.compress(bytes(size % MIB)) + compressor.flush(zlib.Z_SYNC_FLUSH)[:-4]


def feed(server: Protocol, data: bytes, step: int = 10**9) -> list[Any]:
    return [message for chunk in pieces(data, [step]) for message in server.receive(chunk)]


def code_of(server: Protocol) -> int | None:
    failure: Any = server.unsettled
    return None if failure is None else int(failure.code)


def in_one_frame(payload: bytes) -> bytes:
    return frame(BINARY, payload, rsv=RSV1, key=KEY)


def in_fragments(payload: bytes) -> bytes:
    parts = pieces(payload, [len(payload) // 5 + 1])
    return b"".join(
        frame(CONT if i else BINARY, part, rsv=0 if i else RSV1, fin=i == len(parts) - 1, key=KEY)
        for i, part in enumerate(parts)
    )


def one_octet_a_fragment(payload: bytes) -> bytes:
    """Fragments so small that most of them inflate to nothing."""
    return b"".join(
        frame(CONT if i else BINARY, payload[i : i + 1], rsv=0 if i else RSV1, fin=i == len(payload) - 1, key=KEY)
        for i in range(len(payload))
    )


@pytest.mark.parametrize("frames", [in_one_frame, in_fragments, one_octet_a_fragment])
@pytest.mark.parametrize("limit", [0, 1, 100, 65_535, 65_536, 65_537, 2 * 65_536, MIB])
@pytest.mark.parametrize("step", [1, 1000, 10**9])
def test_exactly_the_limit_passes_and_one_octet_more_does_not(frames: Any, limit: int, step: int) -> None:
    _, server = pair(max_size=limit)
    assert feed(server, frames(bomb(limit)), step) == [bytes(limit)] and code_of(server) is None
    assert feed(server, frames(bomb(limit)), step) == [bytes(limit)] and code_of(server) is None
    good = frame(TEXT, b"", key=KEY)
    assert feed(server, good + frames(bomb(limit + 1)) + good, step) == [""]
    assert isinstance(server.unsettled, PayloadTooBig) and code_of(server) == 1009


@pytest.mark.parametrize("limit", [1000, 65_536, MIB])
def test_the_limit_holds_with_context_takeover(limit: int) -> None:
    """The second message is nearly nothing but references to the first."""
    _, server = pair(max_size=limit)
    compressor = zlib.compressobj(wbits=-12)
    for size in (limit, limit, limit + 1):
        message = b"ab" * (size // 2) + b"c" * (size % 2)
        payload = compressor.compress(message) + compressor.flush(zlib.Z_SYNC_FLUSH)
        messages = feed(server, in_one_frame(payload[:-4]))
        assert [len(message) for message in messages] == ([size] if size <= limit else [])
    assert code_of(server) == 1009


def test_the_limit_counts_what_the_application_gets() -> None:
    """Not the octets on the wire: data that is flushed after each octet takes seven times as many."""
    _, server = pair(max_size=3000)
    compressor = zlib.compressobj(wbits=-12)
    parts = [compressor.compress(b"%c" % (i & 0xFF)) + compressor.flush(zlib.Z_SYNC_FLUSH) for i in range(3000)]
    payload = b"".join(parts)[:-4]
    assert len(payload) > 6 * 3000
    (message,) = feed(server, in_one_frame(payload))
    assert len(message) == 3000


def test_a_frame_that_could_only_be_too_long_is_refused_at_its_header() -> None:
    for length, refused in ((2**40, True), (10_000, False)):
        _, server = pair(max_size=10_000)
        server.receive(header(BINARY, length, rsv=RSV1, mask=True))
        assert (code_of(server) == 1009) is refused


def test_endless_nothing_is_refused() -> None:
    """Empty blocks inflate to nothing, for ever."""
    _, server = pair(max_size=10_000)
    empty = frame(CONT, b"\x00\x00\x00\xff\xff" * 1000, fin=False, key=KEY)
    server.receive(frame(BINARY, b"\x00\x00\x00\xff\xff", rsv=RSV1, fin=False, key=KEY))
    for _ in range(100):
        server.receive(empty)
        if code_of(server):
            break
    assert code_of(server) == 1009


@given(
    parts=st.lists(st.integers(0, 400), min_size=1, max_size=6),
    limit=st.integers(0, 1500),
    cut=sizes,
    takeover=st.booleans(),
)
def test_the_limit_in_any_fragments_and_chunks(parts: list[int], limit: int, cut: list[int], takeover: bool) -> None:
    settings = Deflate(client_no_context_takeover=not takeover)
    sender, server = pair(settings, settings)
    server = Protocol(server=True, options=type(server.options)(max_size=limit), pipeline=server.pipeline)
    for i, size in enumerate(parts):
        sender.send_part(b"a" * size, last=i == len(parts) - 1)
    data = b"".join(bytes(buffer) for buffer in sender.outgoing())
    messages = [message for chunk in pieces(data, cut) for message in server.receive(chunk)]
    whole = b"a" * sum(parts)
    assert (messages, code_of(server)) == (([whole], None) if len(whole) <= limit else ([], 1009))


# Memory and time.


def peak_of(server: Protocol, chunks: Iterator[bytes]) -> int:
    """The most that Python has allocated over what it had; zlib's own few KiB come on top."""
    tracemalloc.start()
    try:
        for chunk in chunks:
            server.receive(chunk)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("limit", [100_000, MIB, 4 * MIB])
def test_the_peak_is_the_limit_and_little_more(limit: int) -> None:
    data = in_one_frame(bomb(200_000_000))
    assert len(data) < 200_000
    _, server = pair(max_size=limit)
    feed(server, in_one_frame(bomb(10)))
    chunks = pieces(data, [65_536])
    peak = peak_of(server, iter(chunks))
    assert code_of(server) == 1009
    # The message (a growing byte string has an eighth to spare), a piece, and what was read with its unmasked copies.
    assert peak < limit * 9 / 8 + 2 * PIECE + 4 * 65_536


def test_many_small_bombs_leave_nothing_behind() -> None:
    _, server = pair(max_size=MIB)
    data = in_one_frame(bomb(MIB))

    def messages() -> Iterator[bytes]:
        for _ in range(50):
            yield data

    assert peak_of(server, messages()) < 4 * MIB
    assert code_of(server) is None


@pytest.mark.parametrize(
    "payload",
    [
        b"\x03\x00" * 32_000,  # final blocks of nothing: each one ends a stream, and the next begins one
        b"\x00\x00\x00\xff\xff" * 13_000,  # stored blocks of nothing
        b"\x02" * 64_000,
        deflated(bytes(MIB)) * 60,
    ],
    ids=["final", "stored", "fixed", "zeros"],
)
def test_time_for_a_frame_of_64_kib_is_bounded(payload: bytes) -> None:
    _, server = pair(max_size=MIB)
    started = time.process_time()
    feed(server, in_one_frame(payload[:65_536]))
    assert time.process_time() - started < 2.0  # it takes hundredths; this is for a machine that is busy
