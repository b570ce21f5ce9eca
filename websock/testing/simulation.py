"""A simulation: a network in memory, virtual time, and everything that is chance from one seed."""

from __future__ import annotations

import asyncio
import random
import traceback
from collections.abc import Coroutine, Iterable, Iterator
from types import TracebackType
from typing import Any, Final, Self, TypeVar

from ..net import memory
from .faults import Faults
from .loop import VirtualLoop
from .network import Connection, MemoryNetwork
from .patches import Patches
from .scheduler import Managed, Scheduler, Stuck

__all__ = ["Simulation", "fail_each", "simulate"]

T = TypeVar("T")

LIMIT: Final = 24 * 3600.0
OPERATIONS: Final = ("connect", "accept", "send", "recv")
_MANY: Final = 20  # tasks or threads that an error names


class Simulation:
    """What `simulate` gives; use it in a ``with`` block, once.

    In the block the thread's time is virtual: ``time.sleep(60)``, timers and timeouts take no time, and the clocks of
    the ``time`` module tell virtual time. So do the threads that are started there. Exactly one of them runs; who is
    next, what the network does and the numbers of the ``random`` module depend on the seed alone.

    What does not: ``os.urandom``; the order of a ``set`` of objects, such as ``server.connections``, which depends on
    their addresses; what finalizers do when the garbage collector runs. What waits for real, and is not to be used: the
    system's sockets and processes, and what has taken ``time.sleep`` or ``time.monotonic`` by name before the block
    (``from time import sleep``), or made its locks before.

    A blocking program is called in the block as it is; `run` is for coroutines. Nobody answers the pings of a blocking
    connection that its program leaves alone, as one thread does in reality: its peer gives it up, unless that has
    ``ping_interval=None``.

    Attributes:
        seed: as given.
        network: what happens there; for looks.
    """

    def __init__(
        self,
        seed: int = 0,
        faults: Faults | None = None,
        *,
        limit: float = LIMIT,
        preempt: float = 0.1,
        fail_at: int = 0,
        operations: Iterable[str] = OPERATIONS,
    ) -> None:
        kinds = frozenset(operations)
        if not kinds <= {*OPERATIONS}:
            raise ValueError(f"operations are of {', '.join(OPERATIONS)}, not {', '.join(sorted(kinds))}")
        if not isinstance(faults, Faults | None):
            raise TypeError(f"faults must be a Faults or None, not {faults!r}")
        if not limit > 0 or not 0 <= preempt < 1:
            raise ValueError(f"limit is more than 0 s and preempt a share below 1, not {limit!r} and {preempt!r}")
        self.seed = seed
        self._chance = random.Random(f"websock simulation {seed}")  # noqa: S311 - it is to be repeated
        self._scheduler = Scheduler(self._chance, limit, preempt)
        self._scheduler.describe = self._describe
        self.network = MemoryNetwork(self._scheduler, self._chance, faults or Faults(), fail_at, kinds)
        self._patches = Patches(self._scheduler)
        self._main: Managed | None = None
        self._used = False
        self._random: Any = None
        self._loops: list[VirtualLoop] = []
        self._left: list[str] = []

    def __enter__(self) -> Self:
        if self._used:
            raise RuntimeError("a simulation runs once: make a new one")
        if memory._network is not None:
            raise RuntimeError("a simulation runs already in this process")
        self._used = True
        memory.install(self.network)
        self._random = random.getstate()
        random.seed(self._chance.random())
        self._main = self._scheduler.join("main")
        self._patches.install(self._new_loop)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._left += [f"thread {one.name}" for one in self._scheduler.others]
        try:
            self._scheduler.finish()
        finally:
            self._patches.remove()
            random.setstate(self._random)
            memory.install(None)
        self._left += [f"socket {sock.name}" for sock in self.network.open.values() if kind is None]
        for sock in list(self.network.open.values()):
            sock.close()

    # Time and faults.

    @property
    def now(self) -> float:
        """Seconds of virtual time since the simulation began."""
        return self._scheduler.now

    @property
    def faults(self) -> Faults:
        """What happens to connections that are made from now on."""
        return self.network.faults

    @faults.setter
    def faults(self, faults: Faults) -> None:
        self.network.faults = faults

    def reset(self, name: str | None = None) -> int:
        """Reset the connections that are open, of one name or of all; how many they were."""
        found = self._open(name)
        for connection in found:
            connection.reset()
        return len(found)

    def stall(self, seconds: float, name: str | None = None) -> int:
        """Nothing arrives on the connections of one name, or of all, for so many seconds; how many they were."""
        found = self._open(name)
        for connection in found:
            connection.stall(seconds)
        return len(found)

    def _open(self, name: str | None) -> list[Connection]:
        return [
            one
            for one in self.network.connections
            if name in (None, one.name) and (one.client.number >= 0 or (one.server and one.server.number >= 0))
        ]

    def signal(self, number: int) -> None:
        """Send a signal to those who have asked for it with ``loop.add_signal_handler``."""
        for loop in self._loops:
            if number in loop.handlers:
                callback, arguments = loop.handlers[number]
                loop.call_soon_threadsafe(callback, *arguments)

    # What happened.

    @property
    def operations(self) -> int:
        """How many calls of the network there were that could have failed."""
        return self.network.operations

    @property
    def failed(self) -> str:
        """What failed because it was the operation that was to; empty: nothing has."""
        return self.network.failed

    @property
    def fingerprint(self) -> int:
        """A number for all that the network has done, in what order and when: the same seed gives the same."""
        return self.network.fingerprint

    @property
    def left(self) -> list[str]:
        """Tasks and timers that were left at the end of `run`, and threads and sockets at that of the block."""
        return list(self._left)

    def check(self) -> None:
        """Behind the ``with`` block: raise if the program has left something behind.

        Raises:
            AssertionError: it says what.
            RuntimeError: the block has not ended, so nobody knows yet.
        """
        if self._main is None or not self._scheduler.over:
            raise RuntimeError("check comes behind the with block of a simulation, when all should have ended")
        if self._left:
            raise AssertionError(f"left behind (seed {self.seed}): {'; '.join(self._left)}")

    # Running.

    def run(self, main: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in an event loop of the simulation, as ``asyncio.run`` does in a real one.

        Raises:
            Stuck: everybody waits, and nothing will ever happen; the text names the tasks.
            OutOfTime: the program has not ended within `limit` seconds of virtual time.
            TypeError: that is no coroutine.
        """
        if not asyncio.iscoroutine(main):
            raise TypeError(
                f"run takes a coroutine, as in sim.run(main()), not {main!r}; a blocking program is just called"
            )
        if self._main is None or self._scheduler.over:
            main.close()
            raise RuntimeError("a simulation runs in its with block: with testing.simulate() as sim: sim.run(main())")
        loop = self._new_loop()
        self._loops.append(loop)
        try:
            asyncio.set_event_loop(loop)
            result = loop.run_until_complete(main)
            loop.run_until_complete(_turns())  # what was closed has its end
            self._left += [f"task {_of_task(task)}" for task in asyncio.all_tasks(loop)]
            self._left += [f"timer {timer!r}" for timer in getattr(loop, "_scheduled", ()) if not timer.cancelled()]
            return result
        finally:
            try:
                _cancel_all(loop)
            finally:
                asyncio.set_event_loop(None)
                self._loops.remove(loop)
                loop.close()

    def _new_loop(self) -> VirtualLoop:
        return VirtualLoop(self._scheduler, self.network, self._chance)

    def _describe(self) -> list[str]:
        lines = [f"task {_of_task(task)}" for loop in self._loops for task in asyncio.all_tasks(loop)]
        return [*sorted(lines)[:_MANY], f"(seed {self.seed}, at {self.now:g} s)"]


async def _turns() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


def _of_task(task: asyncio.Task[Any]) -> str:
    """Its name, and where it waits."""
    frames = task.get_stack(limit=1)
    if not frames:
        return task.get_name()
    coroutine = task.get_coro()
    where = traceback.extract_stack(frames[-1], limit=1)[0]
    name = getattr(coroutine, "__qualname__", "?")
    return f"{task.get_name()} waits in {name}, {where.filename}:{where.lineno}: {where.line}"


def _cancel_all(loop: VirtualLoop) -> None:
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    try:
        if tasks:
            loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        loop.run_until_complete(loop.shutdown_asyncgens())
    except Stuck:
        pass  # that is what we are told already, or will be
    for task in tasks:
        if task.done() and not task.cancelled() and task.exception() is not None:
            loop.call_exception_handler(
                {"message": "an error at the end of a simulation", "exception": task.exception(), "task": task}
            )


def simulate(seed: int = 0, faults: Faults | None = None, *, limit: float = LIMIT, preempt: float = 0.1) -> Simulation:
    """A simulation, for a ``with`` block.

    Args:
        seed: of everything that is chance. The same seed gives the same run.
        faults: what goes wrong on the network; default: nothing.
        limit: seconds of virtual time that it may take, a day by default.
        preempt: how often, of 1, another thread has its turn where the one that runs takes a lock or uses a socket.

    Raises:
        TypeError: faults that are none.
        ValueError: a limit or a share that makes no sense.
        RuntimeError: when it is entered: another one runs.
    """
    return Simulation(seed, faults, limit=limit, preempt=preempt)


def fail_each(
    seed: int = 0,
    faults: Faults | None = None,
    *,
    operations: Iterable[str] = OPERATIONS,
    limit: float = LIMIT,
    preempt: float = 0.1,
) -> Iterator[tuple[int, Simulation]]:
    """Simulations in which the n-th operation of the network fails, for every n; at last one without a failure.

    ::

        for n, sim in testing.fail_each(operations=("send", "recv")):
            with sim:
                sim.run(program())

    A ``connect`` is refused, one that fails in ``accept`` is reset before it is accepted, ``send`` and ``recv`` reset
    the connection.

    Args:
        operations: which of ``connect``, ``accept``, ``send`` and ``recv`` count.
        seed, faults, limit, preempt: as for `simulate`.

    Raises:
        RuntimeError: a simulation was not run.
    """
    operations = tuple(operations)
    n = 0
    while True:
        n += 1
        sim = Simulation(seed, faults, limit=limit, preempt=preempt, fail_at=n, operations=operations)
        yield n, sim
        if not sim._used:
            raise RuntimeError("each simulation is to be run: for n, sim in fail_each(): with sim: ...")
        if not sim.failed:
            return
