"""Frames made by hand in the plainest way there is, and streams of them: what the codec is held against."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

from hypothesis import strategies as st

from websock.core import codec as python_codec
from websock.core.accelerate import ACCELERATED
from websock.core.closing import parse_close
from websock.core.protocol import Protocol, State
from websock.typing import Data

# Every test of the codec runs over its twins.
CODECS: list[Any] = [python_codec]
if ACCELERATED:
    from websock._native import speedups

    CODECS.append(speedups)

CONT, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA


def slow_mask(payload: bytes, key: bytes) -> bytes:
    """RFC 6455 section 5.3, word for word."""
    return bytes(octet ^ key[i % 4] for i, octet in enumerate(payload))


def header(opcode: int, length: int, *, fin: bool = True, rsv: int = 0, mask: bool = False, form: int = 0) -> bytes:
    """RFC 6455 section 5.2, field by field; `form` forces a length of 7, 16 or 64 bits."""
    form = form or (7 if length < 126 else 16 if length < 2**16 else 64)
    bits = f"{fin:b}{rsv:03b}{opcode:04b}{mask:b}"
    bits += f"{length:07b}" if form == 7 else f"{126:07b}{length:016b}" if form == 16 else f"{127:07b}{length:064b}"
    return bytes(int(bits[i : i + 8], 2) for i in range(0, len(bits), 8))


def frame(
    opcode: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0, key: bytes | None = None, form: int = 0
) -> bytes:
    """One frame; masked when there is a `key`."""
    head = header(opcode, len(payload), fin=fin, rsv=rsv, mask=key is not None, form=form)
    return head + (payload if key is None else key + slow_mask(payload, key))


def pieces(data: bytes, sizes: Sequence[int]) -> list[bytes]:
    """`data` cut into pieces of these sizes, over and over."""
    cut: list[bytes] = []
    position = 0
    while position < len(data):
        size = sizes[len(cut) % len(sizes)]
        cut.append(data[position : position + size])
        position += size
    return cut


@dataclasses.dataclass
class Outcome:
    """All that a decoder did with a stream."""

    messages: list[Data] = dataclasses.field(default_factory=list)
    controls: list[tuple[int, bytes]] = dataclasses.field(default_factory=list)
    failure: str | None = None
    code: int | None = None
    stopped: bool = False


def outcome(
    codec: Any, chunks: Iterable[bytes], *, masked: bool, max_size: int | None = None, judge_close: bool = True
) -> Outcome:
    """Feed a new decoder with chunks."""
    result = Outcome()

    def on_control(opcode: int, payload: bytes) -> None:
        if opcode == CLOSE and judge_close:
            parse_close(payload)
        result.controls.append((opcode, payload))

    decoder = codec.Decoder(on_control, masked=masked, max_size=max_size)
    for chunk in chunks:
        result.messages += decoder.decode(chunk)
        while decoder.behind:
            result.messages += decoder.decode(b"")
    if decoder.failure is not None:
        result.failure = type(decoder.failure).__name__
        result.code = int(decoder.failure.code)
    result.stopped = decoder.stopped
    return result


def state_of(protocol: Protocol) -> State:
    """The state, looked up anew: a type checker remembers what an earlier assertion said of the attribute."""
    return protocol.state


# Strategies.

keys = st.binary(min_size=4, max_size=4)
sizes = st.one_of(st.just([1]), st.just([10**9]), st.lists(st.integers(1, 64), min_size=1, max_size=6))
lengths = st.one_of(st.integers(0, 12), st.sampled_from([124, 125, 126, 127, 128, 129, 200, 4095, 4096]))
texts = st.one_of(
    st.text(max_size=20),
    st.text(alphabet="aé€\U0001f600\r\n\x00", max_size=200),
    st.builds(lambda n, s: (s * n)[:n], lengths, st.text(min_size=1, max_size=3)),
)
binaries = st.one_of(
    st.binary(max_size=20), st.builds(lambda n, b: (b * n)[:n], lengths, st.binary(min_size=1, max_size=5))
)
close_payloads = st.one_of(
    st.just(b""),
    st.builds(
        lambda code, reason: code.to_bytes(2, "big") + reason.encode(),
        st.one_of(st.sampled_from([1000, 1001, 1003, 1007, 1011, 1014]), st.integers(3000, 4999)),
        st.text(max_size=30),
    ),
)
pings = st.tuples(st.sampled_from([PING, PONG]), st.binary(max_size=125))


@dataclasses.dataclass
class Stream:
    """Octets from a peer that keeps the rules, and what they mean."""

    masked: bool
    data: bytes
    messages: list[Data]
    controls: list[tuple[int, bytes]]


@st.composite
def streams(draw: st.DrawFn, masked: bool | None = None, close: bool | None = None) -> Stream:
    """Messages in any number of fragments, with control frames between and within them, and perhaps a Close."""
    stream = Stream(draw(st.booleans()) if masked is None else masked, b"", [], [])

    def put(opcode: int, payload: bytes, fin: bool = True) -> None:
        stream.data += frame(opcode, payload, fin=fin, key=draw(keys) if stream.masked else None)

    def maybe_controls() -> None:
        for opcode, payload in draw(st.lists(pings, max_size=2)):
            put(opcode, payload)
            stream.controls.append((opcode, payload))

    for message in draw(st.lists(st.one_of(texts, binaries), max_size=6)):
        maybe_controls()
        opcode, payload = (TEXT, message.encode()) if isinstance(message, str) else (BINARY, message)
        cuts = sorted(draw(st.lists(st.integers(0, len(payload)), max_size=4)))
        for start, stop in zip([0, *cuts], [*cuts, len(payload)], strict=True):
            last = stop == len(payload) and start == (cuts[-1] if cuts else 0)
            put(opcode, payload[start:stop], last)
            opcode = CONT
            if last:
                break
            maybe_controls()
        stream.messages.append(message)
    if draw(st.booleans()) if close is None else close:
        payload = draw(close_payloads)
        put(CLOSE, payload)
        stream.controls.append((CLOSE, payload))
    return stream


@st.composite
def broken_streams(draw: st.DrawFn) -> tuple[bool, bytes]:
    """A stream in which some octets were changed, left out or put in; mostly near the beginnings of frames."""
    stream = draw(streams())
    data = bytearray(stream.data)
    for _ in range(draw(st.integers(1, 3))):
        position = draw(st.integers(0, len(data)))
        how = draw(st.sampled_from(["change", "cut", "insert", "end"]))
        if how == "change" and position < len(data):
            data[position] ^= draw(
                st.one_of(st.integers(1, 255), st.sampled_from([0x80, 0x40, 0x20, 0x10, 0x08, 0x01]))
            )
        elif how == "cut":
            del data[position : position + draw(st.integers(1, 3))]
        elif how == "insert":
            data[position:position] = draw(st.binary(min_size=1, max_size=3))
        elif how == "end":
            del data[position:]
    return stream.masked, bytes(data)
