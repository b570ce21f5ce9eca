"""What makes pre-forked workers one server for `websock.pubsub`: a private place where they meet.

Strategy: only the name of a socket is agreed on here, in the environment of the workers; nothing is made before a
worker has a hub. Who has said where hubs meet, such as ``redis://...``, is not overruled.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from typing import Final

__all__ = ["VARIABLE", "meet_at", "meeting_place"]

VARIABLE: Final = "WEBSOCK_BACKPLANE"
"""Where the hubs of a process meet those of others, unless they are told."""

_LONGEST: Final = 80  # octets of the folder's name: the path of a Unix socket has 104 of them on some systems


@contextlib.contextmanager
def meeting_place() -> Iterator[str | None]:
    """A folder for our user alone, for as long as the workers run: the value of `VARIABLE`; None where it is set."""
    if VARIABLE in os.environ:
        yield None
        return
    folder = tempfile.gettempdir()
    folder = tempfile.mkdtemp(prefix="websock-", dir=folder if len(os.fsencode(folder)) <= _LONGEST else "/tmp")  # noqa: S108 - what is made there is ours alone
    try:
        yield f"workers:{os.path.join(folder, 'hub.sock')}"
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def meet_at(place: str | None) -> None:
    """In a worker: what its hubs find in the environment."""
    if place is not None:
        os.environ[VARIABLE] = place
