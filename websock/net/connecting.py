"""Connecting, for blocking programs: `connect`."""

from __future__ import annotations

import collections
import contextlib
import errno
import os
import selectors
import socket
import ssl
import time
from collections.abc import Sequence
from typing import Any, Final, cast

from .address import Address
from .errors import AddressError, explain
from .guard import deadline_after, seconds, seconds_left
from .listener import listen
from .options import SocketOptions, asked
from .resolving import CONNECTION_ATTEMPT_DELAY, Target, interleave, resolve
from .sockets import open_socket, take_over
from .stream import Stream
from .tls import check_name, client_context, secured
from .tls_stream import HANDSHAKE_TIMEOUT, TLSStream

__all__ = ["bind_own", "check_ends", "connect", "connected", "listen", "no_way", "with_itself"]

_UNIX: Final = getattr(socket, "AF_UNIX", None)
_BEGUN: Final = (errno.EINPROGRESS, errno.EWOULDBLOCK, errno.EINTR)
_FAR: Final = (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)


def connect(
    address: str | Address,
    *,
    options: SocketOptions | None = None,
    timeout: float | None = None,
    tls: ssl.SSLContext | bool | None = None,
    server_hostname: str | None = None,
    local: str | Address | None = None,
) -> Stream:
    """A stream to an address; of a host with several, to the first that answers (happy eyeballs, RFC 8305).

    ::

        with connect("tls://example.org:443", timeout=10) as stream:
            stream.send_all(b"...")

    Args:
        address: see `Address`; ``fd://`` is a connected socket to take over.
        options: of the socket.
        timeout: seconds for the connection and the TLS handshake; None: as long as the system tries. The system's
            name service takes the time that it takes.
        tls: settings, or True for the default ones, which verify the peer; ``tls://`` is True by itself.
        server_hostname: the name to ask for (SNI) and to verify, when it is not the address's. An address that has
            none (``unix:``, ``fd://``) stands for "localhost".
        local: the address of our end.

    Raises:
        AddressError: no address, or one of datagrams.
        OSError: no connection; the message names the address and what to do, and notes tell of every way that was
            tried. TimeoutError: it took longer than `timeout`.
        ssl.SSLError: the TLS handshake failed; ``ssl.SSLCertVerificationError``: the peer is not who it should be.
        NotOnThisSystem: the system has no such sockets, or lacks an option.
        TypeError, ValueError: an option does not fit it.
    """
    address = Address.parse(address)
    deadline = deadline_after(seconds(timeout, "timeout"))
    context = client_context(address.secure or bool(tls), tls)
    check_name(address, context, server_hostname)
    if address.scheme == "fd":
        sock = take_over(address, options, state="connected")
        remote = None
    else:
        sock = connected(address, options, deadline=deadline, local=local)
        remote = address if address.is_unix else None
    try:
        if context is None:
            return Stream(sock, remote=remote)
        name = server_hostname or ("localhost" if address.is_any else address.host)
        stream = TLSStream(sock, context, server_hostname=name, remote=remote)
    except BaseException:
        sock.close()
        raise
    try:
        stream.handshake(HANDSHAKE_TIMEOUT if deadline is None else seconds_left(deadline))
    except BaseException:
        stream.close()
        raise
    return stream


def connected(
    address: Address,
    options: SocketOptions | None = None,
    *,
    deadline: float | None = None,
    local: str | Address | None = None,
    delay: float = CONNECTION_ATTEMPT_DELAY,
) -> socket.socket:
    """A connected socket, blocking or not; of the ways that lost or failed nothing stays open.

    Args:
        address: not ``fd://``.
        options: of the socket, before and after it connects.
        deadline: of ``time.monotonic()``.
        local: what our end is bound to.
        delay: seconds until the next way is tried beside one that has not answered (RFC 8305 section 5).

    Raises:
        AddressError, OSError, NotOnThisSystem, ValueError: as `connect`.
    """
    check_ends(address, None if local is None else Address.parse(local))
    options = asked(options)
    targets = interleave(resolve(address))
    own = [] if local is None else resolve(local, passive=True)
    race = _Race(address, options, own)
    try:
        sock = race.unix(targets[0], deadline) if targets[0].family == _UNIX else race.run(targets, deadline, delay)
    finally:
        race.end()
    try:
        options.apply(sock, stage="connected", where=address)
    except BaseException:
        sock.close()
        raise
    return sock


def check_ends(address: Address, local: Address | None) -> None:
    """Whether there can be a connection to an address, and one that begins at `local`.

    Raises:
        AddressError: no.
    """
    if address.kind == socket.SOCK_DGRAM:
        raise AddressError(str(address), "it is for datagrams: there are no connections", 0)
    if local is not None and local.kind != address.kind:
        raise AddressError(str(local), f"our end of a connection to {address.scheme} is no {local.scheme}", 0)


def no_way(address: Address, failures: Sequence[tuple[Target, OSError]], *, timed_out: bool = False) -> OSError:
    """The error for an address to which no way leads.

    Args:
        address: what was asked for.
        failures: each way that was tried, and the system's error.
        timed_out: whether the time ran out before all of them had failed.

    Returns:
        the error that tells most, with a note for each way if there were several, and caused by all of them.
    """
    if not failures:
        return explain(TimeoutError(), "connect to", address)
    telling = [error for _, error in failures if error.errno not in _FAR]
    combined = explain(TimeoutError() if timed_out else (telling or [failures[0][1]])[0], "connect to", address)
    if len(failures) > 1 or timed_out:
        each = [explain(error, "connect to", _spell(target, address.secure)) for target, error in failures]
        for error in each:
            combined.add_note(str(error))
        combined.__cause__ = ExceptionGroup(f"every way to {address} failed", each)
    return combined


class _Race:
    """Attempts that begin one after the other and go on side by side."""

    def __init__(self, address: Address, options: SocketOptions, own: Sequence[Target]) -> None:
        self._address = address
        self._options = options
        self._own = own
        self._trying: dict[socket.socket, Target] = {}
        self._failures: list[tuple[Target, OSError]] = []

    def run(self, targets: Sequence[Target], deadline: float | None, delay: float) -> socket.socket:
        """The first socket that is connected."""
        waiting = collections.deque(targets)
        following = 0.0  # when the next attempt begins
        with selectors.DefaultSelector() as selector:
            while waiting or self._trying:
                now = time.monotonic()
                if deadline is not None and now >= deadline:
                    raise no_way(self._address, self._failures, timed_out=True)
                if waiting and (now >= following or not self._trying):
                    following = now + delay
                    if (sock := self._begin(waiting.popleft(), selector)) is not None:
                        return sock
                    continue
                ends = [end for end in (following if waiting else None, deadline) if end is not None]
                for key, _ in selector.select(max(0.0, min(ends) - now) if ends else None):
                    tried: Any = key.fileobj
                    selector.unregister(tried)
                    if self._tried(tried, tried.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)):
                        return cast("socket.socket", tried)
                    following = 0.0  # one has failed: the next need not wait
        raise no_way(self._address, self._failures)

    def _begin(self, target: Target, selector: selectors.BaseSelector) -> socket.socket | None:
        """Begin an attempt; the socket, if it is connected at once."""
        try:
            sock = self._open(target)
        except OSError as error:
            self._failures.append((target, error))
            return None
        sock.setblocking(False)
        number = sock.connect_ex(target.sockaddr)
        if number in _BEGUN:
            selector.register(sock, selectors.EVENT_WRITE)
            return None
        return sock if self._tried(sock, number) else None

    def _open(self, target: Target) -> socket.socket:
        sock = open_socket(target, self._options, where=self._address)
        self._trying[sock] = target
        try:
            bind_own(sock, self._own)
        except BaseException:
            self._drop(sock)
            raise
        return sock

    def _tried(self, sock: socket.socket, number: int) -> bool:
        """Whether the attempt has led to a connection."""
        if number == 0 and with_itself(sock):
            number = errno.ECONNREFUSED
        if number == 0:
            del self._trying[sock]
            return True
        self._failures.append((self._trying[sock], OSError(number, os.strerror(number))))
        self._drop(sock)
        return False

    def _drop(self, sock: socket.socket) -> None:
        del self._trying[sock]
        sock.close()

    def unix(self, target: Target, deadline: float | None) -> socket.socket:
        """A Unix socket connects at once, or waits until the server's queue has room, which nothing but it can tell."""
        try:
            sock = self._open(target)
        except OSError as error:
            raise explain(error, "connect to", self._address) from None
        before = sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, 16)
        try:
            while True:
                if (left := seconds_left(deadline)) is not None:
                    SocketOptions(kernel_send_timeout=max(left, 0.001)).apply(sock, stage="connect")
                sock.connect(target.sockaddr)
                if _has_peer(sock):
                    break
        except BlockingIOError:
            raise no_way(self._address, []) from None
        except OSError as error:
            raise explain(error, "connect to", self._address) from None
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, before)
        del self._trying[sock]
        return sock

    def end(self) -> None:
        """Close what did not win."""
        for sock in list(self._trying):
            self._drop(sock)


def _has_peer(sock: socket.socket) -> bool:
    """Whether a Unix socket is connected: after a signal, ``connect`` takes one for it that still waits."""
    try:
        sock.getpeername()
    except OSError as error:
        return error.errno != errno.ENOTCONN
    return True


def bind_own(sock: socket.socket, own: Sequence[Target]) -> None:
    """Bind what is to connect to our end, of which there may be one for each family; or none at all.

    Raises:
        OSError: it cannot be, and the message names our end; or there is none of that family.
    """
    if own:
        found = next((one for one in own if one.family == sock.family), None)
        if found is None:
            raise OSError(errno.EAFNOSUPPORT, f"our end, {_spell(own[0])}, is of another family")
        try:
            sock.bind(found.sockaddr)
        except OSError as error:
            raise explain(error, "bind", _spell(found)) from None


def with_itself(sock: socket.socket) -> bool:
    """Whether TCP has connected a socket with itself: the system gave it the very port where nobody listens."""
    with contextlib.suppress(OSError):
        return bool(sock.getsockname() == sock.getpeername())
    return False


def _spell(target: Target, secure: bool = False) -> Address:
    return secured(Address.from_sockaddr(target.sockaddr, target.family, target.kind, target.protocol), secure)
