"""A `Protocol` that counts: what a server with metrics makes its connections of.

Strategy: the native half of a connection reads and writes past the protocol, and counts that itself
(``_octets_in`` and the like of `Endpoint`); what comes to the protocol is counted here. No path goes through both, so
the sum of the two is what happened.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from ..core.codec import Fragment
from ..core.protocol import Protocol
from ..typing import Buffer, Data

__all__ = ["CountedProtocol"]


class CountedProtocol(Protocol):
    """Counts messages when they are complete, or queued to be written; octets of frames, control frames included.

    Args:
        observe: called with the seconds of each ping that was answered.
        how: as for `Protocol`.
    """

    __slots__ = ("_observe", "_streamed", "messages_in", "messages_out", "octets_in", "octets_out")

    counts_only = True  # the native half goes past the methods below, and need not call them

    def __init__(self, observe: Callable[[float], object], **how: Any) -> None:
        self._observe: Callable[[float], object] | None = None
        self._streamed = False
        self.messages_in = self.messages_out = self.octets_in = self.octets_out = 0
        super().__init__(**how)
        self._observe = observe  # only now: the latency before the first ping is none

    @property
    def latency(self) -> float:  # in the place of a slot
        """As `Protocol.latency`."""
        return _LATENCY.__get__(self)  # type: ignore[no-any-return]

    @latency.setter
    def latency(self, seconds: float) -> None:
        _LATENCY.__set__(self, seconds)
        if self._observe is not None:
            self._observe(seconds)

    def receive(self, data: Buffer) -> list[Data]:
        messages = _receive(self, data)
        self.octets_in += len(data)
        self.messages_in += len(messages) if not self._streamed else _complete(messages)
        return messages

    def stream(self, on: bool) -> Fragment | None:
        self._streamed = True
        return super().stream(on)

    def send(self, message: str | Buffer, *, text: bool | None = None, compress: bool | None = None) -> None:
        at_once = not self._part_opcode and self.pipeline is None  # else it goes through send_payload
        _send(self, message, text=text, compress=compress)
        if at_once:
            self.messages_out += 1

    def send_payload(self, opcode: int, payload: Buffer, compress: bool | None) -> None:
        waits = self._part_opcode  # and comes here again when it is its turn
        super().send_payload(opcode, payload, compress)
        if not waits:
            self.messages_out += 1

    def send_encoded(self, buffers: tuple[Buffer, ...]) -> None:
        waits = self._part_opcode
        super().send_encoded(buffers)
        if not waits:
            self.messages_out += 1

    def send_part(
        self, part: str | Buffer, *, last: bool, text: bool | None = None, compress: bool | None = None
    ) -> None:
        super().send_part(part, last=last, text=text, compress=compress)
        if last:
            self.messages_out += 1

    def outgoing(self) -> list[Buffer]:
        buffers = _outgoing(self)
        if len(buffers) == 1:
            self.octets_out += len(buffers[0])
        elif buffers:
            self.octets_out += sum(map(len, buffers))
        return buffers


# What runs for every message is called without a look-up.
_receive, _send, _outgoing = Protocol.receive, Protocol.send, Protocol.outgoing
_LATENCY: Any = Protocol.__dict__["latency"]


def _complete(items: Iterable[Any]) -> int:
    """How many messages are complete in what came while one is taken in parts."""
    return sum(not isinstance(item, Fragment) or item.last for item in items)
