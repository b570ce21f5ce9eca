"""Refusing a connection that was just accepted, without a transport or a task for it."""

from __future__ import annotations

import asyncio
import collections
import socket

from ..core.gate import TURNED_AWAY_AT_ONCE, TURNED_AWAY_TIME
from ..net.asyncio import can_watch

__all__ = ["TurningAway"]


class TurningAway:
    """Writes a ready answer, and reads and drops what comes for a second: closing a socket with octets unread would
    reset the connection and destroy the answer on its way. Beyond so many at a time it only closes."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._deadlines: collections.OrderedDict[socket.socket, float] = collections.OrderedDict()
        self._sweep: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._deadlines)

    def turn_away(self, sock: socket.socket, answer: bytes) -> None:
        """Take over `sock`, which does not block; without an answer close it."""
        if not answer or len(self._deadlines) >= TURNED_AWAY_AT_ONCE or not can_watch(self._loop):
            sock.close()
            return
        try:
            sock.send(answer)  # it fits: nothing was sent before
            sock.shutdown(socket.SHUT_WR)
        except OSError:
            sock.close()
            return
        self._loop.add_reader(sock, self._drop, sock)
        self._deadlines[sock] = deadline = self._loop.time() + TURNED_AWAY_TIME
        if self._sweep is None:
            self._sweep = self._loop.call_at(deadline, self._expire)

    def close(self) -> None:
        """Close all that are left."""
        for sock in list(self._deadlines):
            self._end(sock)
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None

    def _drop(self, sock: socket.socket) -> None:
        try:
            if sock.recv(65536):
                return
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            pass
        self._end(sock)

    def _expire(self) -> None:
        self._sweep = None
        while self._deadlines:
            sock, deadline = next(iter(self._deadlines.items()))
            if deadline > self._loop.time():
                self._sweep = self._loop.call_at(deadline, self._expire)
                return
            self._end(sock)

    def _end(self, sock: socket.socket) -> None:
        self._loop.remove_reader(sock)
        del self._deadlines[sock]
        sock.close()
