"""A load from several processes, since one uses one core: `Crowd` is as `Load`, and adds up what they count.

Strategy: each process is a new interpreter in a session of its own, so that Ctrl-C is ours alone; its input and output
are pipes, and the end of ours is the end of it. None sends before all have opened their connections.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Final

from .driving import Phase
from .plan import Plan
from .tally import Tally

__all__ = ["Crowd", "WorkerLost"]

_LINE: Final = 2**22  # octets of a line from a process, at most
_ORDER: Final = list(Phase)


class WorkerLost(Exception):
    """A process of the tool ended before its work was done."""


class Crowd:
    """Does what a plan says, once, with several processes.

    Args:
        plan: of all.
        processes: how many.
    """

    def __init__(self, plan: Plan, processes: int) -> None:
        self._plans = plan.split(processes)
        self._processes: list[asyncio.subprocess.Process] = []
        self._tallies = [Tally() for _ in self._plans]
        self._phases = [Phase.OPENING for _ in self._plans]
        self._unready = len(self._plans)
        self._stopped = False

    @property
    def phase(self) -> Phase:
        """That of the process which is behind the others."""
        return min(self._phases, key=_ORDER.index)

    def stop(self) -> None:
        """As `Load.stop`."""
        self._stopped = True
        self._tell("stop")

    def snapshot(self) -> Tally:
        """What the processes have told last, together."""
        found = Tally()
        for tally in self._tallies:
            found.merge(tally)
        return found

    async def run(self) -> Tally:
        """As `Load.run`.

        Raises:
            OSError: a process can't be started.
            WorkerLost: one has ended by itself; the others are stopped.
        """
        try:
            for plan in self._plans:
                process = await asyncio.create_subprocess_exec(
                    sys.executable, "-m", "websock.cli.load.worker",
                    stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, start_new_session=True, limit=_LINE,
                )  # fmt: skip
                self._processes.append(process)
                assert process.stdin is not None  # noqa: S101 - for the type checker
                process.stdin.write(json.dumps(plan.to_json()).encode() + b"\n")
            if self._stopped:
                self._tell("stop")
            async with asyncio.TaskGroup() as group:
                for index in range(len(self._processes)):
                    group.create_task(self._follow(index))
        except ExceptionGroup as group_error:
            raise group_error.exceptions[0] from None
        finally:
            for process in self._processes:
                if process.returncode is None:
                    process.kill()
                await process.wait()
        return self.snapshot()

    async def _follow(self, index: int) -> None:
        """Hear what a process says, to its end."""
        process, ready, done = self._processes[index], False, False
        assert process.stdout is not None  # noqa: S101 - for the type checker
        while line := await process.stdout.readline():
            news = json.loads(line)
            self._phases[index] = Phase(news["phase"])
            self._tallies[index] = Tally.from_json(news["tally"])
            if news["ready"] and not ready:
                ready = True
                self._unready -= 1
                if not self._unready:
                    self._tell("go")
            done = news["done"]
        status = await process.wait()
        if not done:
            raise WorkerLost(f"a process of this tool ended before its work was done, with status {status}")

    def _tell(self, what: str) -> None:
        for process in self._processes:
            if process.stdin is not None and not process.stdin.is_closing():
                process.stdin.write(what.encode() + b"\n")
