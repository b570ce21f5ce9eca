"""A connected stream socket in an event loop, plain: an asyncio transport of our own.

asyncio's transports and uvloop's differ in what they buffer, in how they end and in what they cost; this one is the
same on every loop that has ``add_reader``, which is all that it asks for. A protocol may read the socket itself
(`SelfReading`), and a write goes to the socket at once.
"""

from __future__ import annotations

import asyncio
import socket
import time
import warnings
from collections.abc import Callable, Iterable
from typing import Any, Final, Protocol, cast

from ...typing import Buffer
from ..channel import GATHER, after

__all__ = ["SelfReading", "SocketTransport", "StandInTransport", "can_watch"]

READ_SIZE: Final = 2**16  # octets of one read for a protocol that has no buffer
HIGH: Final = 2**16  # octets that may wait before the protocol is paused; its own wish comes with the limits


def can_watch(loop: asyncio.AbstractEventLoop) -> bool:
    """Whether the loop tells when a socket is ready, which our transports need; Windows' proactor does not."""
    return type(loop).add_reader is not asyncio.AbstractEventLoop.add_reader


class SelfReading(Protocol):
    """A protocol that reads from the socket itself.

    It tells the transport what it found: `SocketTransport.at_eof`, `broken` or `crashed`.
    """

    def socket_readable(self) -> None: ...


class SocketTransport(asyncio.Transport):
    """A connected, non-blocking stream socket, which belongs to the transport.

    The protocol hears of it with `start`, or what a subclass does there. Pausing is lazy: the loop goes on watching the
    socket until something comes, so that who pauses for less than a turn of the loop pays nothing.

    Args:
        loop: that has ``add_reader``.
        sock: connected, not blocking.
        protocol: an ``asyncio.Protocol``, ``asyncio.BufferedProtocol`` or `SelfReading` one.
        peer: the peer's address, if it is known.

    Attributes:
        taken: octets that the system has taken late, of those that had to wait, in all.
        moved: when it last took some of them, or something began to wait (``time.monotonic()``); 0.0 before that.
        unsent: octets that it had not taken when the connection was lost.
    """

    __slots__ = (
        "_at_eof", "_closing", "_eof", "_fd", "_high", "_limit", "_loop", "_lost", "_low", "_names", "_paused",
        "_pending", "_protocol", "_reader", "_size", "_sock", "_watching", "moved", "taken", "unsent",
    )  # fmt: skip

    def __init__(
        self, loop: asyncio.AbstractEventLoop, sock: socket.socket, protocol: asyncio.BaseProtocol, peer: Any = None
    ) -> None:
        self._loop = loop
        self._sock = sock
        self._fd = sock.fileno()
        self._names = (peer, None)  # the peer's address and ours, as far as anybody asked
        self._pending: list[Buffer] | None = None  # what the socket did not take
        self._size = 0  # octets of that
        self.taken = 0
        self.moved = 0.0
        self.unsent = 0
        self._high, self._low = HIGH, HIGH // 4
        self._limit = False  # the protocol was told to pause
        self._closing = False
        self._lost = False  # and the protocol is told so, now or soon
        self._eof = False  # nothing more is to be written
        self._at_eof = False  # nothing more comes
        self._paused = False
        self._watching = False
        self._protocol: Any
        self.set_protocol(protocol)

    def start(self) -> None:
        """Tell the protocol that it is connected, and read."""
        self._watch()
        self._protocol.connection_made(self)

    def __del__(self, _warn: Callable[..., None] = warnings.warn) -> None:
        if (sock := getattr(self, "_sock", None)) is not None and sock.fileno() >= 0:
            _warn(f"unclosed transport {self!r}", ResourceWarning, stacklevel=2, source=self)
            sock.close()

    def __repr__(self) -> str:
        state = "closed" if self._lost else "closing" if self._closing else "open"
        return f"<{type(self).__name__} fd={self._fd} {state}>"

    # What it is.

    def fileno(self) -> int:
        """The socket's file descriptor; another's perhaps, once the connection is lost."""
        return self._fd

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """``socket``, ``peername`` or ``sockname``; the names stay known when the socket is closed."""
        if name == "socket":
            return self._sock
        if name not in ("peername", "sockname"):
            return default
        self._look()
        found = self._names[name == "sockname"]
        return default if found is None else found

    def _look(self) -> None:
        peer, own = self._names
        try:
            if own is None:
                own = self._sock.getsockname()
            if peer is None:
                peer = self._sock.getpeername()
        except OSError:  # it is not connected any more
            pass
        self._names = (peer, own)

    def get_protocol(self) -> asyncio.BaseProtocol:
        return cast("asyncio.BaseProtocol", self._protocol)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol
        self._reader = self._reader_for(protocol)
        if self._watching:
            self._loop.add_reader(self._fd, self._reader)

    def _reader_for(self, protocol: asyncio.BaseProtocol) -> Callable[[], None]:
        if (reader := getattr(protocol, "socket_readable", None)) is not None:
            return cast("Callable[[], None]", reader)
        return self._read_into if isinstance(protocol, asyncio.BufferedProtocol) else self._read

    # Reading.

    def is_reading(self) -> bool:
        return not self._paused and not self._closing

    def pause_reading(self) -> None:
        self._paused = True

    def resume_reading(self) -> None:
        self._paused = False
        if not (self._watching or self._closing or self._at_eof):
            self._watch()

    def _watch(self) -> None:
        self._loop.add_reader(self._fd, self._reader)
        self._watching = True

    def stop_watching(self) -> None:
        """Something came while reading is paused: the loop need not tell it again."""
        if self._watching:
            self._watching = False
            self._loop.remove_reader(self._fd)

    def _read(self) -> None:
        if self._paused:
            self.stop_watching()
            return
        try:
            data = self._sock.recv(READ_SIZE)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self.broken(error)
            return
        try:
            if data:
                self._protocol.data_received(data)
            else:
                self.at_eof()
        except Exception as error:
            self.crashed(error)

    def _read_into(self) -> None:
        if self._paused:
            self.stop_watching()
            return
        try:
            buffer = self._protocol.get_buffer(-1)
            try:
                size = self._sock.recv_into(buffer)
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                self.broken(error)
                return
            if size:
                self._protocol.buffer_updated(size)
            else:
                self.at_eof()
        except Exception as error:
            self.crashed(error)

    def read_aside(self, limit: int) -> int:
        """Read once although reading is paused, `limit` octets at most; how many came.

        For a buffered protocol. The end of the stream is left for when reading goes on.
        """
        if self._lost or self._closing or self._at_eof:
            return 0
        size = 0
        try:
            buffer = memoryview(self._protocol.get_buffer(-1))[:limit]
            try:
                size = self._sock.recv_into(buffer)
            except (BlockingIOError, InterruptedError):
                return 0
            except OSError as error:
                self.broken(error)
                return 0
            if size:
                self._protocol.buffer_updated(size)
        except Exception as error:
            self.crashed(error)
        return size

    def at_eof(self) -> None:
        """The peer sends nothing more."""
        self._at_eof = True
        self.stop_watching()
        if not self._protocol.eof_received():
            self.close()

    def broken(self, error: OSError) -> None:
        """The connection is broken."""
        self._drop(error)

    def crashed(self, error: Exception) -> None:
        """The protocol failed where it must not: that is reported as asyncio reports it, and the connection ends."""
        self._loop.call_exception_handler(
            {"message": "error in a protocol", "exception": error, "transport": self, "protocol": self._protocol}
        )
        self._drop(error)

    # Writing.

    def write(self, data: Buffer) -> None:
        if self._eof:
            raise RuntimeError("nothing can be written after write_eof")
        if len(data):
            self._send([data])

    def writelines(self, list_of_data: Iterable[Buffer]) -> None:
        if self._eof:
            raise RuntimeError("nothing can be written after write_eof")
        if buffers := [data for data in list_of_data if len(data)]:
            # Each write goes over all that waits: for a slow peer that can be very many small ones.
            self._send(buffers if len(buffers) <= GATHER else [b"".join(buffers)])

    def _send(self, buffers: list[Buffer]) -> None:
        if self._lost:
            return
        if self._pending is None:
            try:
                sent = self._try(buffers)
            except OSError as error:
                self.unsent = sum(map(len, buffers))
                self.broken(error)
                return
            if len(buffers) == 1 and sent == len(buffers[0]):
                return
            buffers = after(buffers, sent)
        for buffer in buffers:
            self.queue(buffer)

    def _try(self, buffers: list[Buffer]) -> int:
        """Give the socket of `buffers` what it takes now; how many octets that is."""
        try:
            if len(buffers) == 1 or not hasattr(self._sock, "sendmsg"):  # Windows has none
                return self._sock.send(buffers[0])
            return self._sock.sendmsg(buffers[:GATHER])
        except (BlockingIOError, InterruptedError):
            return 0

    def queue(self, data: Buffer) -> None:
        """Write `data`, which is not empty, when the socket takes it, and not before."""
        if self._lost:
            return
        if not isinstance(data.obj if isinstance(data, memoryview) else data, bytes):
            data = bytes(data)  # it may change until then
        if self._pending is None:
            self._pending = []
            self.moved = time.monotonic()
            self._loop.add_writer(self._fd, self._write_on)
        self._pending.append(data)
        self._size += len(data)
        if self._size > self._high and not self._limit:
            self._limit = True
            self._protocol.pause_writing()

    def _write_on(self) -> None:
        """The socket takes something again."""
        pending = self._pending
        if pending is None:
            return
        try:
            sent = self._try(pending)
        except OSError as error:
            self.broken(error)
            return
        self._size -= sent
        if sent:
            self.taken += sent
            self.moved = time.monotonic()
        if self._size:
            self._pending = after(pending, sent)
        else:
            self._pending = None
            self._loop.remove_writer(self._fd)
        if self._limit and self._size <= self._low and not self._take_more():
            return
        if self._pending is None:  # and nothing was written by that
            self._written()

    def _take_more(self) -> bool:
        """Tell the protocol that it may write; whether that went well."""
        self._limit = False
        try:
            self._protocol.resume_writing()
        except Exception as error:
            self.crashed(error)
            return False
        return True

    def _written(self) -> None:
        if self._closing:
            self._lose(None)
        elif self._eof:
            self._end_writing()

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        """End our direction when all is written."""
        if not self._eof:
            self._eof = True
            if self._pending is None and not self._lost:
                self._end_writing()

    def _end_writing(self) -> None:
        try:
            self._sock.shutdown(socket.SHUT_WR)
        except OSError as error:  # the peer has reset the connection
            self.broken(error)

    def get_write_buffer_size(self) -> int:
        return self._size

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._low, self._high

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        if high is None:
            high = HIGH if low is None else 4 * low
        if low is None:
            low = high // 4
        if not high >= low >= 0:
            raise ValueError(f"high ({high}) must be at least low ({low}), and low at least 0")
        self._high, self._low = high, low
        if self._size > high and not self._limit:
            self._limit = True
            self._protocol.pause_writing()

    # Ending.

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        """Read nothing more, and end when all is written."""
        if not self._closing:
            self._closing = True
            self.stop_watching()
            if self._pending is None:
                self._lose(None)

    def abort(self) -> None:
        """End now; what is not written is lost."""
        self._drop(None)

    def _drop(self, error: Exception | None) -> None:
        self._closing = True
        self.stop_watching()
        if self._pending is not None:
            self._pending = None
            self.unsent, self._size = self._size, 0
            self._loop.remove_writer(self._fd)
        self._lose(error)

    def _lose(self, error: Exception | None) -> None:
        if not self._lost:
            self._lost = True
            self._loop.call_soon(self._end, error)

    def _end(self, error: Exception | None) -> None:
        self._look()  # the names stay known
        try:
            self._protocol.connection_lost(error)
        finally:
            self._sock.close()
            self._protocol = None
            del self._reader  # which refers to us


class StandInTransport(SocketTransport):
    """The transport of what has a socket's methods and is none (`net.memory`): nobody goes past them.

    A type of its own, since the native twin of a connection reads and writes the descriptor of `SocketTransport`.
    """

    __slots__ = ()

    def _reader_for(self, protocol: asyncio.BaseProtocol) -> Callable[[], None]:
        return self._read_into if isinstance(protocol, asyncio.BufferedProtocol) else self._read
