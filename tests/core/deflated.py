"""Two ends that have agreed on permessage-deflate, and their messages on the wire."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

from hypothesis import strategies as st

from websock.core import extensions
from websock.core.deflate import Deflate, DeflateTransform
from websock.core.extensions import Extension, Pipeline
from websock.core.options import Options
from websock.core.protocol import Protocol
from websock.datastructures import Headers

from .frames import slow_mask

RSV1 = 4  # as `frame` wants it


def agreed(
    client: Sequence[Extension], server: Sequence[Extension]
) -> tuple[Pipeline | None, Pipeline | None, str, str]:
    """The pipelines of client and server, what the client offers and what the server answers."""
    offer = extensions.offers(client)
    answer, theirs = extensions.answer(Headers({extensions.HEADER: offer}), server)
    ours = extensions.agreement(Headers({extensions.HEADER: answer} if answer else {}), client)
    return ours, theirs, offer, answer


def pair(
    client: Deflate | None = None, server: Deflate | None = None, *, max_size: int | None = None
) -> tuple[Protocol, Protocol]:
    """A client and a server."""
    ours, theirs, _, answer = agreed([client or Deflate()], [server or Deflate()])
    assert answer
    options = Options(max_size=max_size)
    return Protocol(server=False, options=options, pipeline=ours), Protocol(
        server=True, options=options, pipeline=theirs
    )


def transform_of(protocol: Protocol) -> DeflateTransform:
    assert protocol.pipeline is not None
    (transform,) = protocol.pipeline.transforms
    assert isinstance(transform, DeflateTransform)
    return transform


def deflated(payload: bytes, bits: int = 15) -> bytes:
    """A message as RFC 7692 section 7.2.1 says, compressed alone."""
    compressor = zlib.compressobj(wbits=-bits)
    return (compressor.compress(payload) + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4]


def parse_frames(data: bytes) -> list[tuple[int, bool, int, bytes]]:
    """Opcode, FIN, RSV bits and payload of each frame (RFC 6455 section 5.2)."""
    found = []
    while data:
        size, start = data[1] & 0x7F, 2
        if size > 125:
            start += 2 if size == 126 else 8
            size = int.from_bytes(data[2:start], "big")
        key = data[start : start + 4] if data[1] & 0x80 else b""
        start += len(key)
        payload = data[start : start + size]
        found.append(
            (data[0] & 0xF, bool(data[0] & 0x80), data[0] >> 4 & 7, slow_mask(payload, key) if key else payload)
        )
        data = data[start + size :]
    return found


def frames_of(protocol: Protocol) -> list[tuple[int, bool, int, bytes]]:
    """The frames that a protocol wants to write."""
    return parse_frames(b"".join(bytes(buffer) for buffer in protocol.outgoing()))


bits = st.sampled_from([None, 8, 9, 10, 12, 15])
settings_of_deflate = st.builds(
    Deflate,
    server_no_context_takeover=st.booleans(),
    client_no_context_takeover=st.booleans(),
    server_max_window_bits=bits,
    client_max_window_bits=bits,
    level=st.sampled_from([-1, 1, 6, 9]),
    memory_level=st.sampled_from([1, 5, 9]),
    threshold=st.sampled_from([0, 10, 64]),
)
