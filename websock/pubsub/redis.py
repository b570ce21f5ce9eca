"""A backplane over Redis, for many hosts: ``pip install websock[redis]``.

Strategy: a topic is a stream, which a script adds to (`redis_script`), and a channel, on which the script publishes
what it has added, with the position before it. A hub subscribes, and then reads the stream: what comes twice is known
by its position, and what would be missing by the position before. So following a topic costs nothing while nothing is
said in it, and one subscription connection follows thousands of them. All that is asked goes over one other
connection, batch by batch in order, so that the records of a topic are added in theirs.

Whatever goes wrong on one of the two ends both: the hub is told, and after a while they are made anew. A service that
cannot be written to (a replica, one that still loads, one that is full) counts as absent.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import dataclasses
from collections.abc import AsyncIterator, Sequence
from typing import Any, Final

from .backplane import Added, BackplaneDown, Opened
from .history import History
from .ledger import Ledger
from .link import Link, Waits, fail, said
from .link import ended as end_of
from .positions import ZERO, Position, Record
from .redis_client import client_for, forgotten
from .redis_script import ADD, OPEN, sha

__all__ = ["Redis"]

SLACK: Final = 1200.0
"""Seconds that the log of a topic stays in Redis when its last record is too old: numbers and uids are in it."""
BATCH: Final = 128
"""Commands that are sent at once."""
WAITING: Final = 20_000
"""Commands that may wait for their turn; then calls fail."""
REBUILD = 0.5
"""Seconds after a reconnection in which hubs add again what Redis has lost."""
FIRST_WAIT: Final = 0.1
LONGEST_WAIT: Final = 2.0


@dataclasses.dataclass(eq=False, slots=True)
class _Command:
    """One that waits for its answer.

    Attributes:
        script: its Lua text, which Redis may have forgotten; None for an ordinary command.
        alone: only one of those with the same value is on its way.
    """

    arguments: tuple[Any, ...]
    answer: asyncio.Future[Any]
    script: str | None = None
    alone: str | None = None


class Redis(Link):
    """The backplane of all hubs that use the same Redis, its database and prefix.

    Args:
        url: ``redis://user:password@host:6379/0?prefix=websock``, ``rediss://`` with TLS, ``unix:///path.sock?db=0``;
            the query may have other keywords of the client too.
        client: instead of it, a ``redis.asyncio.Redis`` of yours, such as a Sentinel's ``master_for(name)``. It is
            yours to close.
        prefix: of all keys and channels; what the URL says comes first.
        timeout: seconds that Redis may take to answer, and that nothing may be heard of it.

    Raises:
        ImportError: the client is not installed.
        ValueError: not a URL of Redis, or a client that decodes.
    """

    name = "redis"

    def __init__(
        self, url: str | None = None, *, client: Any = None, prefix: str = "websock", timeout: float = 5.0
    ) -> None:
        super().__init__(Waits(FIRST_WAIT, LONGEST_WAIT))
        if (url is None) == (client is None):
            raise ValueError("either a URL or a client")
        self._timeout = timeout
        self._own = client is None
        self._client = client
        if url is not None:
            self._client, prefix = client_for(url, prefix, timeout)
        known = self._client.connection_pool.connection_kwargs
        if known.get("decode_responses"):
            raise ValueError("the Redis client has to give bytes: decode_responses=False")
        # What is published knows no databases.
        self._keys = f"{prefix}:{known.get('db') or 0}"
        place = known.get("path") or f"{known.get('host', '')}:{known.get('port', '')}"
        self._place = f"{place}, prefix {prefix!r}"
        self._queue: collections.deque[_Command] = collections.deque()
        self._more = asyncio.Event()
        self._on_way: list[_Command] = []
        self._ended: asyncio.Future[None] | None = None
        self._channels: dict[bytes, _Channel] = {}
        self._pubsub: Any = None
        self._heard_at = 0.0
        self._lost = False  # there was a connection before
        self._rebuilt_at = 0.0

    def __repr__(self) -> str:
        return f"Redis({self._place})"

    # What one connection is.

    @contextlib.asynccontextmanager
    async def session(self) -> AsyncIterator[asyncio.Future[None]]:
        loop = asyncio.get_running_loop()
        ended = self._ended = loop.create_future()
        self._queue.clear()
        self._on_way = []
        tasks: list[asyncio.Task[Any]] = []
        pubsub = self._pubsub = self._client.pubsub()
        try:
            async with self._in_time():
                # It can be written to, and it knows the scripts.
                key = f"{self._keys}:alive"
                await self._client.set(key, b"1", px=60_000)
                for script in (ADD, OPEN):
                    await self._client.script_load(script)
                self._heard_at = loop.time()
                await pubsub.subscribe(key)
            for work in (self._write(), self._read(pubsub, key.encode()), self._look(pubsub)):
                tasks.append(loop.create_task(work))
                tasks[-1].add_done_callback(self._fail_with)
            self._rebuilt_at = loop.time() + (REBUILD if self._lost else 0.0)
            self._lost = True
            yield ended
        finally:
            self.up = False
            self._ended = None
            waiting, self._on_way = [*self._on_way, *self._queue], []
            self._queue.clear()
            for command in waiting:
                fail(command.answer, self.down())
            channels, self._channels = self._channels, {}
            for channel in channels.values():
                fail(channel.subscribed, self.down())
            await end_of(tasks)
            self._pubsub = None
            await _quietly(pubsub.aclose())
            if self._own:
                await _quietly(self._client.connection_pool.disconnect())
            if not ended.done():
                ended.cancel()

    @contextlib.asynccontextmanager
    async def _in_time(self) -> AsyncIterator[None]:
        """For as long as Redis may take to answer."""
        try:
            async with asyncio.timeout(self._timeout):
                yield
        except TimeoutError as error:
            raise TimeoutError(str(error) or f"no answer within {self._timeout:g} s") from None

    def _fail_with(self, task: asyncio.Task[Any]) -> None:
        """One of the tasks of a connection has ended: so has the connection."""
        if not task.cancelled() and (error := task.exception()) is not None:
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        if not self.why:
            self.why = said(error)
        if self._ended is not None and not self._ended.done():
            self._ended.set_exception(error)

    # Asking.

    async def _write(self) -> None:
        """Send what waits, batch by batch."""
        while True:
            await self._more.wait()
            self._more.clear()
            while self._queue:
                self._on_way = self._batch()
                await self._send(self._on_way)
                self._on_way = []

    def _batch(self) -> list[_Command]:
        """What is sent at once: of what must not overtake each other only the first."""
        batch: list[_Command] = []
        alone: set[str] = set()
        left: list[_Command] = []
        while self._queue and len(batch) < BATCH and len(left) < 4 * BATCH:
            command = self._queue.popleft()
            if command.answer.done():
                continue  # nobody waits any more, and nothing has begun
            if command.alone is not None:
                if command.alone in alone:
                    left.append(command)
                    continue
                alone.add(command.alone)
            batch.append(command)
        self._queue.extendleft(reversed(left))
        return batch

    async def _send(self, batch: list[_Command]) -> None:
        answers = await self._pipeline([command.arguments for command in batch])
        again = [i for i, one in enumerate(answers) if isinstance(one, Exception) and forgotten(one)]
        if again:  # the scripts: Redis was restarted, or another one has taken its place
            texts = [("EVAL", batch[i].script, *batch[i].arguments[2:]) for i in again]
            for i, answer in zip(again, await self._pipeline(texts), strict=True):
                answers[i] = answer
        for command, answer in zip(batch, answers, strict=True):
            if isinstance(answer, Exception):
                if not str(answer).startswith("WRONGTYPE"):  # one key that is somebody else's; else it is all of Redis
                    self._fail(answer)
                fail(command.answer, BackplaneDown(f"Redis says: {said(answer)}"))
            elif not command.answer.done():
                command.answer.set_result(answer)

    async def _pipeline(self, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        async with self._in_time(), self._client.pipeline(transaction=False) as pipeline:
            for command in commands:
                pipeline.execute_command(*command)
            answers: list[Any] = await pipeline.execute(raise_on_error=False)
        return answers

    async def _ask(self, *arguments: Any, script: str | None = None, alone: str | None = None) -> Any:
        self.check_up()
        if len(self._queue) >= WAITING:
            self._fail(TimeoutError(f"{WAITING} commands wait for an answer"))
            raise self.down()
        if script is not None:
            arguments = ("EVALSHA", sha(script), *arguments)
        answer = asyncio.get_running_loop().create_future()
        self._queue.append(_Command(arguments, answer, script, alone))
        self._more.set()
        return await answer

    # Hearing.

    async def _read(self, pubsub: Any, own: bytes) -> None:
        """What is published, as it comes."""
        loop = asyncio.get_running_loop()
        greeted = False
        while True:
            message = await pubsub.get_message(timeout=self._timeout)
            if message is None:
                continue
            self._heard_at = loop.time()
            kind, name = message["type"], message["channel"]
            if kind == "message":
                self._heard(name, message["data"])
            elif kind == "subscribe":
                channel = self._channels.get(name)
                if (greeted and name == own) or (channel is not None and channel.subscribed.done()):
                    # The client has connected again by itself: what was published meanwhile is missing.
                    raise ConnectionError("the connection was lost")
                greeted = greeted or name == own
                if channel is not None:
                    channel.subscribed.set_result(None)

    async def _look(self, pubsub: Any) -> None:
        """Whether it still answers."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(self._timeout / 5)
            silent = loop.time() - self._heard_at
            if silent > self._timeout:
                raise TimeoutError(f"nothing heard for {silent:.1f} s")
            await pubsub.ping()

    def _heard(self, name: bytes, data: bytes) -> None:
        channel = self._channels.get(name)
        if channel is None:
            return  # forgotten meanwhile
        if data.startswith(b"c"):
            self._receiver.cast(channel.topic, data[1:])
        elif channel.held is not None:
            channel.held.append(data)
        elif channel.at is not None:
            self._added(channel, data)

    def _added(self, channel: _Channel, data: bytes) -> None:
        head, *raws = data.split(b"\n")
        made, before, *positions = (Position.parse(one) for one in head.decode().split(" ")[1:])
        for at, raw in zip(positions, raws, strict=True):
            if channel.at is None or at <= channel.at:
                continue  # forgotten, or among what was there when we came
            if channel.at < before != made:
                self._fail(ConnectionError("messages of a topic were missed"))
                return
            channel.at = before = at
            self._receiver.added(channel.topic, at, Record.from_bytes(raw))

    async def _subscribe(self, topic: str) -> _Channel:
        """The channel of a topic, which we hear from now on."""
        self.check_up()
        name = self._channel_of(topic)
        channel = self._channels.get(name)
        if channel is None:
            channel = self._channels[name] = _Channel(topic, asyncio.get_running_loop().create_future())
            await self._tell(self._pubsub.subscribe(name))
        await asyncio.shield(channel.subscribed)
        return channel

    async def _unsubscribe(self, channel: _Channel) -> None:
        if channel.at is None and channel.held is None and not channel.listening:
            name = self._channel_of(channel.topic)
            if self.up and self._channels.pop(name, None) is not None:
                with contextlib.suppress(ConnectionError):
                    await self._tell(self._pubsub.unsubscribe(name))

    async def _tell(self, sending: Any) -> None:
        """Send something on the connection that hears."""
        try:
            async with self._in_time():
                await sending
        except Exception as error:
            self._fail(error)
            raise self.down() from error

    # What a hub asks for, see `Backplane`.

    async def open(self, topic: str, history: History, after: Position) -> Opened:
        channel = await self._subscribe(topic)
        channel.held = []  # until the log is here
        try:
            stream, meta = self._names(topic)
            while True:
                answer = await self._ask(2, stream, meta, after.ms, after.seq, _life(history), script=OPEN, alone=topic)
                early = self._rebuilt_at - asyncio.get_running_loop().time()
                if after != ZERO or answer[3] != b"1" or early <= 0:
                    break
                # Redis was lost, and what is there may be made anew: hubs that know more of it add that first.
                await asyncio.sleep(min(early, 0.05))
        except BaseException:
            channel.held = None
            raise
        made, floor, last = (Position.parse(one.decode()) for one in answer[:3])
        entries = [(Position.parse(at.decode()), Record.from_bytes(_fields(fields)[b"r"])) for at, fields in answer[4]]
        held, channel.held, channel.at = channel.held or [], None, last
        for one in held:
            self._added(channel, one)
        return Opened(entries, floor, last, made)

    async def forget(self, topic: str) -> None:
        if (channel := self._channels.get(self._channel_of(topic))) is not None:
            channel.at = channel.held = None
            await self._unsubscribe(channel)

    async def add(
        self,
        topic: str,
        records: Sequence[Record],
        history: History,
        above: Position,
        floor: Position | None = None,
    ) -> list[Added]:
        keys: list[Any] = [*self._names(topic)]
        arguments: list[Any] = [
            self._channel_of(topic),
            *(above.ms, above.seq, history.count, history.octets, int(history.seconds * 1000)),
            *(_life(history), int(Ledger.UID_SECONDS * 1000), "" if floor is None else str(floor)),
        ]
        for record in records:
            if record.uid is not None:
                keys.append(f"{self._keys}:uid:{len(topic)}:{topic}:{record.uid}")
            arguments += [record.origin, record.n, "" if record.uid is None else "1", record.to_bytes()]
        answers = await self._ask(len(keys), *keys, *arguments, script=ADD, alone=topic)
        found = []
        for answer in answers:
            at, _, repeated = answer.decode().partition(" ")
            found.append(Added(Position.parse(at) if at else None, repeated == "1"))
        return found

    async def cast(self, topic: str, data: bytes) -> None:
        await self._ask("PUBLISH", self._channel_of(topic), b"c" + data)

    async def listen(self, topic: str) -> None:
        channel = await self._subscribe(topic)
        channel.listening = True

    async def unlisten(self, topic: str) -> None:
        if (channel := self._channels.get(self._channel_of(topic))) is not None:
            channel.listening = False
            await self._unsubscribe(channel)

    def _names(self, topic: str) -> tuple[str, str]:
        return f"{self._keys}:log:{topic}", f"{self._keys}:about:{topic}"

    def _channel_of(self, topic: str) -> bytes:
        return f"{self._keys}:news:{topic}".encode()

    async def close(self) -> None:
        await super().close()
        if self._own:
            await _quietly(self._client.aclose())


@dataclasses.dataclass(eq=False, slots=True)
class _Channel:
    """A topic that is heard.

    Attributes:
        subscribed: Redis has said so.
        at: up to where its records came; None while only casts are wanted.
        held: what was published while the log is read; None if it is not.
    """

    topic: str
    subscribed: asyncio.Future[None]
    at: Position | None = None
    held: list[bytes] | None = None
    listening: bool = False


def _life(history: History) -> int:
    """Milliseconds that the log of a topic stays in Redis after its last record."""
    return int((max(history.seconds, Ledger.UID_SECONDS) + SLACK) * 1000)


def _fields(flat: Sequence[bytes]) -> dict[bytes, bytes]:
    return dict(zip(flat[::2], flat[1::2], strict=True))


async def _quietly(closing: Any) -> None:
    """Close what may be broken."""
    with contextlib.suppress(Exception):
        await closing
