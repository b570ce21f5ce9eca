"""One call at a time in each direction of a stream, and how long it may take."""

from __future__ import annotations

import time
from typing import Any, Protocol

__all__ = ["Turn", "Using", "deadline_after", "seconds", "seconds_left"]


class Guarded(Protocol):
    """What `Using` asks of a stream."""

    _closing: bool
    _ended: bool

    def _refusal(self, what: str) -> Exception: ...

    def _closed_error(self) -> OSError: ...

    def _explained(self, error: OSError, doing: str) -> OSError: ...

    def _finish(self) -> None: ...


class Turn(list[None]):
    """Who may be in a call: one at a time, and nobody waits for it.

    It is taken with ``pop``, which raises IndexError when somebody else has it, and given back with ``append``. Like a
    lock's methods these are atomic, with and without the interpreter's own lock, and they cost a fifth: a lock of each
    direction would be half of what a stream costs over its bare socket.
    """

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__((None,))

    def take(self) -> bool:
        """Take it; whether nobody had it."""
        try:
            self.pop()
        except IndexError:
            return False
        return True

    def taken(self) -> bool:
        """Whether somebody has it."""
        return not self


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
        self._turn.append(None)
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
