"""One call at a time in each direction of a stream, how long it may take, and when the last one has left."""

from __future__ import annotations

import socket
import sys
import time
import warnings
from collections.abc import Callable, Iterable
from types import FrameType
from typing import TYPE_CHECKING, Any, Final, Protocol

from ..accelerated import ACCELERATED
from ..typing import Buffer

__all__ = ["Turn", "Using", "deadline_after", "let_go", "seconds", "seconds_left", "wait_until_left"]

_PATIENCE: Final = 1.0  # seconds that who was woken has to leave a call
_ENDINGS: Final = ("close", "abort")


class Guarded(Protocol):
    """What `Using` asks of a stream."""

    _closing: bool
    _ended: bool

    def _refusal(self, what: str) -> Exception: ...

    def _closed_error(self) -> OSError: ...

    def _explained(self, error: OSError, doing: str) -> OSError: ...

    def _finish(self) -> None: ...


class Turn:
    """Who may be in a call: one at a time, and nobody waits for it. And the short way of that call.

    Attributes:
        sock: what the short way is for; None while it must not be gone. It is looked at by who has taken the turn.
        flags: of its system calls.
        cut: a signal has ended a send after a part of it.
        wait: what waits before a read, and says whether there is something; None: the read does.
    """

    __slots__ = ("_free", "cut", "flags", "sock", "wait")

    def __init__(self) -> None:
        # Like a lock's methods pop and append are atomic, with and without the interpreter's own lock, and they cost
        # a fifth: a lock of each direction would be half of what a stream costs over its bare socket.
        self._free: list[None] = [None]
        self.sock: socket.socket | None = None
        self.flags = 0
        self.cut = False
        self.wait: Callable[[], object] | None = None

    def take(self) -> bool:
        """Take it; whether nobody had it."""
        try:
            self._free.pop()
        except IndexError:
            return False
        return True

    def give(self) -> None:
        """Give it back."""
        self._free.append(None)

    def taken(self) -> bool:
        """Whether somebody has it."""
        return not self._free

    def receive(self, size: int) -> bytes | None:
        """A call of ``recv``, within the turn; None if the short way cannot be gone now."""
        if size < 1 or not self.take():
            return None
        try:
            if self.sock is None:
                return None
            if self.wait is not None and not self.wait():
                raise TimeoutError
            return self.sock.recv(size, self.flags)
        finally:
            self._free.append(None)

    def send(self, data: Buffer) -> int | None:
        """A call of ``send``: how many octets are left, and the turn is kept then; None as above."""
        if not self.take():
            return None
        left: int | None = None
        try:
            if self.sock is not None:
                view = memoryview(data).cast("B")
                try:
                    left = len(view) - self.sock.send(view, self.flags)
                except BlockingIOError:
                    left = len(view)
            return left
        finally:
            if not left:
                self._free.append(None)


if ACCELERATED and not TYPE_CHECKING:
    from .._native import speedups

    Turn = getattr(speedups, "Turn", Turn)  # not on Windows


class Using:
    """A call that is in a direction of a stream: one at a time, and its errors name the address."""

    __slots__ = ("_doing", "_stream", "_turn", "_what")

    def __init__(self, stream: Guarded, turn: Turn, what: str, doing: str) -> None:
        self._stream = stream
        self._turn = turn
        self._what = what
        self._doing = doing

    def __enter__(self) -> None:
        if not self._turn.take():
            raise self._stream._refusal(self._what)
        if self._stream._closing:
            self._leave()
            raise self._stream._closed_error()

    def _leave(self) -> None:
        self._turn.give()
        if self._stream._ended:
            self._stream._finish()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: Any) -> None:
        self._leave()
        if isinstance(error, OSError):
            raise self._stream._explained(error, self._doing) from None


def wait_until_left(owner: object, sock: socket.socket) -> None:
    """Wait until `sock` is closed, by the last who leaves a call of `owner` and was woken.

    So whoever closes can use the address again. Not for longer than a second: a call may be held up by something
    else, such as the file that it sends. And not at all when this thread is itself in such a call, below us: a signal
    handler runs there, and it goes on only when that has returned.
    """
    if sock.fileno() < 0 or _is_inside(owner):
        return
    deadline = time.monotonic() + _PATIENCE
    while sock.fileno() >= 0 and time.monotonic() < deadline:
        time.sleep(0.0005)  # rather than an event, which every call would have to look for


def _is_inside(owner: object) -> bool:
    """Whether this thread is in a call of `owner` other than the one that closes it: its stack tells."""
    package = __name__.rpartition(".")[0]
    endings = 0
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        ours = str(frame.f_globals.get("__name__")).startswith(package)
        if ours and frame.f_locals.get("self") is owner:
            name = frame.f_code.co_name
            endings += name in _ENDINGS
            if endings > 1 or name not in (*_ENDINGS, "_close", "__exit__"):
                return True
        frame = frame.f_back
    return False


def let_go(it: object, sockets: Iterable[socket.socket]) -> None:
    """For ``__del__``: close what nobody has closed. One warning names it, rather than one for each bare socket."""
    left = [sock for sock in sockets if sock.fileno() >= 0]
    if not left:
        return
    try:
        warnings.warn(f"unclosed {it!r}", ResourceWarning, stacklevel=3, source=it)
    finally:
        for sock in left:
            sock.close()


def seconds(value: float | None, name: str) -> float | None:
    """What is given as a time, once it is looked at.

    Raises:
        TypeError: no number; True is none.
        ValueError: a number that is no time from 0.
    """
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} is a number of seconds from 0, or None, not {value!r}")
    if not value >= 0:
        raise ValueError(f"{name} is a number of seconds from 0, or None, not {value!r}")
    return value


def deadline_after(timeout: float | None) -> float | None:
    return None if timeout is None else time.monotonic() + timeout


def seconds_left(deadline: float | None) -> float | None:
    return None if deadline is None else max(0.0, deadline - time.monotonic())
