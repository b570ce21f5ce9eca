"""The load: opens connections, sends, waits, closes; in one event loop.

Strategy: a task for each connection connects and then reads. In an open loop one pacer sends for all of them: message k
is due at k/rate and belongs to connection k mod n, so what is due needs no memory, however long a server stalls.
"""

from __future__ import annotations

import asyncio
import enum
import math
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

from ...asyncio.client import connect
from ...exceptions import InvalidHandshake, InvalidStatus
from ...net.tls import client_context
from .. import explain
from ..arguments import tls_context
from .lane import Lane, Stage
from .limits import waited_for_core
from .messages import Messages
from .plan import Plan
from .tally import Tally, count_reason

__all__ = ["Load", "Phase"]

_HOPELESS: Final = 20  # attempts that fail before any succeeds: the rest is not tried
_BURST: Final = 256  # messages that the pacer sends before the loop has its turn
_AT_ONCE: Final = 8  # connections, of which each takes as long as many messages: more would open in bursts
_SLACK: Final = 1e-6  # seconds that something may come too early: a timer, and the rounding of what is added to it
_TICK: Final = 0.02  # seconds between two looks at how late the loop is
_LAST: Final = 1.0  # seconds for answers when somebody stops it


class Phase(enum.Enum):
    """What a load is doing; the value says it."""

    OPENING = "opening"
    SENDING = "sending"
    WAITING = "waiting"
    CLOSING = "closing"


class Load:
    """Does what a plan says, once.

    Args:
        plan: the plan.
        ready: awaited when all connections have been tried, before the first message: waits for other processes.

    Attributes:
        phase: what it is doing.
    """

    def __init__(self, plan: Plan, *, ready: Callable[[], Awaitable[object]] | None = None) -> None:
        self.phase = Phase.OPENING
        self._plan = plan
        self._tally = Tally()
        self._stage = Stage(plan, self._tally, Messages(plan.sizes, binary=plan.binary), asyncio.Event())
        self._ready = ready
        self._trying: set[asyncio.Task[None]] = set()  # connections that open
        self._tasks: set[asyncio.Task[None]] = set()  # of all connections
        self._lanes: set[Lane] = set()  # open ones
        self._places: list[Lane] = []
        self._stopped = False
        self._process_time = self._waited = 0.0

    def stop(self) -> None:
        """Send no more, take what answers come within a second, and close."""
        self._stopped = True
        self._stage.changed.set()

    def snapshot(self) -> Tally:
        """What has happened so far; it goes on counting."""
        if self.phase is Phase.SENDING:
            self._measure()
        return self._tally

    async def run(self) -> Tally:
        """Open, send, wait, close. When it is cancelled, it closes nothing properly, and what was counted stays.

        Raises:
            OSError: the file of certificates can't be read.
        """
        plan = self._plan
        context = client_context(plan.uri.secure, tls_context(ca=plan.ca, insecure=plan.insecure))
        opening = connect(plan.uri, **plan.options(context))
        lag = asyncio.create_task(self._watch_lag())
        try:
            await self._open(opening)
            if self._ready is not None:
                await self._ready()
            self.phase = Phase.SENDING
            await self._send()
            self.phase = Phase.WAITING
            await self._wait()
            self.phase = Phase.CLOSING
            for lane in self._lanes:
                lane.close()
            if self._tasks:
                await asyncio.wait(self._tasks)
        finally:
            lag.cancel()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(lag, *self._tasks, return_exceptions=True)
            for lane in self._places:
                lane.settle()
        return self._tally

    # Opening.

    async def _open(self, opening: connect) -> None:
        tally, plan = self._tally, self._plan
        begun = time.perf_counter()
        for index in range(plan.connections):
            due = begun + index / plan.rate
            while (left := due - time.perf_counter()) > _SLACK and not self._given_up():
                await self._change(left)
            if self._given_up():
                break
            tally.tried += 1
            task = asyncio.create_task(self._live(plan.first + index, opening, due))
            for tasks in (self._trying, self._tasks):
                tasks.add(task)
                task.add_done_callback(tasks.discard)
            if index % _AT_ONCE == _AT_ONCE - 1:
                await asyncio.sleep(0)
        while self._trying and not self._given_up():
            await self._change(None)
        tally.opening = time.perf_counter() - begun
        if self._trying:
            tally.tried -= len(self._trying)
            for task in self._trying:
                task.cancel()
            await asyncio.wait(self._trying)

    def _given_up(self) -> bool:
        tally = self._tally
        return self._stopped or (not tally.opened and tally.tried - len(self._trying) >= _HOPELESS)

    async def _live(self, index: int, opening: connect, due: float) -> None:
        """The life of a connection."""
        tally, changed = self._tally, self._stage.changed
        tally.opening_lateness.add(int((time.perf_counter() - due) * 1e9))
        try:
            ws = await opening
        except InvalidStatus as error:
            count_reason(tally.refused, explain(error))
        except (OSError, InvalidHandshake) as error:
            count_reason(tally.failed, explain(error))
        else:
            tally.handshakes.add(int((time.perf_counter() - due) * 1e9))
            lane = Lane(self._stage, index, ws)
            self._settled()
            tally.opened += 1
            tally.open += 1
            self._lanes.add(lane)
            try:
                await lane.read()
            finally:
                self._lanes.discard(lane)
                self._stage.waiting.discard(lane)
                tally.open -= 1
                changed.set()
            return
        self._settled()

    def _settled(self) -> None:
        """This connection is open, or will not be."""
        task: asyncio.Task[Any] | None = asyncio.current_task()
        assert task is not None  # noqa: S101 - for the type checker
        self._trying.discard(task)
        self._stage.changed.set()

    async def _change(self, seconds: float | None) -> None:
        """Wait until something changes, for so long at most."""
        self._stage.changed.clear()
        try:
            async with asyncio.timeout(None if seconds == math.inf else seconds):
                await self._stage.changed.wait()
        except TimeoutError:
            pass

    # Sending.

    async def _send(self) -> None:
        plan, stage = self._plan, self._stage
        self._places = sorted(self._lanes, key=lambda lane: lane.index)
        for place, lane in enumerate(self._places):
            lane.place = place
        stage.places = len(self._places)
        self._process_time, self._waited = time.process_time(), waited_for_core()
        stage.started = time.perf_counter()
        stage.sending = True
        try:
            if plan.messages:
                await self._pace()
            else:
                for lane in self._places if plan.in_flight else ():
                    lane.fill(plan.in_flight)
            while self._goes_on() and (left := stage.started + plan.duration - time.perf_counter()) > _SLACK:
                await self._change(left)
        finally:
            stage.sending = False
            self._measure()

    def _goes_on(self) -> bool:
        return bool(self._lanes) and not self._stopped

    async def _pace(self) -> None:
        """Send each message when it is due."""
        plan, tally, places = self._plan, self._tally, self._places
        start, rate, many = self._stage.started + plan.offset, plan.messages, len(self._places)
        total = plan.total
        limit = start + plan.patience
        now, sent = time.perf_counter(), 0
        while sent < total and self._goes_on() and now < limit:
            due = min(math.floor((now - start + _SLACK) * rate) + 1, total)
            for number in range(sent, int(min(due, sent + _BURST))):
                places[number % many].send_due(number // many)
                sent = number + 1
            if sent < due:
                await asyncio.sleep(0)
            else:
                await asyncio.sleep(max(0.0, start + sent / rate - now) if sent < total else 0)
            now = time.perf_counter()
        left = int(min(max(0, math.floor((now - start) * rate)), total)) - sent
        if left > 0:
            tally.due += left
            if self._lanes:
                tally.behind += left
            else:
                tally.cut += left

    def _measure(self) -> None:
        tally = self._tally
        tally.seconds = time.perf_counter() - self._stage.started
        if tally.seconds > 0:
            tally.cpu = (time.process_time() - self._process_time) / tally.seconds
            tally.starved = (waited_for_core() - self._waited) / tally.seconds

    async def _watch_lag(self) -> None:
        """How late this loop is, while messages are sent."""
        while True:
            due = time.perf_counter() + _TICK
            await asyncio.sleep(_TICK)
            if self._stage.sending:
                self._tally.lag.add(int((time.perf_counter() - due) * 1e9))

    # Waiting.

    async def _wait(self) -> None:
        """For answers."""
        if not self._plan.answers:
            return
        waiting = self._stage.waiting
        waiting.update(lane for lane in self._lanes if lane.waits)
        begun, stopped = time.perf_counter(), self._stopped
        patience = min(_LAST, self._plan.wait) if stopped else self._plan.wait
        while waiting and (left := begun + patience - time.perf_counter()) > _SLACK:
            await self._change(left)
            if self._stopped and not stopped:
                stopped, begun, patience = True, time.perf_counter(), min(_LAST, patience)
