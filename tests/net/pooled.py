"""Connections for tests of pools: pairs of sockets, all of them counted."""

from __future__ import annotations

import collections
import socket
import threading
from typing import Any

from websock.net.address import Address

__all__ = ["Connection", "Slow", "World"]

ANYWHERE = Address.parse("tcp://127.0.0.1:1")


class World:
    """Who is open, and the most that were at a time."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.all: list[Connection] = []
        self.open: collections.Counter[Any] = collections.Counter()
        self.most: collections.Counter[Any] = collections.Counter()
        self.most_in_all = 0

    def count(self, where: Any, change: int) -> None:
        with self.lock:
            self.open[where] += change
            self.most[where] = max(self.most[where], self.open[where])
            self.most_in_all = max(self.most_in_all, self.open.total())

    def connect(self, address: Address, *, timeout: float | None = None, key: Any = None) -> Connection:
        """For the blocking pool."""
        self.count((address, key), 1)
        return Connection(self, (address, key))

    async def connect_later(self, address: Address, *, key: Any = None) -> Slow:
        """For the asyncio pool."""
        self.count((address, key), 1)
        return Slow(self, (address, key))

    def left(self) -> list[Connection]:
        return [one for one in self.all if one.how == ""]


class Connection:
    def __init__(self, world: World, where: Any) -> None:
        self.world = world
        self.where = where
        self.mine, self.peer = socket.socketpair()
        self.how = ""
        self.uses = 0
        with world.lock:
            world.all.append(self)

    def fileno(self) -> int:
        return self.mine.fileno()

    def _end(self, how: str) -> None:
        if not self.how:
            self.how = how
            self.mine.close()
            self.peer.close()
            self.world.count(self.where, -1)

    def close(self) -> Any:
        self._end("closed")

    def abort(self) -> None:
        self._end("aborted")


class Slow(Connection):
    async def close(self) -> None:
        self._end("closed")
