"""Keepalive that knows who stalled (RFC 6455 section 5.5.2): when to ping, and when to give the peer up.

Strategy: after each ``ping_interval`` a Ping; any octet that comes later answers it. A peer is given up for its own
silence only. What is ours is not held against it:

- time in which we did not read (`pause`, `resume`);
- our own lateness: who is called later than it asked for was kept from reading too, by a busy event loop or a busy
  machine. A deadline that passed meanwhile is moved a little, so that what has come is read before it is judged;
- time in which the Ping could not leave: the clock of its Pong starts when the system has taken it. When the system
  takes nothing for ``ping_interval + ping_timeout``, and nothing comes either, the network is what is stuck.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from ..exceptions import CloseCause, KeepaliveTimeout

__all__ = ["Keepalive", "Stall"]

LATE: Final = 0.1  # seconds of lateness that are told as a stall of ours
SLACK: Final = 0.01  # seconds that a timer may be late without anything being wrong
GRACE: Final = 0.5  # seconds at most that a deadline is moved when we were late
GRACES: Final = 3  # how often one deadline is moved: a program that is late for ever must not hold a dead peer for ever


class Stall(NamedTuple):
    """That we stalled, and for how long: the peer's time was longer by that.

    Attributes:
        seconds: how long.
        paused: whether we had paused reading, since the queue was full; else we were called late.
    """

    seconds: float
    paused: bool


class Keepalive:
    """The clocks of one connection.

    Args:
        interval: seconds between Pings.
        timeout: seconds without an octet after one; None to wait for ever.

    Attributes:
        asked: when `Protocol.tick` asked to be called.
        stall: what is to be told of us, once.
    """

    __slots__ = (
        "_graces", "_interval", "_mark", "_moved", "_paused_at", "_ping_due", "_pinged_at", "_pong_due", "_quiet_from",
        "_taken", "_timeout", "_waited", "_waiting", "asked", "stall",
    )  # fmt: skip

    def __init__(self, interval: float, timeout: float | None) -> None:
        self._interval = interval
        self._timeout = timeout
        self._ping_due: float | None = None
        self._pong_due: float | None = None  # set while a Ping is unanswered
        self._paused_at: float | None = None
        self._quiet_from: float | None = None  # since when the peer could have been heard and was not
        self._graces = 0
        self._mark: int | None = None  # the Ping has left when the system has taken so many octets
        self._pinged_at = 0.0
        self._waited = False  # it did not leave at once
        self._waiting = 0
        self._taken = 0
        self._moved = 0.0  # when the system last took something, or something began to wait
        self.asked: float | None = None
        self.stall: Stall | None = None

    def pause(self, now: float) -> None:
        if self._paused_at is None:
            self._paused_at = now

    def resume(self, now: float, least: float) -> bool:
        """Whether that changes when to look again; `least` seconds of pause are worth telling."""
        paused_at = self._paused_at
        if paused_at is None:
            return False
        self._paused_at = None
        if self._quiet_from is not None:
            # What a side read brought in the pause was heard.
            self._quiet_from += now - max(paused_at, self._quiet_from)
        self.asked = None  # whoever was not called: that was the pause
        if self._pong_due is None:
            return False
        if now >= self._pong_due and now - paused_at >= least:
            self.stall = Stall(now - paused_at, True)
        self._pong_due += now - paused_at
        return True

    def wrote(self, now: float, waiting: int, taken: int | None, moved: float | None) -> bool:
        """How far writing has come, as for `Protocol.tick`; whether a Ping that had to wait has left."""
        if taken is None:
            taken = self._taken + max(0, self._waiting - waiting)
        if moved is not None:
            self._moved = moved
        elif taken != self._taken or not self._waiting:
            self._moved = now
        self._taken, self._waiting = taken, waiting
        if self._mark is None:
            return False
        if waiting and taken < self._mark:
            self._waited = True
            return False
        self._mark = None
        late = self._waited or (moved is not None and moved > self._pinged_at)
        if late and self._pong_due is not None and self._timeout is not None:
            self._pong_due = self._moved + self._timeout  # it left then, or before
        return late

    def judge(self, now: float, heard: bool, heard_at: float | None) -> KeepaliveTimeout | None:
        """Whether the peer is to be given up now.

        Args:
            heard: something came since the last Ping.
            heard_at: when the last octet came, if that is known.
        """
        if heard or self._quiet_from is None:
            self._quiet_from = now if heard_at is None else max(heard_at, self._quiet_from or heard_at)
        if self._pong_due is None or self._timeout is None:
            return None
        if heard:
            self._pong_due = None
            self._graces = 0
            return None
        if self._paused_at is not None:
            return None
        if self._mark is not None and self._waited:
            self._pong_due = max(self._moved, self._quiet_from) + self._interval + self._timeout
        if now < self._pong_due:
            return None
        late = 0.0 if self.asked is None else now - self.asked
        if late > SLACK and self._graces < (GRACES if late > GRACE else 1):
            self._graces += 1
            self._pong_due = now + min(GRACE, 5 * late)
            if late > LATE:
                self.stall = Stall(late, False)
            return None
        if self._waiting and now - self._moved >= self._timeout:
            return KeepaliveTimeout(cause=CloseCause.WRITE_STUCK, stalled=now - self._moved)
        return KeepaliveTimeout(stalled=now - self._quiet_from)

    def wants_ping(self, now: float) -> bool:
        """Whether a Ping is to be sent now; if so, its time starts. One that waits to leave is not sent twice."""
        if self._ping_due is None:
            self._ping_due = now + self._interval
        # While one is unanswered, a second would prove nothing.
        if now < self._ping_due or self._pong_due is not None:
            return False
        self._ping_due = now + self._interval
        self._graces = 0
        if self._timeout is not None:
            self._pong_due = now + self._timeout
        return True

    @property
    def ping_waits(self) -> bool:
        """A Ping waits for the system to take it."""
        return self._mark is not None

    def pinged(self, now: float, octets: int) -> None:
        """A Ping was queued: `octets` wait with it to be handed out."""
        self._mark = self._taken + self._waiting + octets
        self._pinged_at = now
        self._waited = False

    def due(self, now: float) -> float | None:
        """When to look again; None while only `resume` can change something."""
        if self._pong_due is None:
            return self._ping_due
        if self._paused_at is not None:
            return None  # what was not read cannot count
        if self._ping_due is None or self._ping_due <= now:
            return self._pong_due
        return min(self._ping_due, self._pong_due)
