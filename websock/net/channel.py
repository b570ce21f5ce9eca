"""A connected stream socket for blocking callers: reads and writes never block by themselves, `wait` does."""

from __future__ import annotations

import functools
import select
import selectors
import socket
from collections.abc import Callable
from typing import ClassVar, Final, cast

from ..typing import Buffer
from .memory import MemorySocket

__all__ = ["GATHER", "Channel", "after", "can_be_read", "channel_for", "wait_for", "wait_writable"]

READ_SIZE: Final = 2**16
_MOST: Final = 2e6  # seconds that poll can count; more are for ever
SPARE: Final = 16  # buffers that are kept for the next reads
GATHER: Final = 64  # buffers in one system call; every system allows more


# Who waits needs no buffer: thousands of channels share what the few need that have just read. And buffers that come
# and go one by one in as many threads would leave malloc's arenas full of holes.
_spare: list[memoryview] = []


class Channel:
    """A non-blocking stream socket.

    Several threads may wait and write; who reads and who writes is for the caller to decide. `shutdown` wakes all.
    """

    __slots__ = ("_buffer", "sock")

    has_descriptor: ClassVar[bool] = True

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.sock = sock
        self._buffer: memoryview | None = None  # from `receive` to `release`

    def wait(self, *, read: bool, write: bool, timeout: float | None) -> tuple[bool, bool]:
        """Wait until the socket can be read or written, as asked, for `timeout` seconds at most (None: for ever).

        Returns which of both it is; neither when time ran out. A closed socket can be both: trying tells.
        """
        try:
            return wait_for(self.sock, read, write, timeout)
        except (ValueError, OSError):  # another thread has closed it
            return read, write

    def receive(self, limit: int = 0) -> bytes | memoryview | None:
        """What has come: empty at the end of the stream, None when nothing is here. Valid until `release`.

        At most `limit` octets, if it is not 0.

        Raises:
            OSError: the connection is broken.
        """
        buffer = self._buffer
        if buffer is None:
            try:
                buffer = self._buffer = _spare.pop()
            except IndexError:
                buffer = self._buffer = memoryview(bytearray(READ_SIZE))
        try:
            size = self.sock.recv_into(buffer, min(limit, READ_SIZE))
        except OSError as error:
            self.release()
            if isinstance(error, BlockingIOError | InterruptedError):
                return None
            raise
        return buffer[:size]

    def receive_some(self, size: int) -> bytes | None:
        """As `receive`, at most so many octets and in memory of their own: for those of whom many come at once."""
        try:
            return self.sock.recv(size)
        except (BlockingIOError, InterruptedError):
            return None

    def release(self) -> None:
        """What `receive` gave is used up, and others may read into that buffer. For the one who reads."""
        buffer, self._buffer = self._buffer, None
        if buffer is not None and len(_spare) < SPARE:
            _spare.append(buffer)

    def send(self, buffers: list[Buffer]) -> list[Buffer]:
        """Write what the system takes of `buffers`; what is left, in order.

        Raises:
            OSError: the connection is broken.
        """
        try:
            if len(buffers) == 1:
                sent = self.sock.send(buffers[0])
                total = len(buffers[0])
                if sent == total:
                    return []
                return [memoryview(buffers[0])[sent:]]
            while buffers:
                part = buffers[:GATHER]
                sent = self.sock.sendmsg(part) if hasattr(self.sock, "sendmsg") else self.sock.send(part[0])
                buffers = after(buffers, sent)
        except (BlockingIOError, InterruptedError):
            pass
        return buffers

    def shutdown_read(self) -> None:
        """Read nothing more: whoever waits for input finds the end of the stream."""
        self._shutdown(socket.SHUT_RD)

    def shutdown_write(self) -> None:
        """Say that nothing more is sent; what was written goes out."""
        self._shutdown(socket.SHUT_WR)

    def shutdown(self) -> None:
        """End both directions, which wakes whoever waits."""
        self._shutdown(socket.SHUT_RDWR)

    def _shutdown(self, how: int) -> None:
        try:
            self.sock.shutdown(how)
        except OSError:
            pass  # it is shut down already, or was never connected

    def close(self) -> None:
        """Close the socket; nobody may be waiting."""
        self.sock.close()
        self._buffer = None


class _StandIn(Channel):
    """Of what has a socket's methods and is none, with which the system can't wait."""

    __slots__ = ()

    has_descriptor = False

    def wait(self, *, read: bool, write: bool, timeout: float | None) -> tuple[bool, bool]:
        return cast("MemorySocket", self.sock).wait(read=read, write=write, timeout=timeout)


def channel_for(sock: socket.socket) -> Channel:
    """The channel of a connected socket, or of what stands for one in a simulation."""
    return (_StandIn if isinstance(sock, MemorySocket) else Channel)(sock)


def after(buffers: list[Buffer], sent: int) -> list[Buffer]:
    """What is left of `buffers` when `sent` octets of them are gone."""
    for index, buffer in enumerate(buffers):
        if sent < len(buffer):
            return [memoryview(buffer)[sent:] if sent else buffer, *buffers[index + 1 :]]
        sent -= len(buffer)
    return []


def can_be_read(sock: socket.socket) -> bool:
    """Whether something has come that nobody has read yet, the end included; False for a socket that is closed."""
    try:
        return wait_for(sock, True, False, 0)[0]
    except (ValueError, OSError):
        return False


def wait_writable(streams: list[Channel], timeout: float) -> None:
    """Wait until one of `streams` can be written, for `timeout` seconds at most. A closed one counts as that."""
    if isinstance(streams[0], _StandIn):
        streams[0].wait(read=False, write=True, timeout=timeout)
        return
    with selectors.DefaultSelector() as selector:
        for stream in streams:
            try:
                selector.register(stream.sock, selectors.EVENT_WRITE)
            except (ValueError, OSError):
                return
        selector.select(timeout)


if hasattr(select, "poll"):

    def readable_within(sock: socket.socket, timeout: float | None) -> Callable[[], object] | None:
        """What waits for something to read, for one caller at a time: again and again, it costs half of `wait_for`.

        It returns something true unless time ran out. None: there is no such thing for this time.
        """
        if timeout is None or timeout > _MOST or sock.fileno() < 0:
            return None
        poll = select.poll()
        poll.register(sock, select.POLLIN)
        return functools.partial(poll.poll, _milliseconds(timeout))

    def _milliseconds(timeout: float) -> int:
        """Rounded up, so that nobody comes back just before the deadline."""
        return max(0, -int(-timeout * 1000 // 1))

    def wait_for(sock: socket.socket, read: bool, write: bool, timeout: float | None) -> tuple[bool, bool]:
        poll = select.poll()
        poll.register(sock, (select.POLLIN if read else 0) | (select.POLLOUT if write else 0))
        events = poll.poll(None if timeout is None or timeout > _MOST else _milliseconds(timeout))
        if not events:
            return False, False
        happened = events[0][1]
        # An error or a hang-up is found by whatever is tried next.
        broken = bool(happened & ~(select.POLLIN | select.POLLOUT))
        return (
            read and (broken or bool(happened & select.POLLIN)),
            write and (broken or bool(happened & select.POLLOUT)),
        )

else:  # Windows

    def readable_within(sock: socket.socket, timeout: float | None) -> Callable[[], object] | None:
        return None

    def wait_for(sock: socket.socket, read: bool, write: bool, timeout: float | None) -> tuple[bool, bool]:
        readable, writable, broken = select.select(
            [sock] if read else [], [sock] if write else [], [sock], None if timeout is None else max(0.0, timeout)
        )
        return bool(readable) or (read and bool(broken)), bool(writable) or (write and bool(broken))
