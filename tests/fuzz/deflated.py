"""Compressed messages: what is inflated is what zlib makes of it, or too much, or refused; in pieces as in one.

Input: settings, octets of the first frame, size of the pieces, then the payload.
Settings: 1 text, 2 and 4 the limit, 8 no context takeover, 16 the same message once more.
"""

from __future__ import annotations

import zlib
from typing import Final

from websock.core.deflate import Deflate
from websock.exceptions import ProtocolError

from ..core.deflated import RSV1, agreed
from ..core.frames import BINARY, CODECS, CONT, TEXT, frame
from .harness import Octets, chunks

PERMITTED: Final = (ProtocolError,)  # as the decoder's `failure`; `decode` raises nothing

LIMITS: Final = (10, 1000, 100_000, 2**20)


def inflated(payload: bytes, most: int) -> bytes | None:
    """RFC 7692 section 7.2.2 in the plainest way; None when it is damaged or gives more than `most`."""
    inflater, out, data = zlib.decompressobj(-15), b"", payload + b"\x00\x00\xff\xff"
    if not payload:
        return b""
    while data:
        try:
            out += inflater.decompress(data, most + 1 - len(out))
        except zlib.error:
            return None
        if len(out) > most:
            return None
        if inflater.eof:  # a block with BFINAL ends the stream, not the message
            data, inflater = inflater.unused_data, zlib.decompressobj(-15)
            if data == b"\x00\x00\xff\xff":
                break
        else:
            data = inflater.unconsumed_tail
    return out


def check(data: bytes) -> None:
    octets = Octets(data)
    settings, cut, size = octets.octet(), octets.octet(), octets.octet()
    payload = octets.rest()
    limit = LIMITS[settings >> 1 & 3]
    text = bool(settings & 1)
    wire = frame(TEXT if text else BINARY, payload[:cut], rsv=RSV1, fin=False) + frame(CONT, payload[cut:])
    if settings & 16:
        wire += frame(TEXT if text else BINARY, payload, rsv=RSV1)
    outcomes = []
    for pieces in (chunks(wire, 0), chunks(wire, size)):
        for codec in CODECS:
            asked = Deflate(server_no_context_takeover=bool(settings & 8))
            pipeline = agreed([asked], [Deflate(server_max_window_bits=15)])[0]
            decoder = codec.Decoder(lambda *_: None, masked=False, max_size=limit, pipeline=pipeline)
            messages = []
            for piece in pieces:
                messages += decoder.decode(piece)
                while decoder.behind:
                    messages += decoder.decode(b"")
            assert decoder.failure is None or isinstance(decoder.failure, PERMITTED), decoder.failure
            assert all(len(one.encode() if isinstance(one, str) else one) <= limit for one in messages)
            outcomes.append((messages, decoder.failure is not None))
    assert all(outcome == outcomes[0] for outcome in outcomes), outcomes
    expected = inflated(payload, limit)
    messages, failed = outcomes[0]
    if expected is None:
        assert failed and not messages
    elif not text:
        assert messages[:1] == [expected]
    else:
        try:
            assert messages[:1] == [expected.decode()]
        except UnicodeDecodeError:
            assert failed and not messages
