"""What the socket layer raises, and what the system's errors mean for who reads them."""

from __future__ import annotations

import errno
import os
import re
import socket
from typing import Final

__all__ = ["AddressError", "BusyError", "ClosedError", "NotOnThisSystem", "check_socket", "explain"]

_LINK_LOCAL: Final = re.compile("fe[89ab][0-9a-f]:", re.IGNORECASE)  # RFC 4291 section 2.5.6


class AddressError(ValueError):
    """A text that is no address.

    Attributes:
        text: it.
        reason: what is wrong.
        position: the index of the character where that is.
    """

    def __init__(self, text: str, reason: str, position: int) -> None:
        super().__init__(text, reason, position)
        self.text = text
        self.reason = reason
        self.position = position

    def __str__(self) -> str:
        return f"invalid address {self.text!r}: {self.reason} (at character {self.position + 1})"


class NotOnThisSystem(OSError):
    """This system, or this kernel, does not have what was asked for."""

    def __init__(self, what: str) -> None:
        super().__init__(errno.EOPNOTSUPP, f"{what}: not on this system")


class ClosedError(OSError):
    """It was closed here: before the call, or by another thread or task meanwhile."""

    def __init__(self, what: str = "the socket") -> None:
        super().__init__(errno.EBADF, f"{what} is closed")


class BusyError(RuntimeError):
    """Another thread or task is doing the same with it now."""


def check_socket(sock: object) -> None:
    """Whether it is a socket, and not what has one.

    Raises:
        TypeError: no.
    """
    if not hasattr(sock, "getsockopt"):
        raise TypeError(f"a socket is wanted, such as a stream's `sock` or a listener's `sockets` are, not {sock!r}")


_ADVICE: Final = {
    errno.ECONNREFUSED: "nothing listens there",
    errno.ETIMEDOUT: "no answer: the host is down, or a firewall drops what is sent to it",
    errno.EHOSTUNREACH: "there is no way to that host from here",
    errno.ENETUNREACH: "there is no way to that network from here",
    errno.EACCES: "not permitted: ports below 1024 and some sockets need privileges, and a Unix socket its mode",
    errno.EPERM: "not permitted: it needs privileges, or a firewall forbids it",
    errno.EMFILE: "this process has too many open files: raise its limit (ulimit -n)",
    errno.ENFILE: "the system has too many open files",
    errno.ENOBUFS: "the system has no buffers left",
    errno.ENOMEM: "the system has no memory left",
    errno.ENODEV: "there is no such network interface",
    errno.ENXIO: "there is no such network interface",
    errno.EAFNOSUPPORT: "this system does not have that kind of address",
    errno.ENOENT: "there is no such file",
    errno.ENOTDIR: "there is no such directory",
}
_AT_CONNECT: Final = {
    errno.EADDRNOTAVAIL: "no local port is left for that address (or it cannot be a peer's): "
    "connections that ended here a minute ago still hold theirs",
}
_AT_LISTEN: Final = {
    errno.EADDRNOTAVAIL: "no network interface here has that address",
    errno.EADDRINUSE: "another socket has it",
}


def _advice(number: int, doing: str, where: object) -> str | None:
    path, host = getattr(where, "path", ""), getattr(where, "host", "")
    if number == errno.ENOENT and path[:1] not in ("", "\0"):
        folder = os.path.dirname(os.path.abspath(path))
        if not os.path.isdir(folder):
            return f"there is no folder {folder}"
    if number == errno.EINVAL and _LINK_LOCAL.match(host) and not getattr(where, "scope", ""):
        return f"a link-local address is one of an interface, which follows it: [{host}%eth0]"
    if number == errno.ECONNREFUSED and host and not getattr(where, "port", 1):
        return "nobody listens at port 0: it lets who listens have any"
    special = _AT_CONNECT if doing.startswith("connect") else _AT_LISTEN
    return special.get(number) or _ADVICE.get(number)


def explain(
    error: OSError, doing: str, where: object, *, holder: str | None = None, advice: str | None = None
) -> OSError:
    """The error of a system call with words around it: what was tried, where, and what it means.

    There is no advice beside a text of our own: it says what it means, or has its advice already.

    Args:
        error: the system's.
        doing: "connect to", "listen on", "send to", ...
        where: the address.
        holder: who has the address, where that is known.
        advice: what it means, where the caller knows better than the number says.

    Returns:
        an error of the same class, with the same ``errno``.
    """
    if isinstance(error, (ClosedError, NotOnThisSystem)):
        return error  # these have said it
    text = f"can't {doing} {where}"
    if isinstance(error, TimeoutError) and error.errno is None:
        return TimeoutError(errno.ETIMEDOUT, f"{text}: timed out")
    if isinstance(error, socket.gaierror):
        return socket.gaierror(error.errno, f"{text}: {error.strerror}")
    if error.errno is None:
        return type(error)(f"{text}: {error}")
    said = error.strerror or os.strerror(error.errno)
    if error.errno == errno.EADDRINUSE and holder:
        advice = f"{holder} has it"
    elif said == os.strerror(error.errno) or getattr(error, "winerror", None):
        advice = advice or _advice(error.errno, doing, where)
    else:
        advice = None  # it is our own text, which says what it means
    return type(error)(error.errno, f"{text}: {said}" + (f" ({advice})" if advice else ""))
