"""Sending a file through a stream: by the system itself where it can."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import socket
import stat
from collections.abc import Iterator
from typing import BinaryIO, ClassVar, Final, Protocol

from ..typing import Buffer
from .guard import deadline_after

__all__ = ["check_file", "file_parts", "regular"]

PART: Final = 2**18  # octets that are read from a file at a time
MOST: Final = 2**30  # octets of one sendfile; Linux stops a little below 2**31


class Sending(Protocol):
    """What is asked of a blocking stream."""

    _plain: ClassVar[bool]
    _sock: socket.socket

    @property
    def send_timeout(self) -> float | None: ...

    def _wait(self, option: int, deadline: float | None) -> None: ...

    def _write(self, buffers: list[Buffer], before: int, deadline: float | None = None) -> None: ...


def check_file(file: BinaryIO, offset: int, count: int | None, packets: bool) -> None:
    """Whether a file can be sent, from there and so much of it.

    Raises:
        TypeError: no file that is open.
        ValueError: it is a text, a number is negative, or the socket has packets.
    """
    if offset < 0 or (count is not None and count < 0):
        raise ValueError(f"offset and count are at least 0, not {offset} and {count}")
    if not hasattr(file, "read"):
        raise TypeError(f"a file that is open in binary mode is sent, not {file!r}")
    if packets or isinstance(file, io.TextIOBase):
        raise ValueError("a file in binary mode is sent, and not in packets")


def file_parts(stream: Sending, file: BinaryIO, offset: int, count: int | None) -> Iterator[int]:
    """Send the file part by part; the size of each."""
    deadline = deadline_after(stream.send_timeout)
    total = 0
    if stream._plain and hasattr(os, "sendfile") and regular(file):
        fd = stream._sock.fileno()
        with _never_blocking(fd, deadline):
            while count is None or total < count:
                most = MOST if count is None else min(count - total, MOST)
                try:
                    sent = os.sendfile(fd, file.fileno(), offset + total, most)
                except BlockingIOError:
                    stream._wait(socket.SO_SNDTIMEO, deadline)
                    continue
                except OSError as error:
                    if not total and error.errno in (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):
                        break  # that file system has no way; reading it does
                    raise
                if not sent:
                    return
                total += sent
                yield sent
            else:
                return
    if file.seekable():
        file.seek(offset + total)
    while count is None or total < count:
        part = file.read(PART if count is None else min(PART, count - total))
        if not part:
            return
        stream._write([part], total, deadline)
        total += len(part)
        yield len(part)


@contextlib.contextmanager
def _never_blocking(fd: int, deadline: float | None) -> Iterator[None]:
    """With a deadline, the descriptor does not block: sendfile has no flag for that. Who receives copes with it."""
    if deadline is None or not os.get_blocking(fd):
        yield
        return
    os.set_blocking(fd, False)
    try:
        yield
    finally:
        os.set_blocking(fd, True)


def regular(file: BinaryIO) -> bool:
    """Whether it is a file on a disk with something in it: those that the kernel makes up look empty."""
    try:
        found = os.fstat(file.fileno())
    except (AttributeError, OSError, ValueError):  # it has no descriptor
        return False
    return stat.S_ISREG(found.st_mode) and found.st_size > 0
