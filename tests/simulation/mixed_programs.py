"""Random programs of both adapters: asyncio's server, and clients that block in threads."""

from __future__ import annotations

import asyncio

from websock.testing import Simulation

from . import asyncio_programs, blocking_programs
from .plans import Run


class Program(asyncio_programs.Program):
    def __init__(self, sim: Simulation, seed: int) -> None:
        super().__init__(sim, seed)
        self.blocking = blocking_programs.Program(sim, seed)
        self.blocking.runs, self.blocking.plans = self.runs, self.plans

    async def _client(self, index: int, delay: float) -> None:
        await asyncio.to_thread(self.blocking._client, index)


def run_program(sim: Simulation, seed: int) -> list[Run]:
    program = Program(sim, seed)
    sim.run(program.main())
    if program.blocking.errors:
        raise program.blocking.errors[0]
    return program.runs
