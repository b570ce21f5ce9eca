"""Happy eyeballs (RFC 8305): of several ways to a host, the first that answers."""

from __future__ import annotations

import asyncio
import collections
import errno
import os
import socket
from collections.abc import Sequence
from typing import Final

from ..address import Address
from ..connecting import bind_own, check_ends, no_way, with_itself
from ..options import SocketOptions, asked
from ..resolving import CONNECTION_ATTEMPT_DELAY, Target, interleave
from ..sockets import open_socket
from .resolving import resolve
from .transport import can_watch

__all__ = ["connected"]

_FULL_AGAIN: Final = 0.01  # seconds until a Unix socket is tried again whose queue of connections is full


async def connected(
    address: Address,
    options: SocketOptions | None = None,
    *,
    local: Address | None = None,
    family: int = 0,
    delay: float = CONNECTION_ATTEMPT_DELAY,
) -> socket.socket:
    """A connected socket, which does not block; nothing stays open of the ways that lost, failed or were cancelled.

    Args:
        address: not ``fd://``.
        options: of the socket, before and after it connects.
        local: what our end is bound to.
        family: as of `resolve`.
        delay: seconds until the next way is tried beside one that has not answered.

    Raises:
        AddressError, OSError, NotOnThisSystem, ValueError: as `connect`.
    """
    check_ends(address, local)
    options = asked(options)
    targets = interleave(await resolve(address, family=family))
    local_targets = [] if local is None else await resolve(local, passive=True)
    race = _Race(asyncio.get_running_loop(), address, options, targets, local_targets, delay)
    sock = await race.run()
    try:
        options.apply(sock, stage="connected", where=address)
    except BaseException:
        sock.close()
        raise
    return sock


class _Race:
    """Attempts that begin one after the other and go on side by side. It has no tasks, so it ends at once."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        address: Address,
        options: SocketOptions,
        targets: Sequence[Target],
        local: Sequence[Target],
        delay: float,
    ) -> None:
        self._loop = loop
        self._address = address
        self._options = options
        self._waiting = collections.deque(targets)
        self._local = local
        self._delay = delay
        self._trying: set[socket.socket] = set()
        self._timers: set[asyncio.TimerHandle] = set()
        self._next: asyncio.TimerHandle | None = None
        self._failures: list[tuple[Target, OSError]] = []
        self._result: asyncio.Future[socket.socket] = loop.create_future()

    async def run(self) -> socket.socket:
        if not can_watch(self._loop):
            return await self._one_by_one()
        try:
            self._begin()
            return await self._result
        except BaseException:
            if self._result.done() and not self._result.cancelled() and self._result.exception() is None:
                self._result.result().close()  # it was there, and we were cancelled
            raise
        finally:
            self._end()

    def _begin(self) -> None:
        """Try the next way, and the one after that if this one fails at once."""
        self._next = None
        while self._waiting and not self._result.done():
            target = self._waiting.popleft()
            try:
                sock = self._open(target)
            except OSError as error:
                self._failures.append((target, error))
                continue
            except Exception as error:  # an option that does not fit: none of the others would be better
                self._result.set_exception(error)
                return
            self._trying.add(sock)
            if self._connect(sock, target):
                if self._waiting and not self._result.done():
                    self._next = self._loop.call_later(self._delay, self._begin)
                return
        if not self._trying and not self._result.done():
            self._result.set_exception(no_way(self._address, self._failures))

    def _open(self, target: Target) -> socket.socket:
        sock = open_socket(target, self._options, where=self._address)
        try:
            sock.setblocking(False)
            bind_own(sock, self._local)
        except BaseException:
            sock.close()
            raise
        return sock

    def _connect(self, sock: socket.socket, target: Target) -> bool:
        """Begin to connect; whether that may become something."""
        number = sock.connect_ex(target.sockaddr)
        if number == errno.EAGAIN and target.family == getattr(socket, "AF_UNIX", None):
            self._later(sock, target)
        elif number in (errno.EINPROGRESS, errno.EWOULDBLOCK, errno.EINTR):
            self._loop.add_writer(sock, self._writable, sock, target)
        else:
            return self._tried(sock, target, number)
        return True

    def _later(self, sock: socket.socket, target: Target) -> None:
        """Linux has no event for a Unix socket whose queue has room again."""

        def again() -> None:
            self._timers.discard(timer)
            if not self._connect(sock, target):
                self._go_on()

        timer = self._loop.call_later(_FULL_AGAIN, again)
        self._timers.add(timer)

    def _writable(self, sock: socket.socket, target: Target) -> None:
        self._loop.remove_writer(sock)
        if not self._tried(sock, target, sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)):
            self._go_on()

    def _go_on(self) -> None:
        """One way has failed: the next need not wait."""
        if self._next is not None:
            self._next.cancel()
        self._begin()

    def _tried(self, sock: socket.socket, target: Target, number: int) -> bool:
        self._trying.discard(sock)
        if number == 0 and with_itself(sock):
            number = errno.ECONNREFUSED
        if number == 0 and not self._result.done():
            self._result.set_result(sock)
            self._end()
            return True
        sock.close()
        self._failures.append((target, OSError(number, os.strerror(number))))
        return False

    def _end(self) -> None:
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()
        if self._next is not None:
            self._next.cancel()
        self._waiting.clear()
        for sock in self._trying:
            self._loop.remove_writer(sock)
            sock.close()
        self._trying.clear()

    async def _one_by_one(self) -> socket.socket:
        """For the proactor: it has no event for a socket that is connected, and each way has its time alone."""
        for target in self._waiting:
            try:
                sock = self._open(target)
                try:
                    await self._loop.sock_connect(sock, target.sockaddr)
                except BaseException:
                    sock.close()
                    raise
                return sock
            except OSError as error:
                self._failures.append((target, error))
        raise no_way(self._address, self._failures)
