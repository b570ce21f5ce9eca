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
from ..errors import explain
from ..options import SocketOptions
from ..resolve import CONNECTION_ATTEMPT_DELAY, Target, interleave
from ..sockets import open_socket
from .resolve import resolve
from .transport import can_watch

__all__ = ["connected"]

_FULL_AGAIN: Final = 0.01  # seconds until a Unix socket is tried again whose queue of connections is full


async def connected(
    address: Address,
    options: SocketOptions,
    *,
    local: Address | None = None,
    family: int = 0,
    delay: float = CONNECTION_ATTEMPT_DELAY,
) -> socket.socket:
    """A connected socket, which does not block; nothing stays open of the ways that lost, failed or were cancelled.

    Args:
        address: see `Address`; not ``fd://``.
        options: of the socket, before and after it connects.
        local: what our end is bound to.
        family: as of `resolve`.
        delay: seconds until the next way is tried beside one that has not answered.

    Raises:
        OSError: no way leads there; of several failures the first one, with the address.
        ValueError: an option does not fit.
    """
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
        self._failure: OSError | None = None
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
                self._failure = self._failure or error
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
            assert self._failure is not None  # noqa: S101 - there is no answer without a target
            self._result.set_exception(self._failure)

    def _open(self, target: Target) -> socket.socket:
        sock = open_socket(target, self._options, where=self._address)
        try:
            sock.setblocking(False)
            if self._local:
                own = next((one for one in self._local if one.family == target.family), None)
                if own is None:
                    raise OSError(errno.EAFNOSUPPORT, f"can't connect to {self._address}: our end is of another family")
                try:
                    sock.bind(own.sockaddr)
                except OSError as error:
                    raise explain(error, "bind", Address.from_sockaddr(*_name(own))) from None
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
            self._loop.add_writer(sock, self._writable, sock)
        else:
            return self._tried(sock, number)
        return True

    def _later(self, sock: socket.socket, target: Target) -> None:
        """Linux has no event for a Unix socket whose queue has room again."""

        def again() -> None:
            self._timers.discard(timer)
            if not self._connect(sock, target):
                self._go_on()

        timer = self._loop.call_later(_FULL_AGAIN, again)
        self._timers.add(timer)

    def _writable(self, sock: socket.socket) -> None:
        self._loop.remove_writer(sock)
        if not self._tried(sock, sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)):
            self._go_on()

    def _go_on(self) -> None:
        """One way has failed: the next need not wait."""
        if self._next is not None:
            self._next.cancel()
        self._begin()

    def _tried(self, sock: socket.socket, number: int) -> bool:
        self._trying.discard(sock)
        if number == 0 and not self._result.done():
            self._result.set_result(sock)
            self._end()
            return True
        sock.close()
        error = OSError(number, os.strerror(number))
        self._failure = self._failure or explain(error, "connect to", self._address)
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
                self._failure = self._failure or explain(error, "connect to", self._address)
        assert self._failure is not None  # noqa: S101 - there is no answer without a target
        raise self._failure


def _name(target: Target) -> tuple[object, int, int, int]:
    return target.sockaddr, target.family, target.kind, target.protocol
