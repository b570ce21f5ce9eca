"""Making sockets: TCP over IPv4 and IPv6, Unix streams, for both adapters."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
import time
from typing import Any, Final

__all__ = [
    "UnixListener",
    "connect_tcp",
    "connect_unix",
    "listen_tcp",
    "listen_unix",
    "no_delay",
    "not_connected",
    "resolve",
]

FULL: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})  # no room to accept
BACK_OFF: Final = 0.5  # seconds to wait then
_BACKLOG = 1024  # connections that wait to be accepted; the kernel may allow fewer


def listen_tcp(
    host: str | None,
    port: int,
    *,
    backlog: int = _BACKLOG,
    reuse_port: bool = False,
    family: socket.AddressFamily = socket.AF_UNSPEC,
) -> list[socket.socket]:
    """Listening TCP sockets, one for each address of `host`; None is every address, IPv4 and IPv6.

    With port 0 the system picks one, the same for all.

    Raises:
        OSError: an address cannot be used; the message names it. Nothing stays open.
        ValueError: not a port number.
    """
    if not 0 <= port < 65536:
        raise ValueError(f"a port is a number from 0 to 65535, not {port}")  # getaddrinfo would cut it to 16 bits
    infos = resolve(host or None, port, family, socket.AI_PASSIVE)
    listeners: list[socket.socket] = []
    try:
        for kind, _, _, _, address in dict.fromkeys(infos):
            if listeners and port == 0:
                address = (address[0], listeners[0].getsockname()[1], *address[2:])
            try:
                # With the protocol named, asyncio sees that accepted sockets are TCP.
                listener = socket.socket(kind, socket.SOCK_STREAM, socket.IPPROTO_TCP)
            except OSError as error:
                if error.errno == errno.EAFNOSUPPORT and len(infos) > 1:
                    continue  # a system without IPv6 still names its addresses
                raise
            listeners.append(listener)
            if os.name == "posix":
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if reuse_port:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if kind == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            try:
                listener.bind(address)
            except OSError as error:
                if error.errno == errno.EADDRNOTAVAIL and len(infos) > 1 and kind == socket.AF_INET6:
                    listeners.pop().close()  # IPv6 is compiled in and switched off
                    continue
                raise OSError(
                    error.errno, f"can't listen on {_spell(address)}: {os.strerror(error.errno or 0)}"
                ) from None
            listener.listen(backlog)
        if not listeners:
            raise OSError(errno.EADDRNOTAVAIL, f"can't listen on {host}:{port}: no usable address")
    except BaseException:
        for listener in listeners:
            listener.close()
        raise
    return listeners


def connect_tcp(host: str, port: int, *, timeout: float | None) -> socket.socket:
    """A TCP connection to the first address of `host` that answers, within `timeout` seconds for all of them.

    Raises:
        OSError: none answers; TimeoutError when time ran out. The message names host and port.
    """
    deadline = None if timeout is None else time.monotonic() + timeout
    infos = resolve(host, port)
    failure: OSError | None = None
    for index, (family, kind, protocol, _, address) in enumerate(infos):
        sock = socket.socket(family, kind, protocol)
        try:
            if deadline is not None:
                # What is left is shared, so that one silent address does not use up the time of the others.
                left = deadline - time.monotonic()
                sock.settimeout(max(left, 0.001) / (len(infos) - index))
            sock.connect(address)
            no_delay(sock)
            return sock
        except OSError as error:
            sock.close()
            failure = failure or error
        except BaseException:
            sock.close()
            raise
    raise not_connected(host, port, failure)


def not_connected(host: str, port: int, failure: OSError | None) -> OSError:
    """The error for a host of which no address answered; `failure` is that of the first one."""
    where = f"can't connect to {host}:{port}"
    if failure is None:
        return OSError(errno.EADDRNOTAVAIL, f"{where}: no address")
    if isinstance(failure, TimeoutError):
        return TimeoutError(f"{where}: timed out")
    if failure.errno is None:
        return type(failure)(f"{where}: {failure}")
    return type(failure)(failure.errno, f"{where}: {os.strerror(failure.errno)}")


def no_delay(sock: Any) -> None:
    """Send small messages at once (TCP_NODELAY, RFC 9293 section 3.7.4), where the socket is TCP."""
    if sock.family in (socket.AF_INET, socket.AF_INET6):
        with contextlib.suppress(OSError):  # the peer is gone already
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


class UnixListener(socket.socket):
    """A listening Unix socket that removes its file when it is closed, unless another one has taken its place."""

    __slots__ = ("_file", "_name")

    _file: tuple[int, int] | None

    def bind(self, name: str) -> None:  # type: ignore[override]  # of all addresses, only this family's
        super().bind(name)
        self._name = name
        self._file = None if name.startswith("\0") else _identity(name)

    def close(self) -> None:
        file, self._file = getattr(self, "_file", None), None
        with contextlib.suppress(OSError):
            if file is not None and _identity(self._name) == file:
                os.unlink(self._name)
        super().close()


def listen_unix(path: str | os.PathLike[str], *, backlog: int = _BACKLOG) -> UnixListener:
    """A listening Unix stream socket. A file that a dead server left is replaced, a living one's never.

    A path that begins with a NUL octet is in Linux' abstract name space and has no file.

    Raises:
        OSError: the path cannot be used; the message names it.
    """
    name = os.fspath(path)
    listener = UnixListener(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if not name.startswith("\0"):
            _remove_stale(name)
        try:
            listener.bind(name)
        except OSError as error:
            raise OSError(error.errno, f"can't listen on {name}: {error.strerror or error}") from None
        listener.listen(backlog)
    except BaseException:
        listener.close()
        raise
    return listener


def connect_unix(path: str | os.PathLike[str], *, timeout: float | None) -> socket.socket:
    """A connection to a Unix stream socket.

    Raises:
        OSError: it cannot be reached; the message names the path.
    """
    name = os.fspath(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.settimeout(timeout)
        sock.connect(name)
    except OSError as error:
        sock.close()
        raise type(error)(error.errno, f"can't connect to {name}: {error.strerror or error}") from None
    except BaseException:
        sock.close()
        raise
    return sock


def resolve(host: str | None, port: int, family: int = socket.AF_UNSPEC, flags: int = 0) -> list[Any]:
    """``getaddrinfo`` for streams, with an error that names the host."""
    try:
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, family=family, flags=flags)
    except socket.gaierror as error:
        raise socket.gaierror(error.errno, f"can't resolve {host}: {error.strerror}") from None
    except UnicodeError:
        raise socket.gaierror(socket.EAI_NONAME, f"can't resolve {host}: not a host name") from None


def _identity(name: str) -> tuple[int, int]:
    found = os.stat(name)
    return found.st_dev, found.st_ino


def _remove_stale(name: str) -> None:
    try:
        mode = os.stat(name).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise OSError(errno.EEXIST, f"can't listen on {name}: a file that isn't a socket is there")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        try:
            probe.connect(name)
        except ConnectionRefusedError:
            os.unlink(name)
            return
        except OSError:
            pass  # it answers somehow, so it lives
    raise OSError(errno.EADDRINUSE, f"can't listen on {name}: a server is listening there")


def _spell(address: tuple[object, ...]) -> str:
    host = f"[{address[0]}]" if ":" in str(address[0]) else address[0]
    return f"{host}:{address[1]}"
