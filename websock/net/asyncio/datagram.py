"""Datagrams in an event loop: what ``net.datagram`` has, with ``await``.

It asks for ``add_reader`` and ``add_writer`` only, so it is the same on every loop that has them. A datagram is taken
from the system when a task is there to have it, never before: nothing is queued here, and a task that is cancelled
while it waits has taken none.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Generator, Iterable
from types import TracebackType
from typing import Any, Final, Self

from ...typing import Buffer
from ..address import Address
from ..datagram_socket import (
    MAX_SIZE,
    NOW,
    DatagramSocket,
    Received,
    TruncatedError,
    bind_socket,
    connect_socket,
    numbered,
    parse_datagram,
)
from ..errors import BusyError, ClosedError
from ..guard import let_go
from ..options import SocketOptions
from ..resolving import asks_names
from .opening import both_ways
from .resolving import resolve
from .waiter import Waiter

__all__ = ["Datagram", "Received", "TruncatedError", "bind_datagram", "connect_datagram"]

_PATIENCE: Final = 64  # calls in a row that need not wait, before the loop has its turn


class _Watch:
    """What the event loop holds of a `Datagram`: nothing of it, unless a task waits, so that a lost one is noticed."""

    __slots__ = ("_fd", "_loop", "_on", "reading", "waiter")

    def __init__(self, loop: asyncio.AbstractEventLoop, fd: int) -> None:
        self._loop = loop
        self._fd = fd
        self._on = False  # the loop tells when there is something to read
        self.reading = False  # a task receives
        self.waiter = Waiter(loop)

    def __await__(self) -> Generator[Any, None, None]:
        """Wait until there is something to read, perhaps."""
        if not self._on:
            self._on = True
            self._loop.add_reader(self._fd, self._readable)
        self.waiter._asyncio_future_blocking = True
        yield self.waiter

    def _readable(self) -> None:
        if self.waiter.waiting:
            self.waiter.wake()  # the task runs inside of this, and takes what is there
        elif not self.reading:
            self.stop()

    def stop(self) -> None:
        if self._on:
            self._on = False
            self._loop.remove_reader(self._fd)


class Datagram(DatagramSocket):
    """A socket of datagrams, in the event loop that runs when it is made.

    Tasks may send at once; one may receive at a time. `close` wakes all of them. Timeouts are ``asyncio.timeout``'s: a
    cancelled receive has taken nothing, a cancelled send has sent nothing, if it was waiting.
    """

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock)
        sock.setblocking(False)
        self._loop = asyncio.get_running_loop()
        self._watch = _Watch(self._loop, sock.fileno())
        self._writers: set[asyncio.Future[None]] = set()
        self._gauges: set[asyncio.Future[None]] = set()
        self._at_once = 0

    def __del__(self, _let_go: Callable[..., None] = let_go) -> None:
        if getattr(self, "_closed", True) or not hasattr(self, "_at_once"):
            return  # or it could not be made, and the socket is its giver's
        if not self._loop.is_closed():
            self._watch.stop()
        _let_go(self, (self._sock,))

    async def receive(self, max_size: int = MAX_SIZE) -> bytes:
        """The next datagram, which may be empty; from whom, `receive_from` says.

        Raises:
            TruncatedError: it had more than `max_size` octets.
            OSError: as `receive_from`.
        """
        received = await self.receive_from(max_size)
        if received.truncated:
            raise TruncatedError(received)
        return received.data

    async def receive_from(self, max_size: int = MAX_SIZE) -> Received:
        """The next datagram; what it has beyond `max_size` octets is lost, and `Received.truncated` then.

        Raises:
            BusyError: another task receives.
            ClosedError: it is closed, before or meanwhile.
            ConnectionRefusedError: the peer it is connected to does not listen (ICMP said so, to what we have sent).
        """
        self._begin()
        try:
            return await self._receive(max_size)
        except OSError as error:
            raise self._explained(error, "receive from", self._received_from()) from None
        finally:
            self._watch.reading = False

    async def receive_many(self, count: int, max_size: int = MAX_SIZE) -> list[Received]:
        """Wait for a datagram, and take those that are there, at most `count`.

        Raises:
            ValueError: `count` is less than 1.
            OSError: as `receive_from`.
        """
        if count < 1:
            raise ValueError(f"a count of datagrams is at least 1, not {count}")
        self._begin()
        try:
            return self._read_more([await self._receive(max_size)], count, max_size)
        except OSError as error:
            raise self._explained(error, "receive from", self._received_from()) from None
        finally:
            self._watch.reading = False

    def __aiter__(self) -> Self:
        """What comes, until it is closed."""
        return self

    async def __anext__(self) -> Received:
        try:
            return await self.receive_from()
        except ClosedError:
            raise StopAsyncIteration from None

    async def send(self, data: Buffer) -> None:
        """Send a datagram to the address that this is connected to.

        Raises:
            ClosedError: it is closed, before or meanwhile.
            ConnectionRefusedError: the peer does not listen (ICMP said so, to what was sent before).
            OSError: it is not connected, the datagram is too large, ...
        """
        await self._send(data, None, self._remote)

    async def send_to(self, data: Buffer, address: Address | str) -> None:
        """Send a datagram to `address`. A name is looked up once, and its first address is kept.

        Raises:
            AddressError: no address, or none that this socket sends to.
            OSError: as `send`; ``socket.gaierror`` when the name has no address.
        """
        name = self._names.get(address)
        if name is None:
            self._check_open()
            question = self._question(address)
            name = (await resolve(question, family=self._sock.family))[0].sockaddr
            self._remember(address, name)
        await self._send(data, name, address)

    async def send_many(self, pairs: Iterable[tuple[Buffer, Address | str | None]]) -> int:
        """Send datagrams, each to its address, or to the connected one for None; how many went out.

        Those are fewer than all when one failed that was not the first: sent again from there on, it raises. When it
        is cancelled, those before the one that was waited for are out.

        Raises:
            OSError: as `send` and `send_to`, for the first.
        """
        count = 0
        for data, address in pairs:
            try:
                if address is None:
                    await self.send(data)
                else:
                    await self.send_to(data, address)
            except OSError:
                if not count:
                    raise
                break
            count += 1
        return count

    async def close(self) -> None:
        """Close it, and wake whoever waits for it, who gets `ClosedError`. Twice does nothing."""
        if self._closed:
            return
        self.local  # noqa: B018 - which stays known
        self._closed = True
        self._watch.stop()
        if self._writers:
            self._loop.remove_writer(self._sock.fileno())
        self._watch.waiter.wake_soon()
        for writer in self._writers | self._gauges:
            _done(writer)
        self._writers.clear()
        self._sock.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def _begin(self) -> None:
        self._check_open()
        if self._watch.reading:
            raise BusyError(f"another task receives: {self._local}")
        self._watch.reading = True

    async def _receive(self, max_size: int) -> Received:
        if self._at_once >= _PATIENCE:
            await self._others()
        self._raise_kept()
        while True:
            try:
                received = self._read(max_size, NOW)
            except BlockingIOError:
                pass
            else:
                self._at_once += 1
                return received
            self._at_once = 0
            await self._watch
            self._check_open()

    async def _others(self) -> None:
        """Let others run: what is always ready would keep the loop to itself."""
        self._at_once = 0
        await asyncio.sleep(0)
        self._check_open()

    async def _send(self, data: Buffer, name: Any, where: object) -> None:
        self._check_open()
        try:
            if self._at_once >= _PATIENCE:
                await self._others()
            while True:
                try:
                    self._write(data, name)
                except BlockingIOError:
                    await self._room(name)
                    self._check_open()
                else:
                    self._at_once += 1
                    return
        except OSError as error:
            raise self._explained(error, "send to", where or "nobody") from None

    async def _room(self, name: Any) -> None:
        """Wait until a datagram can perhaps be sent to `name`."""
        waiter: asyncio.Future[None] = self._loop.create_future()
        gauge = self._gauge(name)
        if gauge is not None:
            self._loop.add_writer(gauge.fileno(), _done, waiter)
            self._gauges.add(waiter)
            try:
                await waiter
            finally:
                self._gauges.discard(waiter)
                self._loop.remove_writer(gauge.fileno())
                gauge.close()
            return
        if not self._writers:
            self._loop.add_writer(self._sock.fileno(), self._writable)
        self._writers.add(waiter)
        try:
            await waiter
        finally:
            self._writers.discard(waiter)
            if not (self._writers or self._closed):
                self._loop.remove_writer(self._sock.fileno())

    def _writable(self) -> None:
        for writer in self._writers:
            _done(writer)


@both_ways
async def bind_datagram(
    address: Address | str, *, options: SocketOptions | None = None, mode: int | None = None
) -> Datagram:
    """A socket that receives what is sent to `address`, and sends from there: see ``net.datagram.bind_datagram``."""
    found = await _named(parse_datagram(address), passive=True)
    return _made(bind_socket(found, options, mode))


@both_ways
async def connect_datagram(
    address: Address | str, *, local: Address | str | None = None, options: SocketOptions | None = None
) -> Datagram:
    """A socket that sends to `address`, and receives from there only: see ``net.datagram.connect_datagram``."""
    parsed, own = parse_datagram(address), None if local is None else parse_datagram(local)
    peer = await _named(parsed)
    if own is not None:
        own = await _named(own, passive=True)
    return _made(connect_socket(peer, own, options))


def _made(sock: socket.socket) -> Datagram:
    try:
        return Datagram(sock)
    except BaseException:
        sock.close()
        raise


async def _named(address: Address, passive: bool = False) -> Address:
    return numbered(await resolve(address, passive=passive)) if asks_names(address) else address


def _done(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
