"""Small things that a stream of tasks does with sockets, buffers and files."""

from __future__ import annotations

import errno
import os
import socket

from ..errors import BusyError

__all__ = ["busy", "first", "send_file", "whole_packet"]


def busy(what: str, where: object) -> BusyError:
    return BusyError(f"another task {what}: {where}")


def first(views: list[memoryview], size: int) -> tuple[list[memoryview], list[memoryview]]:
    """The first `size` octets of `views`, and the rest."""
    part: list[memoryview] = []
    for index, view in enumerate(views):
        if len(view) > size:
            return [*part, view[:size]], [view[size:], *views[index + 1 :]]
        part.append(view)
        size -= len(view)
    return part, []


def send_file(sock: socket.socket, descriptor: int, offset: int, count: int) -> int:
    """How many octets the system took, 0 at the end of the file; -1 when it has no way for such a file."""
    try:
        return os.sendfile(sock.fileno(), descriptor, offset, count)
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):
            return -1
        raise


def whole_packet(sock: socket.socket, size: int) -> bytes:
    data, _, flags, _ = sock.recvmsg(size)
    if flags & socket.MSG_TRUNC:
        raise OSError(errno.EMSGSIZE, f"a packet of more than {size} octets came, and its rest is lost")
    return data
