"""A fixed number of threads for all connections."""

from __future__ import annotations

import collections
import threading
import time
from typing import ClassVar

from ..sync.models import Job, Model

__all__ = ["Pool"]


class Pool(Model):
    """A fixed number of threads, which are kept: the memory of a server is known beforehand.

    **A WebSocket has its thread for its whole life**, so `threads` is also the number of connections that are served
    at a time. The next ones wait, `queue` of them and each for `patience` seconds; then, and when the queue is full,
    they are refused with 503, so that a client or a load balancer can go elsewhere instead of waiting for a life to
    end. The bound of the queue is why: who waits costs a descriptor, and its own ``open_timeout`` runs.

    Args:
        threads: how many; each begins when it is first needed.
        queue: connections that may wait; 0 for none.
        patience: seconds that one may wait.

    Raises:
        ValueError: a number out of range.
    """

    name: ClassVar[str] = "pool"

    def __init__(self, threads: int = 64, *, queue: int = 16, patience: float = 5.0) -> None:
        super().__init__()
        if threads < 1 or queue < 0 or not patience >= 0:
            raise ValueError(
                f"a pool needs a thread, and no less than nothing may wait: {threads}, {queue}, {patience}"
            )
        self._most = threads
        self._places = queue
        self._patience = patience
        self._changed = threading.Condition(threading.RLock())  # a signal handler may stop in the thread that starts
        self._running: dict[threading.Thread, Job | None] = {}
        self._idle = 0  # threads that wait for a job
        self._waiting: collections.deque[tuple[Job, float]] = collections.deque()  # with the end of its patience
        self._usher: threading.Thread | None = None  # sends away those who waited too long
        self._ending = False

    def __repr__(self) -> str:
        return f"Pool({self._most}, queue={self._places}, patience={self._patience})"

    def start(self, job: Job) -> None:
        with self._changed:
            if self._ending:
                job.refuse()
                return
            waiting = len(self._waiting)
            if waiting >= self._idle and len(self._running) < self._most:
                self._begin(job)
            elif waiting >= self._idle + self._places:
                self.refuse(job, f"all {self._most} threads are in use and {waiting} connections wait")
            else:
                if waiting >= self._idle and self._usher is None:
                    usher = threading.Thread(target=self._show_out, name="websock-usher", daemon=True)
                    usher.start()
                    self._usher = usher
                self._waiting.append((job, time.monotonic() + self._patience))
                self._changed.notify_all()

    def _begin(self, job: Job) -> None:
        thread = threading.Thread(
            target=self._work, args=(job,), name=f"websock-pool-{len(self._running)}", daemon=True
        )
        self._running[thread] = job
        try:
            thread.start()
        except RuntimeError:
            del self._running[thread]
            raise

    def _work(self, job: Job) -> None:
        """A thread of the pool."""
        me = threading.current_thread()
        try:
            while True:
                try:
                    job.run()
                finally:
                    job.ended()
                del job  # a thread that waits keeps no connection
                with self._changed:
                    self._running[me] = None
                    self._idle += 1
                    self._changed.wait_for(lambda: self._waiting or self._ending)
                    self._idle -= 1
                    if not self._waiting:
                        return
                    job, _ = self._waiting.popleft()
                    self._running[me] = job
        finally:
            with self._changed:
                del self._running[me]
                self._changed.notify_all()

    def _show_out(self) -> None:
        """The thread of the usher: those in front have waited longest. It ends when nobody waits."""
        with self._changed:
            while self._waiting:
                job, deadline = self._waiting[0]
                left = deadline - time.monotonic()
                if left > 0:
                    self._changed.wait(left)
                else:
                    self._waiting.popleft()
                    self.refuse(job, f"all {self._most} threads were in use for {self._patience} s")
            self._usher = None

    def jobs(self) -> list[Job]:
        with self._changed:
            return [job for job in self._running.values() if job is not None]

    def stop(self, *how: object) -> None:
        with self._changed:
            self._ending = True
            waiting = [job for job, _ in self._waiting]
            given = waiting[: self._idle]  # a thread is on its way to each of these
            while len(self._waiting) > len(given):
                self._waiting.pop()
            self._changed.notify_all()
        for job in waiting[len(given) :]:
            job.refuse()
        for job in given:
            job.stop(*how)
        super().stop(*how)

    def join(self) -> None:
        with self._changed:
            running = list(self._running.items())
            usher = self._usher
        for thread, job in running:
            if thread is not threading.current_thread() and thread.is_alive():
                if job is not None:
                    job.wait()
                thread.join()
        if usher is not None:
            usher.join()
