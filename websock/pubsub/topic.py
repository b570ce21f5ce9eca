"""One topic in one hub, without I/O: what its log is, who has seen what of it, and what waits for the backplane.

Strategy: the backplane's log is followed record by record, and `at` is how far. What was delivered to subscribers here
and is not in that log is in `ahead`: messages of this hub that the backplane did not take in time, and those that its
log had and has lost. `Group.extras` says the same of each subscriber, by the records' own names. So whatever comes, and
from wherever, `added` knows who has it already.

Time is a number: milliseconds since 1970.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Callable, Collection, Sequence
from typing import Any, Final, Generic, NamedTuple, TypeVar

from .backplane import Added, Opened
from .events import Event
from .groups import Group, Name, merged
from .history import Histories, History, Log
from .ledger import forget_uids
from .positions import ZERO, Cursor, Position, Record, stood
from .receipts import Pending, Receipt

__all__ = ["Joined", "Topic"]

T = TypeVar("T")

SLACK: Final = 10_000
"""Milliseconds that a client's cursor may be ahead of our clock: the log's clock is another one."""
SKEW: Final = 1000  # the same, for a newcomer who shall not miss what is published from now on
UIDS: Final = 1000
SEEN: Final = 256  # origins
MAX_GROUPS: Final = 64
"""Subscribers with cursors of their own cost a message each: beyond so many, cursors with origins are not honoured."""
BATCH: Final = 100  # records that are added at a time, where a loss does not say more


class Joined(NamedTuple):
    """How a subscription began."""

    id: str | None
    recovered: bool
    why: str
    replayed: int


class Topic(Generic[T]):
    """A topic of which there is a log.

    Args:
        name: the topic's.
        origin: the hub's.
        history: how much is kept.
        send: called with those to whom an event goes, of whatever kind they are.
        settled: called with each of our own records for which the backplane need not be asked any more.
        ms: the time now, when the log is this hub's alone; None when it is a backplane's.
        histories: the bound of this log and others together.

    Attributes:
        at: how far the log was followed.
        high: the highest position that is known.
        made: where the log began; None before it was first opened.
        pending: our own records that the log has not given back.
    """

    def __init__(
        self,
        name: str,
        origin: str,
        history: History,
        send: Callable[[Collection[T], Event], object],
        settled: Callable[[Pending], object] = lambda pending: None,
        ms: int | None = None,
        histories: Histories | None = None,
    ) -> None:
        self.name = name
        self.origin = origin
        self.history = history
        self.made: Position | None = None if ms is None else ZERO.following(ms)
        self.at = self.high = self.made or ZERO
        self.log = Log(self.at, None, histories, self._was_cut)
        self.pending: collections.OrderedDict[int, Pending] = collections.OrderedDict()
        self.groups: list[Group[T]] = []
        self._alone = ms is not None
        self._opening = False
        self._parted: Position | None = None  # where its log was when the backplane was lost
        self._unsure = 0  # up to this number, what is pending may stand in the log before its floor
        self._out = send
        self._settled = settled
        self._ahead: dict[Name, Record] = {}
        self._ahead_uids: dict[str, Name] = {}
        self._waiting: dict[str, Pending] = {}  # by uid
        self._todo: collections.deque[Record] = collections.deque()
        self._seen: collections.OrderedDict[str, int] = collections.OrderedDict()
        self._uids: collections.OrderedDict[str, Position] = collections.OrderedDict()
        self._old: Position | None = None  # of a log that was lost as a whole, what stood behind it is known
        self._ended = ZERO  # and up to there
        self._refloor: Position | None = None  # to be told to the backplane with what is added again

    # Who is there.

    @property
    def subscribers(self) -> int:
        """How many."""
        return sum(len(group.targets) for group in self.groups)

    @property
    def behind(self) -> bool:
        """Whether a subscriber has seen more than this hub: who published that may publish here now."""
        return any(group.base > self.at and not group.fresh for group in self.groups)

    @property
    def idle(self) -> bool:
        """Whether nobody needs it."""
        return not self.groups and not self.pending and not self._todo

    @property
    def remembers(self) -> bool:
        """Whether there is something that only we know."""
        return bool(len(self.log) or self._uids)

    def join(
        self, target: T, after: str | None, last: int, ms: int, published: int, more: dict[str, Any] | None = None
    ) -> Joined:
        """Send to a subscriber what it has not seen, and from now on all that comes.

        Args:
            after: its cursor, as it was sent with an event.
            last: how many messages it gets, at most, when there is no cursor that we can serve.
            ms: the time.
            published: the highest number that this hub has given to a record.
            more: what the event "subscribed" tells besides.
        """
        self.leave(target)
        self.log.used()
        cursor, why = self._judge(after, ms, published)
        if cursor is not None:
            came = cursor.position
            group: Group[T] = Group(came, dict(cursor.extras), after)
            if (came > self.at and self.made is not None and (self.pending or self._ahead)) or self._is_unsure(
                published
            ):
                group.held = published + 1
            behind = self.log.after(came)
            for record in (*(record for _, record in behind), *self._ahead.values()):
                if record.stood_at(came):
                    group.note(record.origin, max(record.n, group.extras.get(record.origin, 0)))
        elif self.made is None:  # the log is not known: what comes from now on is what it has from now on
            came = Position(max(0, ms - SKEW), 0)
            group = Group(came, {}, fresh=True)
            behind = []
        else:
            came = self.at
            group = Group(ZERO, {})
            behind = self.log.newer(last - len(self._ahead))
        events = self._replay(group, behind, None if cursor is not None else last)
        for origin, n in list(group.extras.items()):
            if n <= self._seen.get(origin, 0) and not any(one == origin for one, _ in self._ahead):
                del group.extras[origin]
        now = group.cursor(self.at)
        if events:
            events[-1] = dataclasses.replace(events[-1], id=now)
        group.sent = now
        data = {"recovered": not why, "why": why, "replayed": len(events), **(more or {})}
        # Before the messages it has only what it had: should the connection end between, it begins there again.
        before = now if not events else after if cursor is not None else None
        self._out([target], Event("subscribed", self.name, before, data=data))
        for event in events:
            self._out([target], event)
        group.targets[target] = came
        self.groups = merged([*self.groups, group], self.at)
        return Joined(now, not why, why, len(events))

    def _replay(self, group: Group[T], behind: Sequence[tuple[Position, Record]], last: int | None) -> list[Event]:
        """The events of what a newcomer has not seen, who is alone in its group."""
        events: list[Event] = []
        for position, record in behind:
            had = group.has([(record.origin, record.n)])
            group.passed(record.origin, record.n)
            if not had:
                self._event_for(group, position, record, events)
        if group.held:
            return events
        skip = 0 if last is None else len(self._ahead) - last
        for number, record in enumerate(list(self._ahead.values())):
            if not group.has([(record.origin, record.n)]):
                group.note(record.origin, record.n)
                if number >= skip:
                    self._event_for(group, self.at, record, events)
        return events

    def _event_for(self, group: Group[T], position: Position, record: Record, events: list[Event]) -> None:
        prev, group.sent = group.sent, group.cursor(position)
        events.append(self._event(record, group.sent, prev))

    def _judge(self, after: str | None, ms: int, published: int) -> tuple[Cursor | None, str]:
        """A client's cursor, or why it cannot be served; neither, when there is none."""
        if after is None:
            return None, ""
        try:
            cursor = Cursor.parse(after)
        except ValueError:
            return None, "unknown"
        position = cursor.position
        if cursor.extras.get(self.origin, 0) > published:
            return None, "unknown"
        if position > self.high and (self._alone or position.ms > ms + SLACK):
            return None, "unknown"
        if self._ended != ZERO and self.made is not None and self._ended < position < self.made:
            return None, "lost"  # of a log that is lost it knows more than we do: what that was, nobody can say
        if self.made is not None and position < self.log.floor:
            old = position < self.made and self._old is not None and position >= self._old
            if not old:
                return None, "too old"
        if cursor.extras and len(self.groups) >= MAX_GROUPS:
            return None, "too many"
        return cursor, ""

    def leave(self, target: T) -> bool:
        """Whether it was a subscriber, which it is no more."""
        for group in self.groups:
            if group.targets.pop(target, None) is not None:
                if not group.targets:
                    self.groups = [one for one in self.groups if one.targets]
                return True
        return False

    # What is published here.

    def publish(self, record: Record, receipt: Receipt, now: float, ms: int) -> Pending | None:
        """A new record of ours. None, when it is settled already; else it waits for the log.

        Args:
            now: for `release`.
        """
        uid = record.uid
        if uid is not None:
            forget_uids(self._uids, ms, UIDS)
            if (first := self._uids.get(uid)) is not None:
                receipt.settle(first, repeated=True)
                return None
            if (waiting := self._waiting.get(uid)) is not None:
                waiting.receipt.tell(receipt)
                return None
        if self._alone:
            position = self.at.following(ms)
            receipt.settle(position)
            self.added(position, record, ms)
            return None
        pending = self.pending[record.n] = Pending(record, receipt, now)
        if uid is not None:
            self._waiting[uid] = pending
        self._todo.append(record)
        return pending

    def release(self, before: float) -> float | None:
        """Deliver what was published before that time and is not in the log: when the next one was published."""
        for pending in list(self.pending.values()):
            if not pending.ahead:
                if pending.since > before:
                    return pending.since
                pending.ahead = True
                self._deliver_ahead(pending.record)
                pending.receipt.ahead()
        return None

    def _deliver_ahead(self, record: Record) -> None:
        self._note_ahead(record)
        for group in self.groups:
            if not group.held:
                self._offer(group, record)
        self.groups = merged(self.groups, self.at)

    def _offer(self, group: Group[T], record: Record) -> Group[T] | None:
        """To those of a group who do not have it, beside the log; those who have may be a group of their own then."""
        if group.has([(record.origin, record.n)]):
            return None
        apart = group.split(record) if record.was else None
        for one in (group, apart):
            if one is not None:
                one.note(record.origin, record.n)
        if group.targets:
            self._tell(group, record, group.cursor(self.at))
        return apart

    def _is_unsure(self, held: int) -> bool:
        """Whether something of ours may have been in a part of the log that nobody knows."""
        first = next(iter(self.pending), self._unsure + 1)
        return first <= min(self._unsure, held)

    def _release_held(self) -> None:
        """Who was further than our log is not any more: now it is known what they do not have."""
        for group in [one for one in self.groups if one.held and self.at >= one.base]:
            if self._is_unsure(group.held):
                continue
            group.held = 0
            parts = [group]
            for record in list(self._ahead.values()):
                parts += [apart for part in list(parts) if (apart := self._offer(part, record)) is not None]
            self.groups += parts[1:]
        self.groups = merged(self.groups, self.at)

    # What comes from the log.

    def added(self, position: Position, record: Record, ms: int) -> None:
        """A record of the log, in its order."""
        if position <= self.at:
            return
        self.at = position
        self.high = max(self.high, position)
        names = self._come(position, record)
        self.log.append(position, record)
        self.log.trim(self.history, ms)
        apart: list[Group[T]] = []
        for group in self.groups:
            had = position <= group.base or group.has(names)
            group.passed(record.origin, record.n)
            if had:
                continue
            if record.was and (split := group.split(record)) is not None:
                apart.append(split)
            if group.targets:
                self._tell(group, record, group.cursor(position))
        if apart or len(self.groups) > 1:
            self.groups = merged([*self.groups, *apart], self.at)
        if not self._opening and any(group.held for group in self.groups):
            self._release_held()

    def _come(self, position: Position, record: Record) -> list[Name]:
        """The names under which subscribers may have it already."""
        names = [(record.origin, record.n)]
        self._drop_ahead(names[0])
        if record.origin == self.origin and record.n in self.pending:
            self._settle(record.n, position)
        if record.uid is not None:
            self._uids[record.uid] = position
            if (other := self._ahead_uids.get(record.uid)) is not None:
                self._drop_ahead(other)
                names.append(other)
            if (pending := self._waiting.get(record.uid)) is not None:
                self._settle(pending.record.n, position, repeated=True)
        self._seen[record.origin] = max(record.n, self._seen.pop(record.origin, 0))
        if len(self._seen) > SEEN:
            self._seen.popitem(last=False)
        return names

    def _note_ahead(self, record: Record) -> None:
        self._ahead[record.origin, record.n] = record
        if record.uid is not None:
            self._ahead_uids[record.uid] = record.origin, record.n

    def _drop_ahead(self, name: Name) -> None:
        record = self._ahead.pop(name, None)
        if record is not None and record.uid is not None and self._ahead_uids.get(record.uid) == name:
            del self._ahead_uids[record.uid]

    def _settle(self, n: int, position: Position | None, *, repeated: bool = False) -> None:
        pending = self.pending.pop(n)
        uid = pending.record.uid
        if uid is not None and self._waiting.get(uid) is pending:
            del self._waiting[uid]
        pending.receipt.settle(position, repeated=repeated)
        self._settled(pending)

    def tend(self, ms: int) -> None:
        """Forget what is too old."""
        forget_uids(self._uids, ms, UIDS)
        self.log.trim(self.history, ms)

    def _was_cut(self, position: Position, record: Record) -> None:
        if self._old is not None:
            # Without a place in the log that was lost it is missing to all who come from there.
            first = stood(position, record)
            self._old = None if self.made is None or first >= self.made else max(self._old, first)

    # Following the log.

    def parted(self, ms: int) -> None:
        """The backplane is away: what its log gets from now on, only who is with it knows."""
        if self._parted is None:
            self._parted = max(self.high, Position(ms + 1, 0).preceding)

    @property
    def asks_after(self) -> Position:
        """From where on the log is to be opened: so that its answer shows whether it has what we have seen last."""
        entries = list(self.log)
        return entries[-2][0] if len(entries) > 1 else self.log.floor if self.made is not None else ZERO

    def opened(self, opened: Opened, after: Position, ms: int) -> bool:
        """What the backplane's log is, behind `after`. False: it is to be opened again, after ``log.floor``."""
        if self.made is None:
            self.log.begin(opened.floor)
            self.at = self.high = ZERO
        elif opened.made != self.made:
            self._lost_all(opened)
        elif not self._has_newest(opened) and opened.floor < self.at:
            if after > self.log.floor:
                return False
            self._lost_tail(opened)
        for group in self.groups:
            if group.torn:
                group.torn = False
                self._tell_gap(group, self.at)
        first, self.made = self.made is None, opened.made
        if opened.floor > self.at:
            self._gap(opened.floor, spared=first and opened.floor == opened.made)
        self._opening = True  # who has what is known when all is read
        for position, record in opened.entries:
            self.added(position, record, ms)
        self._opening = False
        self.at = max(self.at, opened.last)
        self.high = max(self.high, self.at)
        self.log.last = max(self.log.last, self.at)
        for group in self.groups:
            if group.fresh:  # its base was our clock's
                group.base, group.fresh = min(group.base, self.at), False
        self._plan()
        self._parted = None
        self._release_held()
        return True

    def _has_newest(self, opened: Opened) -> bool:
        newest = self.log.newest
        if newest is None:
            return opened.last >= self.at
        position, record = newest
        return any(
            place == position and (one.origin, one.n) == (record.origin, record.n) for place, one in opened.entries
        )

    def _lost_all(self, opened: Opened) -> None:
        """The log was lost, and there is a new one."""
        lost = list(self.log)
        self._old = max(self._old or ZERO, self.log.floor)
        self._refloor, self._ended = self._old, self.at
        self._lose(lost, self._till(self.at, opened.made), opened.made)
        self.log.begin(min(opened.floor, opened.made))
        self.at = opened.made

    def _lost_tail(self, opened: Opened) -> None:
        """The log goes on from an older state of it."""
        theirs = {place: (one.origin, one.n) for place, one in opened.entries}
        lost: list[tuple[Position, Record]] = []
        while self.log.newest is not None:
            position, record = self.log.newest
            if theirs.get(position) == (record.origin, record.n):
                break
            lost.append(self.log.drop_last())
        lost.reverse()
        newest = self.log.newest
        fork = newest[0] if newest is not None else min(self.log.floor, opened.last)
        new = next((place for place, _ in opened.entries if place > self.at), None)
        self._lose(lost, self._till(self.at, new), new)
        self.at = self.log.last = fork

    def _lose(self, lost: Sequence[tuple[Position, Record]], till: Position, new: Position | None) -> None:
        """The log had these up to `till`, and subscribers here have seen them; from `new` on it is another one."""
        again = {(one.origin, one.n): one.lost(position, till) for position, one in lost}
        before, self._ahead = self._ahead, {}
        for record in (*again.values(), *before.values()):
            self._note_ahead(record)
        for group in self.groups:
            if group.base > self.at and new is not None and group.base >= new:
                group.held = max(1, group.held)  # from a hub that was here before us: what it has, the log will show
                continue
            group.torn = group.base > self.at  # it has seen more of the lost log than we have: nobody knows what
            for origin, n in again:
                group.note(origin, max(n, group.extras.get(origin, 0)))
            for target, came in group.targets.items():
                group.targets[target] = max(came, min(self.at, till))
        for origin in {origin for origin, _ in again}:
            self._seen.pop(origin, None)

    def _gap(self, floor: Position, *, spared: bool) -> None:
        """What stood before `floor` was cut from the log before it came here; `spared`: those who have come since the
        log began have missed nothing."""
        for group in self.groups:
            if max(self.at, group.base) >= floor or (spared and group.fresh):
                continue
            self._tell_gap(group, floor)
        for pending in list(self.pending.values()):
            if pending.position is not None and pending.position <= floor:
                self._drop_ahead((self.origin, pending.record.n))
                self._settle(pending.record.n, pending.position)
        self._unsure = next(reversed(self.pending), 0)
        self._old = None  # who comes from the log that was lost misses that, too
        self.log.begin(floor)
        self.at = floor
        self.high = max(self.high, floor)

    def _tell_gap(self, group: Group[T], base: Position) -> None:
        group.base = base
        prev, group.sent = group.sent, group.cursor(base)
        self._out(group.targets.keys(), Event("gap", self.name, group.sent, prev))

    # What the log does not have.

    def _plan(self) -> None:
        """What is to be added: what the log has lost, then what it never had, that of each origin in order."""
        self._todo.clear()
        for (origin, n), record in self._ahead.items():
            if origin != self.origin or n not in self.pending:
                self._todo.append(record)
        for pending in self.pending.values():
            if pending.position is not None:
                behind = self.log.after(pending.position)
                new = self.made if pending.position < (self.made or ZERO) else behind[0][0] if behind else None
                pending.record = pending.record.lost(pending.position, self._till(pending.position, new))
                pending.position = None
                if pending.ahead:
                    self._note_ahead(pending.record)
            self._todo.append(pending.record)

    def _till(self, position: Position, new: Position | None) -> Position:
        """Up to where a log went at least that had something at `position` and has lost it; from `new` on there is
        another one. There may have been more of them between, which we know nothing of."""
        till = max(position, self._parted or ZERO)
        return till if new is None else min(till, new.preceding)

    @property
    def waits_to_be_added(self) -> bool:
        """Whether there is something for `take`."""
        return bool(self._todo)

    def take(self) -> tuple[list[Record], Position | None]:
        """What to add to the log now, and its floor, if a log is rebuilt. What is not told to `replied` because the
        backplane went down comes again after `opened`."""
        batch: list[Record] = []
        while self._todo and (self._refloor is not None or len(batch) < BATCH):
            batch.append(self._todo.popleft())
        return batch, self._refloor

    def replied(self, batch: Sequence[Record], done: Sequence[Added]) -> None:
        """What the backplane has made of them."""
        self._refloor = None
        for record, one in zip(batch, done, strict=True):
            name = record.origin, record.n
            pending = self.pending.get(record.n) if record.origin == self.origin else None
            if not one.repeated:
                if pending is not None:
                    pending.position = one.position
            elif one.position is None or one.position <= self.at:
                # It has come already: under another name, or so long ago that nobody knows where.
                self._drop_ahead(name)
                if pending is not None:
                    self._settle(record.n, one.position, repeated=one.position is not None)
        if any(group.held for group in self.groups):
            self._release_held()

    def fail(self, why: str) -> None:
        """The hub ends: nothing of this will be spread."""
        for pending in self.pending.values():
            pending.receipt.fail(why)
            self._settled(pending)
        self.pending.clear()
        self._waiting.clear()
        self._todo.clear()

    # Telling.

    def _event(self, record: Record, cursor: str, prev: str | None) -> Event:
        return Event(record.kind, self.name, cursor, prev, record.data, record.by, record.at, record.uid)

    def _tell(self, group: Group[T], record: Record, cursor: str) -> None:
        prev, group.sent = group.sent, cursor
        self._out(group.targets.keys(), self._event(record, cursor, prev))

    def announce(self, event: Event) -> None:
        """To all subscribers, beside the log."""
        for group in self.groups:
            self._out(group.targets.keys(), event)
