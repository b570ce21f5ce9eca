"""A backplane between the processes of one host, without any service: they agree on the path of a Unix socket.

Strategy: whoever holds the lock of the file beside the socket runs the broker (`BrokerThread`), in a thread; all,
that one too, are its clients. The system gives the lock to another one as soon as its holder is gone, however it went,
and all clients see that at once by their connections; so there is a new broker within some tens of milliseconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
import weakref
from collections.abc import AsyncIterator, Awaitable, Sequence
from typing import Any, Final

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment,unused-ignore]

from ..asyncio.client import ClientConnection, unix_connect
from ..asyncio.connection import broadcast
from ..core.protocol import State
from ..core.slow import SlowConsumers
from ..exceptions import WebSocketException
from ..net.errors import NotOnThisSystem
from ..net.unix import peer_credentials
from ..typing import Data
from .backplane import Added, Opened
from .broker import BACKLOG, BrokerThread, close_copy
from .history import HISTORY_OCTETS, History
from .link import Link, Waits, fail
from .positions import Position, Record
from .wire import MAX_MESSAGE, PROTOCOL, cast_frame, chunks, frame, positions_of, uncast, unframe, written

__all__ = ["Workers"]

ELECTION: Final = 3.0
"""Seconds in which there must be a broker, before it is called absent."""
LOOKS: Final = 0.01, 0.2
"""Seconds between two looks meanwhile: the shortest, and the longest wait."""

_alive: weakref.WeakSet[Workers] = weakref.WeakSet()


class Workers(Link):
    """The backplane of all processes of this host that agree on a path.

    Args:
        path: of the Unix socket. Beside it are ``.lock`` and ``.log``, in which is what is kept. A last folder
            that is not there is made, for this user alone; all the processes must be of one user.
        history_octets: that all histories take at most which are kept here for all of them: `Hub` gives its own.

    Raises:
        NotOnThisSystem: it has no Unix sockets.
        ValueError: a path that no Unix socket can have.
    """

    name = "workers"
    TIMEOUT: Final = 5.0
    """Seconds that the broker may take to answer."""

    def __init__(self, path: str | os.PathLike[str], *, history_octets: float = HISTORY_OCTETS) -> None:
        super().__init__(Waits(*LOOKS))
        if fcntl is None:
            raise NotOnThisSystem("a backplane between workers (Unix sockets)")
        self.path = os.path.abspath(os.fspath(path))
        if not os.fspath(path) or len(os.fsencode(self.path)) > 103:
            raise ValueError(f"the path of a Unix socket has 1 to 103 octets, unlike {os.fspath(path)!r}")
        self._connection: ClientConnection | None = None
        self._calls: dict[int, asyncio.Future[Any]] = {}
        self._next_call = 0
        self._history_octets = history_octets
        self._lock = -1
        self._broker: BrokerThread | None = None
        _alive.add(self)

    def __repr__(self) -> str:
        return f"Workers({self.path!r})"

    # What one connection is.

    @contextlib.asynccontextmanager
    async def session(self) -> AsyncIterator[asyncio.Future[None]]:
        connection = await self._find_broker()
        ended = asyncio.ensure_future(connection.wait_closed())
        self._connection = connection
        try:
            yield ended
        finally:
            self._connection = None
            self.up = False
            calls, self._calls = self._calls, {}
            for call in calls.values():
                fail(call, self.down())
            connection.transport.abort()
            await ended

    async def _find_broker(self) -> ClientConnection:
        """Connect to the broker, or be it first."""
        deadline, waits = time.monotonic() + ELECTION, Waits(*LOOKS)
        while True:
            try:
                return await self._connect()
            except (OSError, WebSocketException, TimeoutError) as error:
                failure = error
            if await self._may_lead():
                continue
            if time.monotonic() > deadline:
                raise failure
            await asyncio.sleep(waits.take())

    async def _connect(self) -> ClientConnection:
        connection = await unix_connect(
            self.path,
            on_message=self._heard,
            subprotocols=[PROTOCOL],
            compression=None,
            max_size=None,
            ping_interval=2,
            ping_timeout=5,
            open_timeout=2,
        )
        wrong = None
        with contextlib.suppress(NotOnThisSystem):
            if peer_credentials(connection.transport.get_extra_info("socket")).uid != os.geteuid():
                wrong = "another user's server"
        if connection.subprotocol != PROTOCOL:
            wrong = wrong or "a server that is no broker, or another version's,"
        if wrong:
            connection.transport.abort()
            await connection.wait_closed()
            raise OSError(f"{wrong} listens on {self.path}")
        connection.slow_consumers = SlowConsumers("close", BACKLOG)
        return connection

    async def _may_lead(self) -> bool:
        """Run the broker, if nobody else does; whether it runs here."""
        if self._broker is not None:
            if self._broker.running:
                return False
            await self._resign()
        if self._lock < 0:
            self._lock = _locked(self.path)
        if self._lock < 0:
            return False
        starting = asyncio.ensure_future(asyncio.to_thread(BrokerThread, self.path, self._history_octets))
        try:
            self._broker = await asyncio.shield(starting)
        except asyncio.CancelledError:
            self._broker = await starting  # it can't be left to itself; `close` ends it
            raise
        except BaseException:
            await self._resign()
            raise
        return True

    async def _resign(self) -> None:
        broker, self._broker = self._broker, None
        if broker is not None:
            await asyncio.to_thread(broker.close)
        lock, self._lock = self._lock, -1
        if lock >= 0:
            os.close(lock)

    async def close(self) -> None:
        await super().close()
        await self._resign()
        _alive.discard(self)

    def abandon(self) -> None:
        """In a forked child: the lock, the broker and the connection are the parent's."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1
        if self._broker is not None:
            self._broker.abandon()
            self._broker = None
        if self._connection is not None:
            close_copy(self._connection)

    # What is said on it.

    def _heard(self, connection: ClientConnection, message: Data) -> None:
        if connection is not self._connection:
            return  # it has ended for us, or was never taken
        if (cast := uncast(message)) is not None:
            assert isinstance(message, bytes)  # noqa: S101 - for the type checker
            self._receiver.cast(cast[0], message[cast[1] :])
            return
        (what, *rest), records = unframe(message)
        match what:
            case "new":
                topic, positions = rest
                for position, record in zip(positions_of(positions), records, strict=True):
                    self._receiver.added(topic, position, record)
            case "added":
                call, answers = rest
                self._answer(call, [Added(None if at is None else Position.parse(at), old) for at, old in answers])
            case "opened":
                call, floor, last, made, positions, more = rest
                entries = list(zip(positions_of(positions), records, strict=True))
                self._answer(call, (Opened(entries, *positions_of((floor, last, made))), more))

    def _answer(self, call: int, answer: Any) -> None:
        waiter = self._calls.get(call)
        if waiter is not None and not waiter.done():
            waiter.set_result(answer)

    async def _ask(self, head: Sequence[Any], records: Sequence[Record] = ()) -> Any:
        """Ask the broker, and wait for its answer."""
        self.check_up()
        self._next_call += 1
        call = self._next_call
        waiter = self._calls[call] = asyncio.get_running_loop().create_future()
        try:
            self._say(frame([head[0], call, *head[1:]], records))
            async with asyncio.timeout(self.TIMEOUT):
                return await waiter
        except TimeoutError:
            if not self.why:
                self.why = f"no answer within {self.TIMEOUT:g} s"
            raise self._give_up() from None
        finally:
            self._calls.pop(call, None)

    def _say(self, message: bytes) -> None:
        connection = self._connection
        if connection is None or connection.state is not State.OPEN:
            raise self.down()
        broadcast([connection], message)  # rather than send: if the broker takes nothing, that has an end

    def _give_up(self) -> Exception:
        """The connection is of no use: end it, so that another one is made."""
        error = self.down()
        if self._connection is not None:
            self._connection.transport.abort()
        return error

    # What a hub asks for, see `Backplane`.

    async def open(self, topic: str, history: History, after: Position) -> Opened:
        def ask(behind: Position) -> Awaitable[tuple[Opened, bool]]:
            return self._ask(["open", topic, written(history), str(behind)])

        opened, more = await ask(after)
        while more:
            last = opened.entries[-1][0]
            part, more = await ask(last)
            # What was cut from the log meanwhile is no gap if it has come already.
            whole = part.made == opened.made and part.floor <= last
            opened = part._replace(entries=opened.entries + part.entries, floor=opened.floor) if whole else part
        return opened

    async def forget(self, topic: str) -> None:
        self._tell("forget", topic)

    async def add(
        self,
        topic: str,
        records: Sequence[Record],
        history: History,
        above: Position,
        floor: Position | None = None,
    ) -> list[Added]:
        found: list[Added] = []
        # Those that a floor stands for are added in one step: else others might come between. What is too large for
        # that is added without: the log then does not say how far back it is complete.
        if floor is not None and sum(one.octets + 1 for one in records) > MAX_MESSAGE // 2:
            floor = None
        for some in chunks(records, lambda record: record.octets) if floor is None else [records]:
            head = ["add", topic, written(history), str(above), None if floor is None else str(floor)]
            found += await self._ask(head, some)
        return found

    async def cast(self, topic: str, data: bytes) -> None:
        self.check_up()
        self._say(cast_frame(topic, data))

    async def listen(self, topic: str) -> None:
        self.check_up()
        self._say(frame(["listen", topic]))

    async def unlisten(self, topic: str) -> None:
        self._tell("unlisten", topic)

    def _tell(self, what: str, topic: str) -> None:
        with contextlib.suppress(ConnectionError):
            self.check_up()
            self._say(frame([what, topic]))


def _locked(path: str) -> int:
    """The descriptor of the lock, which is held from now on; -1 if somebody else holds it.

    Raises:
        OSError: there can be no such file.
    """
    folder = os.path.dirname(path)
    if not os.path.isdir(folder):
        with contextlib.suppress(FileExistsError):
            os.mkdir(folder, 0o700)
    number = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(number)
        return -1
    except BaseException:
        os.close(number)
        raise
    return number


def _abandon_all() -> None:
    for one in list(_alive):
        one.abandon()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_abandon_all)
