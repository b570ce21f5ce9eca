"""A check for tests: every socket that is opened is closed."""

from __future__ import annotations

import gc
import linecache
import os
import socket
import sys
import threading
import time
import traceback
import tracemalloc
import weakref
from types import TracebackType
from typing import Any, ClassVar, Self

from .info import SocketRow, sockets_of

__all__ = ["LeakCheck"]

_MOMENT = 0.1  # seconds
_DEPTH = 6  # calls that are shown of where a socket was opened
_OURS = os.path.dirname(os.path.dirname(__file__)) + os.sep  # what is in there says nothing to its user


class LeakCheck:
    """What was opened inside must be closed at the end::

        with LeakCheck():
            talk_to("tcp://localhost:8080")

    Sockets of the whole process count, those of other threads and of libraries in C too; one that is passed on to
    live longer is a leak for this. A socket that nobody refers to any more is closed by Python, and no leak then: the
    ResourceWarning that it makes is for the test runner (``-W error``). An event loop closes its transports a moment
    after it was asked to, so ``asyncio.run(...)`` belongs inside as a whole.

    Args:
        trace: whether to keep where each socket was opened, outside of this library. It costs some microseconds for
            each; without, that is shown when ``tracemalloc`` is on.

    Raises:
        AssertionError: at the end, with the address and the state of each socket that is still open, and where it was
            opened. An exception from inside goes through, and nothing is checked then.
        NotOnThisSystem: the sockets of this process cannot be listed.
    """

    _tracing = 0  # checks with `trace` that are running, in all threads
    _lock: ClassVar[threading.Lock] = threading.Lock()
    _original: ClassVar[Any] = None
    _places: ClassVar[weakref.WeakKeyDictionary[socket.socket, list[str]]] = weakref.WeakKeyDictionary()

    def __init__(self, *, trace: bool = True) -> None:
        self._trace = trace
        self._before: set[tuple[int, int]] = set()

    def __enter__(self) -> Self:
        self._before = {(row.fd, row.inode) for row in sockets_of()}
        if self._trace:
            self._start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                left = [row for row in sockets_of() if (row.fd, row.inode) not in self._before]
                if left and (left := _without_inner(left)):
                    time.sleep(_MOMENT)  # another thread may be closing them just now
                    same = {(row.fd, row.inode) for row in left}
                    left = _without_inner([row for row in sockets_of() if (row.fd, row.inode) in same])
                if left:
                    raise AssertionError(_told(left))
        finally:
            if self._trace:
                self._stop()

    @classmethod
    def _start(cls) -> None:
        with cls._lock:
            cls._tracing += 1
            if cls._tracing > 1:
                return
            original = cls._original = socket.socket.__init__

            # Accepted sockets and pairs are made by this too.
            def init(self: socket.socket, *args: Any, **options: Any) -> None:
                original(self, *args, **options)
                calls = [
                    call for call in traceback.walk_stack(sys._getframe(1)) if _is_theirs(call[0].f_code.co_filename)
                ]
                cls._places[self] = traceback.StackSummary.extract(reversed(calls[:_DEPTH])).format()

            socket.socket.__init__ = init  # type: ignore[method-assign]

    @classmethod
    def _stop(cls) -> None:
        with cls._lock:
            cls._tracing -= 1
            if not cls._tracing:
                socket.socket.__init__ = cls._original  # type: ignore[method-assign]
                cls._places.clear()

    @classmethod
    def place(cls, sock: socket.socket) -> list[str]:
        """The lines that tell where a socket was opened; none if nobody took note."""
        lines = cls._places.get(sock)
        if lines is None:
            found = tracemalloc.get_object_traceback(sock) or ()
            theirs = [(one.filename, one.lineno) for one in found if _is_theirs(one.filename)][-_DEPTH:]
            lines = [
                f'  File "{file}", line {line}\n    {linecache.getline(file, line).strip()}\n' for file, line in theirs
            ]
        return lines


def _is_theirs(file: str) -> bool:
    return not file.startswith(_OURS)


def _without_inner(left: list[SocketRow]) -> list[SocketRow]:
    """But for what a listener, or whatever else says so, has to wake itself: nothing that a user has opened."""
    owners = [one for one in gc.get_objects() if isinstance(getattr(type(one), "inner_sockets", None), property)]
    inner = {sock.fileno() for one in owners for sock in one.inner_sockets}
    return [row for row in left if row.fd not in inner]


def _told(left: list[SocketRow]) -> str:
    # Python's objects of the descriptors, for where they were made; libraries in C have none.
    objects = {one.fileno(): one for one in gc.get_objects() if isinstance(one, socket.socket)}
    count = len(left)
    text = [f"{count} {'socket was' if count == 1 else 'sockets were'} opened here and never closed:\n"]
    for row in left:
        ends = " to ".join(str(end) for end in (row.local, row.remote) if end is not None)
        text.append(f"  fd {row.fd}: {row.kind} {ends + ' ' if ends else ''}({row.state})\n")
        sock = objects.get(row.fd)
        if sock is not None and (place := LeakCheck.place(sock)):
            text.append("  opened at:\n")
            text += place
    return "".join(text).rstrip("\n")
