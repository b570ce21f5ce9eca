"""What only Unix sockets do: they hand over file descriptors, and tell who the peer is (unix(7)).

All of it on sockets, blocking or not; streams have methods of the same names.
"""

from __future__ import annotations

import array
import errno
import os
import socket
import struct
import sys
from collections.abc import Sequence
from typing import Final, NamedTuple

from ..typing import Buffer
from .errors import NotOnThisSystem

__all__ = ["MOST_FDS", "Credentials", "check_unix", "peer_credentials", "receive_fds", "send_fds"]

MOST_FDS: Final = 253
"""Descriptors that go in one message: SCM_MAX_FD of Linux; other systems take as many or more."""

_CLOEXEC: Final = getattr(socket, "MSG_CMSG_CLOEXEC", 0)
_PEERCRED: Final = "@iII"  # struct ucred


class Credentials(NamedTuple):
    """Who a peer is, or was when it connected, listened or made the pair.

    Attributes:
        pid: its process; 0 when that cannot be seen from here (another pid name space), None where it is not told.
        uid: its effective user.
        gid: its effective group.
    """

    pid: int | None
    uid: int
    gid: int


def send_fds(sock: socket.socket, data: Buffer, fds: Sequence[int], flags: int = 0) -> int:
    """Send octets, and copies of descriptors with the first of them; how many octets the system took.

    The descriptors stay open here.

    Raises:
        ValueError: no octet for them to go with, or more than `MOST_FDS` of them.
        NotOnThisSystem: it does not hand over descriptors.
        OSError: the system's.
    """
    check_unix(sock, "send_fds")
    if not len(data):
        raise ValueError("descriptors go with at least one octet of data")
    if len(fds) > MOST_FDS:
        raise ValueError(f"at most {MOST_FDS} descriptors go in one message, not {len(fds)}")
    ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    return sock.sendmsg([data], ancillary, flags)


def receive_fds(sock: socket.socket, max_size: int, max_fds: int, flags: int = 0) -> tuple[bytes, list[int]]:
    """What has come, at most `max_size` octets, and the descriptors with it, which are not inherited by children.

    Raises:
        ValueError: less than one octet, or less than no descriptors.
        NotOnThisSystem: it does not hand over descriptors.
        OSError: the system's; with ``errno.EMSGSIZE`` not all that was sent was taken, and the descriptors that came
            were closed.
    """
    check_unix(sock, "receive_fds")
    if max_size < 1 or not 0 <= max_fds <= MOST_FDS:
        raise ValueError(f"max_size is at least 1 and max_fds 0 to {MOST_FDS}, not {max_size} and {max_fds}")
    fds = array.array("i")
    space = socket.CMSG_LEN(max_fds * fds.itemsize) if max_fds else 0
    data, ancillary, happened, _ = sock.recvmsg(max_size, space, flags | _CLOEXEC)
    for level, kind, content in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(content[: len(content) - len(content) % fds.itemsize])
    cut = happened & socket.MSG_CTRUNC or (happened & socket.MSG_TRUNC and sock.type != socket.SOCK_STREAM)
    if cut:
        for fd in fds:
            os.close(fd)
        if happened & socket.MSG_CTRUNC:
            what = f"more than {max_fds} descriptors came, or this process has too many open files"
        else:
            what = f"a packet of more than {max_size} octets came"
        raise OSError(errno.EMSGSIZE, what)
    if not _CLOEXEC:
        for fd in fds:
            os.set_inheritable(fd, False)
    return data, list(fds)


def peer_credentials(sock: socket.socket) -> Credentials:
    """Who the peer is, as the kernel says (Linux: SO_PEERCRED; macOS and BSD: LOCAL_PEERCRED).

    Raises:
        ValueError: not a Unix socket.
        NotOnThisSystem: it does not tell.
        OSError: it is not connected.
    """
    check_unix(sock, "peer_credentials")
    if hasattr(socket, "SO_PEERCRED"):
        raw = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize(_PEERCRED))
        return Credentials(*struct.unpack(_PEERCRED, raw))
    if sys.platform == "darwin":
        # struct xucred of sys/ucred.h: version, user, count of groups, and the groups, of which the first is effective.
        raw = sock.getsockopt(0, 1, 76)
        _, uid, _, gid = struct.unpack_from("@IIhxxI", raw)
        (pid,) = struct.unpack("@i", sock.getsockopt(0, 2, 4))  # LOCAL_PEERPID
        return Credentials(pid, uid, gid)
    raise NotOnThisSystem("peer_credentials")


def check_unix(sock: socket.socket, doing: str) -> None:
    """Raise what a socket of another family, or another system, deserves."""
    family = getattr(socket, "AF_UNIX", None)
    if family is None or not hasattr(socket, "SCM_RIGHTS"):
        raise NotOnThisSystem(doing)
    if sock.family != family:
        raise ValueError(f"{doing} is for Unix sockets")
