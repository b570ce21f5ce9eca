"""A pool of connections for threads: bounded, kept open between uses, checked before they are used again."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import socket
import threading
import time
from collections.abc import Callable, Hashable, Iterator
from types import TracebackType
from typing import Any, Generic, Protocol, Self, TypeVar, cast, overload

from .address import Address
from .channel import wait_for
from .errors import ClosedError
from .guard import seconds
from .pooling import Key, Poolable, PoolStats, Rules, Step, Ticket
from .stream import Stream

__all__ = ["Pool", "PoolBase", "PoolStats", "quiet"]


class _Closes(Poolable, Protocol):
    def close(self) -> object:
        """Close gracefully."""


P = TypeVar("P", bound=Poolable)
S = TypeVar("S", bound=_Closes)


def quiet(connection: Poolable) -> bool:
    """Whether an idle connection lives, as far as this end can see: open, and nothing came that nobody asked for.

    What comes is the peer's end of it (a FIN, a reset), or the answer to somebody else's question. A connection that
    reads ahead, or that has to answer by itself (TLS), knows better than its socket: its method ``quiet()`` is asked.
    """
    try:
        knows: Callable[[], bool] | None = getattr(connection, "quiet", None)
        if knows is not None:
            return connection.fileno() >= 0 and knows()
        return connection.fileno() >= 0 and not wait_for(cast("socket.socket", connection), True, False, 0)[0]
    except (OSError, ValueError):
        return False


class PoolBase(Generic[P]):
    """What the blocking and the asyncio pool share; see `Pool`."""

    def __init__(
        self,
        *,
        size: int,
        total: int,
        idle: float | None,
        age: float | None,
        connect: Callable[..., Any],
        check: Callable[[Any], Any] | None,
        clock: Callable[[], float],
    ) -> None:
        for name, function in (("connect", connect), ("check", check), ("clock", clock)):
            if function is not None and not callable(function):
                raise TypeError(f"{name} is a function, not {function!r}")
        self._rules: Rules[P] = Rules(size=size, total=total, idle=idle, age=age)
        self._connect = connect
        self._check = check
        self._clock = clock
        self._out: dict[int, Ticket[P]] = {}  # by the identity of the connection
        self._unusable: set[int] = set()

    def discard(self, stream: P) -> None:
        """Close a connection rather than use it again, when its ``with`` block ends: it was left in an odd state.

        Raises:
            ValueError: it is not in use from this pool.
        """
        if id(stream) not in self._out:
            raise ValueError("that connection isn't in use from this pool")
        self._unusable.add(id(stream))

    def __repr__(self) -> str:
        stats = dataclasses.asdict(self.stats)
        now = (f"{name}={stats[name]}" for name in ("idle", "out", "opening", "closing", "waiting") if stats[name])
        return f"<{' '.join(('Pool', *now, *(['closed'] if self._rules.closed else [])))}>"

    @property
    def stats(self) -> PoolStats:
        """How many connections there are, are in use, were reused, ..."""
        return self._rules.stats()

    def _asked(self, address: str | Address, key: Hashable, timeout: float | None) -> Key:
        """Which connections are meant. All that is asked with is looked at before anything changes here.

        Raises:
            AddressError, TypeError, ValueError: it is no address, nothing to tell connections apart by, or no time.
        """
        seconds(timeout, "timeout")
        try:
            hash(key)
        except TypeError:
            raise TypeError(f"key is hashable, as the key of a dict, not {key!r}") from None
        return Address.parse(address), key

    def _lend(self, ticket: Ticket[P], stream: P) -> P:
        self._out[id(stream)] = ticket
        return stream

    def _is_usable(self, ticket: Ticket[P], stream: P, failed: bool) -> bool:
        """Of a connection that comes back: it is not lent any more, and may be used again."""
        del self._out[id(stream)]
        unusable = id(stream) in self._unusable
        self._unusable.discard(id(stream))
        if failed or unusable:
            return False
        try:
            return stream.fileno() >= 0
        except (OSError, ValueError):
            return False

    def _late(self, ticket: Ticket[P], timeout: float | None) -> TimeoutError:
        why = self._rules.crowd(ticket.key) if ticket.step is Step.WAITING else "it was being opened, or checked"
        return TimeoutError(errno.ETIMEDOUT, f"no connection to {ticket.key[0]} within {timeout} s: {why}")


def _connect(address: Address, *, timeout: float | None = None, key: Hashable = None) -> Stream:
    """What opens connections by default: what their user tells them apart by does not matter to it."""
    from .connecting import connect

    return connect(address, timeout=timeout)


class Pool(PoolBase[S]):
    """A pool of connections, by address. It may be used by many threads at once::

        with Pool(size=4) as pool:
            with pool.connection("tcp://localhost:6379", timeout=5) as stream:
                stream.send_all(b"PING\\r\\n")

    A connection goes back when its block ends, and is closed instead if an exception ended it: who knows what is
    still on its way then. Before one is used again it is looked at: one that the peer has closed, or that has sent
    something that nobody asked for, is closed, and the next one is tried, or a new one opened. Who has to wait is
    served in the order of asking. When `total` is reached, the idle connection that was not used for longest makes
    room for an address that needs one. Without traffic nothing happens: idle connections over their limits are
    closed when one is asked for, or by `expire`.

    Args:
        size: the most connections to one address (with one key) as far as `total` allows, those that are opened or
            closed just now among them.
        total: the most connections in all.
        idle: seconds after which a connection that nobody uses is closed; None: never.
        age: seconds after which a connection is not used again, however busy; None: never.
        connect: opens one: ``connect(address, timeout=seconds | None)``, with ``key=`` if there is one; default:
            `websock.net.connect`. What it gives has ``fileno()``, ``close()`` and ``abort()``.
        check: whether an idle one is still good, after the look at the socket; OSError and EOFError mean no.
        clock: the time in seconds, from whenever.

    Raises:
        ValueError, TypeError: not such numbers.
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
        check: Callable[[Stream], bool] | None = None,
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
        connect: Callable[..., S],
        check: Callable[[S], bool] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None: ...

    def __init__(
        self,
        *,
        size: int = 10,
        total: int = 100,
        idle: float | None = 60.0,
        age: float | None = None,
        connect: Callable[..., Any] | None = None,
        check: Callable[[Any], bool] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        connect = _connect if connect is None else connect
        super().__init__(size=size, total=total, idle=idle, age=age, connect=connect, check=check, clock=clock)
        self._lock = threading.Lock()  # for the rules; nothing waits while it holds it

    @contextlib.contextmanager
    def connection(self, address: str | Address, *, key: Hashable = None, timeout: float | None = None) -> Iterator[S]:
        """A connection, for the block.

        Args:
            address: where to.
            key: connections with another one are not for this: another user, another certificate.
            timeout: seconds for getting one, waiting and opening together; None: no limit.

        Raises:
            AddressError: that is none.
            TypeError, ValueError: `key` is not hashable, or `timeout` no time.
            TimeoutError: with the address, and how many are out.
            ClosedError: the pool is closed, or was meanwhile.
            OSError: it cannot be opened.
        """
        which = self._asked(address, key, timeout)
        ticket, stream = self._get(which, timeout)
        failed = True
        try:
            yield self._lend(ticket, stream)
            failed = False
        finally:
            self._put(ticket, stream, failed)

    def expire(self) -> None:
        """Close idle connections that are over their limits, without waiting for the next who asks."""
        with self._lock:
            self._rules.expire(self._clock())
        self._sweep()

    def close(self) -> None:
        """Close all that are idle, now, and those in use when they come back. Who waits gets a ClosedError."""
        with self._lock:
            self._rules.close()
        self._sweep()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _get(self, key: Key, timeout: float | None) -> tuple[Ticket[S], S]:
        start = self._clock()
        woken = threading.Event()
        with self._lock:
            ticket = self._rules.ask(key, start, woken.set)
        try:
            self._sweep()
            while True:
                left = None if timeout is None else max(start + timeout - self._clock(), 0.0)
                if (stream := self._advance(ticket, woken, timeout, left)) is not None:
                    return ticket, stream
        except BaseException:
            with self._lock:
                self._rules.end(ticket)
            self._sweep()
            raise

    def _advance(
        self, ticket: Ticket[S], woken: threading.Event, timeout: float | None, left: float | None
    ) -> S | None:
        """Take one step; the connection when that was the last."""
        rules = self._rules
        match ticket.step:
            case Step.WAITING:
                if not woken.wait(left):
                    with self._lock:
                        if ticket.step is Step.WAITING:  # not served in this very moment
                            raise self._late(ticket, timeout)
            case Step.CHECKING:
                stream = ticket.connection()
                if self._lives(stream):
                    with self._lock:
                        rules.ready(ticket)
                    return stream
                self._shut(stream.abort)
                with self._lock:
                    rules.dead(ticket)
            case Step.OPENING if not rules.closed:
                if (stale := ticket.take_stale()) is not None:
                    self._shut(stale.close)
                    with self._lock:
                        rules.replaced(ticket)
                    return None
                if left == 0:
                    raise self._late(ticket, timeout)
                address, name = ticket.key
                named = {} if name is None else {"key": name}
                new: S = self._connect(address, timeout=left, **named)
                with self._lock:
                    kept = rules.opened(ticket, new, self._clock())
                if kept:
                    return new
                self._shut(new.close)
                raise ClosedError("the pool")
            case _:
                raise ClosedError("the pool")
        return None

    def _lives(self, stream: S) -> bool:
        try:
            return quiet(stream) and (self._check is None or bool(self._check(stream)))
        except (OSError, EOFError):
            return False
        except BaseException:
            self._shut(stream.abort)
            raise

    def _put(self, ticket: Ticket[S], stream: S, failed: bool) -> None:
        usable = self._is_usable(ticket, stream, failed)
        with self._lock:
            kept = self._rules.back(ticket, self._clock(), usable=usable)
        if not kept:
            self._close(ticket, stream.close if usable else stream.abort)
        self._sweep()

    def _sweep(self) -> None:
        """Close what the rules want closed."""
        closing = self._rules.closing
        while closing:
            try:
                ticket = closing.popleft()
            except IndexError:  # another thread does it
                return
            self._close(ticket, ticket.connection().close)

    def _close(self, ticket: Ticket[S], close: Callable[[], object]) -> None:
        try:
            self._shut(close)
        finally:
            with self._lock:
                self._rules.end(ticket)

    def _shut(self, close: Callable[[], object]) -> None:
        try:
            close()
        except OSError:
            pass  # it was broken, and is gone
