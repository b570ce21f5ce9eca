"""The rules of a pool of connections, without I/O and without a clock: who gets which, who waits, what must go.

``pool.py`` and ``asyncio/pool.py`` are the two pumps: they ask here what to do, do it, and tell what came of it. Time
is a number that they give. A connection takes its place (its share of `size` and `total`) from before it is opened
until after it is closed, so that there are never more sockets than were allowed. Who wants one holds a `Ticket`::

    WAITING  -> CHECKING, OPENING, REFUSED
    CHECKING -> OUT, CHECKING (with the next one), OPENING
    OPENING  -> OUT
    OUT      -> DONE (it is idle again), CLOSING
    CLOSING  -> DONE

and `end` from anywhere, which gives back whatever the ticket holds at that time.
"""

from __future__ import annotations

import dataclasses
import enum
from collections import deque
from collections.abc import Callable, Hashable
from typing import Final, Generic, Protocol, TypeAlias, TypeVar

from .address import Address

__all__ = ["Key", "PoolStats", "Poolable", "Rules", "Step", "Ticket"]

Key: TypeAlias = tuple[Address, Hashable]
"""An address, and what the user tells connections to it apart by."""


class Poolable(Protocol):
    """What a pool wants of a connection, beside ``close()``."""

    def fileno(self) -> int:
        """Its descriptor; -1 when it is closed."""

    def abort(self) -> object:
        """Close at once."""


C = TypeVar("C")


class Step(enum.Enum):
    """How far a ticket is."""

    WAITING = "waiting"  # for a place
    CHECKING = "checking"  # it has an idle connection, which may be dead
    OPENING = "opening"  # it has a place, and nothing in it
    OUT = "out"  # the user has the connection
    CLOSING = "closing"  # the connection is to be closed
    REFUSED = "refused"  # the pool was closed
    DONE = "done"


@dataclasses.dataclass(frozen=True, slots=True)
class PoolStats:
    """A pool in numbers.

    Attributes:
        idle: connections that nobody uses.
        out: those in use.
        opening: those that are being opened, or checked before they are used again.
        closing: those that are being closed.
        waiting: who waits for one.
        opened: connections that were opened, in all.
        reused: how often one was used again, in all.
        dead: idle connections that did not pass the check, in all.
        expired: those that were closed for their age, or because nobody used them, in all.
        evicted: idle ones that were closed to make room for another address, in all.
        discarded: those that came back unusable, in all.
    """

    idle: int = 0
    out: int = 0
    opening: int = 0
    closing: int = 0
    waiting: int = 0
    opened: int = 0
    reused: int = 0
    dead: int = 0
    expired: int = 0
    evicted: int = 0
    discarded: int = 0


@dataclasses.dataclass(slots=True, eq=False)
class _Idle(Generic[C]):
    key: Key
    connection: C
    opened: float
    since: float = 0.0


class Ticket(Generic[C]):
    """A place in the pool, or in the line before it.

    Attributes:
        step: how far it is.
        stale: an idle connection to somewhere else that must be closed before one is opened.
    """

    __slots__ = ("_has", "_stale_taken", "_taken", "_wake", "key", "number", "stale", "step")

    def __init__(self, key: Key, number: int, wake: Callable[[], object] | None) -> None:
        self.key = key
        self.number = number
        self.step = Step.WAITING
        self.stale: _Idle[C] | None = None
        self._has: _Idle[C] | None = None
        self._taken = False  # the pump has taken the connection that is to be checked
        self._stale_taken = False
        self._wake = wake

    def connection(self) -> C:
        """The connection to be checked, in use, or to be closed; from now on the pump answers for it."""
        assert self._has is not None  # noqa: S101 - for the type checker
        self._taken = True
        return self._has.connection

    def take_stale(self) -> C | None:
        """What must be closed before one is opened; `Rules.replaced` tells that it is."""
        if self.stale is None:
            return None
        self._stale_taken = True
        return self.stale.connection


class Rules(Generic[C]):
    """See above. It is not safe for threads: a pump of several threads has a lock.

    Args:
        size: the most connections for one key.
        total: the most connections in all.
        idle: seconds after which a connection that nobody uses is closed; None: never.
        age: seconds after which a connection is used no more; None: never.

    Raises:
        ValueError, TypeError: not such numbers.
    """

    def __init__(self, *, size: int, total: int, idle: float | None, age: float | None) -> None:
        for name, number in (("size", size), ("total", total)):
            if type(number) is not int:
                raise TypeError(f"{name} is an int, not {type(number).__name__}")
            if number < 1:
                raise ValueError(f"{name} is at least 1, not {number}")
        for name, seconds in (("idle", idle), ("age", age)):
            wanted = f"{name} is a number of seconds above 0, or None, not {seconds!r}"
            if seconds is None:
                continue
            if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
                raise TypeError(wanted)
            if not seconds > 0:
                raise ValueError(wanted)
        self.size: Final = size
        self.total: Final = total
        self._idle_limit = idle
        self._age_limit = age
        self.closed = False
        self.closing: deque[Ticket[C]] = deque()  # what the pump is to close, and to `end` then
        self.deadline: float | None = None  # when something expires; it may turn out to be gone by then
        self._number = 0
        self._places: dict[Key, int] = {}  # taken, by key
        self._taken = 0  # in all
        self._lines: dict[Key, deque[Ticket[C]]] = {}  # who waits, by key
        self._idle: dict[Key, list[_Idle[C]]] = {}  # the one used last is the last, and used first
        self._gauges = dict.fromkeys(Step, 0)
        self._idle_count = 0
        self._counts = {"opened": 0, "reused": 0, "dead": 0, "expired": 0, "evicted": 0, "discarded": 0}

    # ---- a ticket's way ----

    def ask(self, key: Key, now: float, wake: Callable[[], object] | None = None) -> Ticket[C]:
        """Ask for a connection; `wake` is called when a ticket that must wait has no longer to."""
        self.expire(now)
        self._number += 1
        ticket: Ticket[C] = Ticket(key, self._number, None)
        self._gauges[Step.WAITING] += 1
        if self.closed:
            self._step(ticket, Step.REFUSED)
            return ticket
        self._lines.setdefault(key, deque()).append(ticket)
        self._serve()
        ticket._wake = wake
        return ticket

    def ready(self, ticket: Ticket[C]) -> None:
        """The idle connection lives: it is used."""
        self._counts["reused"] += 1
        self._step(ticket, Step.OUT)

    def dead(self, ticket: Ticket[C]) -> None:
        """The idle connection was dead, and is closed: there is another one, or one is to be opened in its place."""
        self._counts["dead"] += 1
        idle = self._idle.get(ticket.key)
        ticket._has = None
        ticket._taken = False
        if idle:
            self._leave(ticket.key)  # the other one has its own place
            ticket._has = self._pop(ticket.key)
            self._serve()
        else:
            self._step(ticket, Step.OPENING)

    def replaced(self, ticket: Ticket[C]) -> None:
        """What had to make room is closed."""
        assert ticket.stale is not None  # noqa: S101 - for the type checker
        key, ticket.stale = ticket.stale.key, None
        self._leave_key(key)
        self._serve()

    def opened(self, ticket: Ticket[C], connection: C, now: float) -> bool:
        """One was opened; False: the pool was closed meanwhile, and so must be the connection."""
        self._counts["opened"] += 1
        ticket._has = _Idle(ticket.key, connection, now)
        ticket._taken = True
        self._step(ticket, Step.CLOSING if self.closed else Step.OUT)
        return not self.closed

    def back(self, ticket: Ticket[C], now: float, *, usable: bool) -> bool:
        """The user is done with it. False: it must be closed, and the ticket ended then."""
        has = ticket._has
        assert has is not None  # noqa: S101 - for the type checker
        if not usable:
            self._counts["discarded"] += 1
        old = self._age_limit is not None and now - has.opened >= self._age_limit
        if usable and old:
            self._counts["expired"] += 1
        if not usable or old or self.closed:
            self._step(ticket, Step.CLOSING)
            return False
        self._step(ticket, Step.DONE)
        has.since = now
        self._push(has)
        self._serve()
        return True

    def end(self, ticket: Ticket[C]) -> None:
        """Nothing more comes of the ticket: what it holds is given back. A connection that the pump took is closed."""
        step = ticket.step
        if step in (Step.DONE, Step.REFUSED):
            return
        self._step(ticket, Step.DONE)
        if step is Step.WAITING:
            line = self._lines[ticket.key]
            line.remove(ticket)
            if not line:
                del self._lines[ticket.key]
            return
        if step is Step.CHECKING and ticket._has is not None and not ticket._taken:
            self._keep_or_close(ticket._has)
        elif ticket.stale is not None:
            self._leave_key(ticket.key)
            if ticket._stale_taken:
                self._leave_key(ticket.stale.key)
                self._taken -= 1
            else:
                self._keep_or_close(ticket.stale)  # it has its place still; we had none in `total`
        else:
            self._leave(ticket.key)
        ticket._has = ticket.stale = None
        self._serve()

    # ---- time, and the end ----

    def expire(self, now: float) -> None:
        """Idle connections that are over their limits are to be closed: they are in `closing`."""
        if self.deadline is None or now < self.deadline:
            return
        self.deadline = None
        for key, idle in list(self._idle.items()):
            kept = []
            for one in idle:
                until = self._until(one)
                if until is not None and until <= now:
                    self._counts["expired"] += 1
                    self._idle_count -= 1
                    self._to_close(one)
                else:
                    kept.append(one)
                    self._note(until)
            if kept:
                self._idle[key] = kept
            else:
                del self._idle[key]

    def close(self) -> None:
        """Nobody gets one any more; the idle ones are to be closed, those in use when they come back."""
        if self.closed:
            return
        self.closed = True
        for line in list(self._lines.values()):
            for ticket in line:
                self._step(ticket, Step.REFUSED)
        self._lines.clear()
        for idle in self._idle.values():
            for one in idle:
                self._idle_count -= 1
                self._to_close(one)
        self._idle.clear()
        self.deadline = None

    def stats(self) -> PoolStats:
        """How it is."""
        gauges = self._gauges
        return PoolStats(
            idle=self._idle_count,
            out=gauges[Step.OUT],
            opening=gauges[Step.OPENING] + gauges[Step.CHECKING],
            closing=gauges[Step.CLOSING],
            waiting=gauges[Step.WAITING],
            **self._counts,
        )

    def crowd(self, key: Key) -> str:
        """Why there is no connection, in words."""
        places, taken = self._places.get(key, 0), self._taken
        waiting = self._gauges[Step.WAITING]
        return (
            f"{places} of {self.size} to that address are out, {taken} of {self.total} in all, "
            f"and {waiting} {'waits' if waiting == 1 else 'wait'}"
        )

    # ---- inside ----

    def _step(self, ticket: Ticket[C], step: Step) -> None:
        self._gauges[ticket.step] -= 1
        self._gauges[step] += 1
        was, ticket.step = ticket.step, step
        if was is Step.WAITING and ticket._wake is not None:
            wake, ticket._wake = ticket._wake, None
            if step is not Step.DONE:
                wake()

    def _serve(self) -> None:
        """Whoever can have a connection gets one, the longest waiting first.

        Within a key who is behind gets none before who is ahead, so the heads of the lines are all there is to see.
        """
        while self._lines:
            best: Ticket[C] | None = None
            for key, line in self._lines.items():
                if (best is None or line[0].number < best.number) and self._can_serve(key):
                    best = line[0]
            if best is None:
                return
            line = self._lines[best.key]
            line.popleft()
            if not line:
                del self._lines[best.key]
            self._grant(best)

    def _can_serve(self, key: Key) -> bool:
        if key in self._idle:
            return True
        return self._places.get(key, 0) < self.size and (self._taken < self.total or self._idle_count > 0)

    def _grant(self, ticket: Ticket[C]) -> None:
        key = ticket.key
        if key in self._idle:
            ticket._has = self._pop(key)
            self._step(ticket, Step.CHECKING)
            return
        self._places[key] = self._places.get(key, 0) + 1
        if self._taken < self.total:
            self._taken += 1
        else:  # the one that nobody has used for longest makes room; it counts for its own key until it is closed
            oldest = min((idle[0] for idle in self._idle.values()), key=lambda one: one.since)
            self._remove(oldest)
            self._counts["evicted"] += 1
            ticket.stale = oldest
        self._step(ticket, Step.OPENING)

    def _push(self, one: _Idle[C]) -> None:
        idle = self._idle.setdefault(one.key, [])
        # In the order of use: one that comes back because a ticket ended was not used.
        at = len(idle)
        while at and idle[at - 1].since > one.since:
            at -= 1
        idle.insert(at, one)
        self._idle_count += 1
        self._note(self._until(one))

    def _pop(self, key: Key) -> _Idle[C]:
        one = self._idle[key][-1]
        self._remove(one)
        return one

    def _remove(self, one: _Idle[C]) -> None:
        idle = self._idle[one.key]
        idle.remove(one)
        if not idle:
            del self._idle[one.key]
        self._idle_count -= 1

    def _keep_or_close(self, one: _Idle[C]) -> None:
        if self.closed:
            self._to_close(one)
        else:
            self._push(one)

    def _to_close(self, one: _Idle[C]) -> None:
        ticket: Ticket[C] = Ticket(one.key, 0, None)
        ticket.step = Step.CLOSING
        ticket._has = one
        self._gauges[Step.CLOSING] += 1
        self.closing.append(ticket)

    def _until(self, one: _Idle[C]) -> float | None:
        limits = []
        if self._idle_limit is not None:
            limits.append(one.since + self._idle_limit)
        if self._age_limit is not None:
            limits.append(one.opened + self._age_limit)
        return min(limits, default=None)

    def _note(self, until: float | None) -> None:
        if until is not None and (self.deadline is None or until < self.deadline):
            self.deadline = until

    def _leave(self, key: Key) -> None:
        self._leave_key(key)
        self._taken -= 1

    def _leave_key(self, key: Key) -> None:
        self._places[key] -= 1
        if not self._places[key]:
            del self._places[key]
