"""The client's opening handshake: an answer is taken, or refused with a reason, the same in any pieces.

Input: settings, size of the pieces (0: whole), then what the server sends; the key is that of RFC 6455 section 1.3.
Settings: 1 subprotocols, 2 no compression, 4 heads of at most 256 octets, 8 the server ends behind it.
"""

from __future__ import annotations

from typing import Any, Final

from websock.core.handshake import ClientHandshake
from websock.core.options import Options
from websock.core.uri import parse_uri
from websock.exceptions import HeadersTooLarge, InvalidHandshake, InvalidStatus
from websock.spec import MAX_REFUSAL_BODY

from ..core.heads import ACCEPT, KEY
from .harness import Octets, chunks

PERMITTED: Final = (InvalidHandshake,)

ADDRESS: Final = parse_uri("ws://localhost/")


def opened(pieces: list[bytes], options: Options, eof: bool) -> tuple[Any, ...]:
    """What the client makes of it; everything that must not depend on the pieces."""
    handshake = ClientHandshake(ADDRESS, options=options)
    handshake._key = KEY
    behind, rest = b"", list(pieces)
    try:
        while rest and not handshake.done:
            handshake.receive(rest.pop(0))
        if eof:
            handshake.receive_eof()
    except PERMITTED as failure:
        str(failure)
        assert not handshake.done and handshake.protocol is None
        if isinstance(failure, InvalidStatus):
            response = failure.response
            assert response.status_code != 101 and len(response.body) <= MAX_REFUSAL_BODY
            return InvalidStatus, response.status_code, response.body
        return (type(failure),)
    if not handshake.done:
        assert handshake.protocol is None
        return (None,)
    behind = handshake.leftover + b"".join(rest)
    assert handshake.response is not None and handshake.protocol is not None
    assert handshake.response.status_code == 101
    assert handshake.response.headers.get_all("Sec-WebSocket-Accept") == [ACCEPT]
    chosen = handshake.protocol.subprotocol
    assert chosen is None or chosen in (options.subprotocols or ())
    pipeline = handshake.protocol.pipeline
    assert pipeline is None or options.compression is not None
    return handshake.done, handshake.response.headers, chosen, repr(pipeline and pipeline.transforms), behind


def check(data: bytes) -> None:
    octets = Octets(data)
    settings, size = octets.octet(), octets.octet()
    wire = octets.rest()
    options = Options(
        subprotocols=["chat", "superchat"] if settings & 1 else None,
        compression=None if settings & 2 else "deflate",
        max_header_size=256 if settings & 4 else 2**14,
    )
    eof = bool(settings & 8)
    whole = opened([wire] if wire else [], options, eof)
    ways = [chunks(wire, size), *([chunks(wire, 1)] if len(wire) < 1000 else [])]
    for pieces in ways:
        found = opened(pieces, options, eof)
        if HeadersTooLarge not in (whole[0], found[0]):  # the pieces decide whether that or another fault comes first
            assert found == whole, (found, whole)
