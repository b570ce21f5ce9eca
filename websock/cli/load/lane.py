"""One connection of a load: sends what is due, checks what comes, and says how it ended.

It reads whatever becomes of writing, so that a server that writes before it reads on cannot hold us. In an open loop,
one that does not take what is sent is passed over, and sends what has become due when it takes some again; the latency
of that counts from when it was due. In a closed loop each answer sends the next message.
"""

from __future__ import annotations

import asyncio
import dataclasses
import time
from array import array
from collections.abc import Awaitable
from typing import Final

from ...asyncio.client import ClientConnection
from ...asyncio.shared import SENT
from ...core.protocol import State
from ...exceptions import CloseCause, ConnectionClosed, ConnectionClosedOK
from ...typing import Data
from .. import explain
from .messages import Messages, Order, Seen
from .plan import Plan
from .tally import Tally, count_reason

__all__ = ["Lane", "Stage"]

_BURST: Final = 64  # messages that are caught up with before others have their turn
_AGES: Final = 1000  # messages without an answer whose age is looked at one by one; more go in so many groups


@dataclasses.dataclass
class Stage:
    """What the connections of a load have in common.

    Attributes:
        plan: what is to be done.
        tally: what has happened.
        messages: makes and knows them.
        sending: it is time to send.
        started: when that began.
        places: how many connections messages go round.
        waiting: at the end, connections that wait for answers.
        changed: is set when a connection has ended, or nobody waits any more.
    """

    plan: Plan
    tally: Tally
    messages: Messages
    changed: asyncio.Event
    sending: bool = False
    started: float = 0.0
    places: int = 0
    waiting: set[Lane] = dataclasses.field(default_factory=set)


class Lane:
    """A connection of a load, from when it is open.

    Attributes:
        index: its number, over all processes.
        place: its place among those that messages go round.
        due: messages that were due so far.
        sent: of them.
        order: of answers.
        ended: nothing more can be sent.
        dropped: it ended before we closed it.
    """

    __slots__ = (
        "_at", "_closing", "_draining", "_stage", "_ws", "dropped", "due", "ended", "index", "order", "place", "sent",
    )  # fmt: skip

    def __init__(self, stage: Stage, index: int, ws: ClientConnection) -> None:
        self.index = index
        self.place = self.due = self.sent = 0
        self.order = Order()
        self.ended = self.dropped = False
        self._stage = stage
        self._ws = ws
        self._at: array[float] | None = None  # in a closed loop: when the last messages were sent
        self._draining: asyncio.Task[None] | None = None
        self._closing: asyncio.Task[None] | None = None

    # Reading.

    async def read(self) -> None:
        """Take what comes, until the connection is closed."""
        take = self._take if self._stage.plan.answers else self._count
        ws = self._ws
        try:
            async for message in ws:
                take(message)
        except ConnectionClosed:
            pass
        except BaseException:
            ws.transport.abort()  # we are in a hurry
            raise
        finally:
            self.ended = True
            for task in (self._draining, self._closing):
                if task is not None:
                    task.cancel()
        await ws.wait_closed()
        if ws.close_exc is not None:
            self._note_end(ws.close_exc)

    def _note_end(self, closed: ConnectionClosed) -> None:
        tally = self._stage.tally
        if self._closing is None:
            self.dropped = True
            count_reason(tally.dropped, why(closed))
        elif not isinstance(closed, ConnectionClosedOK):
            count_reason(tally.ended, why(closed))

    def _count(self, message: Data) -> None:
        tally = self._stage.tally
        tally.received += 1
        tally.octets_received += _octets(message)

    def _take(self, message: Data) -> None:
        """Find out what a message is the answer to."""
        stage, order = self._stage, self.order
        tally = stage.tally
        tally.received += 1
        number = stage.messages.number(message, self.index)
        if not 0 <= number < self.sent:
            tally.strange += 1
            tally.octets_received += _octets(message)
            return
        intact = stage.messages.intact(message, self.index, number)
        tally.octets_received += len(message) if intact else _octets(message)  # ours are ASCII
        before = order.next
        seen = order.take(number)
        if seen is Seen.AGAIN:
            tally.doubled += 1
            return
        if seen is Seen.LATE:
            tally.reordered += 1
        if not intact:
            tally.altered += 1
        else:
            tally.answered += 1
            if self._at is None or number >= self.sent - len(self._at):  # else nobody knows any more
                tally.latency.add(int((time.perf_counter() - self._due_at(number)) * 1e9))
        if self._at is not None:
            self.fill(order.next - before)
        if stage.waiting and not self.waits:
            stage.waiting.discard(self)
            if not stage.waiting:
                stage.changed.set()

    @property
    def waits(self) -> bool:
        """Whether a message has no answer yet."""
        return self.order.next < self.sent or self.order.lost > 0

    def _due_at(self, number: int) -> float:
        """When a message was due; in a closed loop: sent."""
        if self._at is not None:
            return self._at[number % len(self._at)]
        return self._stage.started + self._stage.plan.due(number, self.place, self._stage.places)

    # Sending.

    def fill(self, many: int) -> None:
        """In a closed loop: send so many more. The first time it tells how many are in flight."""
        if self._at is None:
            self._at = array("d", bytes(8 * many))
        for _ in range(many):
            if not self._stage.sending or self._ws.state is not State.OPEN:
                return
            self._stage.tally.due += 1
            self.due += 1
            self._at[self.sent % len(self._at)] = time.perf_counter()
            self._send()  # no more than are in flight can wait in the connection

    def send_due(self, number: int) -> None:
        """In an open loop: this message is due. To be called with every number, in order."""
        tally = self._stage.tally
        tally.due += 1
        self.due = number + 1
        if self._draining is None and self._ws.state is State.OPEN:
            tally.lateness.add(int((time.perf_counter() - self._due_at(number)) * 1e9))
            sending = self._send()
            if sending is not SENT:
                self._draining = asyncio.create_task(self._drain(sending))

    def _send(self) -> Awaitable[None]:
        tally, messages, number = self._stage.tally, self._stage.messages, self.sent
        self.sent = number + 1
        tally.sent += 1
        tally.octets_sent += messages.size(number)
        return self._ws.send(messages.make(self.index, number))

    async def _drain(self, sending: Awaitable[None]) -> None:
        """Wait until the connection takes more, and catch up."""
        try:
            await sending
            burst = 0
            while self.sent < self.due and self._stage.sending and self._ws.state is State.OPEN:
                await self._send()
                burst += 1
                if burst % _BURST == 0:
                    await asyncio.sleep(0)
        except ConnectionClosed:
            pass  # `read` tells
        finally:
            self._draining = None

    def close(self) -> None:
        """Begin to close the connection; `read` ends when it is closed."""
        if not self.ended:
            self._closing = asyncio.create_task(self._ws.close())

    def settle(self) -> None:
        """At the end of all: count what became of the messages that have no answer."""
        tally, order = self._stage.tally, self.order
        if self.dropped:
            tally.cut += self.due - self.sent
        else:
            tally.unread += self.due - self.sent
        if not self._stage.plan.answers:
            return
        tally.lost += order.lost
        tally.unanswered += self.sent - order.next
        if not self.dropped:
            now, many = time.perf_counter(), self.due - order.next
            step = max(1, many // _AGES)
            for number in range(order.next, self.due, step):
                tally.latency.add(int((now - self._due_at(number)) * 1e9), min(step, self.due - number))


def why(closed: ConnectionClosed) -> str:
    """Why a connection ended, without figures, so that the same cause has the same words."""
    cause: CloseCause = closed.cause
    if cause is CloseCause.PEER_CLOSED:
        return f"{cause.value}: {closed.rcvd}"
    if cause is CloseCause.CONNECTION_LOST and closed.os_error is not None:
        return f"{cause.value}: {explain(closed.os_error)}"
    if cause in (CloseCause.PEER_BROKE_RULE, CloseCause.OVER_LIMIT) and closed.__cause__ is not None:
        return f"{cause.value}: {closed.__cause__}"
    return str(cause.value)


def _octets(message: Data) -> int:
    return len(message) if isinstance(message, bytes) else len(message.encode())
