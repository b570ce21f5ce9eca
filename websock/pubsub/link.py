"""What every backplane does: connect, tell the hub, notice the end, wait, and connect again."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import AsyncIterator, Iterable
from typing import Any, Final

from .backplane import BackplaneDown, Receiver

__all__ = ["Link", "Waits", "ended", "fail", "said"]

logger = logging.getLogger("websock.pubsub")


class Waits:
    """Seconds to wait before the next try: each time more, at random, so that not all come at once."""

    __slots__ = ("_first", "_longest", "_next")

    def __init__(self, first: float, longest: float) -> None:
        self._first = first
        self._longest = longest
        self._next = first

    def reset(self) -> None:
        """It went well."""
        self._next = self._first

    def take(self) -> float:
        """The next one."""
        wait, self._next = self._next, min(self._longest, 2 * self._next)
        return wait * random.uniform(0.5, 1.0)  # noqa: S311 - spreads load, guards nothing


class Link:
    """A backplane's connection to its service. A subclass says what one connection is: `session`.

    Attributes:
        up: it is there: calls make sense.
        why: why it is not.
    """

    name: str
    STEADY: Final = 5.0
    """Seconds of life after which the end of a connection is no sign of a fault in connecting."""

    def __init__(self, waits: Waits) -> None:
        self.up = False
        self.why = "not started"
        self._waits = waits
        self._task: asyncio.Task[None] | None = None
        self._receiver: Receiver

    @contextlib.asynccontextmanager
    async def session(self) -> AsyncIterator[asyncio.Future[None]]:
        """Connect; while it is entered it can be used; what it gives ends, or raises, when the connection does."""
        raise NotImplementedError
        yield  # for the type checker

    async def start(self, receiver: Receiver) -> None:
        """See `Backplane.start`."""
        if self._task is not None:
            raise RuntimeError("a backplane is started once")
        self._receiver = receiver
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def close(self) -> None:
        """See `Backplane.close`."""
        if self._task is not None:
            await ended([self._task], 5.0)  # it has something to clean up

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        told = warned = False  # of this outage
        while True:
            began = None
            try:
                async with self.session() as end:
                    began, told, warned = loop.time(), False, False
                    self.up, self.why = True, ""
                    logger.info("backplane %s: connected", self.name)
                    try:
                        self._receiver.up()
                        await asyncio.wait([end])
                    finally:
                        self.up = False
                    end.result()
                    why = "the connection has ended"
            except asyncio.CancelledError:
                self.why = "closed"
                raise
            except Exception as error:
                why = said(error)
            self.why = why
            if began is not None:  # another one is there soon, mostly
                logger.info("backplane %s: lost: %s", self.name, why)
                if loop.time() - began >= self.STEADY:
                    self._waits.reset()
            elif not warned:
                warned = True
                logger.warning("backplane %s: away, local delivery goes on: %s", self.name, why)
            if not told:
                told = True
                self._receiver.down(why)
            await asyncio.sleep(self._waits.take())

    def check_up(self) -> None:
        """Raises:
        BackplaneDown: it is away.
        """
        if not self.up:
            raise self.down()

    def down(self) -> BackplaneDown:
        """What calls raise."""
        return BackplaneDown(f"the backplane ({self.name}) is away: {self.why or 'the connection has ended'}")


async def ended(tasks: Iterable[asyncio.Task[Any]], patience: float = 0.5) -> None:
    """Cancel tasks, and wait until they have ended. A library that they are in may lose a cancellation that comes at
    the wrong moment, so they are told again after `patience` seconds."""
    left = {task for task in tasks if not task.done()}
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=patience)


def fail(waiter: asyncio.Future[Any], error: Exception) -> None:
    """Whoever waits for it gets the error, if there was no answer."""
    if not waiter.done():
        waiter.set_exception(error)
        waiter.exception()  # who waited may be gone


def said(error: BaseException) -> str:
    """What an error says, in one line; never without a word."""
    return " ".join(str(error).split()) or type(error).__name__
