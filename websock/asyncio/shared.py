"""What the connections of one event loop have in common; and which twins are in use."""

from __future__ import annotations

import asyncio
import weakref
from typing import TYPE_CHECKING, Final, Protocol

from ..accelerated import ACCELERATED
from .sending import SENT

__all__ = ["READ_SIZE", "SENT", "Shared", "shared_of"]

READ_SIZE: Final = 2**18  # octets of the read buffer


class Flushable(Protocol):
    """A connection, as far as it matters here."""

    def _flush(self) -> None: ...


class Shared:
    """What the connections of one event loop share: the read buffer, and whose writes wait for the end of a turn.

    While one connection is busy alone, what a read made it send is written at once. As soon as another one is read,
    both belong to a turn in which many are: then all write when all have been read, so that a peer, or a proxy with
    many connections, is woken once for all and not once for each.
    """

    __slots__ = ("_loop", "_waiting", "last", "view")

    def __init__(self, loop: asyncio.AbstractEventLoop, size: int) -> None:
        self._loop = weakref.ref(loop)
        self._waiting: list[Flushable] = []
        self.last: object = None  # the one that was read last
        self.view = memoryview(bytearray(size))  # what is in it is consumed before the loop goes on

    def flush_later(self, connection: Flushable) -> None:
        """Write what `connection` has to send when every connection of this turn was read."""
        if not self._waiting and (loop := self._loop()) is not None:
            loop.call_soon(self._flush)
        self._waiting.append(connection)

    def _flush(self) -> None:
        waiting, self._waiting = self._waiting, []
        first: Exception | None = None
        for connection in waiting:
            try:
                connection._flush()
            except Exception as error:  # the others have their turn all the same
                first = first or error
        if first is not None:
            raise first


if ACCELERATED and not TYPE_CHECKING:
    from .._native import speedups

    Shared = speedups.Shared
    SENT = speedups.SENT

_shared: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Shared] = weakref.WeakKeyDictionary()


def shared_of(loop: asyncio.AbstractEventLoop) -> Shared:
    shared = _shared.get(loop)
    if shared is None:
        shared = _shared[loop] = Shared(loop, READ_SIZE)
    return shared
