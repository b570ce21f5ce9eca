"""Heads of HTTP messages made by hand, and what came back."""

from __future__ import annotations

import base64
import dataclasses
import hashlib

from websock.core.handshake import ServerHandshake
from websock.core.options import Options

KEY = "dGhlIHNhbXBsZSBub25jZQ=="  # RFC 6455 section 1.3
ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="

GOOD = {
    "Host": "example.com",
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Key": KEY,
    "Sec-WebSocket-Version": "13",
}


def accept_of(key: str) -> str:
    """RFC 6455 section 4.2.2, item 5.4, again."""
    digest = hashlib.sha1((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest()
    return base64.b64encode(digest).decode()


def request(
    changes: dict[str, str | None] | None = None,
    more: list[tuple[str, str | bytes]] | None = None,
    line: str = "GET /chat?x=1 HTTP/1.1",
) -> bytes:
    """A good request with some headers replaced, left out (None) or added."""
    fields = {**GOOD, **(changes or {})}
    lines: list[bytes] = [line.encode("latin-1")]
    for name, value in [*fields.items(), *(more or [])]:
        if value is not None:
            lines.append(
                name.encode("latin-1") + b": " + (value if isinstance(value, bytes) else value.encode("latin-1"))
            )
    return b"\r\n".join(lines) + b"\r\n\r\n"


@dataclasses.dataclass
class Answer:
    status: int
    headers: dict[str, list[str]]
    body: bytes


def parse_answer(data: bytes) -> Answer:
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    version, status, _ = first.split(" ", 2)
    assert version == "HTTP/1.1"
    headers: dict[str, list[str]] = {}
    for line in lines:
        name, _, value = line.partition(": ")
        headers.setdefault(name.lower(), []).append(value)
    return Answer(int(status), headers, body)


def serve(
    chunks: list[bytes] | bytes, options: Options | None = None, **keywords: object
) -> tuple[ServerHandshake, Answer | None]:
    """A server that accepts whatever may be accepted; its answer, None while it waits."""
    handshake = ServerHandshake(options=options)
    for chunk in [chunks] if isinstance(chunks, bytes) else chunks:
        handshake.receive(chunk)
    if handshake.request is not None and not handshake.done:
        handshake.accept(**keywords)  # type: ignore[arg-type]
    data = b"".join(bytes(buffer) for buffer in handshake.outgoing())
    assert handshake.outgoing() == []
    assert bool(data) == handshake.done
    return handshake, parse_answer(data) if data else None


def answer(chunks: list[bytes] | bytes, options: Options | None = None, **keywords: object) -> Answer:
    result = serve(chunks, options, **keywords)[1]
    assert result is not None, "no answer"
    return result
