"""The hub of a process: connections in topics, over a backplane or alone.

Strategy: what a topic is stands in `Topic` and `Casts`, what the backplane asks for in `Spread`, who is where in
`Presence` and `Directs`; the hub brings them together, with the connections, the clock and the limits.
"""

from __future__ import annotations

import asyncio
import dataclasses
import inspect
import json
import logging
import math
import os
import time
from collections.abc import Callable, Collection
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Literal, Self

from ..asyncio.connection import Connection, broadcast
from ..core.endpoint import Endpoint
from ..core.protocol import State
from ..core.slow import SlowPolicy
from ..typing import LoggerLike
from .backplane import LARGEST, Backplane
from .casts import Casts
from .checks import check_by, check_last, check_name
from .choosing import backplane_named
from .directs import Directs
from .errors import BackplaneFull, HubClosed
from .events import Event, to_json
from .history import HISTORY_OCTETS, Histories, History
from .listener import Listener
from .member import MAX_CALLS, Member, Subscribed
from .positions import Record, check_origin, milliseconds, random_origin
from .presence import Presence, Present
from .receipts import Pending, Receipt
from .settings import Settings
from .spreading import Spread
from .topic import Topic

if TYPE_CHECKING:
    from .blocking import BlockingHub

__all__ = ["Hub", "HubState"]

TICK: Final = 1.0  # seconds between two looks at what is too old
GREET: Final = 0.1
"""Seconds in which other hubs that are there tell so, when this one can be heard."""
KEEP: Final = 60.0
"""Seconds for which a topic is followed that nobody needs."""
HUBS: Final = "\0hubs"  # topics that no user can have, for what hubs tell each other

Anyone = Topic[Any] | Casts[Any]


@dataclasses.dataclass(frozen=True, slots=True)
class HubState:
    """How a hub is.

    Attributes:
        backplane: "none": there is none; "up"; "down": also before it was reached for the first time.
        since: when that began, in seconds since 1970.
        why: what is wrong.
        pending: messages that were published here and wait for the backplane.
        topics: that it knows.
        members: connections in it.
        hubs: others that are alive.
        not_spread: messages that reached other hubs late, or not at all: since the hub began.
    """

    backplane: Literal["up", "down", "none"]
    since: float
    why: str
    pending: int
    topics: int
    members: int
    hubs: int
    not_spread: int


class Hub:
    """Topics for the connections of one process, and through a backplane for those of others.

    ::

        hub = Hub()

        async def handler(ws):
            async with hub.join(ws, user="ann") as member:
                await member.subscribe("room/1", last=20)
                async for message in ws:
                    await member.publish("room/1", message)

    It belongs to the event loop in which it is first used. ``async with hub`` ends it properly; without that, it ends
    with its loop.

    Args:
        backplane: what carries messages to other hubs: "redis://host", "workers:/path/of.sock" for the processes of
            one host, or a `Backplane`. None: what the environment variable WEBSOCK_BACKPLANE says, else nothing.
        history: of topics for which `topic` says nothing else; None keeps nothing. Or a function that is called with
            the name of a topic and gives one of these: always the same one for the same name.
        history_octets: of memory that all histories here take together, at most; those that were used least recently
            lose their oldest messages first. A small message counts with some 700 octets, a topic that has messages
            with 4096. What the workers of a host keep together has the same bound; with Redis, its own ``maxmemory``
            holds for what Redis keeps.
        presence: whether such topics tell who is in them; or a function, likewise.
        patience: seconds that a message waits for the backplane before it is delivered here.
        pending: messages that may wait for the backplane after that,
        pending_octets: and how large all of them may be.
        encode: makes of an `Event` the message that a subscriber is sent, or None: nothing is sent.
        origin: the name of this hub's life, which no other may ever have had: leave it to chance.
        max_topics: that one connection may have.
        logger: where it logs.

    Raises:
        TypeError, ValueError: an argument is of a wrong type, or out of its range.
    """

    def __init__(
        self,
        backplane: str | Backplane | None = None,
        *,
        history: History | Callable[[str], History | None] | None = History(),  # noqa: B008 - it is frozen
        history_octets: int = HISTORY_OCTETS,
        presence: bool | Callable[[str], bool] = False,
        patience: float = 0.5,
        pending: int = 10_000,
        pending_octets: int = 2**26,
        encode: Callable[[Event], str | bytes | None] = to_json,
        origin: str | None = None,
        max_topics: int = 100,
        logger: LoggerLike | None = None,
    ) -> None:
        self._settings = Settings(history, presence)
        for name, value, least in (
            ("history_octets", history_octets, 0),
            ("patience", patience, 0),
            ("pending", pending, 0),
            ("pending_octets", pending_octets, 0),
            ("max_topics", max_topics, 1),
        ):
            if not isinstance(value, int | float) or isinstance(value, bool):
                raise TypeError(f"{name} is a number, not {value!r}")
            if not value >= least:
                raise ValueError(f"{name} is at least {least}, not {value!r}")
        if not callable(encode):
            raise TypeError(f"encode is a function, not {encode!r}")
        if backplane is None:
            backplane = os.environ.get("WEBSOCK_BACKPLANE") or None
        self._backplane = backplane_named(backplane, history_octets) if isinstance(backplane, str) else backplane
        self.origin = check_origin(origin) if origin is not None else random_origin()
        self.max_topics = max_topics
        self.logger: LoggerLike = logging.getLogger("websock.pubsub") if logger is None else logger
        self._histories = Histories(history_octets)
        self._patience = patience
        self._max_pending, self._max_octets = pending, pending_octets
        self._pending = self._octets = 0
        self._not_spread = 0
        self._encode = encode
        self._kind: type[Endpoint] = Connection
        self._broadcast: Callable[[Collection[Any], str | bytes], object] = broadcast
        self._topics: dict[str, Anyone] = {}
        self._idle: dict[str, float] = {}
        self._members: dict[Endpoint, Member] = {}
        self._users: dict[str, dict[Member, None]] = {}
        self._listeners: dict[str, set[Listener]] = {}
        self._published = 0
        self._joined = 0
        self._greeted = math.inf  # when all who are there have said so
        self._since = time.time()
        self._presence = Presence(self.origin, self._cast, self._announce)
        self._directs = Directs(
            self.origin,
            self._cast,
            lambda: self._presence.hubs if self._spread is not None and self._spread.is_up else (),
            lambda user: len(self._open_members(user)),
            self._deliver_to,
        )
        self._spread: Spread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False

    # Its life.

    def _start(self) -> None:
        """Begin, where that was not done; every public call does it."""
        if self._closed:
            raise HubClosed("the hub has ended")
        if self._loop is not None:
            return
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(TICK, self._tick)
        if self._backplane is not None:
            self._spread = Spread(
                self._backplane,
                patience=self._patience,
                heard=self._heard,
                changed=self._changed,
                channels=[HUBS, f"\0{self.origin}"],
                logger=self.logger,
            )
            self._spread.start()

    async def close(self) -> None:
        """End: all members leave. What waits for the backplane has a moment to get there."""
        if self._closed:
            return
        for member in list(self._members.values()):
            member.leave()
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        try:
            if self._spread is not None:
                self._presence.bye()
                await self._spread.close(self._patience)
        finally:
            for topic in self._topics.values():
                if isinstance(topic, Topic):
                    topic.fail("the hub has ended before the backplane took it")
            self._topics.clear()

    async def __aenter__(self) -> Self:
        self._start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def blocking(self) -> BlockingHub:
        """The hub for blocking handlers: it runs in a thread of its own, for connections of ``websock.sync``.

        Raises:
            RuntimeError: it is in use in an event loop already.
        """
        from .blocking import BlockingHub

        return BlockingHub(self)

    @property
    def state(self) -> HubState:
        """How it is now."""
        spread = self._spread
        up = "none" if self._backplane is None else "up" if spread is not None and spread.is_up else "down"
        return HubState(
            up,  # type: ignore[arg-type]
            self._since if spread is None else spread.since,
            "" if spread is None else spread.why,
            self._pending,
            len(self._topics),
            len(self._members),
            len(self._presence.hubs),
            self._not_spread + (0 if spread is None else spread.not_cast),
        )

    def _tick(self) -> None:
        assert self._loop is not None  # noqa: S101 - for the type checker
        self._timer = self._loop.call_later(TICK, self._tick)
        for member in [one for one in self._members.values() if one.connection.state >= State.ENDING]:
            member._end()
        now, ms = self._loop.time(), milliseconds()
        for name, topic in list(self._topics.items()):
            if isinstance(topic, Topic):
                topic.tend(ms)
            if not topic.idle or (self._spread is None and isinstance(topic, Topic) and topic.remembers):
                self._idle.pop(name, None)
            elif now - self._idle.setdefault(name, now) >= KEEP:
                self._forget(topic)
        if self._spread is not None and self._spread.is_up:
            self._presence.tick(now)

    # Topics.

    def topic(
        self, name: str, *, history: History | Literal["default"] | None = "default", presence: bool | None = None
    ) -> None:
        """Settings of one topic, which must be the same in all hubs. They are kept as long as the hub: for names that
        come and go, give functions to `Hub` instead.

        Args:
            history: how much is kept; None: nothing, it goes to whoever is there.
            presence: whether it is told who is there.

        Raises:
            TypeError: `history` is none.
            RuntimeError: the topic is in use, with other settings.
        """
        self.check_topic(name)
        self._settings.change(name, history, presence, in_use=name in self._topics)

    def check_topic(self, name: str) -> None:
        """Raises:
        ValueError: no name for a topic: 1 to 200 characters, none of them a control character.
        """
        check_name("the name of a topic", name)

    def _topic(self, name: str) -> Anyone:
        """The topic, followed from now on."""
        topic = self._topics.get(name)
        if topic is None:
            self._start()
            settings = self._settings.of(name)
            if settings.history is None:
                topic = Casts(name, self._send)
                if self._spread is not None:
                    self._spread.listen(name)
            elif self._spread is None:
                topic = Topic(
                    name, self.origin, settings.history, self._send, ms=milliseconds(), histories=self._histories
                )
            else:
                topic = Topic(name, self.origin, settings.history, self._send, self._settled, histories=self._histories)
                self._spread.follow(topic)
            self._topics[name] = topic
            if settings.presence:
                self._presence.follow(name)
        self._idle.pop(name, None)
        return topic

    def _forget(self, topic: Anyone) -> None:
        del self._topics[topic.name]
        self._idle.pop(topic.name, None)
        self._presence.forget(topic.name)
        if isinstance(topic, Topic):
            topic.log.begin()
        if self._spread is not None:
            if isinstance(topic, Topic):
                self._spread.forget(topic)
            else:
                self._spread.unlisten(topic.name)

    # Members.

    def join(self, connection: Any, user: str | None = None, info: Any = None) -> Member:
        """Let a connection take part: ``async with hub.join(ws, user="ann") as member``.

        A connection that is closed leaves by itself, a second later at most.

        Args:
            connection: a connection of ``websock.asyncio``, of this event loop.
            user: whose it is: one user may have several.
            info: what the others are told of it in topics with presence; for JSON.

        Raises:
            TypeError: not a connection, or of another adapter; `info` is not for JSON.
            ValueError: it takes part already; no name for a user; its policy for slow consumers is to wait, but a hub
                waits for nobody.
            HubClosed: the hub has ended.
        """
        if not isinstance(connection, self._kind):
            raise TypeError(f"a connection of {self._kind.__module__} is wanted, not {connection!r}")
        if connection in self._members:
            raise ValueError("this connection is in the hub already")
        if user is not None:
            check_name("the name of a user", user)
        if connection.slow_consumers.policy is SlowPolicy.WAIT:
            raise ValueError("a hub waits for no subscriber: the policy for slow consumers must be another one")
        json.dumps(info, allow_nan=False)
        self._start()
        self._joined += 1
        member = self._members[connection] = Member(self, connection, user, info, f"{self.origin}.{self._joined}")
        if user is not None:
            self._users.setdefault(user, {})[member] = None
        return member

    async def _subscribe(self, member: Member, name: str, after: str | None, last: int) -> Subscribed:
        await self._open(name)
        topic = self._topic(name)  # it may have been forgotten meanwhile
        member._check()
        if name not in member._topics:
            raise HubClosed("the member has unsubscribed meanwhile")
        if self._settings.of(name).presence:
            topic.leave(member.connection)  # what it is told of itself is in the answer
            self._presence.join(name, Present(member.user, member.info, time.time(), member.id))
        return self._enter(topic, member.connection, after, last)

    async def _open(self, name: str) -> None:
        """Follow a topic, and wait until its log is known, and who is there, if that may be soon."""
        topic = self._topic(name)
        if self._spread is not None and isinstance(topic, Topic):
            await self._spread.ready(topic)
        if self._settings.of(name).presence:
            await self._complete(name)

    def _enter(self, topic: Anyone, target: object, after: str | None, last: int) -> Subscribed:
        present: list[Present] = []
        told = None
        if self._settings.of(topic.name).presence:
            present = self._presence.of(topic.name)
            told = {"present": [one._asdict() for one in present]}
        if isinstance(topic, Topic):
            joined = topic.join(target, after, last, milliseconds(), self._published, told)
        else:
            joined = topic.join(target, after, told)
        return Subscribed(topic.name, joined.id, joined.recovered, joined.why, joined.replayed, present)

    def _unsubscribe(self, member: Member, name: str) -> None:
        topic = self._topics.get(name)
        if topic is not None:
            topic.leave(member.connection)
            self._presence.leave(name, member.id)

    def _leave(self, member: Member) -> None:
        del self._members[member.connection]
        if member.user is not None:
            connections = self._users[member.user]
            del connections[member]
            if not connections:
                del self._users[member.user]
        for name in member._topics:
            self._unsubscribe(member, name)
        member._topics.clear()
        for call in member._calls:
            self._directs.gone(call)
        member._calls.clear()

    # Programs.

    async def listen(
        self, topic: str, heard: Callable[[Event], object], *, after: str | None = None, last: int = 0
    ) -> Listener:
        """Let a function of this program hear a topic as a subscriber would, without a connection: for bots, bridges
        and what keeps an account. It is in no list of who is present.

        Args:
            heard: called with each `Event`, in order, in the hub's event loop: it may publish, but must not block. What
                it raises is logged.
            after, last: as for `Member.subscribe`.

        Raises:
            TypeError: `heard` cannot be called.
            ValueError: no name for a topic; `last` is less than 0.
            HubClosed: the hub has ended.
        """
        self.check_topic(topic)
        check_last(last)
        if not callable(heard):
            raise TypeError(f"a function is to hear a topic, not {heard!r}")
        if inspect.iscoroutinefunction(heard):
            raise TypeError("what hears a topic is no coroutine function: let it put events into a queue")
        await self._open(topic)
        found = self._topic(topic)
        listener = Listener(self, topic, heard)
        self._listeners.setdefault(topic, set()).add(listener)
        listener.subscribed = self._enter(found, listener, after, last)
        return listener

    def _unlisten(self, listener: Listener) -> None:
        listeners = self._listeners[listener.topic]
        listeners.discard(listener)
        if not listeners:
            del self._listeners[listener.topic]
        if (topic := self._topics.get(listener.topic)) is not None:
            topic.leave(listener)

    # Publishing.

    def publish_nowait(self, topic: str, data: Any, *, by: str | None = None, uid: str | None = None) -> Receipt:
        """`publish` without waiting for what becomes of it: the receipt tells later."""
        self.check_topic(topic)
        if uid is not None:
            check_name("a uid", uid)
        check_by(by)
        if isinstance(data, bytearray | memoryview):
            data = bytes(data)
        record = Record(topic, self.origin, self._published + 1, data, by, time.time(), uid)
        octets = self._octets_of(record)
        found = self._topic(topic)
        receipt = Receipt(topic)
        spread = self._spread
        if isinstance(found, Casts):
            if spread is not None:
                spread.send(topic, record.to_bytes(), receipt)
            self._published += 1
            found.deliver(record)
            if spread is None:
                receipt.settle(None)
            return receipt
        if spread is not None and (self._pending >= self._max_pending or self._octets + octets > self._max_octets):
            raise BackplaneFull(f"{self._pending:,} messages ({self._octets:,} octets) wait for the backplane")
        self._published += 1
        pending = found.publish(record, receipt, asyncio.get_running_loop().time(), milliseconds())
        if pending is not None and spread is not None:
            self._pending += 1
            self._octets += octets
            spread.published(found)
        return receipt

    def _octets_of(self, record: Record) -> int:
        """How large it is as it is written, if it can be."""
        octets = record.octets
        if self._backplane is not None and octets > LARGEST:
            raise ValueError(f"a message has at most {LARGEST:,} octets as it is written, not {octets:,}")
        return octets

    async def publish(self, topic: str, data: Any, *, by: str | None = None, uid: str | None = None) -> Receipt:
        """Send a message to all subscribers of a topic, in all hubs.

        Returns when the log that all hubs share has it; or, when the backplane does not take it within ``patience``,
        when this hub's subscribers have it (``receipt.spread`` is False then): it is spread when the backplane is back,
        which ``await receipt.settled()`` waits for.

        Args:
            data: text, octets or what JSON can say. Not to be changed afterwards. With a backplane, a message has at
                most 32 MiB as it is written, octets as base64.
            by: the user who publishes.
            uid: a name for the message, 1 to 200 characters: publishing again with it, wherever, within 10 minutes,
                sends nothing. So who has no receipt may try again. Who has one that says ``spread`` False had better
                wait: if another hub is asked before this one has spread it, a subscriber who moves between the two may
                get it from both, and knows it by the ``uid`` of the events.

        Raises:
            TypeError, ValueError: an argument is not as it should be.
            BackplaneFull: as much as may wait for the backplane does. Nobody has the message.
            HubClosed: the hub has ended.
        """
        receipt = self.publish_nowait(topic, data, by=by, uid=uid)
        await receipt._wait(False)
        return receipt

    def _settled(self, pending: Pending) -> None:
        self._pending -= 1
        self._octets -= pending.octets
        self._not_spread += pending.ahead

    # Presence and direct messages.

    async def present(self, topic: str) -> list[Present]:
        """Who is in a topic, in all hubs; those first who are there for longest.

        Raises:
            ValueError: the topic has no presence, or it is no name for one.
        """
        self.check_topic(topic)
        if not self._settings.of(topic).presence:
            raise ValueError(f"the topic {topic!r} has no presence: see Hub.topic")
        self._topic(topic)
        await self._complete(topic)
        return self._presence.of(topic)

    async def _complete(self, topic: str) -> None:
        """Wait until the other hubs have told who is in a topic, if that may be soon."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._patience
        while (  # noqa: ASYNC110 - rare and short; what ends it has three places
            self._spread is not None
            and self._spread.is_up is not False
            and not (self._spread.is_up and loop.time() >= self._greeted and self._presence.complete(topic))
            and loop.time() < deadline
        ):
            await asyncio.sleep(0.01)

    async def send_to(self, user: str, data: Any, *, by: str | None = None) -> int:
        """Send a direct message to all connections of a user, in all hubs: how many it was sent to. Waits for a second
        at most for the other hubs.

        Raises:
            TypeError, ValueError: an argument is not as it should be.
        """
        check_name("the name of a user", user)
        check_by(by)
        self._octets_of(Record("", self.origin, 1, data, by))
        self._start()
        return await self._directs.send_to(user, data, by)

    async def call(
        self,
        user: str,
        data: Any,
        *,
        timeout: float = 5.0,  # noqa: ASYNC109 - the answer is asked for with it
        by: str | None = None,
    ) -> Any:
        """Ask a user, by one of their connections, and wait for the answer: see `Member.answer`.

        Args:
            timeout: seconds.

        Raises:
            TimeoutError: no answer within that time.
            NotHere: nobody is connected as this user, or the connection that was asked has gone.
            TypeError, ValueError: an argument is not as it should be.
        """
        check_name("the name of a user", user)
        check_by(by)
        self._octets_of(Record("", self.origin, 1, data, by))
        self._start()
        return await self._directs.call(user, data, by, timeout)

    def _open_members(self, user: str) -> list[Member]:
        return [one for one in self._users.get(user, ()) if one.connection.state is State.OPEN]

    def _deliver_to(self, user: str, data: Any, by: str | None, call: str | None) -> int:
        members = self._open_members(user)
        if call is not None:
            members = members[-1:]  # the one that came last
            for member in members:
                if len(member._calls) >= MAX_CALLS:
                    del member._calls[next(iter(member._calls))]
                member._calls[call] = None
        kind = "direct" if call is None else "call"
        self._send([one.connection for one in members], Event(kind, data=data, by=by, at=time.time(), call=call))
        return len(members)

    def _answer(self, call: str, data: Any) -> None:
        self._octets_of(Record("", self.origin, 1, data))
        self._directs.answer(call, data)

    def _announce(self, event: Event) -> None:
        topic = self._topics.get(event.topic or "")
        if topic is not None:
            topic.announce(event if event.at else dataclasses.replace(event, at=time.time()))

    # Between hubs.

    def _cast(self, message: dict[str, Any], to: str | None = None) -> None:
        if self._spread is not None:
            data = json.dumps({**message, "o": self.origin}, separators=(",", ":")).encode()
            if len(data) > LARGEST:  # the info of all who are here, say
                self.logger.error("%r has %d octets, which is too much for other hubs", message["k"], len(data))
                return
            self._spread.send(HUBS if to is None else f"\0{to}", data)

    def _heard(self, topic: str, data: bytes) -> None:
        try:
            if not topic.startswith("\0"):
                record = Record.from_bytes(data)
                found = self._topics.get(topic)
                if record.origin != self.origin and isinstance(found, Casts):
                    found.deliver(record)
                return
            message = json.loads(data)
            origin = message["o"]
            if origin == self.origin:
                return
            if message["k"] in ("direct", "where", "took", "call", "answer", "gone"):
                self._directs.received(origin, message)
            elif self._loop is not None:
                self._presence.received(origin, message, self._loop.time())
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            self.logger.warning("a cast of another hub is passed over: %r", error)

    def _changed(self) -> None:
        """The backplane has come or gone."""
        self._greeted = math.inf
        if self._spread is not None and self._spread.is_up and self._loop is not None:
            self._greeted = self._loop.time() + GREET
            self._presence.up(self._loop.time())

    def _send(self, targets: Collection[Any], event: Event) -> None:
        connections = targets
        if listeners := self._listeners.get(event.topic or ""):
            for listener in listeners.intersection(targets):
                # Not now: what it publishes must not come before this event to anybody.
                asyncio.get_running_loop().call_soon(listener._tell, event)
            connections = [one for one in targets if one not in listeners]
            if not connections:
                return
        try:
            message = self._encode(event)
            if message is not None:
                self._broadcast(connections, message)
        except Exception:
            self.logger.exception("an event of %.100r was not sent", event.topic)
