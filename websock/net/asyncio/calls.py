"""Small things that a stream of tasks does with sockets, buffers and files."""

from __future__ import annotations

import errno
import os
import socket
import stat
from typing import BinaryIO

from ..address import Address
from ..errors import BusyError

__all__ = ["busy", "first", "regular", "secured", "send_file", "whole_packet"]


def secured(address: Address, secure: bool) -> Address:
    """The address of a socket with TLS as one writes it, where there is a spelling for that."""
    return address.replace(scheme="tls") if secure and address.scheme == "tcp" else address


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


def regular(file: BinaryIO) -> int:
    """The descriptor of a file that the system may be able to send; -1 without."""
    try:
        descriptor = file.fileno()
        return descriptor if stat.S_ISREG(os.fstat(descriptor).st_mode) else -1
    except (OSError, AttributeError):
        return -1


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
