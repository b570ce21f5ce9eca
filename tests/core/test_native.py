"""The native twins beside the Python ones: the same messages, codes and errors for the same octets; and what only C can
get wrong: reading past an end, and losing count of references."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import gc
import mmap
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from websock.core import codec as python_codec
from websock.core import masking
from websock.core.accelerate import ACCELERATED, REASON
from websock.core.deflate import Deflate
from websock.core.extensions import Pipeline
from websock.core.inbox import Inbox
from websock.core.protocol import Protocol

from .deflated import RSV1, agreed, deflated
from .frames import BINARY, CLOSE, CODECS, CONT, PING, TEXT, broken_streams, frame, keys, pieces, sizes, streams

KEY = b"\x01\x02\x03\x04"


def test_it_is_in_use_unless_it_was_declined() -> None:
    """On CI there is a compiler: then an extension that is not built is a mistake."""
    if os.environ.get("CI") and os.environ.get("WEBSOCK_PURE", "0") in ("", "0"):
        assert ACCELERATED, REASON
    assert ACCELERATED is not bool(REASON)


def test_it_can_be_declined() -> None:
    code = "from websock.core import accelerate as a, Decoder; print(a.ACCELERATED, a.REASON, Decoder.__module__)"
    printed = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "WEBSOCK_PURE": "1"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert printed == "False WEBSOCK_PURE is set websock.core.codec\n"


native = pytest.mark.skipif(not ACCELERATED, reason=f"the native twins are not in use: {REASON}")
speedups: Any = CODECS[-1]


# The same for the same octets.


def story(codec: Any, chunks: list[bytes], plan: list[bool | None], **how: Any) -> list[Any]:
    """All that a decoder does, step by step; `plan` turns streaming on and off between the chunks."""
    told: list[Any] = []
    decoder = codec.Decoder(lambda opcode, payload: told.append((opcode, payload)), **how)

    def tell(entries: list[Any]) -> None:
        for entry in entries:
            told.append((entry.data, entry.last) if isinstance(entry, python_codec.Fragment) else entry)

    for number, chunk in enumerate(chunks):
        if plan and (wish := plan[number % len(plan)]) is not None:
            part = decoder.stream(wish)
            tell([] if part is None else [part])
        tell(decoder.decode(chunk))
        told.append((decoder.stopped, decoder.behind, None if decoder.stopped else decoder.expanded))
        while decoder.behind:
            tell(decoder.decode(b""))
    failure = decoder.failure
    told.append(None if failure is None else (type(failure), failure.code, str(failure)))
    return told


plans = st.lists(st.sampled_from([None, None, True, False]), max_size=5)
limits = st.one_of(st.none(), st.integers(0, 300))


@native
@settings(max_examples=500)
@given(broken=broken_streams(), cut=sizes, limit=limits, plan=plans)
def test_broken_streams(broken: tuple[bool, bytes], cut: list[int], limit: int | None, plan: list[bool | None]) -> None:
    masked, data = broken
    chunks = pieces(data, cut)
    ours, theirs = (story(one, chunks, plan, masked=masked, max_size=limit) for one in (python_codec, speedups))
    assert theirs == ours


@native
@settings(max_examples=100)
@given(
    broken=broken_streams(),
    unit=st.sampled_from([(TEXT, b"a"), (PING, b""), (BINARY, b"b" * 126)]),
    short=st.integers(-1, 12),
    cut=st.sampled_from([[10**9], [30_000], [100_000, 1]]),
    plan=plans,
)
def test_streams_behind_so_much_that_it_waits(
    broken: tuple[bool, bytes], unit: tuple[int, bytes], short: int, cut: list[int], plan: list[bool | None]
) -> None:
    masked, data = broken
    before = frame(*unit, key=KEY if masked else None) * (python_codec.FRAMES_AT_ONCE - short)
    chunks = pieces(before + data, cut)
    ours, theirs = (story(one, chunks, plan, masked=masked, max_size=300) for one in (python_codec, speedups))
    assert theirs == ours


@native
@given(stream=streams(), cut=sizes, limit=limits, plan=plans)
def test_valid_streams(stream: Any, cut: list[int], limit: int | None, plan: list[bool | None]) -> None:
    chunks = pieces(stream.data, cut)
    ours, theirs = (story(one, chunks, plan, masked=stream.masked, max_size=limit) for one in (python_codec, speedups))
    assert theirs == ours


@native
@settings(max_examples=300)
@given(
    data=st.lists(
        st.one_of(
            st.binary(max_size=30),
            st.builds(
                lambda text, bits, fin, first, key: frame(
                    first, deflated(text, 9)[: None if bits else -1], rsv=RSV1 * bits, fin=fin, key=key
                ),
                st.binary(max_size=60),
                st.sampled_from([1, 1, 1, 0]),
                st.booleans(),
                st.sampled_from([TEXT, BINARY, CONT, PING]),
                keys,
            ),
        ),
        max_size=8,
    ).map(b"".join),
    cut=sizes,
    limit=limits,
    plan=plans,
    takeover=st.booleans(),
)
def test_compressed(data: bytes, cut: list[int], limit: int | None, plan: list[bool | None], takeover: bool) -> None:
    def pipeline() -> Pipeline | None:
        return agreed([Deflate(client_no_context_takeover=not takeover)], [Deflate()])[1]

    chunks = pieces(data, cut)
    ours, theirs = (
        story(one, chunks, plan, masked=True, max_size=limit, pipeline=pipeline()) for one in (python_codec, speedups)
    )
    assert theirs == ours


@native
@given(
    text=st.one_of(st.binary(max_size=12), st.text(max_size=8).map(str.encode)),
    more=st.binary(max_size=6),
    cut=sizes,
    fin=st.booleans(),
    masked=st.booleans(),
)
def test_text_of_any_octets(text: bytes, more: bytes, cut: list[int], fin: bool, masked: bool) -> None:
    key = KEY if masked else None
    data = frame(TEXT, text, fin=fin, key=key) + frame(CONT, more, key=key)
    ours, theirs = (story(one, pieces(data, cut), [], masked=masked, max_size=None) for one in (python_codec, speedups))
    assert theirs == ours


@native
@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
@pytest.mark.parametrize("size", [0, 1, 125, 126, 4095, 4096, 32_767, 65_535, 65_536, 300_000])
def test_large_messages_in_reads_of_any_size(masked: bool, opcode: int, size: int) -> None:
    payload = ("aé€😀" * (size // 10 + 1)).encode()[:size] if opcode == TEXT else os.urandom(size)
    payload = payload.decode("utf-8", "ignore").encode() if opcode == TEXT else payload
    key = KEY if masked else None
    half = len(payload) // 2
    data = frame(opcode, payload, key=key) + frame(opcode, payload[:half], fin=False, key=key)
    data += frame(PING, b"p", key=key) + frame(CONT, payload[half:], key=key)
    for step in (1000, 4096, 65_536, 10**9):
        chunks = pieces(data, [step])
        ours, theirs = (story(one, chunks, [], masked=masked, max_size=None) for one in (python_codec, speedups))
        assert theirs == ours


@native
@given(
    opcode=st.sampled_from([CONT, TEXT, BINARY, CLOSE, PING]),
    payload=st.one_of(st.binary(max_size=200), st.integers(0, 70_000).map(bytes)),
    fin=st.booleans(),
    rsv=st.sampled_from([0, 0x10, 0x20, 0x40, 0x70]),
    key=st.none() | keys,
    kind=st.sampled_from([bytes, bytearray, memoryview]),
)
def test_encode(opcode: int, payload: bytes, fin: bool, rsv: int, key: bytes | None, kind: Any) -> None:
    how: dict[str, Any] = {"masked": key is not None, "fin": fin, "rsv": rsv, "key": key}
    ours, theirs = (one.encode(opcode, kind(payload), **how) for one in (python_codec, speedups))
    assert [bytes(buffer) for buffer in theirs] == [bytes(buffer) for buffer in ours]


@native
def test_wrong_arguments() -> None:
    wrongs: list[Any] = [
        lambda: speedups.encode(1, b"x"),
        lambda: speedups.encode(1, "text", masked=False),
        lambda: speedups.encode(1, b"x", masked=False, no_such=1),
        lambda: speedups.encode(b"x", masked=False),
        lambda: speedups.apply_mask(b"x"),
        lambda: speedups.apply_mask("x", KEY),
        lambda: speedups.Decoder(print),
        lambda: speedups.Decoder(print, masked=True),
        lambda: speedups.Decoder(print, masked=True, max_size="1"),
        lambda: speedups.Decoder(print, masked=True, max_size=None).decode("x"),
        lambda: speedups.Queue("x", 1),
        lambda: speedups.Pump(),
    ]
    for wrong in wrongs:
        with pytest.raises(TypeError):
            wrong()
    for bad_key in (b"", b"123", b"12345"):
        with pytest.raises(ValueError, match="4 octets"):
            speedups.apply_mask(b"x", bad_key)
        with pytest.raises(ValueError, match="4 octets"):
            speedups.encode(1, b"x", masked=True, key=bad_key)
    with pytest.raises(IndexError):
        speedups.Queue(None, 1).take()
    for state in ((), (None,) * 18, "x"):
        with pytest.raises((TypeError, ValueError)):
            speedups.Decoder.__new__(speedups.Decoder).__setstate__(state)


@native
def test_what_on_control_raises_passes() -> None:
    def boom(opcode: int, payload: bytes) -> None:
        raise LookupError("mine")

    decoder = speedups.Decoder(boom, masked=False, max_size=None)
    with pytest.raises(LookupError):
        decoder.decode(frame(PING, b"x"))


# Memory.


@pytest.fixture
def guarded() -> Iterator[Any]:
    """Octets in front of a page that may not be touched: a function of their number, and how far in front."""
    page = mmap.PAGESIZE
    area = mmap.mmap(-1, 3 * page)
    start = ctypes.addressof(ctypes.c_char.from_buffer(area))
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.mprotect(ctypes.c_void_p(start + 2 * page), ctypes.c_size_t(page), 0) == 0
    view = memoryview(area)
    try:
        yield lambda length, off: view[2 * page - off - length : 2 * page - off]
    finally:
        libc.mprotect(ctypes.c_void_p(start + 2 * page), ctypes.c_size_t(page), 3)
        view.release()


@pytest.mark.skipif(sys.platform != "linux", reason="uses mprotect as Linux has it")
@native
def test_masks_of_every_length_at_every_alignment_at_the_edge_of_a_page(guarded: Any) -> None:
    """tornado once read up to three octets past the end."""
    source = os.urandom(4096)
    for off in range(17):
        guarded(4096, off)[:] = source
        for length in range(4097):
            data = guarded(length, off)
            expected = masking.apply_mask(bytes(data), KEY) if length % 97 == 0 or length < 140 else None
            result = speedups.apply_mask(data, KEY)
            assert len(result) == length
            if expected is not None:
                assert result == expected


@pytest.mark.skipif(sys.platform != "linux", reason="uses mprotect as Linux has it")
@native
def test_frames_at_the_edge_of_a_page(guarded: Any) -> None:
    for masked in (True, False):
        key = KEY if masked else None
        for payload in (b"", b"a", "aé€😀".encode(), b"x" * 125, b"y" * 126, b"z" * 1000, b"\xe2\x82"):
            for opcode in (TEXT, BINARY, PING):
                data = frame(opcode, payload[: 125 if opcode == PING else None], key=key)
                for length in range(len(data) + 1):
                    view = guarded(length, 0)
                    view[:] = data[:length]
                    decoder = speedups.Decoder(lambda *_: None, masked=masked, max_size=None)
                    decoder.decode(view)


def decoded(data: bytes, cut: int, streaming: bool, compressed: bool = False) -> None:
    pipeline = agreed([Deflate()], [Deflate()])[1] if compressed else None
    decoder = speedups.Decoder(lambda *_: None, masked=True, max_size=100_000, pipeline=pipeline)
    decoder.stream(streaming)
    for chunk in pieces(data, [cut]):
        decoder.decode(chunk)
    decoder.decode(b"more")


def queued() -> None:
    inbox = Inbox(3)
    inbox.add([str(i) * 3 for i in range(100)], 1)
    inbox.take()
    list(inbox)
    inbox.take_all()
    inbox.add(["left"], 1)


def pickled() -> None:
    protocol = Protocol(server=True)
    protocol.receive(frame(TEXT, b"part", fin=False, key=KEY))
    pickle.loads(pickle.dumps(protocol)).receive(frame(CONT, b"part", key=KEY))


WRONG_CALLS: list[Any] = [lambda: speedups.encode(1, "x", masked=True), lambda: speedups.apply_mask(b"", b"")]


def encoded() -> None:
    speedups.encode(1, b"x" * 5000, masked=False)
    speedups.encode(1, memoryview(b"x" * 5000), masked=True)
    speedups.apply_mask(b"x" * 100, KEY)
    speedups.new_key()
    for wrong in WRONG_CALLS:
        with contextlib.suppress(TypeError, ValueError):
            wrong()


LATE = frame(TEXT, b"a\xe2", fin=False, key=KEY) + frame(PING, key=KEY) + frame(CONT, b"\x82\xac", key=KEY)
REFERENCES: dict[str, Any] = {
    **{
        f"{name}, {'in parts' if streaming else 'whole'}, {cut}": functools.partial(decoded, data, cut, streaming)
        for name, data in {
            "text": frame(TEXT, "aé".encode() * 50, key=KEY),
            "bytes": frame(BINARY, b"x" * 70_000, key=KEY),
            "fragments": LATE,
            "invalid": frame(TEXT, b"ab\xff", key=KEY),
            "refused": frame(TEXT, b"a", fin=False, key=KEY) + frame(TEXT, b"b", key=KEY),
            "close": frame(CLOSE, b"\x03\xe8bye", key=KEY),
        }.items()
        for streaming in (False, True)
        for cut in (50, 10**9)
    },
    "compressed": functools.partial(decoded, frame(TEXT, deflated(b"again " * 30), rsv=RSV1, key=KEY), 50, False, True),
    "damaged": functools.partial(decoded, frame(TEXT, b"\xff\xff", rsv=RSV1, key=KEY), 50, True, True),
    "queue": queued,
    "pickle": pickled,
    "encode": encoded,
}


@native
@pytest.mark.parametrize("name", REFERENCES)
def test_references_are_counted(name: str) -> None:
    run = REFERENCES[name]
    for _ in range(10):  # caches, of Python's and ours, fill at first; what leaks goes on
        gc.collect()
        before = sys.getallocatedblocks()
        for _ in range(300):
            run()
        gc.collect()
        if sys.getallocatedblocks() - before < 30:
            return
    pytest.fail("one object for each ten runs is left")


@native
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_child_process_uses_none_of_its_parents_keys() -> None:
    speedups.new_key()
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writer, b"".join(speedups.new_key() for _ in range(100)))
        os._exit(0)
    os.waitpid(child, 0)
    theirs = os.read(reader, 400)
    os.close(reader)
    os.close(writer)
    ours = {speedups.new_key() for _ in range(1000)}
    assert len(theirs) == 400
    assert len(ours & {theirs[i : i + 4] for i in range(0, 400, 4)}) < 3
