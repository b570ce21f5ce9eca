"""The rooms of the chat, and its guests: between the connections of one process and the hub, which knows all others.

Each message is a JSON object in a text frame. The page sends
    {"type": "hello", "nick": "Ada", "key": "..."}     come in; the key is the browser's secret, which keeps the name
    {"type": "enter", "room": "lobby", "after": id}    be in a room; `after`: the last id that was seen there, or null
    {"type": "exit", "room": "lobby"}
    {"type": "say", "room": "lobby", "text": "Hello!", "uid": "..."}    again with the same uid is no second message
    {"type": "typing", "room": "lobby"}                every few seconds while somebody types
    {"type": "ping"}                                   are you there? (a page cannot send a WebSocket ping)

and the server
    {"type": "welcome", "nick", "rooms": ["lobby"], "limits": {"text": 2000, ...}, "spread": true, "server": "..."}
    {"type": "entered", "room", "id", "recovered", "why", "replayed": 7, "people": [["member", "Ada"]]}    then those 7:
    {"type": "said", "room", "id", "nick", "text", "at", "uid"}     to all in the room, its author too
    {"type": "sent", "room", "uid", "spread": true}    the receipt; not spread: those on other servers get it later
    {"type": "came", "room", "member", "nick"}         a connection of somebody's; one person may have several
    {"type": "went", "room", "member", "nick"}
    {"type": "typing", "room", "nick"}
    {"type": "gap", "room", "id"}                      messages before this one are lost
    {"type": "rooms", "server", "rooms": [["lobby", 12]]}    where people are on one server, every two seconds
    {"type": "state", "spread": false}                 whether the servers reach each other now
    {"type": "pong"}
    {"type": "error", "code", "text", "wait": 1.5, ...}    not done: `text` tells a person why, `code` a program; `wait`
            are the seconds after which to try again; of what was asked, "room" and "uid" are repeated
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import time
from typing import Any, Final

import rules
from names import Names
from rules import Pace, Refusal

from websock.asyncio.connection import broadcast
from websock.asyncio.server import ServerConnection
from websock.exceptions import ConnectionClosed
from websock.pubsub import BackplaneFull, Event, History, Hub, HubClosed, Member

KEPT: Final = History(count=500, octets=2**20, seconds=24 * 3600.0)
ALL_KEPT: Final = 2**27  # octets of memory: rooms are made by whoever enters one
PEOPLE: Final = "people"  # all connections are in this topic: who they are
ROOMS: Final = "rooms"  # and in this one: where they are
ROOM, TYPING = "room/", "typing/"
REPORT: Final = 2.0  # seconds
REPORTED: Final = 100  # rooms, those with most people

Message = dict[str, Any]


class Chat:
    """All of it in this process.

    Args:
        rooms: that are there for newcomers; others come by being entered.
    """

    def __init__(self, rooms: list[str]) -> None:
        self.rooms = rooms
        self.hub = Hub(
            history=lambda topic: KEPT if topic.startswith(ROOM) else None,
            history_octets=ALL_KEPT,
            presence=lambda topic: topic.startswith(ROOM) or topic == PEOPLE,
            encode=self.tell,
            max_topics=2 * rules.MAX_ROOMS + 2,
        )
        self.names = Names()
        self.guests: set[Guest] = set()
        self.reports: dict[str, str] = {}  # of other servers, and our own, for those who come
        self._reported = 0.0
        self._spread = True
        self._task: asyncio.Task[None] | None = None

    @property
    def spread(self) -> bool:
        """Whether what is said here reaches the other servers now."""
        return self.hub.state.backplane != "down"

    def tell(self, event: Event) -> str | None:
        """What the pages are told of an event of the hub; None: nothing."""
        topic = event.topic or ""
        if topic == ROOMS:
            return reported(event) if event.kind == "message" else None
        kind, slash, room = topic.partition("/")
        told: Message = {"room": room}
        if kind + slash == TYPING and event.kind == "message":
            told |= {"type": "typing", "nick": event.by}
        elif kind + slash != ROOM:
            return None
        elif event.kind == "subscribed":
            people = [(one["member"], one["user"]) for one in event.data["present"]]
            how = {name: event.data[name] for name in ("recovered", "why", "replayed")}
            told |= {"type": "entered", "id": event.id, "people": people, **how}
        elif event.kind == "message":
            uid = (event.uid or "").partition(".")[2]  # its owner's name before that is not for others
            text, at = event.data, round(event.at, 3)
            told |= {"type": "said", "id": event.id, "nick": event.by, "text": text, "at": at, "uid": uid}
        elif event.kind == "gap":
            told |= {"type": "gap", "id": event.id}
        else:
            told |= {"type": {"join": "came", "leave": "went"}[event.kind], "member": event.member, "nick": event.by}
        return json.dumps(told)

    async def attend(self, websocket: ServerConnection) -> None:
        """Serve one guest, from the first message to the end of the connection."""
        if self._task is None:
            self._task = asyncio.create_task(self._look_around())
        guest = Guest(self, websocket)
        self.guests.add(guest)
        try:
            async for message in websocket:
                reply = await guest.handle(message)
                if reply:
                    await websocket.send(json.dumps(reply))
        except ConnectionClosed:
            pass  # without a goodbye, but gone all the same
        finally:
            self.guests.discard(guest)
            guest.leave()

    def tell_all(self, message: Message) -> None:
        """To all guests of this process."""
        broadcast([guest.websocket for guest in self.guests if guest.member], json.dumps(message))

    def report(self) -> Message:
        """Where people are, as far as they are on this server."""
        there: dict[str, set[str]] = {}
        for guest in self.guests:
            for room in guest.rooms:
                there.setdefault(room, set()).add(guest.nick)
        rooms = sorted(((room, len(nicks)) for room, nicks in there.items()), key=lambda one: (-one[1], one[0]))
        return {"server": self.hub.origin, "rooms": rooms[:REPORTED]}

    def hear(self, event: Event) -> None:
        """What the servers report."""
        if event.kind == "message":
            self.reports[event.data["server"]] = reported(event)

    async def _look_around(self) -> None:
        await self.hub.listen(ROOMS, self.hear)
        while True:
            await asyncio.sleep(1.0)
            try:
                await self.look(time.monotonic())
            except Exception:
                logging.getLogger("chat").exception("looking around failed, and is tried again")

    async def look(self, now: float) -> None:
        """What is to be done every second."""
        losers = self.names.look(await self.hub.present(PEOPLE), now)
        for guest in [one for one in self.guests if one.member is not None and one.member.id in losers]:
            guest.lose_name()
        if self.spread is not self._spread:
            self._spread = self.spread
            self.tell_all({"type": "state", "spread": self._spread})
        if self.guests and now >= self._reported + REPORT:
            self._reported = now
            self.reports.clear()  # those of others come again, unless they are gone
            self.hub.publish_nowait(ROOMS, self.report())


def reported(event: Event) -> str:
    """A server's report, for pages."""
    return json.dumps({"type": "rooms", **event.data})


class Guest:
    """Somebody with the page open; without a name until they say hello."""

    def __init__(self, chat: Chat, websocket: ServerConnection) -> None:
        self.chat = chat
        self.websocket = websocket
        self.member: Member | None = None
        self.nick = ""
        self.owner = ""
        self.rooms: dict[str, None] = {}
        self.says = Pace(burst=8, seconds=1.0)
        self.enters = Pace(burst=2 * rules.MAX_ROOMS, seconds=0.5)
        self.types = Pace(burst=4, seconds=1.0)

    async def handle(self, message: str | bytes) -> Message | None:
        """Do what the message asks for; what only this guest is told."""
        try:
            request = json.loads(message) if isinstance(message, str) else None
        except (ValueError, RecursionError):  # not JSON; "[[[[[[..."
            request = None
        try:
            return await self._do(request)
        except HubClosed:  # the name was lost meanwhile, as the page is told
            return None
        except Refusal as refusal:
            asked = {name: request.get(name) for name in ("room", "uid") if isinstance(request, dict)}
            return refusal.message | {name: value for name, value in asked.items() if isinstance(value, str)}

    async def _do(self, request: Any) -> Message | None:
        now = asyncio.get_running_loop().time()
        match request:
            case {"type": "ping"}:
                return {"type": "pong"}
            case {"type": "hello", "nick": str(nick), "key": str(key)} if self.member is None:
                self.enters.check(now)
                return await self.hello(rules.check_nick(nick), rules.owner_of(key))
            case {"type": "enter", "room": str(room), "after": str() | None as after} if self.member is not None:
                self.enters.check(now, "Not so many rooms at a time: please wait a moment.")
                await self.enter(self.member, rules.check_room(room), after)
            case {"type": "exit", "room": str(room)} if self.member is not None and room in self.rooms:
                del self.rooms[room]
                await self.member.unsubscribe(TYPING + room)
                await self.member.unsubscribe(ROOM + room)
            case {"type": "say", "room": str(room), "text": str(text), "uid": str(uid)} if self.member is not None:
                if room not in self.rooms:
                    raise Refusal("not-here", "You are not in this room.")
                text, uid = rules.check_text(text), rules.check_uid(uid)
                self.says.check(now)
                return await self.say(self.member, room, text, uid)
            case {"type": "typing", "room": str(room)} if self.member is not None and room in self.rooms:
                if not self.types.must_wait(now):
                    self.member.publish_nowait(TYPING + room, None)
            case _:
                raise rules.unexpected()
        return None

    async def hello(self, nick: str, owner: str) -> Message:
        hub = self.chat.hub
        self.chat.names.claim(nick, owner, await hub.present(PEOPLE), time.monotonic())
        self.nick, self.owner = nick, owner  # from now on `leave` gives the name back
        self.member = hub.join(self.websocket, nick, owner)
        await self.member.subscribe(PEOPLE)
        await self.member.subscribe(ROOMS)
        for report in self.chat.reports.values():
            broadcast([self.websocket], report)
        return {
            "type": "welcome",
            "nick": nick,
            "rooms": self.chat.rooms,
            "limits": {"text": rules.MAX_TEXT, "room": rules.MAX_ROOM, "rooms": rules.MAX_ROOMS},
            "spread": self.chat.spread,
            "server": f"{hub.origin}.{os.getpid()}",
        }

    async def enter(self, member: Member, room: str, after: str | None) -> None:
        if room not in self.rooms and len(self.rooms) >= rules.MAX_ROOMS:
            raise Refusal("too-many", f"You are in {rules.MAX_ROOMS} rooms. Leave one of them to enter another one.")
        self.rooms[room] = None
        await member.subscribe(TYPING + room)
        await member.subscribe(ROOM + room, after=after, last=rules.HISTORY)

    async def say(self, member: Member, room: str, text: str, uid: str) -> Message:
        try:
            # The owner's name before it keeps others from using this uid first.
            receipt = await member.publish(ROOM + room, text, uid=f"{self.owner}.{uid}")
        except BackplaneFull:
            raise Refusal("busy", "The server cannot take more messages at the moment.", wait=5.0) from None
        return {"type": "sent", "room": room, "uid": uid, "spread": receipt.spread}

    def leave(self) -> None:
        """Give up the name, and with it all rooms."""
        if self.nick:
            self.chat.names.release(self.nick, self.owner)
            self.nick = ""
        if self.member is not None:
            self.member.leave()
            self.member = None
            self.rooms.clear()

    def lose_name(self) -> None:
        """Somebody else has it, as we have found out."""
        nick = self.nick
        self.leave()
        text = f"Somebody else called {nick} was here before you, on another server. Please choose another name."
        broadcast([self.websocket], json.dumps(Refusal("nick-lost", text).message))
