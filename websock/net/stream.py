"""A connected stream for blocking programs: `Stream`.

Strategy: the calling thread is in the system call itself. The descriptor stays in blocking mode, so that without a
timeout a message costs one call, and with one it is asked not to block (MSG_DONTWAIT) and ``poll`` waits. What
`receive` and `send_all` mostly do is one method of their `Turn`, which has a native twin.

Each direction has a turn that is taken by the one call that is in it; it is never waited for. The same turns tell when
nobody is in a call any more: closing wakes who is in one, and the last who leaves closes the descriptor, whose number
must not be another file's while a system call is still about to use it.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import ssl
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, BinaryIO, ClassVar, Final, Self, TypeVar

from ..typing import Buffer
from .address import Address
from .channel import GATHER, after, readable_within, wait_for
from .errors import BusyError, ClosedError, explain
from .guard import Turn, Using, deadline_after, let_go, seconds, seconds_left, wait_until_left
from .info import TCPInfo, tcp_info
from .options import SocketOptions, packed_linger
from .sendfile import check_file, file_parts
from .sockets import check_stream
from .unix import Credentials, check_unix, peer_credentials, receive_fds, send_fds

__all__ = ["IncompleteError", "Stream"]

READ_SIZE: Final = 2**16
DONTWAIT: Final = getattr(socket, "MSG_DONTWAIT", 0)  # without it the descriptor is in non-blocking mode
ENDING: Final = "it is being ended"  # that has not gone out yet
CUT: Final = "an earlier send stopped half way"
_WAITALL: Final = getattr(socket, "MSG_WAITALL", 0)

T = TypeVar("T")


class IncompleteError(EOFError):
    """The peer ended the stream before as many octets had come as were asked for.

    Attributes:
        partial: what came.
        expected: how many octets were asked for.
    """

    def __init__(self, partial: bytes, expected: int, where: object) -> None:
        super().__init__(f"{where} ended after {len(partial)} of {expected} octets")
        self.partial = partial
        self.expected = expected


class Stream:
    """A connected socket: TCP, Unix, one end of a pair, or with packets that are kept apart (SEQPACKET).

    One thread may receive while another sends; a second one in the same direction is a `BusyError`. Any thread may
    close. ``with stream:`` closes it at the end.

    Of sockets with packets a call of `receive` returns one, and a call of a sending method sends one.

    Every method raises `ClosedError` once the stream is closed, also for who is in the call meanwhile, and OSError
    with the address in it when the connection breaks.

    Args:
        sock: connected; it belongs to the stream from now on.
        remote: where the peer is, when that is known.
        receive_timeout, send_timeout: see there.

    Raises:
        ValueError: it is no connected socket of a stream, or a timeout is no time.
    """

    __slots__ = (
        "__weakref__", "_ahead", "_closing", "_ended", "_local", "_packets", "_receive_timeout",
        "_receiving", "_remote", "_send_timeout", "_sending", "_shut", "_sock",
    )  # fmt: skip

    _plain: ClassVar[bool] = True  # what the system call takes is what the peer gets

    def __init__(
        self,
        sock: socket.socket,
        *,
        remote: Address | None = None,
        receive_timeout: float | None = None,
        send_timeout: float | None = None,
    ) -> None:
        self._receive_timeout = seconds(receive_timeout, "receive_timeout")
        self._send_timeout = seconds(send_timeout, "send_timeout")
        if remote is None:  # it is not we who have made it
            check_stream(sock)
        self._remote = remote
        self._local: Address | None = None
        self._packets = sock.type == getattr(socket, "SOCK_SEQPACKET", None)
        self._receiving = Turn()
        self._sending = Turn()
        self._ahead: bytes | memoryview = b""  # came, and was not returned
        self._shut = ""  # why nothing can be sent any more
        self._closing = False  # no call begins
        self._ended = False  # and the last one to leave closes the descriptor
        self._sock = sock
        self._look_at_receiving()
        self._look_at_sending()
        sock.setblocking(DONTWAIT != 0)
        if remote is None:
            with contextlib.suppress(OSError, ValueError):  # the peer is gone already; a family without a spelling
                self._remote = self._spelled(Address.of_peer(sock))

    def __del__(self, _let_go: Callable[..., None] = let_go) -> None:
        if (sock := getattr(self, "_sock", None)) is not None:
            _let_go(self, (sock,))

    # What it is.

    @property
    def sock(self) -> socket.socket:
        """The socket. What is done to it behind the stream's back is for the caller to answer for."""
        return self._sock

    def fileno(self) -> int:
        """The descriptor; -1 when it is closed."""
        return self._sock.fileno()

    @property
    def closed(self) -> bool:
        """Whether `close` or `abort` was called."""
        return self._closing

    @property
    def local(self) -> Address:
        """Our end; it stays known when the stream is closed."""
        if self._local is None:
            if self._closing:
                raise ClosedError("the stream")  # it was detached, or the socket was broken from the beginning
            self._local = self._spelled(Address.of(self._sock))
        return self._local

    @property
    def remote(self) -> Address:
        """The peer's end; of a Unix socket mostly without a path.

        Raises:
            OSError: it was gone already when the stream was made.
        """
        if self._remote is None:
            self._check_open()
            return self._spelled(Address.of_peer(self._sock))
        return self._remote

    def _spelled(self, address: Address) -> Address:
        return address

    @property
    def receive_timeout(self) -> float | None:
        """Seconds that a receiving call may take; None, which is the default, for ever. 0 takes what is here."""
        return self._receive_timeout

    @receive_timeout.setter
    def receive_timeout(self, value: float | None) -> None:
        self._receive_timeout = seconds(value, "receive_timeout")
        self._look_at_receiving()

    @property
    def send_timeout(self) -> float | None:
        """Seconds that a sending call may take; None, which is the default, for ever."""
        return self._send_timeout

    @send_timeout.setter
    def send_timeout(self, value: float | None) -> None:
        self._send_timeout = seconds(value, "send_timeout")
        self._look_at_sending()

    def options(self) -> SocketOptions:
        """The options that the socket has now."""
        self._check_open()
        return SocketOptions.of(self._sock)

    def info(self) -> TCPInfo:
        """What the kernel knows of the TCP connection; see `tcp_info`."""
        self._check_open()
        return tcp_info(self._sock)

    @property
    def tls(self) -> ssl.SSLObject | None:
        """For what TLS tells of itself and the peer; None without TLS."""
        return None

    @property
    def alpn_protocol(self) -> str | None:
        """What was agreed on by ALPN (RFC 7301); None for nothing, and before the TLS handshake."""
        return None

    @property
    def peer_certificate(self) -> dict[str, Any] | None:
        """The peer's certificate, as ``ssl.SSLSocket.getpeercert`` has it; None for none, empty when not verified."""
        return None

    @property
    def ended_properly(self) -> bool | None:
        """With TLS, whether the peer said that it sends nothing more (close_notify, RFC 8446 section 6.1).

        An end without that is one too for `receive`, and may be the work of somebody else: protocols that cannot tell
        by themselves whether they have all should look here then. None without TLS, where nobody can tell.
        """
        return None

    def handshake(self, timeout: float | None = None) -> None:
        """Do the TLS handshake now rather than with the first use. Without TLS it is nothing.

        Raises:
            ssl.SSLError: it failed; ssl.SSLCertVerificationError for a certificate that is not trusted.
            TimeoutError: it took more than `timeout` seconds. It can be taken up again.
            BusyError: another thread receives.
        """
        self._check_open()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._where()} {'closed' if self._closing else f'fd={self.fileno()}'}>"

    # Receiving.

    def receive(self, max_size: int = READ_SIZE) -> bytes:
        """What has come, at most `max_size` octets; waits for the first. Empty at the peer's end.

        Raises:
            TimeoutError: nothing came within ``receive_timeout``.
            BusyError: another thread receives.
            ValueError: `max_size` is less than 1.
            OSError: the connection is broken; ``errno.EMSGSIZE`` for a packet that was longer, the rest of which is
                lost.
        """
        try:
            data = self._receiving.receive(max_size)
        except BlockingIOError:
            data = self._receive_slowly(max_size, True)
        except OSError as error:
            raise self._explained(error, "receive from") from None
        finally:
            if self._ended:
                self._finish()
        if data:
            return data
        if data is None:
            return self._receive_slowly(max_size, False)
        self._check_open()
        return data

    def receive_into(self, buffer: bytearray | memoryview) -> int:
        """As `receive`, into a buffer that is as large as what may come; how many octets that was, 0 at the end.

        Raises:
            ValueError: the buffer has no room.
        """
        view = memoryview(buffer).cast("B")
        if not len(view):
            raise ValueError("the buffer has no room")
        with Using(self, self._receiving, "receives", "receive from"):
            if self._ahead or self._packets:
                data = self._take(len(view)) if self._ahead else self._receive_packet(len(view))
                view[: len(data)] = data
                return len(data)
            return self._into(view, self._receive_timeout)

    def receive_exactly(self, size: int) -> bytes:
        """`size` octets, neither more nor less.

        When it fails for another reason than the end, nothing is lost: what came is what the next call returns first.

        Raises:
            IncompleteError: an EOFError: the peer ended the stream before; it has what came.
            TimeoutError: not all came within ``receive_timeout``.
            ValueError: `size` is negative, or the socket has packets.
        """
        if size < 0 or self._packets:
            raise ValueError("packets come whole: receive() them" if self._packets else f"no size: {size}")
        with Using(self, self._receiving, "receives", "receive from"):
            if self._plain and not self._ahead and self._receive_timeout is None and size:
                came: list[bytes] = []
                try:
                    # In one step: a signal ends recv with a part, and its handler may raise before a name has that.
                    with contextlib.suppress(BlockingIOError):
                        came.extend(map(self._sock.recv, (size,), (_WAITALL,)))
                finally:
                    if came:
                        self._ahead = came[0]
                        self._look()
            data = self._take(size) if len(self._ahead) >= size else self._collect(size)
            self._look()
            return data

    def _collect(self, size: int) -> bytes:
        deadline = deadline_after(self._receive_timeout)
        buffer = bytearray(size)
        view = memoryview(buffer)
        got = len(self._ahead)
        view[:got], self._ahead = self._ahead, b""
        try:
            while got < size:
                came = self._into(view[got:], seconds_left(deadline))
                if not came:
                    raise IncompleteError(bytes(view[:got]), size, self._where())
                got += came
        except IncompleteError:
            raise
        except BaseException:
            self._ahead = bytes(view[:got])
            self._look()
            raise
        return bytes(buffer)

    def _into(self, view: memoryview, timeout: float | None) -> int:
        if timeout is None:
            try:
                size = self._sock.recv_into(view)
            except BlockingIOError:
                size = self._read_when_ready(lambda flags: self._sock.recv_into(view, 0, flags), None)
        else:
            size = self._read_when_ready(lambda flags: self._sock.recv_into(view, 0, flags), timeout)
        if not size:
            self._check_open()
        return size

    def _take(self, size: int) -> bytes:
        """Of what is ahead, at most `size` octets."""
        ahead = self._ahead
        if len(ahead) <= size:
            self._ahead = b""
            return bytes(ahead)
        self._ahead = memoryview(ahead)[size:]
        return bytes(ahead[:size])

    def _look(self) -> None:
        """Learn whether the short way of `receive` can be gone."""
        usual = self._plain and not self._packets and not self._ahead
        self._receiving.sock = self._sock if usual else None
        if self._closing:  # perhaps since that line
            self._receiving.sock = None

    def _look_at_receiving(self) -> None:
        turn, timeout = self._receiving, self._receive_timeout
        turn.sock = None
        turn.wait = readable_within(self._sock, timeout) if self._plain else None
        turn.flags = 0 if timeout is None else DONTWAIT
        self._look()

    def _look_at_sending(self) -> None:
        turn = self._sending
        turn.sock = None
        turn.flags = 0 if self._send_timeout is None else DONTWAIT
        turn.sock = self._sock if self._plain and not self._packets else None
        if self._shut:  # perhaps since that line
            turn.sock = None

    def _shut_down(self, why: str) -> None:
        self._shut = why
        self._sending.sock = None

    def _receive_slowly(self, max_size: int, waited: bool) -> bytes:
        """As `receive`, in any case; `waited`: a call has ended without anything, though it may wait."""
        with Using(self, self._receiving, "receives", "receive from"):
            if max_size < 1:
                raise ValueError(f"max_size is at least 1, not {max_size}")
            if self._ahead:
                data = self._take(max_size)
                self._look()
                return data
            if self._packets:
                return self._receive_packet(max_size)
            came: bytes | None = None
            if self._receive_timeout is None and not waited:
                with contextlib.suppress(BlockingIOError):
                    came = self._sock.recv(max_size)
            if came is None:
                came = self._read_when_ready(lambda flags: self._sock.recv(max_size, flags), self._receive_timeout)
            if not came:
                self._check_open()
            return came

    def _receive_packet(self, max_size: int) -> bytes:
        data, _, flags, _ = self._read_when_ready(
            lambda flags: self._sock.recvmsg(max_size, 0, flags), self._receive_timeout
        )
        if flags & socket.MSG_TRUNC:
            raise OSError(errno.EMSGSIZE, f"a packet of more than {max_size} octets came, and its rest is lost")
        if not data:
            self._check_open()
        return data

    def quiet(self) -> bool:
        """Whether somebody else can use it: it is open in both directions, and nothing came that nobody has read.

        Raises:
            BusyError: another thread receives.
            ClosedError: it is closed.
        """
        with Using(self, self._receiving, "receives", "look at"):
            return not (self._ahead or self._shut or self._has_come())

    def _has_come(self) -> bool:
        return wait_for(self._sock, True, False, 0)[0]

    def __iter__(self) -> Iterator[bytes]:
        """What comes, until the peer's end, or until it is closed here: `closed` tells which."""
        with contextlib.suppress(ClosedError):
            while data := self.receive():
                yield data

    # Sending.

    def send_all(self, data: Buffer) -> None:
        """Send; returns when the system has taken all of it. Nothing is sent for nothing, not even an empty packet.

        When it fails after a part went out, nothing more can be sent: the peer would take it for the rest.

        Raises:
            TimeoutError: the peer did not take it within ``send_timeout``.
            BusyError: another thread sends.
            ClosedError: it is closed, or our direction is ended.
        """
        try:
            left = self._sending.send(data)
        except OSError as error:
            raise self._explained(error, "send to") from None
        finally:
            if self._sending.cut:
                self._shut_down(self._shut or CUT)
            if self._ended:
                self._finish()
        if left != 0:
            self._send_slowly(data, left)

    def _send_slowly(self, data: Buffer, left: int | None) -> None:
        """As `send_all`, in any case; `left`: so much of it is not sent, and the turn is ours; None: it is not."""
        if left is None and not self._sending.take():
            raise self._refusal("sends")
        try:
            if self._shut:
                raise self._cannot_send()
            view = memoryview(data).cast("B")
            sent = 0 if left is None else len(view) - left
            if sent < len(view):
                self._write([view[sent:]], sent)
        except OSError as error:
            raise self._explained(error, "send to") from None
        finally:
            self._sending.give()
            if self._ended:
                self._finish()

    def send_buffers(self, buffers: Iterable[Buffer]) -> None:
        """As `send_all`, for several buffers, which are not copied into one (``sendmsg``)."""
        whole: list[Buffer] = [view for buffer in buffers if len(view := memoryview(buffer).cast("B"))]
        with Using(self, self._sending, "sends", "send to"):
            if self._shut:
                raise self._cannot_send()
            if self._packets and len(whole) > GATHER:
                whole = [b"".join(whole)]
            if whole:
                self._write(whole, 0)

    def send_eof(self) -> None:
        """End our direction: the peer's `receive` returns nothing when it has read what was sent. Again is no error.

        Raises:
            BusyError: another thread sends.
        """
        with Using(self, self._sending, "sends", "end"):
            if self._shut in ("", ENDING):
                self._end_sending()

    def _end_sending(self) -> None:
        self._shut_down("it was ended")
        self._sock.shutdown(socket.SHUT_WR)

    def send_file(self, file: BinaryIO, offset: int = 0, count: int | None = None) -> int:
        """Send a file, or `count` octets of it, from `offset`; how many were sent.

        The system copies from file to socket by itself where it can (``os.sendfile``; not with TLS). The file's
        position is behind what was sent afterwards, also when sending failed. When it fails after a part went out,
        nothing more can be sent: the peer would take it for the rest.

        Args:
            file: opened in binary mode.

        Raises:
            TypeError: no file that is open.
            ValueError: `offset` or `count` is negative, the file is a text, or the socket has packets.
            OSError: as `send_all`; or the file cannot be read.
        """
        check_file(file, offset, count, self._packets)
        with Using(self, self._sending, "sends", "send a file to"):
            if self._shut:
                raise self._cannot_send()
            total = 0
            try:
                for sent in file_parts(self, file, offset, count):
                    total += sent
            except BaseException as error:
                self._stopped(error, total)
                if total and not isinstance(error, ConnectionError):  # such as a file that cannot be read any more
                    self._shut_down(self._shut or "an earlier file stopped half way")
                raise
            finally:
                if file.seekable():
                    file.seek(offset + total)
            return total

    def _write(self, buffers: list[Buffer], before: int, deadline: float | None = None) -> None:
        """Send the buffers, none of which is empty, within ``send_timeout``. `before` octets of the same are gone."""
        size = before + sum(map(len, buffers))
        try:
            self._push(buffers, deadline_after(self._send_timeout) if deadline is None else deadline)
        except BaseException as error:
            self._stopped(error, size - sum(map(len, buffers)))
            raise

    def _push(self, buffers: list[Buffer], deadline: float | None) -> None:
        """Hand the buffers to the system, and wait until it has taken them; what it took is gone from the list."""
        flags = 0 if deadline is None else DONTWAIT
        while buffers:
            try:
                if len(buffers) > 1 and hasattr(self._sock, "sendmsg"):
                    size = self._sock.sendmsg(buffers[:GATHER], (), flags)
                else:
                    size = self._sock.send(buffers[0], flags)
            except BlockingIOError:
                self._wait(socket.SO_SNDTIMEO, deadline)
                flags = DONTWAIT
            else:
                buffers[:] = after(buffers, size)

    def _stopped(self, error: BaseException, sent: int) -> None:
        """A send failed after `sent` octets: no other may follow half of it."""
        if isinstance(error, TimeoutError) and error.errno is None and sent:
            error.args = (f"timed out after {sent} octets",)
        elif isinstance(error, Exception):
            return  # nothing went out, or the connection is broken anyway
        self._shut_down(self._shut or CUT)

    # Unix sockets.

    def send_fds(self, data: Buffer, fds: Sequence[int]) -> None:
        """Send octets, at least one, and copies of descriptors with the first of them. They stay open here.

        Raises:
            ValueError: it is no Unix socket; no data; too many descriptors.
            NotOnThisSystem: it does not hand over descriptors.
            OSError: as `send_all`.
        """
        with Using(self, self._sending, "sends", "send descriptors to"):
            self._check_plain()
            if self._shut:
                raise self._cannot_send()
            deadline = deadline_after(self._send_timeout)
            while True:
                try:
                    sent = send_fds(self._sock, data, fds, 0 if deadline is None else DONTWAIT)
                    break
                except BlockingIOError:
                    self._wait(socket.SO_SNDTIMEO, deadline)
            if sent < len(data):
                self._write([memoryview(data).cast("B")[sent:]], sent, deadline)

    def receive_fds(self, max_size: int = READ_SIZE, max_fds: int = 16) -> tuple[bytes, list[int]]:
        """As `receive`, with the descriptors that came. They are the caller's to close, and not inherited by children.

        Raises:
            ValueError: it is no Unix socket.
            NotOnThisSystem: it does not hand over descriptors.
            OSError: as `receive`; with ``errno.EMSGSIZE`` there were more descriptors, and all that came are closed.
        """
        with Using(self, self._receiving, "receives", "receive descriptors from"):
            self._check_plain()
            check_unix(self._sock, "receive_fds")
            if self._ahead:
                return self._take(max_size), []
            data, fds = self._read_when_ready(
                lambda flags: receive_fds(self._sock, max_size, max_fds, flags), self._receive_timeout
            )
            if not data:
                self._check_open()
            return data, fds

    def _check_plain(self) -> None:
        if not self._plain:
            raise ValueError("descriptors don't go with TLS")

    def peer_credentials(self) -> Credentials:
        """Who the peer of a Unix socket is.

        Raises:
            ValueError: it is no Unix socket.
            NotOnThisSystem: it does not tell.
        """
        self._check_open()
        return peer_credentials(self._sock)

    # Ending.

    def close(self) -> None:
        """Close. What was sent still goes out, with TLS also that nothing more comes. Again is no error.

        Who is in a call of another thread gets `ClosedError`, and has left it when this returns. What has come and was
        not read is lost, and makes TCP reset the connection (RFC 2525 section 2.17): receive until the end first where
        that matters.
        """
        self._close(abort=False)

    def abort(self) -> None:
        """Close now, and let what is on its way be lost: TCP resets the connection (RFC 9293 section 3.10.5)."""
        self._close(abort=True)

    def _close(self, abort: bool) -> None:
        if not self._closing:
            self._begin_closing(abort)
        wait_until_left(self, self._sock)

    def _begin_closing(self, abort: bool) -> None:
        with contextlib.suppress(OSError, ValueError):
            _ = self.local  # which is known afterwards
        self._closing = True
        self._receiving.sock = None
        self._shut_down("it was closed")
        with contextlib.suppress(OSError):
            if abort:
                self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, packed_linger(0))
            else:
                self._say_goodbye()
        if self._receiving.taken() or self._sending.taken():
            # Only then: whoever else has the socket, perhaps a child, can go on with it.
            with contextlib.suppress(OSError):
                self._sock.shutdown(socket.SHUT_RDWR)
        self._ended = True
        self._finish()

    def _say_goodbye(self) -> None:
        pass

    def _finish(self) -> None:
        """Close the descriptor if nobody is in a call. Both turns are kept, so that nobody ever will be."""
        receiving, sending = self._receiving, self._sending
        while receiving.take():
            if sending.take():
                self._sock.close()
                return
            receiving.give()
            if sending.taken():
                return  # who holds it comes here next
            # It was let go of meanwhile by someone who found `receiving` held, by us: nobody else comes.

    def detach(self) -> socket.socket:
        """Give up the socket, in blocking mode: it is the caller's, and the stream is closed.

        Raises:
            BusyError: a thread is in a call.
            ValueError: octets that have come would be lost.
        """
        with Using(self, self._receiving, "receives", "detach"), Using(self, self._sending, "sends", "detach"):
            if self._ahead or not self._plain:
                raise ValueError("what has come would be lost: receive it first; and TLS cannot be taken off")
            old = self._sock
            sock = socket.socket(old.family, old.type, old.proto, fileno=old.detach())
            self._closing = self._ended = True
            self._receiving.sock = None
            self._shut_down("it was detached")
            return sock

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # Waiting, and what goes wrong.

    def _read_when_ready(self, operation: Callable[[int], T], timeout: float | None) -> T:
        """Do `operation`, which takes flags, when there is something to read."""
        deadline = deadline_after(timeout)
        while True:
            self._wait(socket.SO_RCVTIMEO, deadline)
            try:
                return operation(DONTWAIT)
            except BlockingIOError:
                continue

    def _wait(self, option: int, deadline: float | None) -> None:
        """Wait until the socket can be read or written, as the option for the kernel's own timeout says.

        Without a deadline that comes after a call that did not wait: it was the kernel's timeout that ended it, or the
        descriptor is not in blocking mode any more, which another process may have done.
        """
        if deadline is None and DONTWAIT and any(self._sock.getsockopt(socket.SOL_SOCKET, option, 16)):
            raise TimeoutError
        read = option == socket.SO_RCVTIMEO
        if wait_for(self._sock, read, not read, seconds_left(deadline)) == (False, False):
            raise TimeoutError
        self._check_open()

    def _check_open(self) -> None:
        if self._closing:
            raise self._closed_error()

    def _closed_error(self) -> ClosedError:
        return ClosedError(f"the stream to {self._where()}")

    def _cannot_send(self) -> ClosedError:
        return (
            self._closed_error() if self._closing else ClosedError(f"our direction to {self._where()} ({self._shut})")
        )

    def _refusal(self, what: str) -> Exception:
        if self._closing:
            return self._closed_error()
        return BusyError(f"another thread {what}: {self._where()}")

    def _explained(self, error: OSError, doing: str) -> OSError:
        """The error with the address in it; closing ourselves explains all of them."""
        if isinstance(error, ClosedError):
            return error
        if self._closing:
            return self._closed_error()
        if isinstance(error, TimeoutError) and error.errno is None and error.args:
            return TimeoutError(errno.ETIMEDOUT, f"can't {doing} {self._where()}: {error}")
        return explain(error, doing, self._where())

    def _where(self) -> object:
        for known in (self._remote, self._local):
            if known is not None and (known.path or not known.is_unix):
                return known
        with contextlib.suppress(OSError, ValueError):
            if (local := self.local).path:
                return local
        return "an unnamed socket"
