"""A connected stream socket in an event loop, with TLS (RFC 8446).

OpenSSL works on two memory buffers, and what is between them and the socket is `SocketTransport`. So a read costs one
system call however many records it brings, our direction can be ended by itself (a close_notify alert, then the end of
the stream), and what came before a damaged record is delivered.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import weakref
from typing import Any, Final, cast

from ...typing import Buffer
from ..tls import ANSWERS, wrapped
from .transport import SocketTransport

__all__ = ["TLSTransport"]

_READ_SIZE: Final = 2**17  # octets of one read from the socket
_RECORD: Final = 2**14  # octets of one read from OpenSSL, which gives a record at a time
_WRITE_SIZE: Final = 2**18  # octets that are encrypted at a time; the buffer between grows with it

_buffers: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, memoryview] = weakref.WeakKeyDictionary()


def _buffer_of(loop: asyncio.AbstractEventLoop) -> memoryview:
    """What all connections of a loop read into; it is empty again when the loop goes on."""
    buffer = _buffers.get(loop)
    if buffer is None:
        buffer = _buffers[loop] = memoryview(bytearray(_READ_SIZE))
    return buffer


class TLSTransport(SocketTransport):
    """As `SocketTransport`. The protocol is told of the connection when the TLS handshake is done.

    When that fails, ``connection_lost`` gets the ``ssl.SSLError`` without ``connection_made`` before.

    Args:
        context: of the right side: it verifies the peer or does not.
        server_hostname: the name that the server's certificate must have; None on the server's side.

    Raises:
        ValueError, ssl.SSLError: as `wrapped`.
    """

    __slots__ = (
        "_answers", "_buffer", "_context", "_ended_properly", "_incoming", "_notified", "_opened", "_outgoing",
        "_plain", "_tcp_eof", "_tls",
    )  # fmt: skip

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        protocol: asyncio.BaseProtocol,
        peer: Any = None,
        *,
        context: ssl.SSLContext,
        server_side: bool,
        server_hostname: str | None = None,
    ) -> None:
        self._buffer = _buffer_of(loop)
        self._context = context
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = wrapped(context, self._incoming, self._outgoing, server_side, server_hostname)
        self._answers = 0  # octets that what came has made TLS write, since nothing waited
        self._opened = False
        self._notified = False  # the peer knows that nothing more comes
        self._ended_properly = False  # the peer has said that nothing more comes
        self._tcp_eof = False  # the socket has nothing more
        self._plain: list[Buffer] = []  # what waits until the peer has said something about the keys
        super().__init__(loop, sock, protocol, peer)

    def start(self) -> None:
        """Begin the TLS handshake."""
        self._watch()
        self._handshake()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """As for a plain socket; and ``sslcontext``, ``ssl_object``, ``peercert``, ``cipher``, ``compression``,
        ``ended_properly``: whether the peer said that it sends nothing more (close_notify).
        """
        match name:
            case "sslcontext":
                return self._context
            case "ssl_object":
                return self._tls
            case "peercert":
                return self._tls.getpeercert()
            case "cipher":
                return self._tls.cipher()
            case "ended_properly":
                return self._ended_properly
            case "compression":
                return self._tls.compression()
        return super().get_extra_info(name, default)

    def _reader_for(self, protocol: asyncio.BaseProtocol) -> Any:
        return self._receive

    # Reading.

    def resume_reading(self) -> None:
        if self._tcp_eof:
            self._paused = False
        else:
            super().resume_reading()
        if self._tcp_eof or self._incoming.pending or self._tls.pending():
            self._loop.call_soon(self._go_on)

    def _receive(self) -> None:
        if self._paused or self._answers > ANSWERS:
            self.stop_watching()
            return
        if self._incoming.pending:  # a pause has left it, and `resume_reading` has not come to it yet
            self._go_on()
            return
        try:
            size = self._sock.recv_into(self._buffer)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self.broken(error)
            return
        if size:
            self._incoming.write(self._buffer[:size])
        else:
            self._tcp_eof = True
            self._incoming.write_eof()
            self.stop_watching()
        self._go_on()

    def read_aside(self, limit: int) -> int:
        if self._lost or self._closing or self._at_eof or self._tcp_eof or not self._opened:
            return 0
        size = self._incoming.pending
        if not size:  # else the pause has left some
            try:
                size = self._sock.recv_into(self._buffer[:limit])
            except (BlockingIOError, InterruptedError):
                return 0
            except OSError as error:
                self.broken(error)
                return 0
            self._incoming.write(self._buffer[:size])
        if size:
            self._paused = False
            self._go_on()
            self._paused = True
        return size

    def _go_on(self) -> None:
        if self._lost:
            return
        if not self._opened:
            self._handshake()
            return
        try:
            self._decrypt()
        except ssl.SSLError as error:
            self._refuse(error)
        except Exception as error:
            self.crashed(error)

    def _handshake(self) -> None:
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self._send_records()
            return
        except (OSError, ValueError) as error:  # ValueError: a certificate's name that is not one
            self._refuse(error)
            return
        self._opened = True
        self._send_records()
        if self._lost:
            return
        try:
            self._protocol.connection_made(self)
        except Exception as error:
            self.crashed(error)
            return
        self._go_on()  # perhaps more came behind it

    def _refuse(self, error: Exception) -> None:
        """Tell the peer why, with the alert that OpenSSL has left."""
        self._send_records()
        self._drop(error)

    def _decrypt(self) -> None:
        """Give the protocol what has come, as far as it wants it."""
        tls, incoming = self._tls, self._incoming
        while not (self._paused or self._closing or self._at_eof):
            protocol = self._protocol
            try:
                if isinstance(protocol, asyncio.BufferedProtocol):
                    buffer = protocol.get_buffer(-1)
                    # typeshed: with a buffer, read tells how many octets it has read
                    size = cast("int", tls.read(len(buffer), buffer))  # type: ignore[arg-type]
                    if size:
                        protocol.buffer_updated(size)
                else:
                    data = tls.read(_RECORD)
                    size = len(data)
                    if size:
                        protocol.data_received(data)
            except ssl.SSLWantReadError:
                break
            except ssl.SSLZeroReturnError:
                size = 0
            except ssl.SSLEOFError:
                self.at_eof()
                return
            if not size:
                self._ended_properly = True
                self.at_eof()
                return
            if not (incoming.pending or tls.pending() or self._tcp_eof):
                break  # which spares OpenSSL's exception
        self._answers += self._outgoing.pending  # to new keys, which the peer may have as often as it likes
        waited = bool(self._plain)
        if waited:
            self._encrypt()
        self._send_records()
        if self._pending is None:
            self._answers = 0
            if waited and not self._plain:
                self._take_more()
        if self._eof and not self._notified:
            self._end_writing()

    # Writing.

    def _send(self, buffers: list[Buffer]) -> None:
        if not self._lost:
            self._plain += buffers
            self._encrypt()

    def _encrypt(self) -> None:
        plain = self._plain
        try:
            while plain:
                buffer = plain[0]
                if len(buffer) > _WRITE_SIZE:
                    done = self._tls.write(memoryview(buffer)[:_WRITE_SIZE])
                    self._send_records()
                else:
                    done = self._tls.write(buffer)
                if done < len(buffer):
                    plain[0] = memoryview(buffer)[done:]
                else:
                    del plain[0]
        except ssl.SSLWantReadError:
            plain[:] = [bytes(buffer) for buffer in plain]  # they may change until then
            if not self._limit:
                self._limit = True
                self._protocol.pause_writing()
        except ssl.SSLError as error:
            self._refuse(error)
            return
        self._send_records()

    def _send_records(self) -> None:
        if self._outgoing.pending:
            super()._send([self._outgoing.read()])

    def _written(self) -> None:
        if self._answers:
            self._answers = 0
            if not (self._watching or self._paused or self._closing or self._tcp_eof):
                self._watch()  # it was too much
        super()._written()

    def _end_writing(self) -> None:
        if (self._incoming.pending or self._tls.pending()) and not self._at_eof:
            return  # OpenSSL would look for the peer's close_notify, and throw away what is in front of it
        self._notify()
        if self._pending is None and not self._lost:
            super()._end_writing()

    def _notify(self) -> None:
        """Tell the peer that nothing more comes (RFC 8446 section 6.1); it need not answer."""
        if self._opened and not self._notified:
            self._notified = True
            with contextlib.suppress(OSError, ValueError):
                self._tls.unwrap()
            self._send_records()

    def close(self) -> None:
        """Read nothing more, and end when all is written, and the peer is told."""
        if not self._closing:
            self._notify()
        super().close()
