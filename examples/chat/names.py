"""Who is called how, on all servers together. No I/O; time is a number of seconds.

Strategy: a name belongs to the browser that uses it, which proves itself with a secret: so its owner may come back
while the connection that was lost still seems to be there, and on another server. Which names are in use is known
from the presence of all hubs, a moment late. If two take the same name within that moment, or while the servers did
not hear each other, the one who came first keeps it: all servers come to the same result, and each tells its own.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from rules import Refusal, alike

from websock.pubsub import Present

KEPT: Final = 30.0
"""Seconds that a name is kept for its owner when nobody uses it any more."""


class Names:
    """The names in use, as one server knows them."""

    def __init__(self) -> None:
        self._claims: dict[str, list[str]] = {}  # the owners of those on this server, one for each page
        self._owners: dict[str, str] = {}  # of those on all servers, when we last looked
        self._left: dict[str, tuple[str, float]] = {}  # of those that nobody uses any more, and since when

    def claim(self, nick: str, owner: str, present: Iterable[Present], now: float) -> None:
        """Use a name from now on, until `release`.

        Raises:
            Refusal: it is somebody else's.
        """
        key = alike(nick)
        owners = {one.info for one in present if alike(one.user or "") == key} | {*self._claims.get(key, ())}
        if owners - {owner}:
            raise Refusal("nick-taken", f"Somebody here is called {nick}. Please choose another name.")
        left, since = self._left.get(key, (owner, 0.0))
        if left != owner and since + KEPT > now:
            raise Refusal(
                "nick-taken",
                f"Somebody called {nick} was here a moment ago, and may come back. "
                f"Please choose another name, or try again in {since + KEPT - now:.0f} seconds.",
            )
        self._claims.setdefault(key, []).append(owner)

    def release(self, nick: str, owner: str) -> None:
        """One page less that uses it."""
        key = alike(nick)
        owners = self._claims[key]
        owners.remove(owner)
        if not owners:
            del self._claims[key]

    def look(self, present: Iterable[Present], now: float) -> set[str]:
        """See who is there, now and then; the connections that use a name which somebody else has used for longer."""
        owners: dict[str, str] = {}
        losers = set()
        for one in present:  # those who have been there for longest come first
            if owners.setdefault(alike(one.user or ""), one.info) != one.info:
                losers.add(one.member)
        for key, owner in self._owners.items():
            if key not in owners:
                self._left[key] = owner, now
        for key in [key for key, (_, since) in self._left.items() if key in owners or since + KEPT <= now]:
            del self._left[key]
        self._owners = owners
        return losers
