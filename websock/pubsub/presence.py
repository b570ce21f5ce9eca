"""Who is in which topic, over all hubs.

Strategy: each hub tells what changes among its own members, on a channel that all hubs hear, and counts these changes.
Who finds that it missed some asks, and gets the whole of what it needs. A hub that is not heard for some time is gone,
and its members with it.

No I/O: `cast` and `announce` are called with what is to be sent, time is a number of seconds.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Collection, Iterable
from typing import Any, Final, NamedTuple

from .events import Event

__all__ = ["Presence", "Present"]

HEARTBEAT: Final = 2.0
"""Seconds between two signs of life of a hub."""
GONE: Final = 6.0
"""Seconds without one after which it is gone."""
ASK: Final = 1.0  # seconds before the same hub is asked again

Message = dict[str, Any]


class Present(NamedTuple):
    """A connection in a topic.

    Attributes:
        user: its user.
        info: what it has told of itself.
        since: when it came, in seconds since 1970.
        member: its name among all connections of all hubs.
    """

    user: str | None
    info: Any
    since: float
    member: str


_ORDER: Final = operator.attrgetter("since", "member")


class _Hub:
    """Another hub, as we know it."""

    __slots__ = ("asked", "heard", "topics", "version")

    def __init__(self) -> None:
        self.version = -1
        self.heard = 0.0
        self.asked = -ASK
        self.topics: dict[str, dict[str, Present]] = {}


class Presence:
    """What one hub knows of who is where.

    Args:
        origin: the hub.
        cast: called with a message for all other hubs.
        announce: called with the event that somebody has come or gone, for the subscribers of its topic. One that has
            gone does so now: ``at`` is 0.
    """

    def __init__(self, origin: str, cast: Callable[[Message], object], announce: Callable[[Event], object]) -> None:
        self._origin = origin
        self._cast = cast
        self._announce = announce
        self._version = 0
        self._beat = -HEARTBEAT
        self._here: dict[str, dict[str, Present]] = {}
        self._hubs: dict[str, _Hub] = {}
        self._followed: dict[str, set[str]] = {}  # topics, and the hubs that have not told yet who is in them

    @property
    def hubs(self) -> Collection[str]:
        """The others that are alive."""
        return self._hubs.keys()

    def of(self, topic: str) -> list[Present]:
        """Who is in a topic, those first who are there for longest."""
        found = list(self._here.get(topic, {}).values())
        for hub in self._hubs.values():
            found += hub.topics.get(topic, {}).values()
        return sorted(found, key=_ORDER)

    # This hub's own.

    def join(self, topic: str, who: Present) -> None:
        """A member of ours is in a topic."""
        members = self._here.setdefault(topic, {})
        if who.member in members:
            return
        members[who.member] = who
        self._version += 1
        self._cast({"k": "join", "v": self._version, "t": topic, "m": list(who)})
        self._tell("join", topic, who)

    def leave(self, topic: str, member: str) -> None:
        """It is there no more."""
        members = self._here.get(topic, {})
        who = members.pop(member, None)
        if who is None:
            return
        if not members:
            del self._here[topic]
        self._version += 1
        self._cast({"k": "leave", "v": self._version, "t": topic, "m": member})
        self._tell("leave", topic, who)

    def follow(self, topic: str) -> None:
        """Somebody here wants to know who is there."""
        if topic not in self._followed:
            self._followed[topic] = set(self._hubs)
            if self._hubs:
                self._cast({"k": "who", "t": [topic]})

    def forget(self, topic: str) -> None:
        """Nobody does any more."""
        self._followed.pop(topic, None)
        for hub in self._hubs.values():
            hub.topics.pop(topic, None)

    def complete(self, topic: str) -> bool:
        """Whether all hubs that we know have told who is there."""
        return not self._followed.get(topic)

    # Time, and the others.

    def tick(self, now: float) -> None:
        """To be called every second or so, while the others can be heard."""
        if now - self._beat >= HEARTBEAT:
            self._beat = now
            self._cast({"k": "hub", "v": self._version})
        for origin in [origin for origin, hub in self._hubs.items() if now - hub.heard > GONE]:
            self._lose(origin)

    def up(self, now: float) -> None:
        """The others can be heard, for the first time or again: they have their time to tell that they are there."""
        for hub in self._hubs.values():
            hub.heard = now
        self._beat = now
        self._cast({"k": "hub", "v": self._version, "new": True})
        self._cast({"k": "who", "t": list(self._followed)})

    def bye(self) -> None:
        """This hub ends."""
        self._cast({"k": "bye"})

    def received(self, origin: str, message: Message, now: float) -> None:
        """From another hub. What is not as it should be raises some error, and is to be passed over."""
        kind = message["k"]
        if kind == "bye":
            self._lose(origin)
            return
        hub = self._hubs.get(origin)
        if hub is None:
            hub = self._hubs[origin] = _Hub()
        hub.heard = now
        if kind == "hub":
            if message.get("new"):
                self._beat = -HEARTBEAT  # so that it knows of us, too
            if message["v"] != hub.version:
                self._ask(origin, hub, now)
        elif kind in ("join", "leave"):
            if message["v"] != hub.version + 1:
                self._ask(origin, hub, now)
                return
            hub.version += 1
            topic = message["t"]
            if topic in self._followed:
                self._changed(hub, topic, kind, message["m"])
        elif kind == "who":
            if message.get("to", self._origin) == self._origin:
                self._answer(message["t"])
        elif kind == "here":
            self._heard(origin, hub, message)

    def _changed(self, hub: _Hub, topic: str, kind: str, what: Any) -> None:
        members = hub.topics.setdefault(topic, {})
        if kind == "leave":
            gone = members.pop(what, None)
            if gone is not None:
                self._tell("leave", topic, gone)
        else:
            who = Present(*what)
            if who.member not in members:
                members[who.member] = who
                self._tell("join", topic, who)

    def _ask(self, origin: str, hub: _Hub, now: float) -> None:
        if now - hub.asked >= ASK:
            hub.asked = now
            self._cast({"k": "who", "t": list(self._followed), "to": origin})

    def _answer(self, topics: Iterable[str]) -> None:
        found = {topic: [list(one) for one in self._here.get(topic, {}).values()] for topic in topics}
        self._cast({"k": "here", "v": self._version, "t": found})

    def _heard(self, origin: str, hub: _Hub, message: Message) -> None:
        topics: dict[str, list[Any]] = message["t"]
        for topic, members in topics.items():
            if topic not in self._followed:
                continue
            self._followed[topic].discard(origin)
            before = hub.topics.get(topic, {})
            after = {who.member: who for who in (Present(*one) for one in members)}
            hub.topics[topic] = after
            for member, who in before.items():
                if member not in after:
                    self._tell("leave", topic, who)
            for member, who in after.items():
                if member not in before:
                    self._tell("join", topic, who)
        if message["v"] == hub.version or set(self._followed) <= set(topics):
            hub.version = message["v"]

    def _lose(self, origin: str) -> None:
        hub = self._hubs.pop(origin, None)
        for missing in self._followed.values():
            missing.discard(origin)
        if hub is not None:
            for topic, members in hub.topics.items():
                for who in members.values():
                    self._tell("leave", topic, who)

    def _tell(self, kind: str, topic: str, who: Present) -> None:
        at = who.since if kind == "join" else 0.0
        self._announce(Event(kind, topic, data=who.info, by=who.user, at=at, member=who.member))
