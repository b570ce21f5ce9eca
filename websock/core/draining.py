"""How the connections of a server that drains end, the same in every adapter."""

from __future__ import annotations

import collections
import dataclasses
import enum
import math
import random
from collections.abc import Iterable, Mapping
from typing import Any, Final, TypeVar

from ..spec import CloseCode
from .closing import Close, serialize_close
from .endpoint import Endpoint
from .protocol import State

__all__ = ["Drained", "DrainOutcome", "Plan", "moment", "outcome_of"]

DEADLINE: Final = 30.0  # seconds, unless ``drain`` says otherwise
CODE: Final = CloseCode.SERVICE_RESTART  # likewise
PATIENCE: Final = 0.5  # part of the deadline after which a connection is closed though its handler is busy
LAST: Final = 1.0  # seconds for what is cut to end
STEP: Final = 0.02  # seconds between two looks at connections that were not idle

_C = TypeVar("_C", bound=Endpoint)


class DrainOutcome(enum.Enum):
    """How one connection of a server that drained ended.

    Attributes:
        CLOSED: our Close was answered.
        ENDED: it ended by itself before that: the peer's Close, its handler, an error.
        UNANSWERED: our Close was sent; the connection ended without the peer's.
        CUT: it was cut at the deadline.
    """

    CLOSED = "closed"
    ENDED = "ended"
    UNANSWERED = "unanswered"
    CUT = "cut"


@dataclasses.dataclass(frozen=True, slots=True)
class Drained:
    """What ``drain`` returns.

    Attributes:
        outcomes: each connection that was open, and how it ended.
        refused: opening handshakes that were under way and got 503.
        seconds: how long it took.
        elsewhere: connections that were other processes', of which only the end is known.
        cut_elsewhere: those of them that were cut at the deadline.
    """

    outcomes: Mapping[Any, DrainOutcome]
    refused: int
    seconds: float
    elsewhere: int = 0
    cut_elsewhere: int = 0

    def count(self, outcome: DrainOutcome) -> int:
        """How many connections ended so."""
        return sum(one is outcome for one in self.outcomes.values())

    def __str__(self) -> str:
        counts = collections.Counter(one.value for one in self.outcomes.values())
        told = ", ".join(f"{counts[one.value]} {one.value}" for one in DrainOutcome if counts[one.value])
        text = f"{len(self.outcomes)} connections in {self.seconds:.1f} s: {told or 'none'}; {self.refused} refused"
        if self.elsewhere:
            text += f"; {self.elsewhere} in other processes, {self.cut_elsewhere} of them cut"
        return text


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """What was asked of ``drain``, checked.

    Raises:
        TypeError, ValueError: `deadline` or `spread` is no number of seconds, or the Close cannot be sent.
    """

    deadline: float
    code: int
    reason: str
    spread: float

    def __post_init__(self) -> None:
        for name in ("deadline", "spread"):
            value = getattr(self, name)
            if not isinstance(value, int | float) or isinstance(value, bool):
                raise TypeError(f"{name} is a number of seconds, not {value!r}")
            if not 0 <= value < math.inf:
                raise ValueError(f"{name} is a number of seconds from 0, not {value!r}")
        if self.spread > self.deadline:
            raise ValueError(f"spread ({self.spread} s) is longer than the deadline ({self.deadline} s)")
        serialize_close(Close(self.code, self.reason))

    @property
    def patience(self) -> float:
        """Seconds after which a connection whose handler is busy is closed all the same."""
        return PATIENCE * (self.deadline - self.spread)

    def times(self, connections: Iterable[_C]) -> list[tuple[float, _C]]:
        """When to close each; last ones first, for ``pop``."""
        when = [(moment(self.spread), connection) for connection in connections]
        when.sort(key=lambda pair: pair[0], reverse=True)
        return when


def moment(spread: float) -> float:
    """When to close one connection: at random within `spread` seconds, so that clients don't all come back at once."""
    return random.uniform(0, spread)  # noqa: S311 - no secret


def outcome_of(connection: Endpoint, plan: Plan, cut: bool) -> DrainOutcome:
    """How it ended; `cut`: we did not wait for more."""
    if cut:
        return DrainOutcome.CUT
    protocol = connection._protocol
    sent = protocol.close_sent
    if sent is None or sent.code != plan.code or connection.state is not State.CLOSED:
        return DrainOutcome.ENDED
    if protocol.close_received is None:
        return DrainOutcome.UNANSWERED
    return DrainOutcome.ENDED if protocol.ending.received_first else DrainOutcome.CLOSED
