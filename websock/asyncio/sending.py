"""What ``send`` returns: awaitables that have nothing to do, or begin with it when they are awaited."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator
from typing import Any

__all__ = ["SENT", "Sending"]

_NOTHING = iter(())  # at its end from the beginning, and so for ever


class _Sent(Coroutine[Any, Any, None]):
    """What ``send`` returns when there is nothing to wait for; one object for all.

    It is a coroutine, so that ``create_task(ws.send(...))`` and ``TaskGroup`` take it; not awaiting it is no mistake.
    """

    __slots__ = ()

    def __await__(self) -> Generator[Any, None, None]:
        return _NOTHING  # type: ignore[return-value]  # an iterator is what await needs

    def send(self, value: Any) -> Any:
        raise StopIteration

    def throw(self, typ: Any, val: Any = None, tb: Any = None) -> Any:
        raise typ if val is None else val

    def close(self) -> None:
        pass


SENT = _Sent()


class Sending(_Sent):
    """What ``send`` returns when awaiting it has something to do: it runs the coroutine function then, not before."""

    __slots__ = ("_finish", "_running")

    def __init__(self, finish: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._finish = finish
        self._running: Coroutine[Any, Any, None] | None = None

    def __await__(self) -> Generator[Any, None, None]:
        return self._finish().__await__()

    def send(self, value: Any) -> Any:
        if self._running is None:
            self._running = self._finish()
        return self._running.send(value)

    def throw(self, typ: Any, val: Any = None, tb: Any = None) -> Any:
        if self._running is None:
            self._running = self._finish()
        return self._running.throw(typ if val is None else val)

    def close(self) -> None:
        if self._running is not None:
            self._running.close()
