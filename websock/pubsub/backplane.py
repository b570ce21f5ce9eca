"""What a hub asks of whatever stands between it and other hubs.

A backplane keeps for each topic one log that all hubs see in the same order, and carries casts, which are kept nowhere.
`Ledger` says what its log does with what is added; one that runs elsewhere, in Redis say, does the same there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol

from .errors import BackplaneDown
from .history import History
from .positions import Position, Record

__all__ = ["LARGEST", "Added", "Backplane", "BackplaneDown", "Opened", "Receiver"]

LARGEST: Final = 2**25
"""Octets of a record or a cast, as it is written: a hub hands over nothing larger."""


class Opened(NamedTuple):
    """A topic's log when a hub begins to follow it.

    Attributes:
        entries: what stands behind the position that was asked for, in order.
        floor: the log holds all that stood behind it; may be before the position that was asked for.
        last: the highest position that was given.
        made: where the log began. Another one than before: it was lost as a whole, and is a new one.
    """

    entries: list[tuple[Position, Record]]
    floor: Position
    last: Position
    made: Position


class Added(NamedTuple):
    """What became of a record that was to be added.

    Attributes:
        position: where it stands; None if it was added before and that is not known any more.
        repeated: it was not added now. With `position`, that is where the record with the same (origin, n) or the same
            `uid` stands.
    """

    position: Position | None
    repeated: bool


class Receiver(Protocol):
    """The hub. All is called in the event loop in which the backplane was started, and returns at once."""

    def added(self, topic: str, position: Position, record: Record) -> None:
        """A record of a topic that is open, also one of this hub's own: each one once, in the order of the log."""

    def cast(self, topic: str, data: bytes) -> None:
        """Somebody has cast; it may have been this hub."""

    def up(self) -> None:
        """The service is there, for the first time or again. Nothing is followed yet: the hub opens its topics anew,
        and listens anew."""

    def down(self, why: str) -> None:
        """It is away. What was open and listened to before is forgotten; nothing of it comes any more."""


class Backplane(Protocol):
    """What carries messages from hub to hub.

    Attributes:
        name: for metrics: "workers", "redis".
    """

    name: str

    async def start(self, receiver: Receiver) -> None:
        """Begin to connect, in the background, again and again with longer and longer waits; an absent service is no
        error. Nothing is called before ``up``."""

    async def close(self) -> None:
        """End; what is under way raises `BackplaneDown`."""

    async def open(self, topic: str, history: History, after: Position) -> Opened:
        """Follow a topic: its log behind `after` so far; then ``receiver.added`` for each record after it, without gap
        and double. That may be called before this returns.

        A log that is not there is made: its floor, last and made are the position that follows `after` now. A topic
        that is open already is opened anew: what ``added`` brings is what follows on the answer.

        Raises:
            BackplaneDown: it is away.
        """

    async def forget(self, topic: str) -> None:
        """Follow it no more. Never raises: a backplane that is away has forgotten it."""

    async def add(
        self,
        topic: str,
        records: Sequence[Record],
        history: History,
        above: Position,
        floor: Position | None = None,
    ) -> list[Added]:
        """Append records, in order, with positions above `above`, the last one of the log, and the clock.

        It is idempotent: a log knows of each origin the highest n, and refuses what is not above that; and it refuses
        a uid that it has had in the last `Ledger.UID_SECONDS`. Then it is cut as `history` says.

        Args:
            floor: given by a hub that adds again what a log has lost as a whole: that is all that stood behind
                `floor`. If nothing was ever cut from the new log and none of `records` is refused, that is its floor.

        Raises:
            BackplaneDown: it is away; whether they were added is not known.
        """

    async def cast(self, topic: str, data: bytes) -> None:
        """To all hubs that follow the topic or listen to it, at most once, those of one hub in order.

        Raises:
            BackplaneDown: it is away.
        """

    async def listen(self, topic: str) -> None:
        """Get the casts of a topic, without its log. Nothing, if that is so already; ``open`` does it too.

        Raises:
            BackplaneDown: it is away.
        """

    async def unlisten(self, topic: str) -> None:
        """Get them no more. Never raises."""
