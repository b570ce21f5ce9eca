"""What a broker writes down before anybody hears of it, so that the next one knows it, however this one ended.

Strategy: a file of this user alone, beside the socket. What a killed process has written is in it, since the system has
it; it is not there to survive the machine, and nothing waits for a disk. When it has grown to twice what it began with,
it is begun anew. If it cannot be written, there is none: the hubs add what they have, as with any log that was lost.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterable
from typing import Final

__all__ = ["Journal"]

LEAST: Final = 2**22  # octets that may be added in any case
_END: Final = b"\n\n"  # of an entry, which has no empty line

logger = logging.getLogger("websock.pubsub")


class Journal:
    """Entries in a file.

    Args:
        path: of the file.

    Attributes:
        full: it should be begun anew.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._fd = -1
        self._room = 0
        self.full = False

    def read(self) -> list[bytes] | None:
        """The entries of the last one, as far as they are complete; None: there is no file.

        Raises:
            OSError: it cannot be read.
        """
        try:
            number = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            return None
        with open(number, "rb") as file:
            if os.fstat(number).st_uid != os.geteuid():
                raise PermissionError(f"{self._path} is another user's")
            return file.read().split(_END)[:-1]

    def begin(self, entries: Iterable[bytes]) -> None:
        """Begin anew, with these; the old one is there until that is done."""
        self.close()
        self.full = False
        octets = 0
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_APPEND
            self._fd = os.open(f"{self._path}.new", flags, 0o600)
            for entry in entries:
                self._write(entry)
                octets += len(entry)
            os.rename(f"{self._path}.new", self._path)
        except OSError as error:
            self._give_up(error)
        self._room = max(octets, LEAST)

    def add(self, entry: bytes) -> None:
        """Write down one more."""
        if self._fd >= 0:
            try:
                self._write(entry)
            except OSError as error:
                self._give_up(error)
            self._room -= len(entry)
            self.full = self._room < 0

    def _write(self, entry: bytes) -> None:
        whole = entry + _END
        if os.write(self._fd, whole) != len(whole):
            raise OSError(f"{self._path}: no space is left")

    def _give_up(self, error: OSError) -> None:
        """Half a truth is none."""
        logger.warning("the broker's journal cannot be written, its logs end with its process: %s", error)
        self.close()
        for path in (self._path, f"{self._path}.new"):
            with contextlib.suppress(OSError):
                os.unlink(path)

    def close(self) -> None:
        """Write no more; the file stays."""
        number, self._fd = self._fd, -1
        if number >= 0:
            os.close(number)
