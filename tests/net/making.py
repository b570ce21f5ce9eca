"""For tests of sockets that are made here."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator

__all__ = ["ROOT", "at", "closing"]

ROOT = os.geteuid() == 0


@contextlib.contextmanager
def closing(sockets: list[socket.socket]) -> Iterator[list[socket.socket]]:
    try:
        yield sockets
    finally:
        for sock in sockets:
            sock.close()


def at(text: str, directory: str) -> str:
    return text.format(tmp=directory, pid=os.getpid())
