"""Listening: `listen` and `Listener`."""

from __future__ import annotations

import asyncio
import collections
import logging
import socket
import ssl
import weakref
from collections.abc import Callable, Sequence
from typing import Any, Final, Self

from ..address import Address
from ..errors import ClosedError, NotOnThisSystem
from ..guard import let_go, seconds
from ..options import SocketOptions, asked
from ..resolving import asks_names
from ..sockets import check_listening, listening
from ..tls import check_server, secured
from ..tls_stream import HANDSHAKE_TIMEOUT
from .accept import Acceptor
from .opening import both_ways
from .stream import Stream
from .transport import can_watch

__all__ = ["Listener", "listen"]

_HANDSHAKES: Final = 1024  # at once; more wait in the kernel
_LOGGER: Final = logging.getLogger("websock.net")


@both_ways
async def listen(
    address: str | Address,
    *,
    options: SocketOptions | None = None,
    tls: ssl.SSLContext | None = None,
    mode: int | None = None,
    handshake_timeout: float | None = HANDSHAKE_TIMEOUT,
) -> Listener:
    """Listen at an address, on every address that it has.

    Args:
        address: see `Address`; ``*`` is IPv4 and IPv6, port 0 is any free one. ``tls://`` needs `tls`.
        options: of the sockets, and of those that are accepted.
        tls: the server's settings and certificate; plain without.
        mode: of the file of a Unix socket, such as 0o660.
        handshake_timeout: seconds for the TLS handshake of a connection; None: for ever.

    Raises:
        AddressError: no address, or one where nothing listens.
        OSError: it cannot be used; the message names it, and who has it where that is known.
        TypeError, ValueError: an option does not fit it.
    """
    address = Address.parse(address)
    check_server(address, tls)
    seconds(handshake_timeout, "handshake_timeout")
    if not can_watch(asyncio.get_running_loop()):
        raise NotOnThisSystem("streams in Windows' proactor event loop")
    if asks_names(address):
        sockets = await _in_thread(address, options, mode)
    else:
        sockets = listening(address, options, mode=mode)
    return Listener(sockets, options=options, tls=tls, handshake_timeout=handshake_timeout)


async def _in_thread(address: Address, options: SocketOptions | None, mode: int | None) -> list[socket.socket]:
    """A name has to be looked up. When this is cancelled meanwhile, what the thread opens is closed."""
    found = asyncio.get_running_loop().run_in_executor(None, lambda: listening(address, options, mode=mode))
    try:
        return await asyncio.shield(found)
    except asyncio.CancelledError:
        found.add_done_callback(_discard)
        raise


def _discard(found: asyncio.Future[list[socket.socket]]) -> None:
    if not found.cancelled() and found.exception() is None:
        for sock in found.result():
            sock.close()


class Listener:
    """What listens: made by `listen`, or from listening sockets, which belong to it then.

    ::

        async with listen("tcp://localhost:8080") as listener:  # or: listener = await listen(...)
            async for stream in listener:
                ...

    Connections are accepted when somebody waits for one; until then they are the kernel's (``options.backlog``). TLS
    handshakes go on beside each other, and `accept` returns the first that is done. One that fails is logged to
    ``websock.net`` as INFO, and its connection is closed.
    """

    def __init__(
        self,
        sockets: Sequence[socket.socket],
        *,
        options: SocketOptions | None = None,
        tls: ssl.SSLContext | None = None,
        handshake_timeout: float | None = HANDSHAKE_TIMEOUT,
    ) -> None:
        self._sockets = tuple(sockets)
        self._options = asked(options)
        check_listening(self._sockets)
        self._tls = tls
        self._handshake_timeout = handshake_timeout
        self._loop = asyncio.get_running_loop()
        for sock in self._sockets:
            sock.setblocking(False)
        self._addresses = tuple(secured(Address.of(sock), tls is not None) for sock in self._sockets)
        accepted = weakref.WeakMethod(self._accepted)  # the loop need not keep a listener that nobody has any more

        def give(sock: socket.socket, peer: Any) -> None:
            if (method := accepted()) is not None:
                method(sock, peer)

        self._acceptor = Acceptor(self._loop, self._sockets, give)
        self._ready: collections.deque[Stream] = collections.deque()
        self._waiting: collections.deque[asyncio.Future[None]] = collections.deque()
        self._handshakes: dict[asyncio.Task[None], socket.socket] = {}
        self._closed = False

    def __del__(self, _let_go: Callable[..., None] = let_go) -> None:
        if not getattr(self, "_closed", True):
            if not self._loop.is_closed():
                self._acceptor.pause()  # which may be about to look again for room
                for sock in self._sockets:
                    self._loop.remove_reader(sock)
            _let_go(self, self._sockets)

    @property
    def addresses(self) -> tuple[Address, ...]:
        """Where it listens, with the ports that the system chose; known when it is closed, too."""
        return self._addresses

    @property
    def sockets(self) -> tuple[socket.socket, ...]:
        """The sockets that listen."""
        return self._sockets

    def __repr__(self) -> str:
        where = ", ".join(map(str, self._addresses))
        return f"<Listener {where}{' closed' if self._closed else ''}>"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: Any) -> None:
        await self.close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Stream:
        """The next connection; the end when the listener is closed."""
        try:
            return await self.accept()
        except ClosedError:
            raise StopAsyncIteration from None

    async def accept(self) -> Stream:
        """The next connection. Several tasks may wait, and are served in turn; cancelling one loses no connection.

        Raises:
            ClosedError: the listener is closed.
        """
        while not self._ready or self._waiting:
            self._check()
            turn: asyncio.Future[None] = self._loop.create_future()
            self._waiting.append(turn)
            if not self._full():
                self._acceptor.start()
            try:
                await turn
            except asyncio.CancelledError:
                if not turn.cancelled():
                    self._wake()  # it was ours, and is another's now
                elif turn in self._waiting:
                    self._waiting.remove(turn)
                raise
            finally:
                self._rest()
            if self._ready:
                break
        self._check()
        return self._ready.popleft()

    def _check(self) -> None:
        if self._closed:
            raise ClosedError(f"the listener on {', '.join(map(str, self._addresses))}")

    def _full(self) -> bool:
        return len(self._handshakes) >= _HANDSHAKES

    def _rest(self) -> None:
        """Accept no more when nobody waits, or enough are in the TLS handshake."""
        if self._acceptor.running and (self._full() or not self._waiting):
            self._acceptor.pause()

    def _wake(self) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return

    def _accepted(self, sock: socket.socket, peer: Any) -> None:
        try:
            self._options.apply(sock, stage="accepted")
        except (OSError, ValueError) as error:
            _LOGGER.error("a connection was accepted and is closed: %s", error)
            sock.close()
            return
        remote = secured(Address.from_sockaddr(peer, sock.family, sock.type, sock.proto), self._tls is not None)
        if self._tls is None:
            self._offer(Stream(sock, remote=remote))
        else:
            task = self._loop.create_task(self._handshake(sock, self._tls, remote))
            self._handshakes[task] = sock
            task.add_done_callback(self._shaken)
        self._rest()

    def _shaken(self, task: asyncio.Task[None]) -> None:
        sock = self._handshakes.pop(task)
        if task.cancelled():
            sock.close()  # it had not even begun, perhaps

    def _offer(self, stream: Stream) -> None:
        self._ready.append(stream)
        self._wake()

    async def _handshake(self, sock: socket.socket, context: ssl.SSLContext, remote: Address) -> None:
        timeout = self._handshake_timeout
        try:
            self._offer(await Stream.secured(sock, context, server_side=True, remote=remote, timeout=timeout))
        except OSError as error:
            _LOGGER.info("%s", error)
        finally:
            if self._waiting and not self._closed:
                self._acceptor.start()

    async def close(self) -> None:
        """Listen no more. Who waits in `accept` gets `ClosedError`; what nobody has accepted yet is closed."""
        self._closed = True
        await self._acceptor.stop()
        for sock in self._sockets:
            sock.close()
        while self._waiting:
            self._wake()
        handshakes = list(self._handshakes)
        for task in handshakes:
            task.cancel()
        if handshakes:
            await asyncio.gather(*handshakes, return_exceptions=True)
        while self._ready:
            stream = self._ready.popleft()
            stream.abort()
            await stream.close()
