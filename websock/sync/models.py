"""How a blocking server spreads its connections: what a `Model` is, and the first one, `Threads`.

Strategy: a model is given one `Job` for each accepted connection and decides where it runs. It knows nothing of
WebSocket, and a job knows nothing of threads: it blocks. The other models are in ``websock.serving``.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, ClassVar, Final, Protocol

from ..exceptions import InvalidState
from ..typing import LoggerLike

__all__ = ["Host", "Job", "Model", "Threads"]

_QUIET: Final = 10.0  # seconds between two lines about refusals


class Job(Protocol):
    """One accepted connection, from its acceptance to its end."""

    def run(self) -> None:
        """The whole of it; blocks. To be called once, where the model wants it to run."""

    def stop(self, *how: Any) -> None:
        """Begin to end it, as `how` says: what the server was told. From any thread; does not wait."""

    def wait(self) -> None:
        """After `stop`: help it to end, while the thread that runs it may be busy elsewhere."""

    def abort(self) -> None:
        """End its connection at once. From any thread; does not wait."""

    def refuse(self) -> None:
        """There is no room for it, and it never runs: tell its peer. Does not wait."""

    def forget(self) -> None:
        """It never runs here, since another process has it: close our copy of its socket."""

    def ended(self) -> None:
        """It is over, wherever it ran. To be called once for each job that was run or forgotten."""


class Host(Protocol):
    """What a model may use of its server."""

    logger: LoggerLike

    def watch(self, file: Any, callback: Callable[[], object]) -> None:
        """Call `callback` in the thread that accepts, whenever `file` can be read."""

    def unwatch(self, file: Any) -> None:
        """No more."""

    def forget(self) -> None:
        """In a child process: close what belongs to the server."""


class Model:
    """Decides where jobs run. One object serves one server.

    Attributes:
        name: for messages, and for the ``model=`` of ``websock.serving.run``.
        in_process: jobs run in this process, where they can be counted.
    """

    name: ClassVar[str]
    in_process: ClassVar[bool] = True

    def __init__(self) -> None:
        self._host: Host | None = None
        self._refused = 0  # since the last line about them
        self._told: float | None = None  # when that was

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"

    @property
    def host(self) -> Host:
        """The server."""
        if self._host is None:
            raise InvalidState(f"{self} has no server yet")
        return self._host

    def open(self, host: Host) -> None:
        """Begin to work for a server.

        Raises:
            InvalidState: it works for one.
        """
        if self._host is not None:
            raise InvalidState(f"{self} has a server already: every server needs a model of its own")
        self._host = host

    def start(self, job: Job) -> None:
        """Run a job, or refuse it; does not wait for its end.

        Raises:
            OSError, RuntimeError: the system has no room for it now.
        """
        raise NotImplementedError

    def jobs(self) -> list[Job]:
        """Those in this process that have not ended."""
        raise NotImplementedError

    def count(self) -> int:
        """How many have not ended, in this process or in others."""
        return len(self.jobs())

    def stop(self, *how: Any) -> None:
        """Begin to end all jobs; does not wait. None is started afterwards."""
        for job in self.jobs():
            job.stop(*how)

    def join(self) -> None:
        """After `stop`: wait until no job runs, but for that of the calling thread."""
        raise NotImplementedError

    def abort(self) -> None:
        """End all jobs at once; does not wait for those that don't look at their connection."""
        for job in self.jobs():
            job.abort()

    def refuse(self, job: Job, why: str) -> None:
        """Refuse a job; one line tells how many have been, every ten seconds at most."""
        job.refuse()
        self._refused += 1
        now = time.monotonic()
        if self._told is None or now - self._told >= _QUIET:
            self.host.logger.warning("connections refused: %d (%s)", self._refused, why)
            self._told, self._refused = now, 0


class Threads(Model):
    """A thread for each connection: simple, and each costs its stack; good for some thousands."""

    name = "threads"

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.RLock()  # a signal handler may stop in the thread that starts
        self._threads: dict[threading.Thread, Job] = {}

    def start(self, job: Job) -> None:
        thread = threading.Thread(target=self._run, args=(job,), name=f"websock-{job}", daemon=True)
        with self._lock:
            self._threads[thread] = job
        try:
            thread.start()
        except RuntimeError:
            with self._lock:
                del self._threads[thread]
            raise

    def _run(self, job: Job) -> None:
        try:
            job.run()
        finally:
            job.ended()
            with self._lock:
                del self._threads[threading.current_thread()]

    def jobs(self) -> list[Job]:
        with self._lock:
            return list(self._threads.values())

    def join(self) -> None:
        with self._lock:
            running = list(self._threads.items())
        for thread, job in running:
            if thread is not threading.current_thread() and thread.is_alive():
                job.wait()
                thread.join()
