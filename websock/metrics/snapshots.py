"""What `Metrics.snapshot` gives: plain data."""

from __future__ import annotations

import bisect
import dataclasses
import math
from collections.abc import Iterable, Mapping

from ..exceptions import CloseCause

__all__ = ["Backplane", "Distribution", "Histogram", "Peer", "Snapshot"]


@dataclasses.dataclass(frozen=True, slots=True)
class Distribution:
    """How many values were how large.

    Attributes:
        bounds: the upper bound of each class, which belongs to it, in rising order.
        counts: values in each class and, at the end, above all bounds; not added up.
        sum: of all values.
        most: the largest value; 0 without any.
    """

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    sum: float
    most: float

    @property
    def count(self) -> int:
        """How many values."""
        return sum(self.counts)

    def quantile(self, part: float) -> float | None:
        """The bound below which `part` of the values lie, or `most` where that is less; None without values."""
        wanted, found = part * self.count, 0
        if not self.count:
            return None
        for bound, count in zip((*self.bounds, math.inf), self.counts, strict=True):
            found += count
            if found >= wanted:
                return min(bound, self.most)
        return self.most


class Histogram:
    """Counts values by their size. Who calls holds a lock, if there are threads."""

    __slots__ = ("_bounds", "_counts", "_most", "_sum")

    def __init__(self, bounds: tuple[float, ...], values: Iterable[float] = ()) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0
        self._most = 0.0
        for value in values:
            self.observe(value)

    def observe(self, value: float) -> None:
        """One more value."""
        self._counts[bisect.bisect_left(self._bounds, value)] += 1
        self._sum += value
        self._most = max(self._most, value)

    def distribution(self) -> Distribution:
        """As it is now."""
        return Distribution(self._bounds, tuple(self._counts), self._sum, self._most)


@dataclasses.dataclass(frozen=True, slots=True)
class Backplane:
    """What a hub says of itself and of what connects it with others: a copy of its ``state``.

    Attributes:
        state: "up", "down", or "none" where there is nothing to connect.
        since: when that began, in seconds of ``time.time()``; None if it does not say.
        pending: records that were published and not spread yet.
        topics: that have subscribers here, or had a moment ago.
        members: connections in the hub.
        not_spread: records that will never be.
    """

    state: str
    since: float | None
    pending: int
    topics: int
    members: int
    not_spread: int


@dataclasses.dataclass(frozen=True, slots=True)
class Peer:
    """One connection. What is text the peer has chosen, and may be anything; it is cut to 200 characters.

    Attributes:
        id: of the connection.
        address: of the client, with its port.
        path: that it asked for, with the query.
        agent: its User-Agent; empty without one.
        open: False when it is closing.
        age: seconds since it was opened.
        messages_in, messages_out, octets_in, octets_out: as in `Snapshot`.
        receive_queue: messages that wait for the program.
        write_queue: octets that wait for the peer to take them.
        dropped: broadcasts that were not sent to it.
        latency: seconds of its last answered ping; None before.
    """

    id: str
    address: str
    path: str
    agent: str
    open: bool
    age: float
    messages_in: int
    messages_out: int
    octets_in: int
    octets_out: int
    receive_queue: int
    write_queue: int
    dropped: int
    latency: float | None


@dataclasses.dataclass(frozen=True, slots=True)
class Snapshot:
    """The numbers of one process at one moment. What counts, counts from its beginning.

    Attributes:
        at: the moment, in seconds of ``time.time()``.
        opening: connections whose handshake goes on.
        open: connections that are open.
        closing: connections that are not any more, and are not gone yet.
        opened: connections that were ever opened.
        closed: how those that are gone ended; causes that never came are not in it.
        lifetime: how long those were open, in seconds.
        handshakes: by result: "101"; another status that was answered, such as "403"; "limit" for those that a limit
            refused (`Limits`); "ended" for those that ended without an answer.
        messages_in, messages_out: complete messages that came; messages that were queued to be written, broadcasts too.
        octets_in, octets_out: of frames, with their headers and control frames, without TLS and handshakes.
        receive_queue: messages that wait for the program, one value for each connection.
        write_queue: octets that wait for the peer to take them, one value for each connection.
        dropped: broadcasts that were not sent to a connection, since its peer was too slow.
        latency: of answered pings, in seconds.
        lag: how late the event loop called what was due, in seconds, looked at twice a second; None without one.
        handler_errors: exceptions of handlers, of ``on_message`` and of hooks of the handshake.
        backplane: None without a hub.
    """

    at: float
    opening: int
    open: int
    closing: int
    opened: int
    closed: Mapping[CloseCause, int]
    lifetime: Distribution
    handshakes: Mapping[str, int]
    messages_in: int
    messages_out: int
    octets_in: int
    octets_out: int
    receive_queue: Distribution
    write_queue: Distribution
    dropped: int
    latency: Distribution
    lag: Distribution | None
    handler_errors: int
    backplane: Backplane | None
