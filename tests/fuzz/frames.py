"""The frame decoder: whatever comes, in whatever pieces, both twins and wsproto say the same of it.

Input: settings, size of the pieces (0: whole), then what the peer sends.
Settings: 1 the peer masks, 2 and 4 the limit, 8 the next message in parts, 16 permessage-deflate.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Final

from websock.core.closing import parse_close
from websock.core.codec import SMALL_STEP, Fragment
from websock.core.deflate import Deflate
from websock.exceptions import ProtocolError

from ..core.deflated import agreed
from ..core.frames import CLOSE, CODECS
from ..core.oracle import agree
from .harness import Octets, chunks

PERMITTED: Final = (ProtocolError,)  # as the decoder's `failure`; `decode` raises nothing

LIMITS: Final = (None, 0, 10, 1000)


@dataclasses.dataclass
class Found:
    """All that a decoder made of it."""

    messages: list[Any] = dataclasses.field(default_factory=list)
    controls: list[tuple[int, bytes]] = dataclasses.field(default_factory=list)
    failure: str | None = None
    stopped: bool = False
    lengths: list[int] = dataclasses.field(default_factory=list, compare=False)  # octets of the messages


def decoded(codec: Any, pieces: list[bytes], settings: int) -> Found:
    found = Found()
    max_size = LIMITS[settings >> 1 & 3]

    def on_control(opcode: int, payload: bytes) -> None:
        assert len(payload) <= 125
        if opcode == CLOSE:
            parse_close(payload)
        found.controls.append((opcode, payload))

    pipeline = agreed([Deflate()], [Deflate()])[settings & 1] if settings & 16 else None
    decoder = codec.Decoder(on_control, masked=bool(settings & 1), max_size=max_size, pipeline=pipeline)
    entries = []
    if settings & 8:
        assert decoder.stream(True) is None
    for piece in pieces:
        entries += decoder.decode(piece)
        while decoder.behind:
            entries += decoder.decode(b"")
    parts: list[Any] = []
    for entry in entries:
        if isinstance(entry, Fragment):
            parts.append(entry.data)
            if not entry.last:
                continue
            entry, parts = type(entry.data)().join(parts), []
        found.messages.append(entry)
        found.lengths.append(len(entry.encode() if isinstance(entry, str) else entry))
    if decoder.failure is not None:
        assert isinstance(decoder.failure, PERMITTED), decoder.failure
        found.failure = type(decoder.failure).__name__
    found.stopped = decoder.stopped
    # Nothing is decoded behind the end, however often one tries.
    if decoder.stopped:
        assert decoder.decode(b"\x81\x00" * 3) == [] and not decoder.behind
    assert max_size is None or all(size <= max_size for size in found.lengths)
    return found


def check(data: bytes) -> None:
    octets = Octets(data)
    settings, size = octets.octet(), octets.octet()
    wire = octets.rest()
    by_piece = []
    for pieces in (chunks(wire, 0), chunks(wire, size), chunks(wire, 1)):
        twins = [decoded(codec, pieces, settings) for codec in CODECS]
        if settings & 16 and max(map(len, pieces), default=0) > SMALL_STEP:
            for found in twins:  # the native twin inflates step by step, and may find the first of two faults earlier
                found.failure = found.failure and "failed"
        assert all(twin == twins[0] for twin in twins), twins
        by_piece.append(twins[0])
    if settings & 16:
        # Which of two faults within one compressed message is found first, the pieces may decide.
        for found in by_piece:
            found.failure = found.failure and "failed"
    assert by_piece[0] == by_piece[1] == by_piece[2], by_piece
    # wsproto waits for the third octet of a surrogate, and may find another fault first: test_wsproto.py, 4.
    if not settings & 30 and by_piece[0].failure != "InvalidUTF8":
        agree(CODECS[-1], wire, [size or 10**9], bool(settings & 1))
