"""Virtual time, and threads of which exactly one runs: who, decides the seed.

Strategy: every thread of a simulation has a baton, a real lock that it waits for; one thread is not waiting, and runs.
When that has to wait for something it says for what (a function that tells whether it is there) and until when. Then
one of those is chosen that can go on; if there is none, time goes on to the next moment at which something happens. So
nothing waits for real, and what happens depends on the seed alone. An event loop is one such thread, which waits in
its selector.
"""

from __future__ import annotations

import _thread
import heapq
import math
import random
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, Final

__all__ = ["Ended", "Managed", "OutOfTime", "Scheduler", "Stuck"]

_THREADING: Final = threading.__file__
_SPIN: Final = 200_000  # waits in a row without time going on: nobody gets anywhere


class Stuck(Exception):
    """Everybody waits for something that will never happen. The text names who waits, and where."""


class OutOfTime(Stuck):
    """The simulation has taken more virtual time than it may, or goes round without time passing."""


class Ended(SystemExit):
    """The simulation is over: raised in the threads that still wait. As a SystemExit it ends them without noise."""


def _always() -> bool:
    return True


class Managed:
    """A thread of a simulation."""

    __slots__ = ("baton", "deadline", "done", "error", "ident", "name", "ready")

    def __init__(self, name: str) -> None:
        self.name = name
        self.ident = 0
        self.baton = _thread.allocate_lock()
        self.baton.acquire()
        self.ready: Callable[[], bool] = _always
        self.deadline = math.inf
        self.done = False
        self.error: BaseException | None = None  # to be raised where it waits


class Scheduler:
    """Who runs, and what time it is.

    Args:
        chance: decides whose turn it is.
        limit: seconds of virtual time that the simulation may take.
        preempt: how often, of 1, somebody else has a turn where the one who runs need not wait.

    Attributes:
        now: seconds since the simulation began.
        over: the simulation has ended.
        failed: it cannot go on: somebody is told so.
        describe: called for a text that tells what else waits.
    """

    def __init__(self, chance: random.Random, limit: float, preempt: float) -> None:
        self.now = 0.0
        self.over = False
        self.failed = False
        self.describe: Callable[[], list[str]] = list
        self._chance = chance
        self._limit = limit
        self._preempt = preempt
        self._alarms: list[float] = []
        self._threads: list[Managed] = []  # those that have not ended, the main one first
        self._by_ident: dict[int, Managed] = {}
        self._idle = 0  # waits since time went on

    # Who takes part.

    def join(self, name: str) -> Managed:
        """The calling thread takes part from now on, and is the one that runs."""
        me = self.add(name)
        self.begin(me)
        return me

    def add(self, name: str) -> Managed:
        """A thread that is going to `begin`, when it is chosen."""
        thread = Managed(name)
        self._threads.append(thread)
        return thread

    def begin(self, me: Managed) -> None:
        me.ident = _thread.get_ident()
        self._by_ident[me.ident] = me

    def first_turn(self, me: Managed) -> None:
        """The calling thread begins: it runs when it is chosen."""
        self.begin(me)
        me.baton.acquire()
        self._resumed(me)

    def current(self) -> Managed | None:
        """The calling thread, if it takes part."""
        return self._by_ident.get(_thread.get_ident())

    def leave(self, me: Managed) -> None:
        """The calling thread runs no more: somebody else does."""
        me.done = True
        self._threads.remove(me)
        self._by_ident.pop(me.ident, None)
        if self._threads:
            self._next(me).baton.release()

    @property
    def others(self) -> list[Managed]:
        """The threads that have not ended, without the main one."""
        return self._threads[1:]

    def finish(self) -> None:
        """End the other threads, one after the other; the main one calls it."""
        self.over = True
        main = self._threads[0]
        for thread in self.others:
            while not thread.done:
                thread.baton.release()
                main.baton.acquire()
        main.done = True
        self._by_ident.clear()

    # Time.

    def alarm(self, when: float) -> None:
        """Something happens at this time: it does not pass unnoticed."""
        if self.now < when < math.inf:
            heapq.heappush(self._alarms, when)

    def sleep(self, seconds: float) -> None:
        """Let so much time pass."""
        self.wait(_never, max(0.0, seconds))

    def _go_on(self) -> None:
        """To the next moment at which something happens.

        Raises:
            Stuck: nothing ever will, or not in time.
        """
        due = min(thread.deadline for thread in self._threads)
        alarms = self._alarms
        while alarms and alarms[0] <= self.now:
            heapq.heappop(alarms)
        if alarms:
            due = min(due, alarms[0])
        if due == math.inf:
            raise Stuck("everybody waits, and nothing will ever happen" + self._told())
        if due > self._limit:
            raise OutOfTime(f"more than {self._limit:g} s of virtual time" + self._told())
        if due > self.now:
            self.now = due
            self._idle = 0

    def _told(self) -> str:
        frames = sys._current_frames()
        lines = [f"thread {one.name} waits{_where(frames.get(one.ident))}" for one in self._threads]
        return "".join(f"\n  {line}" for line in [*lines, *self.describe()])

    # Waiting.

    def wait(self, ready: Callable[[], bool], timeout: float | None = None) -> bool:
        """Wait until `ready()`, or for `timeout` seconds; whether it is. Others have their turn meanwhile."""
        me = self._by_ident[_thread.get_ident()]
        if self.over:
            raise Ended
        if len(self._threads) == 1:
            self._turn()
            if ready():
                return True
            if timeout == 0:
                return False
        # A time that is too short to make a difference must pass all the same, or who waits for it waits for ever.
        me.deadline = math.inf if timeout is None else max(self.now + timeout, math.nextafter(self.now, math.inf))
        if timeout == 0:
            me.deadline = self.now
        me.ready = ready
        try:
            chosen = self._next(me)
            if chosen is not me:
                chosen.baton.release()
                me.baton.acquire()
            self._resumed(me)
        finally:
            me.ready = _always
            me.deadline = math.inf
        return ready()

    def preempt(self) -> None:
        """Somebody else has a turn, sometimes."""
        if len(self._threads) > 1 and not self.over and self._chance.random() < self._preempt:
            self.wait(_always, 0)

    def _resumed(self, me: Managed) -> None:
        if self.over:
            raise Ended
        if me.error is not None:
            error, me.error = me.error, None
            raise error

    def _turn(self) -> None:
        self._idle += 1
        if self._idle > _SPIN:
            raise OutOfTime(f"round and round at {self.now:g} s without time passing" + self._told())

    def _next(self, me: Managed) -> Managed:
        """Who runs now."""
        main = self._threads[0]
        if self.over:
            return main
        try:
            self._turn()
            while True:
                able = [one for one in self._threads if one.deadline <= self.now or one.error or one.ready()]
                if able:
                    return able[0] if len(able) == 1 else self._chance.choice(able)
                self._go_on()
        except Stuck as stuck:
            self.failed = True
            if me is main:
                raise
            main.error = stuck  # the test fails where it waits
            return main


def _never() -> bool:
    return False


def _where(frame: FrameType | None) -> str:
    """In which line of the program a thread is; the two innermost ones outside of simulations and of threading."""
    found: list[str] = []
    while frame is not None and len(found) < 2:
        code = frame.f_code
        if frame.f_globals.get("__name__", "").rpartition(".")[0] != __package__ and code.co_filename != _THREADING:
            found.append(f"{code.co_qualname}, {code.co_filename}:{frame.f_lineno}")
        frame = frame.f_back
    return "".join(f"{' called by' if index else ' in'} {one}" for index, one in enumerate(found))


def clock(scheduler: Scheduler, real: Callable[[], Any], virtual: Callable[[float], Any]) -> Callable[[], Any]:
    """A clock for all threads: virtual for those of the simulation, and real for the others."""

    def read() -> Any:
        return real() if scheduler.current() is None else virtual(scheduler.now)

    return read
