"""Messages to a user, on whatever hub: with the count of those who took it, or with an answer.

Strategy: all hubs hear the question, each one tells how many connections of the user it has. A call then goes to one of
the hubs that have some. No I/O, as `Presence`.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Collection
from typing import Any, Final

from .errors import NotHere
from .positions import packed, unpacked

__all__ = ["Directs"]

PATIENCE: Final = 1.0
"""Seconds that hubs have to tell whether they have a user."""

Message = dict[str, Any]


class _Asked:
    """Who was asked whether they have a user, and what they have said."""

    __slots__ = ("counts", "done", "missing")

    def __init__(self, hubs: Collection[str], done: asyncio.Future[None]) -> None:
        self.missing = set(hubs)
        self.counts: dict[str, int] = {}
        self.done = done

    def told(self, origin: str, count: int, *, first: bool) -> None:
        self.missing.discard(origin)
        self.counts[origin] = count
        if not self.done.done() and (not self.missing or (first and count)):
            self.done.set_result(None)


class Directs:
    """What one hub does for direct messages.

    Args:
        origin: the hub.
        cast: called with a message for the hub that is named, or for all others.
        hubs: gives the others that are alive.
        count: called with a user; how many connections here are theirs.
        deliver: called with user, data, who it is by and a call's name or None; how many connections it was sent to,
            one at most for a call.
    """

    def __init__(
        self,
        origin: str,
        cast: Callable[[Message, str | None], object],
        hubs: Callable[[], Collection[str]],
        count: Callable[[str], int],
        deliver: Callable[[str, Any, str | None, str | None], int],
    ) -> None:
        self._origin = origin
        self._cast = cast
        self._hubs = hubs
        self._count = count
        self._deliver = deliver
        self._numbers = itertools.count(1)
        self._asked: dict[str, tuple[_Asked, bool]] = {}
        self._calls: dict[str, asyncio.Future[Any]] = {}

    async def _ask(self, message: Message, *, first: bool) -> dict[str, int]:
        """What the others say, within `PATIENCE`; with `first`, until one of them has the user."""
        hubs = self._hubs()
        if not hubs:
            return {}
        name = f"{self._origin}.{next(self._numbers)}"
        asked = _Asked(hubs, asyncio.get_running_loop().create_future())
        self._asked[name] = asked, first
        try:
            self._cast({**message, "id": name}, None)
            await asyncio.wait([asked.done], timeout=PATIENCE)
        finally:
            del self._asked[name]
        return asked.counts

    async def send_to(self, user: str, data: Any, by: str | None) -> int:
        """See `Hub.send_to`."""
        message = {"k": "direct", "u": user, "by": by, **packed(data)}
        count = self._deliver(user, data, by, None)
        return count + sum((await self._ask(message, first=False)).values())

    async def call(self, user: str, data: Any, by: str | None, timeout: float) -> Any:  # noqa: ASYNC109 - as `Hub.call`
        """See `Hub.call`."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        name = f"{self._origin}.{next(self._numbers)}"
        answer = self._calls[name] = loop.create_future()
        try:
            if not self._deliver(user, data, by, name):
                counts = await asyncio.wait_for(self._ask({"k": "where", "u": user}, first=True), timeout)
                hub = next((origin for origin, count in counts.items() if count), None)
                if hub is None:
                    raise NotHere(f"nobody is connected as {user!r}")
                self._cast({"k": "call", "u": user, "by": by, "id": name, **packed(data)}, hub)
            return await asyncio.wait_for(answer, max(0.0, deadline - loop.time()))
        except TimeoutError:
            raise TimeoutError(f"no answer from {user!r} within {timeout} s") from None
        finally:
            del self._calls[name]

    def answer(self, call: str, data: Any) -> None:
        """A member of this hub answers."""
        self._reply(call, {"k": "answer", **packed(data)})

    def gone(self, call: str) -> None:
        """The member that was asked has gone without an answer."""
        self._reply(call, {"k": "gone"})

    def _reply(self, call: str, message: Message) -> None:
        origin = call.partition(".")[0]
        if origin == self._origin:
            self.received(origin, {**message, "id": call})
        else:
            self._cast({**message, "id": call}, origin)

    def received(self, origin: str, message: Message) -> None:
        """From another hub. What is not as it should be raises some error, and is to be passed over."""
        kind, name = message["k"], message["id"]
        if kind == "direct":
            count = self._deliver(message["u"], unpacked(message), message["by"], None)
            self._cast({"k": "took", "id": name, "c": count}, origin)
        elif kind == "where":
            self._cast({"k": "took", "id": name, "c": self._count(message["u"])}, origin)
        elif kind == "took":
            if (found := self._asked.get(name)) is not None:
                found[0].told(origin, message["c"], first=found[1])
        elif kind == "call":
            if not self._deliver(message["u"], unpacked(message), message["by"], name):
                self._cast({"k": "gone", "id": name}, origin)
        elif (waiting := self._calls.get(name)) is not None and not waiting.done():
            if kind == "answer":
                waiting.set_result(unpacked(message))
            elif kind == "gone":
                waiting.set_exception(NotHere("the connection that was asked has gone"))
