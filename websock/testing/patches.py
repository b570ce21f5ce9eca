"""What a simulation puts in the place of clocks, locks and threads, for its own threads only, and only while it runs.

``time.sleep``, ``time.monotonic`` and the other clocks, ``threading.Lock`` and all that is made of it, ``Thread``,
``queue`` and ``asyncio.new_event_loop`` behave as ever for threads that take no part. What was made inside works on
when the simulation has ended.
"""

from __future__ import annotations

import _thread
import asyncio
import queue
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final

from .scheduler import Ended, Managed, Scheduler, clock

__all__ = ["Patches"]

_EPOCH: Final = 1_000_000_000  # time.time() at the beginning
_ABSENT: Final = object()


class _Lock:
    """A lock: a real one, for which the threads of the simulation don't wait for real."""

    __slots__ = ("__weakref__", "_lock", "_scheduler")

    def __init__(self, scheduler: Scheduler) -> None:
        self._lock = _thread.allocate_lock()
        self._scheduler = scheduler

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        scheduler = self._scheduler
        if scheduler.current() is None:
            return self._lock.acquire(blocking, timeout)
        scheduler.preempt()
        while not self._lock.acquire(False):
            if not blocking or not scheduler.wait(self._free, None if timeout < 0 else timeout):
                return False
        return True

    def _free(self) -> bool:
        return not self._lock.locked()

    def release(self) -> None:
        if self._scheduler.failed and not self._lock.locked():
            return  # the error that ends the simulation was raised where a condition takes its lock again
        self._lock.release()

    def locked(self) -> bool:
        return self._lock.locked()

    def _at_fork_reinit(self) -> None:
        self._lock = _thread.allocate_lock()

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def __repr__(self) -> str:
        return f"<{'locked' if self.locked() else 'unlocked'} lock of a simulation>"


class _Started:
    """Stands for the event that a thread sets when it has begun, for which ``start`` waits for real."""

    def __init__(self) -> None:
        self._lock = _thread.allocate_lock()
        self._lock.acquire()
        self._set = False

    def set(self) -> None:
        self._set = True
        self._lock.release()

    def is_set(self) -> bool:
        return self._set

    def wait(self, timeout: float | None = None) -> bool:
        with self._lock:
            return True


class Patches:
    """All of them: put in place by `install`, and taken back by `remove`."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._before: list[tuple[Any, str, Any]] = []
        self._managed: dict[threading.Thread, Managed] = {}

    def _set(self, where: Any, name: str, value: Any) -> None:
        before = where.__dict__.get(name, _ABSENT)
        if before is not _ABSENT:
            self._before.append((where, name, before))
            setattr(where, name, value)

    def install(self, new_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
        """Begin; threads of the program that run an event loop of their own get it from `new_loop`."""
        scheduler = self._scheduler
        current = scheduler.current
        seconds = clock(scheduler, time.monotonic, float)
        for name in ("monotonic", "perf_counter"):
            self._set(time, name, clock(scheduler, getattr(time, name), float))
            self._set(time, f"{name}_ns", clock(scheduler, getattr(time, f"{name}_ns"), lambda now: int(now * 1e9)))
        self._set(time, "time", clock(scheduler, time.time, lambda now: _EPOCH + now))
        self._set(time, "time_ns", clock(scheduler, time.time_ns, lambda now: _EPOCH * 10**9 + int(now * 1e9)))
        real_sleep = time.sleep
        self._set(time, "sleep", lambda wait: real_sleep(wait) if current() is None else scheduler.sleep(wait))
        # These have taken the clock by its name before we came.
        self._set(threading, "_time", seconds)
        self._set(queue, "time", seconds)

        real_lock, real_rlock, python_rlock = threading.Lock, threading.RLock, threading._PyRLock  # type: ignore[attr-defined]
        allocate = _thread.allocate_lock
        self._set(threading, "Lock", lambda: real_lock() if current() is None else _Lock(scheduler))
        self._set(threading, "_allocate_lock", lambda: allocate() if current() is None else _Lock(scheduler))
        self._set(threading, "RLock", lambda: real_rlock() if current() is None else python_rlock())
        self._set(queue, "SimpleQueue", queue._PySimpleQueue)  # type: ignore[attr-defined]  # of threading's locks
        self._threads()
        real_loop = asyncio.new_event_loop
        self._set(asyncio, "new_event_loop", lambda: real_loop() if current() is None else new_loop())

    def _threads(self) -> None:
        scheduler, managed = self._scheduler, self._managed
        current = scheduler.current
        real_start, real_join = threading.Thread.start, threading.Thread.join
        real_is_alive = threading.Thread.is_alive

        def start(self: threading.Thread) -> None:
            if current() is None or self._started.is_set():  # type: ignore[attr-defined]
                real_start(self)
                return
            one = scheduler.add(self.name)
            self._started = _Started()  # type: ignore[attr-defined]
            self.run = _run_of(scheduler, one, self.run)  # type: ignore[method-assign]
            managed[self] = one
            try:
                real_start(self)
            except BaseException:
                scheduler._threads.remove(one)
                raise
            scheduler.preempt()

        def join(self: threading.Thread, timeout: float | None = None) -> None:
            one = managed.get(self)
            if one is not None and current() is not None and current() is not one:
                if not scheduler.wait(lambda: one.done, None if timeout is None else max(0.0, timeout)):
                    return
                timeout = None  # it is at its end
            real_join(self, timeout)

        def is_alive(self: threading.Thread) -> bool:
            one = managed.get(self)
            return real_is_alive(self) if one is None else not one.done

        self._set(threading.Thread, "start", start)
        self._set(threading.Thread, "join", join)
        self._set(threading.Thread, "is_alive", is_alive)

    def remove(self) -> None:
        while self._before:
            setattr(*self._before.pop())
        for thread in self._managed:
            thread.join(5)  # it is at its end
        self._managed.clear()


def _run_of(scheduler: Scheduler, one: Managed, run: Callable[[], None]) -> Callable[[], None]:
    def managed_run() -> None:
        try:
            scheduler.first_turn(one)
            run()
        except Ended:
            pass
        finally:
            scheduler.leave(one)

    return managed_run
