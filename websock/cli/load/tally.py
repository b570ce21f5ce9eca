"""What was counted: plain numbers that can be added, subtracted and sent to another process."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Final, Self

from .histogram import Histogram

__all__ = ["Tally", "count_reason"]

_REASONS: Final = 20  # texts that are told apart
_OTHERS: Final = "other reasons"


def count_reason(reasons: dict[str, int], reason: str, many: int = 1) -> None:
    """Count a text that a stranger may have chosen: at most so many of them are told apart."""
    if reason not in reasons and len(reasons) >= _REASONS:
        reason = _OTHERS
    reasons[reason] = reasons.get(reason, 0) + many


@dataclasses.dataclass
class Tally:
    """What has happened so far.

    Of messages: ``due = sent + unread + cut + behind``; with answers expected,
    ``sent = answered + altered + lost + unanswered``.

    Attributes:
        tried: connections.
        opened: of them.
        open: now.
        refused: the server's other answers than 101, by what they said.
        failed: no HTTP answer, or no proper one, by reason.
        dropped: connections that ended before we closed them, by cause.
        ended: connections that did not end well when we closed them, by cause.
        due: messages that were to be sent by now.
        sent: messages.
        unread: were due on connections whose peer did not take what was sent before.
        cut: were due on connections that had ended.
        behind: were due, and the tool did not get to them.
        received: messages of any kind.
        answered: once, unaltered.
        altered: have the number of a message, and are not like it.
        doubled: answers that had come before.
        reordered: answers that came behind that of a later message; they are answered all the same.
        lost: without an answer, while a later message has one.
        unanswered: those after the last that was answered, on all connections, at the end.
        strange: messages that are no answers.
        octets_sent, octets_received: of messages.
        handshakes: from when a connection was due until it was open, TLS included.
        latency: from when a message was due (or in a closed loop: sent) to its answer; unanswered ones with their age.
        lateness: from when a message was due until the tool sent it, where nothing but the tool kept it.
        opening_lateness: from when a connection was due until the tool began to open it.
        lag: how late the tool's event loop woke up.
        opening: seconds that this took.
        seconds: of sending.
        cpu: the greatest share of a core, 0 to 1, that a process of the tool used while it sent; 0 before.
        starved: the greatest share of that time in which one could have run and had no core; 0 where nobody knows.
    """

    tried: int = 0
    opened: int = 0
    open: int = 0
    refused: dict[str, int] = dataclasses.field(default_factory=dict)
    failed: dict[str, int] = dataclasses.field(default_factory=dict)
    dropped: dict[str, int] = dataclasses.field(default_factory=dict)
    ended: dict[str, int] = dataclasses.field(default_factory=dict)
    due: int = 0
    sent: int = 0
    unread: int = 0
    cut: int = 0
    behind: int = 0
    received: int = 0
    answered: int = 0
    altered: int = 0
    doubled: int = 0
    reordered: int = 0
    lost: int = 0
    unanswered: int = 0
    strange: int = 0
    octets_sent: int = 0
    octets_received: int = 0
    handshakes: Histogram = dataclasses.field(default_factory=Histogram)
    latency: Histogram = dataclasses.field(default_factory=Histogram)
    lateness: Histogram = dataclasses.field(default_factory=Histogram)
    opening_lateness: Histogram = dataclasses.field(default_factory=Histogram)
    lag: Histogram = dataclasses.field(default_factory=Histogram)
    opening: float = 0.0
    seconds: float = 0.0
    cpu: float = 0.0
    starved: float = 0.0

    def merge(self, other: Tally) -> None:
        """Add what another process has counted in the same time."""
        for field in dataclasses.fields(self):
            ours, theirs = getattr(self, field.name), getattr(other, field.name)
            if isinstance(ours, Histogram):
                ours.merge(theirs)
            elif isinstance(ours, dict):
                for reason, many in theirs.items():
                    count_reason(ours, reason, many)
            else:
                setattr(self, field.name, max(ours, theirs) if isinstance(ours, float) else ours + theirs)

    def to_json(self) -> dict[str, Any]:
        """Plain data that `from_json` takes."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {
            name: value.to_json() if isinstance(value, Histogram) else dict(value) if isinstance(value, dict) else value
            for name, value in values.items()
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        histograms = {field.name for field in dataclasses.fields(cls) if field.default_factory is Histogram}
        values: dict[str, Any] = dict(data)
        for name in histograms:
            values[name] = Histogram.from_json(values[name])
        return cls(**values)
