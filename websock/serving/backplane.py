"""What makes pre-forked workers one server for `websock.pubsub`: a private place where they meet.

Strategy: only the name of a socket is agreed on here, in the environment of the workers; nothing is made before a
worker has a hub. Who has said where hubs meet, such as ``redis://...``, is not overruled. A supervisor that is killed
leaves its folder to the next one: its processes hold a lock in it for as long as one of them lives.
"""

from __future__ import annotations

import contextlib
import glob
import os
import shutil
import tempfile
from collections.abc import Iterator
from typing import Final

from ..typing import LoggerLike

__all__ = ["VARIABLE", "meet_at", "meeting_place"]

VARIABLE: Final = "WEBSOCK_BACKPLANE"
"""Where the hubs of a process meet those of others, unless they are told."""

_SOCKET: Final = "hub.sock"
_LOCK: Final = "alive"
_FILES: Final = (_SOCKET, f"{_SOCKET}.lock", f"{_SOCKET}.log", f"{_SOCKET}.log.new", _LOCK)  # all that we make there
_UNLOCKED: Final = "websock-new-"
_LOCKED: Final = "websock-hub-"
_LONGEST: Final = 72  # octets of the folder's name: the path of a Unix socket has 104 of them on some systems


@contextlib.contextmanager
def meeting_place(logger: LoggerLike) -> Iterator[str | None]:
    """A folder for our user alone, for as long as the workers run: the value of `VARIABLE`; None where it is set."""
    if VARIABLE in os.environ:
        yield None
        return
    parent = tempfile.gettempdir()
    parent = parent if len(os.fsencode(parent)) <= _LONGEST else "/tmp"  # noqa: S108 - what is made there is ours alone
    _tidy(parent, logger)
    folder = tempfile.mkdtemp(prefix=_UNLOCKED, dir=parent)
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):  # without a lock nobody tidies it up
            _lock(os.path.join(folder, _LOCK), os.O_CREAT, stack)
            named = os.path.join(parent, _LOCKED + os.path.basename(folder).removeprefix(_UNLOCKED))
            os.rename(folder, named)
            folder = named
        try:
            yield f"workers:{os.path.join(folder, _SOCKET)}"
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _lock(path: str, flags: int, stack: contextlib.ExitStack, folder: int | None = None) -> None:
    """Lock a file until the stack ends, here and in all processes that are forked meanwhile.

    Raises:
        OSError: it cannot be; BlockingIOError: somebody else has.
    """
    import fcntl  # not on Windows

    number = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | flags, 0o600, dir_fd=folder)
    stack.callback(os.close, number)
    fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _tidy(parent: str, logger: LoggerLike) -> None:
    """Remove the folders of our user that are of no living server: what we make there, and nothing else."""
    for path in glob.glob(os.path.join(glob.escape(parent), f"{_LOCKED}*")):
        try:
            with contextlib.ExitStack() as stack:
                folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
                stack.callback(os.close, folder)
                if os.fstat(folder).st_uid != os.geteuid():
                    continue
                _lock(_LOCK, 0, stack, folder)
                for name in _FILES:
                    with contextlib.suppress(FileNotFoundError):
                        os.unlink(name, dir_fd=folder)
                os.rmdir(path)
        except BlockingIOError:
            pass  # it is in use
        except OSError as error:
            logger.debug("%s is not removed: %s", path, error)
        else:
            logger.debug("%s is removed: its server was killed", path)


def meet_at(place: str | None) -> None:
    """In a worker: what its hubs find in the environment."""
    if place is not None:
        os.environ[VARIABLE] = place
