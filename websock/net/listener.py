"""Listening, for blocking programs: `listen` and `Listener`."""

from __future__ import annotations

import contextlib
import logging
import selectors
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, Self

from ..typing import LoggerLike
from .address import Address
from .channel import wait_for
from .errors import ClosedError, explain
from .guard import deadline_after, let_go, seconds, seconds_left, wait_until_left
from .options import SocketOptions, asked
from .sockets import BACK_OFF, FULL, ITS_OWN, check_listening, listening
from .stream import Stream
from .tls import check_server, secured
from .tls_stream import HANDSHAKE_TIMEOUT, TLSStream

__all__ = ["Listener", "listen"]

_LOGGER: Final = logging.getLogger("websock.net")


def listen(
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
        NotOnThisSystem: the system has no such sockets, or lacks an option.
        TypeError, ValueError: an option does not fit it.
    """
    address = Address.parse(address)
    check_server(address, tls)
    seconds(handshake_timeout, "handshake_timeout")
    sockets = listening(address, options, mode=mode)
    try:
        return Listener(sockets, options=options, tls=tls, handshake_timeout=handshake_timeout)
    except BaseException:  # no room for what wakes it
        for sock in sockets:
            sock.close()
        raise


class Listener:
    """What listens: made by `listen`, or from listening sockets, which belong to it then.

    ::

        with listen("tcp://localhost:8080") as listener:
            for stream in listener:
                threading.Thread(target=serve, args=(stream,)).start()

    Several threads may accept. TLS handshakes are up to who uses the stream (see `TLSStream`), so that a peer who
    does not go on with it holds up nobody else.

    Args:
        sockets: they listen.
        options: of what is accepted.
        tls, handshake_timeout: see `listen`.
        logger: who is told that there is no room to accept.

    Raises:
        ValueError: no sockets, or one that does not listen.
    """

    def __init__(
        self,
        sockets: Sequence[socket.socket],
        *,
        options: SocketOptions | None = None,
        tls: ssl.SSLContext | None = None,
        handshake_timeout: float | None = HANDSHAKE_TIMEOUT,
        logger: LoggerLike = _LOGGER,
    ) -> None:
        self._sockets = tuple(sockets)
        self._options = asked(options)
        check_listening(self._sockets)
        self._tls = tls
        self._handshake_timeout = handshake_timeout
        self._logger = logger
        self._full = False  # and that was logged
        self._closed = False
        self._users = 0  # threads that accept
        self._lock = threading.RLock()  # guards both, and is never waited with; a signal handler may close
        self._addresses = tuple(secured(Address.of(sock), tls is not None) for sock in self._sockets)
        self._wake, self._woken = socket.socketpair()
        with contextlib.ExitStack() as opened:
            opened.callback(self._wake.close)
            opened.callback(self._woken.close)
            selector = selectors.DefaultSelector()
            opened.callback(selector.close)
            for sock in (*self._sockets, self._woken):
                sock.setblocking(False)
                selector.register(sock, selectors.EVENT_READ)
            opened.pop_all()
        self._selector = selector  # from now on the sockets are ours

    def __del__(self, _let_go: Callable[..., None] = let_go) -> None:
        if (selector := getattr(self, "_selector", None)) is not None:
            selector.close()
            _let_go(self, (*self._sockets, *self.inner_sockets))

    @property
    def addresses(self) -> tuple[Address, ...]:
        """Where it listens, with the ports that the system chose; known when it is closed, too."""
        return self._addresses

    @property
    def sockets(self) -> tuple[socket.socket, ...]:
        """The sockets that listen."""
        return self._sockets

    @property
    def inner_sockets(self) -> tuple[socket.socket, ...]:
        """Those that it has for itself, to be woken."""
        return self._woken, self._wake

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self._closed

    def __repr__(self) -> str:
        where = ", ".join(map(str, self._addresses))
        return f"<Listener {where}{' closed' if self._closed else ''}>"

    def accept(self, timeout: float | None = None) -> Stream:
        """The next connection.

        What happens to a connection before it is accepted, and to one whose options cannot be set, concerns nobody
        else: the next one is waited for. When there is no room for one more descriptor or buffer, that is logged once
        and tried again every half second.

        Raises:
            ClosedError: the listener is closed, perhaps meanwhile.
            TimeoutError: none came within `timeout` seconds.
        """
        deadline = deadline_after(seconds(timeout, "timeout"))
        while True:
            sock, peer = self.accept_socket(seconds_left(deadline))
            try:
                self._options.apply(sock, stage="accepted")
                remote = Address.from_sockaddr(peer, sock.family, sock.type, sock.proto)
                if self._tls is None:
                    return Stream(sock, remote=remote)
                return TLSStream(
                    sock,
                    self._tls,
                    server_side=True,
                    remote=secured(remote),
                    handshake_timeout=self._handshake_timeout,
                )
            except OSError as error:
                sock.close()
                self._logger.error("a connection was accepted and is closed: %s", error)
            except BaseException:
                sock.close()
                raise

    def accept_socket(self, timeout: float | None = None) -> tuple[socket.socket, Any]:
        """As `accept`: the bare socket, without options and TLS, and its peer's address as ``socket`` has it."""
        deadline = deadline_after(timeout)
        with self._lock:
            self._check_open()
            self._users += 1
        try:
            while True:
                ready = self._selector.select(seconds_left(deadline))
                self._check_open()
                for key, _ in ready:
                    if key.data is not None:
                        key.data()
                    elif (found := self._accept(key.fileobj, deadline)) is not None:
                        return found
                if seconds_left(deadline) == 0:  # also when there is no room for what is ready
                    raise explain(TimeoutError(), "accept on", self._spelled())
        finally:
            with self._lock:
                self._users -= 1
                self._finish()

    def _accept(self, listener: Any, deadline: float | None = None) -> tuple[socket.socket, Any] | None:
        try:
            found: tuple[socket.socket, Any] = listener.accept()
        except (BlockingIOError, InterruptedError):
            return None  # another thread has it
        except OSError as error:
            if error.errno in FULL:
                if not self._full:
                    self._full = True
                    self._logger.error(
                        "%s; trying again every %s s", explain(error, "accept on", self._spelled()), BACK_OFF
                    )
                left = seconds_left(deadline)
                wait_for(self._woken, True, False, BACK_OFF if left is None else min(left, BACK_OFF))
                self._check_open()
                return None
            if error.errno in ITS_OWN:
                return None
            raise explain(error, "accept on", self._spelled()) from None
        self._full = False
        return found

    def watch(self, file: Any, callback: Callable[[], object]) -> None:
        """Call `callback` in a thread that accepts, whenever `file` can be read, so that it need not wait for both."""
        with self._lock:
            self._check_open()
            self._selector.register(file, selectors.EVENT_READ, callback)

    def unwatch(self, file: Any) -> None:
        """No more. To be called before `file` is closed; no error when the listener is."""
        with self._lock:
            if self._selector.get_map() is not None:
                self._selector.unregister(file)

    def forget(self) -> None:
        """In a child process, instead of `close`: close our copies, and leave those of the parent as they are."""
        self._closed = True
        self._selector.close()
        for sock in (*self._sockets, self._wake, self._woken):
            sock.close()

    def __iter__(self) -> Iterator[Stream]:
        """Connections, until the listener is closed."""
        try:
            while True:
                yield self.accept()
        except ClosedError:
            return

    def close(self) -> None:
        """Listen no more; who waits in `accept` gets `ClosedError`. What was accepted goes on. Again is no error.

        The address is free when this returns, but for a signal handler that has interrupted `accept`: then it is when
        that is left.
        """
        with self._lock:
            if not self._closed:
                self._closed = True
                self._wake.send(b"\0")
                self._finish()
        wait_until_left(self, self._wake)

    def _finish(self) -> None:
        """Close the sockets if nobody uses them; ``_lock`` is held."""
        if self._closed and not self._users:
            self._selector.close()
            for sock in (*self._sockets, *self.inner_sockets):
                sock.close()

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedError(f"the listener on {self._spelled()}")

    def _spelled(self) -> str:
        return ", ".join(map(str, self._addresses))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
