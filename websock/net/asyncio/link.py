"""What the event loop holds of a `Stream`: the protocol of its transport.

The stream itself is its user's, so that one that nobody has any more is noticed, though the loop watches its socket.
"""

from __future__ import annotations

import asyncio
import collections
import socket
from collections.abc import Callable
from typing import Any, Final

from ..errors import ClosedError
from .transport import SocketTransport
from .waiter import SocketWaiter

__all__ = ["Link"]

_TRIES: Final = 16  # reads without a turn of the loop when data came before anybody asked; then others have theirs
_FOR_EVER: Final = 2**62
_HIGH: Final = 2**16  # octets that are decrypted and not taken before reading pauses


class Link(asyncio.Protocol):
    """See above. A plain socket is read by the task that receives: the kernel keeps what nobody has asked for yet.

    With TLS, what is decrypted comes here; `held` has it. What a cancelled receive had taken goes there too.
    """

    __slots__ = (
        "_reading_paused", "_watching", "calm", "direct", "drained", "ended", "error", "full", "held", "loop",
        "lost", "made", "secure", "shut", "size", "sock", "socket_readable", "transport", "tries",
        "unwatched", "waiter",
    )  # fmt: skip

    transport: SocketTransport
    waiter: SocketWaiter  # of the task that receives
    socket_readable: Callable[[], None]

    def __init__(self, loop: asyncio.AbstractEventLoop, sock: socket.socket, secure: bool) -> None:
        self.loop = loop
        self.sock = sock
        self.secure = secure
        self.tries = 0  # reads that are worth trying before the loop says that the socket is readable
        self.unwatched = False  # the loop does not tell any more
        self.calm = False  # nothing is here and nobody receives: who comes now has to wait, and for the socket alone
        self.held: collections.deque[bytes] = collections.deque()
        self.size = 0  # octets of that
        self.full = False  # what is sent has to wait
        self.drained: asyncio.Future[None] | None = None  # of the task that sends and waits
        self.ended: asyncio.Future[None] | None = None  # of those that wait for the end
        self.made: asyncio.Future[None] | None = None  # of the TLS handshake
        self.shut: OSError | None = None  # why nothing can be sent
        self.direct = False  # what is sent goes to the socket itself when nothing waits in front of it
        self.error: OSError | None = None  # why nothing can be received
        self.lost = False
        self._reading_paused = False
        self._watching = False
        self._new_waiter()

    # Reading.

    def _nobody_asks(self) -> None:
        """Something came that no task waits for: it stays with the kernel, and the loop need not tell it again."""
        self.calm = False
        self.tries = _TRIES
        self.unwatched = True
        self.transport.stop_watching()

    def renew_waiter(self) -> None:
        """The old one still belongs to a task that was cancelled, and has not seen it."""
        self.waiter.sock = None
        self._new_waiter()
        self.transport.set_protocol(self)  # which wakes the new one then

    def _new_waiter(self) -> None:
        self.waiter = SocketWaiter(self.loop)
        if not self.secure:
            self.waiter.idle = self._nobody_asks
            self.waiter.sock = self.sock
        self.socket_readable = self.waiter.readable  # straight away: it is called for every message

    def watch(self) -> None:
        """Let the loop tell again when there is something to read."""
        self.unwatched = False
        self.transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        self.held.append(data)
        self.size += len(data)
        self.waiter.wake()
        if self.size > _HIGH:
            self._reading_paused = True
            self.transport.pause_reading()

    def eof_received(self) -> bool:
        self.calm = False
        self.tries = _FOR_EVER
        self.waiter.wake()
        return True  # our direction may go on

    def keep(self, data: bytes) -> None:
        """Put back what was taken first."""
        self.calm = False
        self.held.appendleft(data)
        self.size += len(data)

    def take(self, size: int) -> bytes:
        """From what is held, at most `size` octets, and at most what came at a time.

        Raises:
            BlockingIOError: nothing is here.
        """
        if not self.held:
            if self.tries:
                return b""
            raise BlockingIOError
        data = self.held.popleft()
        if len(data) > size:
            self.held.appendleft(data[size:])
            data = data[:size]
        self.size -= len(data)
        if self._reading_paused and self.size <= _HIGH:
            self._reading_paused = False
            self.transport.resume_reading()
        return data

    def take_into(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        data = self.take(len(view))
        view[: len(data)] = data
        return len(data)

    # Writing.

    def pause_writing(self) -> None:
        self.full = True

    def resume_writing(self) -> None:
        self.full = False
        self.go_on()

    def go_on(self) -> None:
        """Wake the task that waits to send."""
        if self.drained is not None and not self.drained.done():
            self.drained.set_result(None)

    def watch_writable(self) -> None:
        """Wake the task that waits to send when the socket takes something; the transport has nothing to write."""
        self.loop.add_writer(self.sock, self.go_on)
        self._watching = True

    def unwatch_writable(self) -> None:
        if self._watching:
            self._watching = False
            self.loop.remove_writer(self.sock)

    # The beginning and the end.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if self.made is not None and not self.made.done():
            self.made.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        self.unwatch_writable()  # the descriptor is another's soon
        self.waiter.idle = None  # which refers to us
        self.end(exc if isinstance(exc, OSError) else ClosedError("the stream"))
        if self.made is not None and not self.made.done():
            self.made.set_exception(exc or ConnectionResetError("the peer ended the TLS handshake"))
        if self.ended is not None and not self.ended.done():
            self.ended.set_result(None)

    def end(self, error: OSError) -> None:
        """From now on whoever receives or sends gets that error; the first one stays."""
        self.calm = False
        self.waiter.sock = None
        if self.error is None:
            self.error = error
        if self.shut is None or not isinstance(self.shut, ClosedError):
            self.shut_down(self.error)
        if self.waiter.waiting:
            self.waiter.wake()
        self.go_on()

    def shut_down(self, error: OSError) -> None:
        """From now on whoever sends gets that error."""
        self.shut = error
        self.direct = False

    async def wait_ended(self) -> None:
        """Wait until the socket is closed."""
        if not self.lost:
            if self.ended is None:
                self.ended = self.loop.create_future()
            await asyncio.shield(self.ended)
