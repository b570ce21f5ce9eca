"""Accepting: one loop for all that listens, for streams and for other protocols."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable, Sequence
from typing import Any, Final

from ...typing import LoggerLike
from ..address import Address
from ..errors import explain
from ..sockets import BACK_OFF, ITS_OWN
from .transport import can_watch

__all__ = ["Acceptor"]

_TURN: Final = 64  # connections that are accepted before the loop has its turn
_LOGGER: Final = logging.getLogger("websock.net")


class Acceptor:
    """Calls a function with each connection that is accepted: the socket, which does not block, and the peer's address.

    When there is no room for more (EMFILE, ENFILE, ENOBUFS, ENOMEM) it logs one line and tries every half second. What
    happened to a connection before it was accepted concerns nobody else.
    Windows' proactor has no readable sockets; there a task accepts.

    Args:
        loop: that runs.
        sockets: which listen, and don't block. They stay the caller's, who closes them after `stop`.
        accepted: whom to call; what it raises is the loop's to report, and the socket is closed.
        logger: default ``logging.getLogger("websock.net")``.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sockets: Sequence[socket.socket],
        accepted: Callable[[socket.socket, Any], object],
        logger: LoggerLike = _LOGGER,
    ) -> None:
        self._loop = loop
        self._sockets = sockets
        self._accepted = accepted
        self._logger = logger
        self._watched: set[socket.socket] = set()
        self._backing_off: dict[socket.socket, asyncio.TimerHandle] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._was_full = False  # and that was logged
        self.running = False

    def start(self) -> None:
        """Accept from now on."""
        if self.running:
            return
        self.running = True
        for listener in self._sockets:
            if not can_watch(self._loop):
                self._tasks.append(self._loop.create_task(self._keep_accepting(listener)))
            elif listener not in self._backing_off and listener not in self._watched:
                self._watch(listener)

    def pause(self) -> None:
        """Accept no more until `start`: who comes waits in the kernel. The loop is told when somebody does come."""
        self.running = False
        for task in self._tasks:
            task.cancel()
        self._tasks.clear()

    async def stop(self) -> None:
        """Accept no more; the sockets can be closed then."""
        tasks = [*self._tasks]
        self.pause()
        for listener in list(self._watched):
            self._unwatch(listener)
        for timer in self._backing_off.values():
            timer.cancel()
        self._backing_off.clear()
        if tasks:
            await asyncio.gather(*tasks, return_exceptions=True)

    def _watch(self, listener: socket.socket) -> None:
        self._loop.add_reader(listener, self._accept, listener)
        self._watched.add(listener)

    def _unwatch(self, listener: socket.socket) -> None:
        self._loop.remove_reader(listener)
        self._watched.discard(listener)

    def _accept(self, listener: socket.socket) -> None:
        """There are connections to accept: take some, then the loop has its turn."""
        if not self.running:
            self._unwatch(listener)
            return
        for _ in range(_TURN):
            if not self.running:
                return
            try:
                sock, peer = listener.accept()
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                if error.errno in ITS_OWN:
                    continue
                self._full(listener, error)
                return
            self._was_full = False
            self._give(sock, peer)

    def _give(self, sock: socket.socket, peer: Any) -> None:
        try:
            sock.setblocking(False)
            self._accepted(sock, peer)
        except BaseException:
            sock.close()
            raise

    def _full(self, listener: socket.socket, error: OSError) -> None:
        self._say_full(listener, error)
        self._unwatch(listener)
        self._backing_off[listener] = self._loop.call_later(BACK_OFF, self._try_again, listener)

    def _say_full(self, listener: socket.socket, error: OSError) -> None:
        if not self._was_full:
            self._was_full = True
            where: object = listener
            with contextlib.suppress(OSError, ValueError):  # a family without a spelling
                where = Address.of(listener)
            self._logger.error("%s; trying again every %s s", explain(error, "accept on", where), BACK_OFF)

    def _try_again(self, listener: socket.socket) -> None:
        del self._backing_off[listener]
        if self.running:
            self._watch(listener)

    async def _keep_accepting(self, listener: socket.socket) -> None:
        while True:
            try:
                sock, peer = await self._loop.sock_accept(listener)
            except OSError as error:
                if error.errno not in ITS_OWN:
                    self._say_full(listener, error)
                    await asyncio.sleep(BACK_OFF)
                continue
            self._was_full = False
            self._give(sock, peer)
