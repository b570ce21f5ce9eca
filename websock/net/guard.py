"""One call at a time in each direction of a stream, and how long it may take."""

from __future__ import annotations

import threading
import time
from typing import Any, Protocol

__all__ = ["Using", "deadline_after", "seconds", "seconds_left"]


class Guarded(Protocol):
    """What `Using` asks of a stream."""

    _closing: bool
    _ended: bool

    def _refusal(self, what: str) -> Exception: ...

    def _closed_error(self) -> OSError: ...

    def _explained(self, error: OSError, doing: str) -> OSError: ...

    def _finish(self) -> None: ...


class Using:
    """A call that is in a direction of a stream: one at a time, and its errors name the address."""

    __slots__ = ("_doing", "_lock", "_stream", "_what")

    def __init__(self, stream: Guarded, lock: threading.Lock, what: str, doing: str) -> None:
        self._stream = stream
        self._lock = lock
        self._what = what
        self._doing = doing

    def __enter__(self) -> None:
        if not self._lock.acquire(False):
            raise self._stream._refusal(self._what)
        if self._stream._closing:
            self._leave()
            raise self._stream._closed_error()

    def _leave(self) -> None:
        self._lock.release()
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
