"""A connected stream socket for tasks: TCP, TLS, Unix stream and SEQPACKET."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import os
import socket
import ssl
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any, BinaryIO, Final, Self, TypeVar

from ...typing import Buffer
from ..address import Address
from ..channel import GATHER
from ..errors import ClosedError, NotOnThisSystem, explain
from ..info import TCPInfo, tcp_info
from ..options import SocketOptions, packed_linger
from ..sendfile import check_file, regular
from ..sockets import check_stream
from ..stream import IncompleteError
from ..tls import explain_tls, secured
from ..unix import Credentials, peer_credentials, receive_fds, send_fds
from .calls import busy, first, send_file, whole_packet
from .link import Link
from .tls import TLSTransport
from .transport import SocketTransport, can_watch

__all__ = ["RECEIVE_SIZE", "Stream"]

RECEIVE_SIZE: Final = 2**16  # octets of one receive, unless it says otherwise
_PIECE: Final = 2**18  # octets that are encrypted, or copied, at a time
_FILE_PIECE: Final = 2**20  # octets of one sendfile; then others have their turn
_BROKEN: Final = frozenset({errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ENETDOWN, errno.ENOTCONN, errno.EPROTO})
_T = TypeVar("_T")
_R = TypeVar("_R")


class Stream:
    """A connected stream: see `websock.net.asyncio.connect` and `listen`.

    One task may receive while another one sends. All methods belong to the thread of the event loop. A plain socket is
    read when a task asks for it, so what nobody takes stays with the kernel, and its limit (``receive_buffer``) holds
    the peer up; with TLS at most 64 KiB are read ahead.

    Args:
        sock: connected; it belongs to the stream from now on.
        remote: where the peer is, when that is known.

    Raises:
        NotOnThisSystem: the event loop cannot watch sockets (Windows' proactor).
        ValueError: it is no connected socket of a stream.
    """

    __slots__ = ("__weakref__", "_link", "_local", "_packets", "_recv", "_remote", "_sock", "_transport")

    def __init__(self, sock: socket.socket, *, remote: Address | None = None) -> None:
        self._open(sock, False, remote)
        self._start(SocketTransport(self._link.loop, sock, self._link))

    def _open(self, sock: socket.socket, secure: bool, remote: Address | None) -> None:
        loop = asyncio.get_running_loop()
        if not can_watch(loop):
            raise NotOnThisSystem("streams in Windows' proactor event loop")
        if remote is None:  # it is not we who have made it
            check_stream(sock)
        sock.setblocking(False)
        self._sock = sock
        self._packets = sock.type == getattr(socket, "SOCK_SEQPACKET", None)
        self._link = Link(loop, sock, secure)
        self._link.direct = not (secure or self._packets)
        self._recv = functools.partial(whole_packet, sock) if self._packets else sock.recv
        self._local: Address | None = None
        self._remote = remote

    @classmethod
    async def secured(
        cls,
        sock: socket.socket,
        context: ssl.SSLContext,
        *,
        server_side: bool = False,
        server_hostname: str | None = None,
        remote: Address | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - as for blocking streams
    ) -> Self:
        """A stream over a connected socket, when the TLS handshake is done (RFC 8446).

        Args:
            sock: it belongs to the stream from now on, and is closed when this fails or is cancelled.
            context: of the right side.
            server_side: our role.
            server_hostname: client only: the name to ask for (SNI) and to verify.
            remote: where the peer is, when that is known.
            timeout: seconds that the handshake may take; None: for ever.

        Raises:
            ssl.SSLError: it failed; `ssl.SSLCertVerificationError`: the peer is not who it should be.
            TimeoutError: it took longer.
            OSError: the connection is broken, before or meanwhile.
            ValueError: the peer's name is to be verified, and there is none.
        """
        self = cls.__new__(cls)
        try:
            self._open(sock, True, remote)
            link = self._link
            transport = TLSTransport(
                link.loop, sock, link, context=context, server_side=server_side, server_hostname=server_hostname
            )
        except BaseException:
            sock.close()
            raise
        link.made = link.loop.create_future()
        try:
            self._start(transport)
            async with asyncio.timeout(timeout):
                await link.made
        except BaseException as error:
            transport.abort()
            link.made.cancel()  # nobody else asks
            if isinstance(error, OSError):
                raise self._failed(error, "begin TLS with") from error
            raise
        return self

    def _start(self, transport: SocketTransport) -> None:
        self._transport = self._link.transport = transport
        transport.get_extra_info("peername")  # errors name it, when it cannot be asked for any more
        try:
            transport.start()
        except BaseException:  # the loop cannot watch it
            transport.abort()
            raise

    def __del__(self, _warn: Callable[..., None] = warnings.warn) -> None:
        transport = getattr(self, "_transport", None)
        if transport is None or transport.is_closing():
            return
        _warn(f"unclosed {self!r}", ResourceWarning, stacklevel=2, source=self)
        if self._link.loop.is_closed():
            self._sock.close()
        else:
            transport.abort()

    def __repr__(self) -> str:
        return f"<Stream {self._where()} {'closed' if self.closed else f'fd={self.fileno()}'}>"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: Any) -> None:
        if error is not None and not isinstance(error, Exception):
            self._transport.abort()  # cancelled: nobody has the time to wait for a peer that does not read
        await self.close()

    # What it is.

    @property
    def closed(self) -> bool:
        """Whether `close` or `abort` was called, or the connection is broken."""
        return self._transport.is_closing()

    @property
    def local(self) -> Address:
        """Our end; it stays known when the stream is closed."""
        if self._local is None:
            self._local = self._address("sockname")
        return self._local

    @property
    def remote(self) -> Address:
        """The peer's end; it stays known when the stream is closed."""
        if self._remote is None:
            self._remote = self._address("peername")
        return self._remote

    def _address(self, name: str) -> Address:
        sock = self._sock
        found = self._transport.get_extra_info(name)
        if found is None:
            raise OSError(errno.ENOTCONN, "the peer was gone before anybody asked who it was")
        address = Address.from_sockaddr(found, sock.family, sock.type, sock.proto)
        return secured(address, self._link.secure)

    @property
    def sock(self) -> socket.socket:
        """The socket; who reads from it or writes to it beside the stream gets what the stream would have got."""
        return self._sock

    def fileno(self) -> int:
        """Its descriptor; -1 when it is closed."""
        return self._sock.fileno()

    def options(self) -> SocketOptions:
        """What the kernel has for it.

        Raises:
            OSError: it is closed.
        """
        self._check_open()
        return SocketOptions.of(self._sock)

    def info(self) -> TCPInfo:
        """State, round-trip time, queues.

        Raises:
            OSError: it is closed, or not TCP.
        """
        self._check_open()
        return tcp_info(self._sock)

    def _check_open(self) -> None:
        if self._sock.fileno() < 0:
            raise ClosedError(self._spelled())

    @property
    def tls(self) -> ssl.SSLObject | None:
        """OpenSSL's end, to ask for version, cipher and the like; None for a plain stream."""
        return self._transport.get_extra_info("ssl_object")  # type: ignore[no-any-return]

    @property
    def alpn_protocol(self) -> str | None:
        """The protocol that both ends agreed on (RFC 7301)."""
        return None if self.tls is None else self.tls.selected_alpn_protocol()

    @property
    def ended_properly(self) -> bool | None:
        """With TLS, whether the peer said that it sends nothing more (close_notify, RFC 8446 section 6.1).

        An end without that is one too for `receive`, and may be the work of somebody else: protocols that cannot tell
        by themselves whether they have all should look here then. None without TLS, where nobody can tell.
        """
        return self._transport.get_extra_info("ended_properly")  # type: ignore[no-any-return]

    @property
    def peer_certificate(self) -> dict[str, Any] | None:
        """The peer's certificate, as ``ssl.SSLSocket.getpeercert`` has it; None for none that was verified."""
        return None if self.tls is None else self.tls.getpeercert() or None

    # Receiving.

    async def receive(self, max_size: int = RECEIVE_SIZE) -> bytes:
        """What comes next, as soon as it is here: at most `max_size` octets; ``b""`` when the peer sends no more.

        Of SEQPACKET, one packet. Cancelling it loses nothing.

        Raises:
            ClosedError: the stream is closed here.
            BusyError: another task receives.
            ValueError: `max_size` is less than 1.
            OSError: the connection is broken; the message names the peer. ``errno.EMSGSIZE`` is for a packet that was
                longer, the rest of which is lost.
        """
        link = self._link
        if link.calm and max_size > 0:  # as _receive, without its questions: this runs for every message
            link.calm = False
            try:
                data = await link.waiter.receive(max_size)
            except OSError as error:  # the kernel tells it once: asked again, it says that the peer has ended
                self._break(error)
                raise self._failed(error, "receive from") from None
            if data:
                link.calm = True
                return data
        if max_size < 1:
            raise ValueError(f"max_size is at least 1, not {max_size}")
        if link.held:
            return self._held(link.take, max_size)
        return await self._receive(link.take if link.secure else self._recv, max_size)

    async def receive_into(self, buffer: bytearray | memoryview) -> int:
        """As `receive`, into a buffer; how many octets came, 0 at the end.

        Raises:
            ValueError: the buffer has no room.
        """
        if not len(buffer):
            raise ValueError("the buffer has no room")
        link = self._link
        if link.held:
            return self._held(link.take_into, buffer)
        if self._packets:
            data = await self._receive(self._recv, len(memoryview(buffer).cast("B")))
            memoryview(buffer).cast("B")[: len(data)] = data
            return len(data)
        return await self._receive(link.take_into if link.secure else self._sock.recv_into, buffer)

    async def receive_exactly(self, size: int) -> bytes:
        """`size` octets, neither more nor less. When it is cancelled or fails, what came is what the next call returns.

        Raises:
            IncompleteError: an EOFError: the peer ended the stream before; it has what came.
            ValueError: `size` is negative, or the socket has packets.
            ClosedError, OSError, BusyError: as for `receive`.
        """
        if size < 0 or self._packets:
            raise ValueError("packets come whole: receive() them" if self._packets else f"no size: {size}")
        data = bytearray(size)
        view = memoryview(data)
        done = 0
        try:
            while done < size:
                came = await self.receive_into(view[done:])
                if not came:
                    raise IncompleteError(bytes(view[:done]), size, self._spelled())
                done += came
        except IncompleteError:
            raise
        except BaseException:
            if done:
                self._link.keep(bytes(view[:done]))
            raise
        return bytes(data)

    def quiet(self) -> bool:
        """Whether somebody else can use it: it is open in both directions, and nothing came that nobody has read.

        Raises:
            ClosedError: it is closed.
        """
        link = self._link
        if link.error is not None or self._transport.is_closing():
            raise self._failed(link.error or ClosedError(self._spelled()), "look at")
        if link.held or link.shut is not None:
            return False
        if link.secure:
            return not link.tries  # what has come is decrypted, and would be held; after the end a read need not wait
        try:
            self._sock.recv(1, socket.MSG_PEEK)
        except (BlockingIOError, InterruptedError):
            return True
        return False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        """What comes next, until the peer sends no more, or the stream is closed: `closed` tells which."""
        try:
            if data := await self.receive():
                return data
        except ClosedError:
            pass
        raise StopAsyncIteration

    def _held(self, take: Callable[[_T], _R], argument: _T) -> _R:
        if self._link.waiter.waiting:
            raise busy("receives", self._where())
        return take(argument)

    async def _receive(self, call: Callable[[_T], _R], argument: _T) -> _R:
        """`call`, as soon as it need not wait. The task goes on inside the loop's callback (see `Waiter`)."""
        link = self._link
        while True:
            if link.error is not None and not link.held:
                raise self._failed(link.error, "receive from")
            if link.waiter.waiting:
                raise busy("receives", self._where())
            if link.tries:
                link.tries -= 1
            else:
                if link.unwatched:
                    link.watch()
                if link.waiter.scheduled:  # it still belongs to a task that was cancelled, and has not seen it
                    link.renew_waiter()
                await link.waiter
                link.calm = not (link.secure or self._packets)
                if link.error is not None and not link.held:
                    raise self._failed(link.error, "receive from")
            try:
                found = call(argument)
            except (BlockingIOError, InterruptedError):
                link.tries = 0
                continue
            except OSError as error:
                self._break(error)
                raise self._failed(error, "receive from") from None
            if not found and not link.secure:
                self._transport.at_eof()
            return found

    # Sending.

    async def send_all(self, data: Buffer) -> None:
        """Send `data`: it goes to the system at once, and what that does not take waits in a buffer.

        Returns when at most 64 KiB wait there. When it is cancelled, all of `data` goes out nevertheless or nothing
        does: the peer never gets a part of it.

        Raises:
            ClosedError: the stream, or our direction, is closed here; also when there is nothing to send.
            ConnectionResetError, BrokenPipeError, OSError: the connection is broken; the message names the peer.
            BusyError: another task sends.
        """
        link = self._link
        if link.direct and link.drained is None and type(data) is bytes and self._transport._pending is None:
            try:
                left = link.waiter.send(data)
            except OSError as error:
                self._break(error)
                raise self._failed(error, "send to") from None
            if not left:
                return
            self._transport.queue(memoryview(data)[-left:])
            data = b""
        await self._send([memoryview(data).cast("B")])

    async def send_buffers(self, buffers: Iterable[Buffer]) -> None:
        """As `send_all`, of several buffers in one system call where it takes them; of SEQPACKET, one packet."""
        await self._send([memoryview(buffer).cast("B") for buffer in buffers])

    async def _send(self, views: list[memoryview]) -> None:
        link, transport = self._link, self._transport
        if self._packets:
            packet = [view for view in views if len(view)]
            if len(packet) > GATHER:
                packet = [memoryview(b"".join(packet))]
            if packet:
                await self._give(lambda: self._sock.sendmsg(packet))
            else:
                await self._drain()
            return
        await self._drain()
        rest = sum(len(view) for view in views)
        try:
            while rest:
                part, views = first(views, _PIECE)
                rest -= sum(len(view) for view in part)
                transport.writelines(part)
                await self._drain()
        except asyncio.CancelledError:
            if link.shut is None:
                transport.writelines(views)
            raise

    async def _drain(self) -> None:
        """Wait until what is buffered is little; raise if nothing can be sent any more."""
        link = self._link
        if link.drained is not None:
            raise busy("sends", self._where())
        if link.full and link.shut is None:
            link.drained = link.loop.create_future()
            try:
                await link.drained
            finally:
                link.drained = None
        if link.shut is None and self._transport.is_closing():
            await link.wait_ended()  # the write has failed, and the link is told why with the next turn
        if link.shut is not None:
            raise self._failed(link.shut, "send to")

    async def _rest(self) -> None:
        """Let others have their turn, of whom none may send meanwhile."""
        link = self._link
        link.drained = link.loop.create_future()
        turn = link.loop.call_soon(link.go_on)
        try:
            await link.drained
        finally:
            turn.cancel()
            link.drained = None
        await self._drain()

    async def _give(self, call: Callable[[], _R]) -> _R:
        """A system call that sends, when all before it is written and the socket takes it."""
        link, transport = self._link, self._transport
        await self._drain()
        if transport.get_write_buffer_size():
            low, high = transport.get_write_buffer_limits()
            transport.set_write_buffer_limits(high=0)
            try:
                await self._drain()
            finally:
                transport.set_write_buffer_limits(high=high, low=low)
        while True:
            try:
                return call()
            except (BlockingIOError, InterruptedError):
                pass
            except OSError as error:
                self._break(error)
                raise self._failed(error, "send to") from None
            link.drained = link.loop.create_future()
            link.watch_writable()
            try:
                await link.drained
            finally:
                link.drained = None
                link.unwatch_writable()
            await self._drain()

    def _break(self, error: OSError) -> None:
        """A system call has failed: the connection is broken, unless it was only the call that the system refused."""
        if isinstance(error, (ConnectionError, TimeoutError)) or error.errno in _BROKEN:
            self._link.end(error)
            self._transport.broken(error)

    async def send_eof(self) -> None:
        """End our direction when all is written; the peer's goes on. With TLS, a close_notify alert says so too.

        Again is no error.

        Raises:
            ClosedError: the stream is closed here.
            BusyError: another task sends.
            OSError: the connection is broken.
        """
        link = self._link
        if link.error is not None:
            raise self._failed(link.error, "send to")
        if link.shut is None:
            if link.drained is not None:
                raise busy("sends", self._where())
            link.shut_down(ClosedError(f"our direction of {self._spelled()}"))
            self._transport.write_eof()

    async def send_file(self, file: BinaryIO, offset: int = 0, count: int | None = None) -> int:
        """Send a file, or `count` octets of it, from `offset`; how many were sent. The file stands behind them then.

        The system copies from file to socket by itself where it can (``os.sendfile``; not with TLS). Reading from a
        disk may hold the loop up. When it is cancelled or fails after a part went out, nothing more can be sent: the
        peer would take it for the rest.

        Raises:
            TypeError: no file that is open.
            ValueError: the file is not binary, `offset` or `count` is negative, or the socket has packets.
            ClosedError, OSError, BusyError: as for `send_all`.
        """
        check_file(file, offset, count, self._packets)
        await self._drain()
        link, total = self._link, 0
        descriptor = file.fileno() if not link.secure and hasattr(os, "sendfile") and regular(file) else -1
        try:
            while count is None or total < count:
                left = _FILE_PIECE if count is None else min(_FILE_PIECE, count - total)
                sent = -1
                if descriptor >= 0:
                    sent = await self._give(functools.partial(send_file, self._sock, descriptor, offset + total, left))
                if sent < 0:  # the system has no way for it
                    if (descriptor >= 0 or not total) and file.seekable():
                        file.seek(offset + total)
                    descriptor = -1
                    data = file.read(min(left, _PIECE))
                    await self._drain()
                    self._transport.write(data)  # which takes all of it, whatever happens to us from now on
                    sent = len(data)
                if not sent:
                    break
                total += sent
                await self._rest()
        except BaseException as error:
            if total and link.shut is None:
                what = "was cancelled" if isinstance(error, asyncio.CancelledError) else "failed"
                link.shut_down(ClosedError(f"{self._spelled()}: it {what} within a file: our direction"))
            raise
        finally:
            if file.seekable():
                file.seek(offset + total)
        return total

    # Unix sockets.

    async def send_fds(self, data: Buffer, fds: Sequence[int]) -> None:
        """Send octets, at least one, and copies of descriptors with the first of them. They stay open here.

        Cancelling it after the descriptors are sent loses no octet, as with `send_all`.

        Raises:
            ValueError: it is no Unix socket; no data; too many descriptors.
            NotOnThisSystem: it does not hand over descriptors.
            ClosedError, OSError, BusyError: as for `send_all`.
        """
        self._check_plain()
        view = memoryview(data).cast("B")
        sent = await self._give(lambda: send_fds(self._sock, view, fds))
        if sent < len(view):
            await self.send_all(view[sent:])

    async def receive_fds(self, max_size: int = RECEIVE_SIZE, max_fds: int = 16) -> tuple[bytes, list[int]]:
        """As `receive`, with the descriptors that came. They are the caller's to close, and not inherited by children.

        Raises:
            ValueError: it is no Unix socket.
            NotOnThisSystem: it does not hand over descriptors.
            OSError: as `receive`; with ``errno.EMSGSIZE`` there were more descriptors, and all that came are closed.
        """
        self._check_plain()
        if self._sock.family != getattr(socket, "AF_UNIX", None):
            raise ValueError("receive_fds is for Unix sockets")
        if self._link.held:
            return self._held(self._link.take, max_size), []
        data, fds = await self._receive(lambda size: receive_fds(self._sock, size, max_fds), max_size)
        if not data:
            self._transport.at_eof()
        return data, fds

    def _check_plain(self) -> None:
        if self._link.secure:
            raise ValueError("descriptors don't go with TLS")

    def peer_credentials(self) -> Credentials:
        """Who the peer of a Unix socket is.

        Raises:
            ValueError: it is no Unix socket.
            NotOnThisSystem: it does not tell.
        """
        return peer_credentials(self._sock)

    # Ending.

    async def close(self) -> None:
        """End the stream when all that was sent is written; who receives or waits to send gets `ClosedError`.

        When it is cancelled, what is not written is lost.
        """
        link = self._link
        link.held.clear()
        link.end(ClosedError(self._spelled()))
        self._transport.close()
        try:
            await link.wait_ended()
        except asyncio.CancelledError:
            self._transport.abort()
            raise

    def abort(self) -> None:
        """End the stream now: TCP's peer gets a reset, and what is not written is lost."""
        if not self._link.lost:
            with contextlib.suppress(OSError):
                self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, packed_linger(0))
            self._link.held.clear()
            self._link.end(ClosedError(self._spelled()))
            self._transport.abort()

    def _where(self) -> str:
        try:
            if str(known := self.remote) != "unix:" or str(known := self.local) != "unix:":
                return str(known)
        except (OSError, ValueError):
            pass
        return "an unnamed socket"

    def _spelled(self) -> str:
        return f"the stream to {self._where()}"

    def _failed(self, error: OSError, doing: str) -> OSError:
        if isinstance(error, ClosedError):
            return ClosedError(str(error.strerror).removesuffix(" is closed"))  # a new one: it gets a traceback
        if isinstance(error, ssl.SSLError):  # its errno is OpenSSL's, and the system has no advice for that
            return explain_tls(error, doing, self._where())
        return explain(error, doing, self._where())
