"""What is said in every conversation with a peer, and what must have been agreed on before."""

from __future__ import annotations

import dataclasses
import json
import queue
import random
from collections.abc import Callable, Mapping
from typing import Any

import pytest

import websock.asyncio
import websock.sync
from websock.core import Deflate
from websock.exceptions import ConnectionClosedOK

from ..adapters.drivers import BOUND, Bench, End, SyncEnd, Where

Message = str | bytes
OURS = ["asyncio", "sync"]
AT_ONCE = 10_000  # octets or characters that go in one frame

_random = random.Random(7692)  # the same messages in every run
_WORDS = ["naïve", "Straße", "мир", "日本語", "the", "window", "slides", "over", "what", "was", "said", "🙂"]


def _far() -> bytes:
    """A block that comes again behind each window and a little less: who looks back too far is found out."""
    block = _random.randbytes(120)
    return b"".join(block + _random.randbytes(2**bits - less) for bits in range(8, 16) for less in (121, 100))


# They differ by a few octets: with context takeover, nearly all of each is in the window.
ALIKE = [
    json.dumps({"id": number, "user": "Zoë", "text": "мир 日本語", "tags": ["a", "b"] * 8}) for number in range(20)
]
LONG: list[Message] = [" ".join(_random.choices(_WORDS, k=40_000)), bytes(range(256)) * 300, _far()]
MESSAGES: list[Message] = [
    *ALIKE[:5],
    "",
    "short",
    "Grüße, 日本語 🙂 " * 30,
    b"",
    _random.randbytes(5000),
    *LONG,
    bytes(1000),
    bytes(500),  # goes on as the one before ended: even a window of one octet would show
    *ALIKE[5:10],
    b"\x00\x00\xff\xff" * 20,  # looks like the end of a flush
    "",
]
FRAGMENTED = [ALIKE[0], LONG[0], LONG[2], ALIKE[1]]
COMPRESSIBLE = [*ALIKE, *LONG[:2]]


def cut(message: Message) -> list[Any]:
    """Fragments, some of them empty."""
    third = len(message) // 3
    return [message[:0], message[:third], message[:0], message[third:-1], message[-1:], message[:0]]


def in_pieces(message: Message) -> Any:
    """In fragments if it is long."""
    return message if len(message) <= AT_ONCE else cut(message)


@dataclasses.dataclass
class Case:
    """Settings of both sides, and what they must come to.

    Attributes:
        answer: parameters in the server's answer; None if it has no extension.
        server: bits of what the server sends, and whether it forgets: as our end knows it.
        client: the same of the client.
    """

    ours: Deflate
    theirs: Mapping[str, Any]
    answer: str | None
    server: tuple[int, bool] = (15, False)
    client: tuple[int, bool] = (15, False)

    def check(self, ws: Any, role: str) -> None:
        """`ws` is our connection, `role` our role."""
        assert _parameters(ws.response.headers.get("Sec-WebSocket-Extensions")) == (
            None if self.answer is None else _parameters(f"permessage-deflate; {self.answer}")
        )
        if self.answer is None:
            assert ws.extensions == ()
            return
        (deflate,) = ws.extensions
        views = [(deflate.bits, deflate.forgets), (deflate.peer_bits, deflate.peer_forgets)]
        assert views == ([self.client, self.server] if role == "client" else [self.server, self.client])


def _parameters(header: str | None) -> list[str] | None:
    return None if header is None else sorted(part.strip() for part in header.split(";") if part.strip())


def cases(**named: Case) -> pytest.MarkDecorator:
    """A parameter `case` for each."""
    return pytest.mark.parametrize("case", [pytest.param(case, id=name) for name, case in named.items()])


def expect(receive: Callable[[], Any], message: Message) -> None:
    received = receive()
    # Not by assert: its explanation of two long texts takes minutes.
    if type(received) is not type(message) or received != message:
        pytest.fail(f"{received[:60]!r} ({len(received)}) instead of {message[:60]!r} ({len(message)})")


def talk(send: Callable[[Any], None], receive: Callable[[], Any], fragments: bool = True) -> None:
    """Say everything to somebody who repeats it."""
    for message in MESSAGES:
        send(message)
        expect(receive, message)
    for message in FRAGMENTED if fragments else []:
        send(cut(message))
        expect(receive, message)
    for message in ALIKE:
        send(message)
    for message in ALIKE:
        expect(receive, message)


def talk_compressible(send: Callable[[Any], None], receive: Callable[[], Any]) -> None:
    for message in COMPRESSIBLE:
        send(message)
        expect(receive, message)


def talk_alike(send: Callable[[Any], None], receive: Callable[[], Any]) -> None:
    for message in ALIKE:
        send(message)
        expect(receive, message)


def talk_choosing(end: End) -> None:
    """Compression chosen for each message: those that are not compressed leave the context alone."""
    for message in [*ALIKE, "x", "", *LONG]:
        for compress in (None, True, False, True):
            end.send(message, compress=compress)
            expect(end.recv, message)
    for compress in (None, True, False, True):
        end.send(cut(ALIKE[0]), compress=compress)
        expect(end.recv, ALIKE[0])


def connect(bench: Bench, ours: str, port: int, deflate: Deflate | str) -> Any:
    """Our client."""
    where = bench.where("tcp4")
    where.port = port
    return bench.connect(ours, where, compression=deflate)


def finish(end: End) -> None:
    """Close our client, cleanly."""
    end.close()
    assert end.close_code == 1000


def broadcast(end: End, message: Message) -> None:
    if isinstance(end, SyncEnd):
        websock.sync.broadcast([end.ws], message, raise_exceptions=True)
        return
    ws = end.ws

    async def now() -> None:
        websock.asyncio.broadcast([ws], message, raise_exceptions=True)

    end.adapter.run(now())


def serve_echo(bench: Bench, ours: str, deflate: Deflate | str, **options: Any) -> tuple[Where, Callable[[], Any]]:
    """Our server, which repeats everything, and a way to its next connection.

    Long messages go back in fragments, short binary ones by broadcast, between which the context must not suffer.
    """
    ends: queue.SimpleQueue[End] = queue.SimpleQueue()

    def echo(end: End) -> None:
        ends.put(end)
        while True:
            try:
                message = end.recv()
            except ConnectionClosedOK:
                return
            if isinstance(message, bytes) and len(message) <= AT_ONCE:
                broadcast(end, message)
            else:
                end.send(in_pieces(message))

    where = bench.where("tcp4")
    bench.serve(ours, where, echo, compression=deflate, **options)
    return where, lambda: ends.get(timeout=BOUND)
