"""One call at a time in each direction of a stream, and how long it may take."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from ..accelerated import ACCELERATED
from ..typing import Buffer

__all__ = ["Turn", "Using", "deadline_after", "seconds", "seconds_left"]


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


def seconds(value: float | None, name: str) -> float | None:
    if value is not None and not (isinstance(value, (int, float)) and value >= 0):
        raise ValueError(f"{name} is a number of seconds from 0, or None, not {value!r}")
    return value


def deadline_after(timeout: float | None) -> float | None:
    return None if timeout is None else time.monotonic() + timeout


def seconds_left(deadline: float | None) -> float | None:
    return None if deadline is None else max(0.0, deadline - time.monotonic())
