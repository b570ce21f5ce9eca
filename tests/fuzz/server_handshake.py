"""The server's opening handshake: whatever comes is waited for, answered or refused, the same in any pieces.

Input: settings, size of the pieces (0: whole), then what the client sends.
Settings: 1 subprotocols, 2 any origin, 4 heads of at most 256 octets, 8 what is behind the head comes after the answer.
"""

from __future__ import annotations

from typing import Any, Final

from websock.core.handshake import ServerHandshake
from websock.core.options import SAME_ORIGIN, Options
from websock.exceptions import InvalidHandshake

from ..core.heads import accept_of, parse_answer
from .harness import Octets, chunks

PERMITTED: Final = (InvalidHandshake,)  # as the handshake's `failure`; its calls raise nothing

STATUSES: Final = {101, 400, 403, 405, 426, 431}


def opened(pieces: list[bytes], options: Options) -> tuple[Any, ...]:
    """What the server makes of it; everything that must not depend on the pieces."""
    handshake = ServerHandshake(options=options)
    fed = 0
    for piece in pieces:
        if handshake.done:
            break
        handshake.receive(piece)
        fed += len(piece)
        assert handshake.done or fed <= 2 * options.max_header_size + len(piece)  # a head, and what may follow it
    if handshake.request is not None and not handshake.done:
        handshake.accept()
    if handshake.failure is not None:
        assert isinstance(handshake.failure, PERMITTED), handshake.failure
    out = b"".join(bytes(buffer) for buffer in handshake.outgoing())
    assert bool(out) is handshake.done
    if not handshake.done:
        return (None,)
    answer = parse_answer(out)
    assert answer.status in STATUSES and (answer.status == 101) is (handshake.protocol is not None)
    assert "\n" not in str(handshake.failure) or handshake.failure is None
    answer.headers.pop("date", None)
    if answer.status == 101:
        _check_opened(handshake, answer.headers)
    # An oversize head is told in the piece that makes it so, which may be one with another fault.
    return (answer.status, answer.headers) if answer.status == 101 else (answer.status if answer.status < 426 else 400,)


def _check_opened(handshake: ServerHandshake, answered: dict[str, list[str]]) -> None:
    """RFC 6455 section 4.2.1 again, in the plainest way."""
    request = handshake.request
    assert request is not None
    (key,) = request.headers.get_all("Sec-WebSocket-Key")
    assert answered["sec-websocket-accept"] == [accept_of(key)]
    assert request.method == "GET" and request.path.startswith("/") and request.http_version == "1.1"
    assert len(request.headers.get_all("Host")) == 1
    assert request.headers.get_all("Sec-WebSocket-Version") == ["13"]
    assert "websocket" in ",".join(request.headers.get_all("Upgrade")).lower()
    assert "upgrade" in ",".join(request.headers.get_all("Connection")).lower()
    assert "Transfer-Encoding" not in request.headers
    for name, value in request.headers.raw_items():
        assert name.isascii() and not {"\r", "\n", "\0"} & {*name, *value}


def check(data: bytes) -> None:
    octets = Octets(data)
    settings, size = octets.octet(), octets.octet()
    wire = octets.rest()
    options = Options(
        subprotocols=["chat", "superchat"] if settings & 1 else None,
        origins=None if settings & 2 else SAME_ORIGIN,
        max_header_size=256 if settings & 4 else 2**14,
    )
    whole = opened([wire], options)
    if len(wire) <= options.max_header_size:  # else the pieces decide which fault comes first
        assert opened(chunks(wire, size), options) == whole
        if len(wire) < 1000:
            assert opened(chunks(wire, 1), options) == whole
    head, blank, behind = wire.partition(b"\r\n\r\n")
    if whole[0] == 101 and blank and b"\n\n" not in head and b"\n\r\n" not in head:
        handshake = ServerHandshake(options=options)
        handshake.receive(wire)
        handshake.accept()
        assert handshake.leftover == behind
        again = ServerHandshake(options=options)  # what belongs to the connection may come later too
        again.receive(head + blank)
        again.receive(behind)
        if len(behind) <= options.max_header_size:
            again.accept()
            assert again.leftover == behind
