"""Whole connections: a client and a server that do what they are told, while the wire between them goes wrong.

Input: settings, then steps: an octet (low four bits: which, 0x10: of the server, 0x20 and up: a variant), and what the
step takes. Settings: 1 permessage-deflate, 2 messages of at most 100 octets, 4 no keepalive.

Each script runs once with each twin of the decoder, and both must tell the same story. What an end may raise at its
caller is a table; the peer's deeds raise nothing.
"""

from __future__ import annotations

import contextlib
import itertools
import types
from collections.abc import Callable, Iterator
from typing import Any, Final
from unittest import mock

from websock.core import protocol as protocol_module
from websock.core.accelerate import encode
from websock.core.deflate import Deflate
from websock.core.options import Options
from websock.core.protocol import MAX_PONGS, Protocol, State
from websock.exceptions import ConcurrencyError, ConnectionClosed
from websock.typing import Buffer

from ..core.deflated import agreed
from ..core.frames import CODECS
from .harness import Octets

PERMITTED: Final[dict[str, tuple[type[Exception], ...]]] = {
    "send": (ConnectionClosed,),
    "send_part": (ConnectionClosed, TypeError),  # TypeError: a part of the other type
    "ping": (ConnectionClosed, ConcurrencyError),
    "pong": (ConnectionClosed,),
}

CODES: Final = (1000, 1001, 3000, 4999, 1005, 1011, 1013, 1014)
KEY: Final = b"\x0f\x80\x01\xff"
MOST_STEPS: Final = 200


class End:
    """One end, and its direction of the wire."""

    def __init__(self, protocol: Protocol) -> None:
        self.protocol = protocol
        self.wire = bytearray()
        self.received: list[Any] = []
        self.sent: list[Any] = []
        self.parts: Any = None  # of the message that is being sent
        self.waiting: list[Any] = []  # whole messages behind it
        self.shut = False
        self.eof_told = False
        self.tainted = False  # something came that the other end did not send

    def flush(self) -> None:
        buffers = self.protocol.outgoing()
        assert not (buffers and self.shut), "written behind the end"
        for buffer in buffers:
            self.wire += buffer
        if self.protocol.wants_eof or self.protocol.wants_close:
            self.shut = True


class Story:
    """One run of a script."""

    def __init__(self, codec: Any, octets: Octets) -> None:
        settings = octets.octet()
        self.octets = octets
        self.told: list[Any] = []
        self.now = 0.0
        options = Options(
            max_size=100 if settings & 2 else 2**20, ping_interval=None if settings & 4 else 20, close_timeout=10
        )
        client, serving, *_ = agreed([Deflate(threshold=8)], [Deflate(threshold=8)]) if settings & 1 else (None, None)
        self.ends = []
        for server, pipeline in ((False, client), (True, serving)):
            protocol = Protocol(server=server, options=options, pipeline=pipeline)
            protocol._decoder = codec.Decoder(
                protocol._on_control, masked=server, max_size=options.max_size, pipeline=protocol.pipeline
            )
            protocol.tick(0.0)
            self.ends.append(End(protocol))

    def run(self) -> list[Any]:
        steps: tuple[Callable[[End, End, int], None], ...] = (
            self._send, self._send, self._part, self._control, self._control, self._close, self._fail, self._deliver,
            self._deliver, self._inject, self._eof, self._lost, self._settle, self._tick, self._pause, self._damage,
        )  # fmt: skip
        for _ in range(MOST_STEPS):
            if not self.octets.more:
                break
            step = self.octets.octet()
            end, other = self.ends[step >> 4 & 1], self.ends[1 - (step >> 4 & 1)]
            before = end.protocol.state
            steps[step & 0xF](end, other, step >> 5)
            state = end.protocol.state
            assert state >= before, "a state that goes back"
            self.told.append((step, state, other.protocol.state, end.protocol.unsettled is None))
        self._end()
        return self.told

    def _try(self, name: str, call: Callable[[], None]) -> bool:
        try:
            call()
        except PERMITTED[name] as error:
            self.told.append((name, type(error).__name__))
            return False
        return True

    # Steps.

    def _send(self, end: End, other: End, variant: int) -> None:
        size = self.octets.octet()
        message = "é€" * (size % 50) if variant & 1 else bytes(range(size)) * (1 + 3 * (variant >> 1))
        if self._try("send", lambda: end.protocol.send(message)):
            (end.sent if end.parts is None else end.waiting).append(message)

    def _part(self, end: End, other: End, variant: int) -> None:
        part: Any = "part" if variant & 1 else b"part"
        last = bool(variant & 2)
        if self._try("send_part", lambda: end.protocol.send_part(part, last=last)):
            end.parts = part if end.parts is None else end.parts + part
            if last:
                end.sent += [end.parts, *end.waiting]
                end.parts, end.waiting = None, []

    def _control(self, end: End, other: End, variant: int) -> None:
        payload = bytes([variant]) * (self.octets.octet() % 126)
        if variant & 1:
            self._try("pong", lambda: end.protocol.pong(payload))
        else:
            self._try("ping", lambda: end.protocol.ping(payload, lambda: self.told.append(("pong", payload))))

    def _close(self, end: End, other: End, variant: int) -> None:
        code = CODES[variant]
        end.protocol.close(code, "" if code == 1005 else "why")

    def _fail(self, end: End, other: End, variant: int) -> None:
        end.protocol.fail(CODES[variant])

    def _deliver(self, end: End, other: End, variant: int) -> None:
        """To the other end, some of what this one wrote."""
        end.flush()
        size = self.octets.octet() if variant & 1 else len(end.wire)
        data = bytes(end.wire[:size])
        del end.wire[:size]
        if data:
            self._receive(other, data)

    def _receive(self, end: End, data: bytes) -> None:
        queued = len(end.protocol._out)
        before = end.protocol.state
        messages = end.protocol.receive(data)
        while end.protocol.behind:
            messages += end.protocol.receive(b"")
        assert end.protocol.state == before or before is not State.OPEN, "reading answers Pings, and nothing more"
        assert len(end.protocol._out) <= queued + MAX_PONGS
        assert all(len(one) <= (end.protocol.options.max_size or 0) for one in messages)
        end.received += messages
        self.told.append(messages)

    def _inject(self, end: End, other: End, variant: int) -> None:
        """What nobody sent."""
        data = self.octets.take(self.octets.octet())
        end.tainted = True
        if data:
            self._receive(end, data)

    def _eof(self, end: End, other: End, variant: int) -> None:
        end.flush()
        end.tainted = True
        end.protocol.receive_eof()

    def _lost(self, end: End, other: End, variant: int) -> None:
        end.tainted = True
        end.protocol.lost(ConnectionResetError() if variant & 1 else None)
        assert end.protocol.state is State.CLOSED

    def _settle(self, end: End, other: End, variant: int) -> None:
        end.protocol.settle()
        assert end.protocol.unsettled is None

    def _tick(self, end: End, other: End, variant: int) -> None:
        self.now += self.octets.octet() / 8
        due = end.protocol.tick(self.now)
        assert due is None or due > self.now or due == self.now
        self.told.append(due)

    def _pause(self, end: End, other: End, variant: int) -> None:
        (end.protocol.pause if variant & 1 else end.protocol.resume)(self.now)

    def _damage(self, end: End, other: End, variant: int) -> None:
        """An octet of the wire changes."""
        end.flush()
        at, change = self.octets.octet(), self.octets.octet()
        if at < len(end.wire) and change:
            end.wire[at] ^= change
            other.tainted = True

    # The end.

    def _end(self) -> None:
        for end, other in (self.ends, self.ends[::-1]):
            self._deliver(end, other, 0)
        for end, other in (self.ends, self.ends[::-1]):
            got = end.received
            if not end.tainted:
                assert got == other.sent[: len(got)], "lost, doubled or out of order"
        for end in self.ends:
            end.protocol.lost()
            end.flush()
            assert end.protocol.state is State.CLOSED and end.protocol.wants_close
            error = end.protocol.closed()
            str(error)
            assert end.protocol.tick(self.now + 100) is None
            if end.protocol.close_received is None and end.protocol.close_sent is None:
                assert error.__cause__ is not None, "a bare 1006 without a cause is a bug"
            assert end.protocol.receive(b"\x81\x00\x81\x80abcd") == []
            self.told.append((str(error), end.received))


@contextlib.contextmanager
def repeatable() -> Iterator[None]:
    """Nothing is left to chance: what strangers put between masked octets means the same each time."""
    numbers = itertools.count(1)

    def encode_with_key(opcode: int, payload: Any, *, masked: bool, **how: Any) -> tuple[Buffer, ...]:
        return encode(opcode, payload, masked=masked, key=KEY if masked else None, **how)

    urandom = types.SimpleNamespace(urandom=lambda size: next(numbers).to_bytes(size, "big"))
    with (
        mock.patch.object(protocol_module, "encode", encode_with_key),
        mock.patch.object(protocol_module, "os", urandom),
    ):
        yield


def check(data: bytes) -> None:
    stories = []
    for codec in CODECS:
        with repeatable():
            stories.append(Story(codec, Octets(data)).run())
    assert all(story == stories[0] for story in stories), stories
