"""An awaitable that a read callback can resume without a turn of the event loop."""

from __future__ import annotations

import asyncio
import contextvars
import socket
import types
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any

from ...accelerated import ACCELERATED

__all__ = ["SocketWaiter", "Waiter"]


class Waiter:
    """A future of one use at a time, which `wake` completes at once, on the caller's stack.

    asyncio's own futures put the waiting task on the loop's queue; here it runs inside the call that has its news. So
    all that it sends leaves in the same write as what the read itself queued. The task sees an ordinary future: the
    protocol between tasks and futures (``_asyncio_future_blocking``, ``add_done_callback``, ``result``, ``cancel``) is
    the one that asyncio documents for future-like objects, and is the same for C and Python tasks and for uvloop.
    """

    __slots__ = ("_asyncio_future_blocking", "_callback", "_cancelled", "_context", "_loop", "scheduled")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._callback: Callable[[Any], object] | None = None
        self._context: contextvars.Context | None = None
        self._cancelled: asyncio.CancelledError | None = None
        self._asyncio_future_blocking = False
        self.scheduled = False  # a task was told, and has not run yet

    @property
    def waiting(self) -> bool:
        """Whether a task waits here."""
        return self._callback is not None

    def __await__(self) -> Generator[Any, None, None]:
        self._asyncio_future_blocking = True
        yield self

    def wake(self) -> None:
        """Resume the task that waits, if one does: at once when no task runs now, else with the loop's next turn."""
        callback = self._callback
        if callback is None:
            return
        self._callback = None
        if self._context is not None and asyncio.current_task(self._loop) is None:
            self._context.run(callback, self)
        else:
            self.scheduled = True
            self._loop.call_soon(callback, self, context=self._context)

    def wake_soon(self) -> None:
        """Resume the task that waits with the loop's next turn."""
        if (callback := self._callback) is not None:
            self._callback = None
            self.scheduled = True
            self._loop.call_soon(callback, self, context=self._context)

    # What a task expects of a future.

    def get_loop(self) -> asyncio.AbstractEventLoop:
        return self._loop

    def add_done_callback(
        self, callback: Callable[[Any], object], *, context: contextvars.Context | None = None
    ) -> None:
        self._callback = callback
        self._context = context

    def remove_done_callback(self, callback: Callable[[Any], object]) -> int:
        removed = int(self._callback is not None)
        self._callback = None
        return removed

    def done(self) -> bool:
        return self._callback is None

    def cancel(self, msg: str | None = None) -> bool:
        if self._callback is None:
            return False
        self._cancelled = asyncio.CancelledError() if msg is None else asyncio.CancelledError(msg)
        self.wake_soon()
        return True

    def result(self) -> None:
        self.scheduled = False
        if self._cancelled is not None:
            cancelled, self._cancelled = self._cancelled, None
            raise cancelled

    def exception(self) -> BaseException | None:
        return None


if ACCELERATED and not TYPE_CHECKING:
    from ..._native import speedups

    _over = asyncio.Future(loop=types.SimpleNamespace(get_debug=bool))  # of no loop, which it would keep alive
    _over.set_result(None)
    speedups.bind_waiter(asyncio.current_task, asyncio.CancelledError, asyncio.Task, _over)
    Waiter = speedups.Waiter


class SocketWaiter(Waiter):
    """A waiter that reads and writes a socket, which does not block."""

    __slots__ = ("idle", "sock")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self.idle: Callable[[], object] | None = None  # called by `readable` when no task waits
        self.sock: socket.socket | None = None  # None when nothing may be read any more

    def readable(self) -> None:
        """For the loop to call, inside of whose callbacks no task runs: resume the task that waits, at once."""
        if self.waiting:
            self.wake()
        elif self.idle is not None:
            self.idle()

    async def receive(self, size: int) -> bytes | None:
        """At most `size` octets when a wake-up says that there are some; None if there are none after all."""
        await self
        try:
            return None if self.sock is None else self.sock.recv(size)
        except (BlockingIOError, InterruptedError):
            return None

    def send(self, data: bytes) -> int:
        """Give the system what it takes now; how many octets are left."""
        try:
            return len(data) - (0 if self.sock is None else self.sock.send(data))
        except (BlockingIOError, InterruptedError):
            return len(data)


if ACCELERATED and not TYPE_CHECKING and hasattr(speedups, "SocketWaiter"):  # not on Windows
    SocketWaiter = speedups.SocketWaiter
