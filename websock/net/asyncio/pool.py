"""A pool of connections for tasks: bounded, kept open between uses, checked before they are used again."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable
from types import TracebackType
from typing import Any, Final, Protocol, Self, TypeVar, overload

from ..address import Address
from ..errors import ClosedError
from ..pool import PoolBase, quiet
from ..pooling import Key, Poolable, PoolStats, Step, Ticket
from .stream import Stream

__all__ = ["Pool", "PoolStats"]

_PATIENCE: Final = 1.0  # seconds that the end of a connection may take


class _Closes(Poolable, Protocol):
    async def close(self) -> object:
        """Close gracefully."""


S = TypeVar("S", bound=_Closes)


async def _connect(address: Address, *, key: Hashable = None) -> Stream:
    """What opens connections by default: what their user tells them apart by does not matter to it."""
    from .connecting import connect

    return await connect(address)


class Pool(PoolBase[S]):
    """As `websock.net.Pool`, for the tasks of one event loop::

        async with Pool(size=4) as pool:
            async with pool.connection("tcp://localhost:6379", timeout=5) as stream:
                await stream.send_all(b"PING\\r\\n")

    A task may be cancelled anywhere: its place goes to the next one. Idle connections that are over their limits are
    closed by a timer.

    Args:
        size, total, idle, age, clock: as there.
        connect: opens one: ``await connect(address)``, with ``key=`` if there is one; default:
            `websock.net.asyncio.connect`. What it gives has ``fileno()``, ``await close()`` and ``abort()``.
        check: whether an idle one is still good, after the look at the socket; it may be a coroutine function.
            OSError and EOFError mean no.
    """

    @overload
    def __init__(
        self: Pool[Stream],
        *,
        size: int = 10,
        total: int = 100,
        idle: float | None = 60.0,
        age: float | None = None,
        connect: None = None,
        check: Callable[[Stream], bool | Awaitable[bool]] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None: ...

    @overload
    def __init__(
        self,
        *,
        size: int = 10,
        total: int = 100,
        idle: float | None = 60.0,
        age: float | None = None,
        connect: Callable[..., Awaitable[S]],
        check: Callable[[S], bool | Awaitable[bool]] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None: ...

    def __init__(
        self,
        *,
        size: int = 10,
        total: int = 100,
        idle: float | None = 60.0,
        age: float | None = None,
        connect: Callable[..., Awaitable[Any]] | None = None,
        check: Callable[[Any], bool | Awaitable[bool]] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        connect = _connect if connect is None else connect
        super().__init__(size=size, total=total, idle=idle, age=age, connect=connect, check=check, clock=clock)
        self._timer: asyncio.TimerHandle | None = None
        self._sweeper: asyncio.Task[None] | None = None

    @contextlib.asynccontextmanager
    async def connection(
        self,
        address: str | Address,
        *,
        key: Hashable = None,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> AsyncIterator[S]:
        """A connection, for the block; arguments and errors as those of `websock.net.Pool.connection`."""
        which = self._asked(address, key, timeout)
        ticket, stream = await self._get(which, timeout)
        failed = True
        try:
            yield self._lend(ticket, stream)
            failed = False
        finally:
            await self._put(ticket, stream, failed)

    async def expire(self) -> None:
        """Close idle connections that are over their limits, without waiting for the timer."""
        self._rules.expire(self._clock())
        await self._sweep()

    async def close(self) -> None:
        """Close all that are idle, now, and those in use when they come back. Who waits gets a ClosedError."""
        self._rules.close()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        await self._sweep()
        if self._sweeper is not None:
            await asyncio.wait([self._sweeper])

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _get(self, key: Key, timeout: float | None) -> tuple[Ticket[S], S]:  # noqa: ASYNC109
        rules = self._rules
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def wake() -> None:
            if not woken.done():
                woken.set_result(None)

        ticket = rules.ask(key, self._clock(), wake)
        late: TimeoutError | None = None
        try:
            async with asyncio.timeout(timeout) as limit:
                try:
                    await self._sweep()
                    while (stream := await self._advance(ticket, woken)) is None:
                        pass
                    return ticket, stream
                except BaseException:
                    if limit.expired():
                        late = self._late(ticket, timeout)
                    rules.end(ticket)
                    raise
        except TimeoutError:
            if late is None:
                raise  # the connector's own
            raise late from None

    async def _advance(self, ticket: Ticket[S], woken: asyncio.Future[None]) -> S | None:
        """Take one step; the connection when that was the last, and nothing is awaited after that is known."""
        rules = self._rules
        match ticket.step:
            case Step.WAITING:
                await woken
            case Step.CHECKING:
                stream = ticket.connection()
                if await self._lives(stream):
                    rules.ready(ticket)
                    return stream
                self._abort(stream)
                rules.dead(ticket)
            case Step.OPENING if not rules.closed:
                if (stale := ticket.take_stale()) is not None:
                    await self._shut(stale)
                    rules.replaced(ticket)
                    return None
                address, name = ticket.key
                stream = await (self._connect(address) if name is None else self._connect(address, key=name))
                if rules.opened(ticket, stream, self._clock()):
                    return stream
                await self._shut(stream)
                raise ClosedError("the pool")
            case _:
                raise ClosedError("the pool")
        return None

    async def _lives(self, stream: S) -> bool:
        try:
            if not quiet(stream):
                return False
            if self._check is None:
                return True
            lives = self._check(stream)
            return bool(await lives if inspect.isawaitable(lives) else lives)
        except (OSError, EOFError):
            return False
        except BaseException:
            self._abort(stream)
            raise

    async def _put(self, ticket: Ticket[S], stream: S, failed: bool) -> None:
        usable = self._is_usable(ticket, stream, failed)
        if self._rules.back(ticket, self._clock(), usable=usable):
            self._set_timer()
        elif usable:
            await self._close(ticket)
        else:
            self._abort(stream)
            self._rules.end(ticket)

    def _set_timer(self) -> None:
        deadline = self._rules.deadline
        if deadline is not None and self._timer is None:
            delay = max(deadline - self._clock(), 0.0)
            self._timer = asyncio.get_running_loop().call_later(delay, self._time)

    def _time(self) -> None:
        self._timer = None
        self._rules.expire(self._clock())
        self._set_timer()
        if self._rules.closing and self._sweeper is None:
            self._sweeper = asyncio.get_running_loop().create_task(self._sweep_alone(), name="pool: closing idle ones")

    async def _sweep_alone(self) -> None:
        try:
            await self._sweep()
        finally:
            self._sweeper = None

    async def _sweep(self) -> None:
        """Close what the rules want closed."""
        closing = self._rules.closing
        while closing:
            await self._close(closing.popleft())

    async def _close(self, ticket: Ticket[S]) -> None:
        try:
            await self._shut(ticket.connection())
        finally:
            self._rules.end(ticket)

    async def _shut(self, stream: S) -> None:
        try:
            async with asyncio.timeout(_PATIENCE):  # for what its user sent, if the peer still reads
                await stream.close()
        except OSError:
            self._abort(stream)  # it was broken, or nobody reads; TimeoutError is one
        except BaseException:
            self._abort(stream)
            raise

    def _abort(self, stream: S) -> None:
        try:
            stream.abort()
        except OSError:
            pass  # as above
