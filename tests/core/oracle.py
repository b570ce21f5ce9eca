"""wsproto as an oracle: what it makes of the octets of a peer, beside what a decoder of ours makes of them."""

from __future__ import annotations

import dataclasses
from typing import Any

from wsproto.connection import Connection, ConnectionState, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Ping, Pong, TextMessage

from websock.core.closing import parse_close
from websock.exceptions import ProtocolError
from websock.typing import Data

from .frames import CLOSE, PING, PONG, pieces


@dataclasses.dataclass
class Verdict:
    messages: list[Data] = dataclasses.field(default_factory=list)
    controls: list[tuple[int, bytes]] = dataclasses.field(default_factory=list)
    close: tuple[int, str] | None = None  # the peer's Close
    failed: int | None = None  # the code that the connection is failed with
    asked: int | None = dataclasses.field(default=None, compare=False)  # the code in the peer's Close, good or not


def ours(codec: Any, chunks: list[bytes], masked: bool) -> Verdict:
    verdict = Verdict()

    def on_control(opcode: int, payload: bytes) -> None:
        if opcode == CLOSE:
            verdict.asked = int.from_bytes(payload[:2], "big") or None
            close = parse_close(payload)
            verdict.close = (int(close.code), close.reason)
        else:
            verdict.controls.append((opcode, payload))

    decoder = codec.Decoder(on_control, masked=masked, max_size=None)
    for chunk in chunks:
        verdict.messages += decoder.decode(chunk)
    failure: ProtocolError | None = decoder.failure
    verdict.failed = None if failure is None else int(failure.code)
    return verdict


class Oracle:
    def __init__(self, masked: bool) -> None:
        self.connection = Connection(ConnectionType.SERVER if masked else ConnectionType.CLIENT)
        self.verdict = Verdict()
        self.parts: list[Any] = []

    def feed(self, chunk: bytes) -> None:
        if self.verdict.failed is not None or self.verdict.close is not None:
            return
        self.connection.receive_data(chunk)
        for event in self.connection.events():
            if isinstance(event, TextMessage | BytesMessage):
                self.parts.append(event.data)
                if event.message_finished:
                    empty: Any = "" if isinstance(event, TextMessage) else b""
                    self.verdict.messages.append(empty.join(self.parts))
                    self.parts = []
            elif isinstance(event, Ping | Pong):
                self.verdict.controls.append((PING if isinstance(event, Ping) else PONG, bytes(event.payload)))
            elif isinstance(event, CloseConnection):
                if self.connection.state is ConnectionState.REMOTE_CLOSING:
                    self.verdict.close = (int(event.code), event.reason or "")
                else:
                    self.verdict.failed = int(event.code)


def theirs(chunks: list[bytes], masked: bool) -> Verdict:
    oracle = Oracle(masked)
    for chunk in chunks:
        oracle.feed(chunk)
    return oracle.verdict


def agree(codec: Any, data: bytes, sizes: list[int], masked: bool) -> None:
    mine = ours(codec, pieces(data, sizes), masked)
    oracle = Oracle(masked)
    for chunk in pieces(data, sizes):
        oracle.feed(chunk)
    verdict = oracle.verdict
    # 1. wsproto does not know the code 1014, which IANA registered after the RFC; section 7.4.2 lets it be registered.
    if mine.asked == 1014:
        assert verdict.failed == 1002
        verdict = dataclasses.replace(verdict, failed=mine.failed, close=mine.close)
    # 2. wsproto judges a continuation (section 5.4) with the first octet of the payload, we with the header. At the end
    #    of what came it may still wait; length, mask and one octet more bring it to the same verdict, for which the RFC
    #    names no moment.
    elif mine.failed is not None and verdict.failed is None:
        oracle.feed(bytes(13))
        assert verdict.failed == mine.failed
    # 3. The other way round: wsproto refuses an opcode, or a control frame of more than 125 octets, at the second
    #    octet, we when the extended length is here too. Again the RFC names no moment.
    elif mine.failed is None and verdict.failed is not None:
        later = ours(codec, [*pieces(data, sizes), bytes(8)], masked)
        assert later.failed == verdict.failed
        mine = dataclasses.replace(mine, failed=later.failed)
        assert later == mine
    assert mine == verdict
