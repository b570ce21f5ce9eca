"""Testing programs that use websock: networks in memory, faults from a seed, and time that passes when nobody waits.

::

    from websock import testing

    async def main():
        async with serve(echo, "mem://chat"), connect("mem://chat") as ws:
            ...
            await asyncio.sleep(3600)  # takes no time

    with testing.simulate(seed=7, faults=testing.Faults(latency=(0.01, 0.3), chop=True)) as sim:
        sim.run(main())

Blocking programs run in the ``with`` block as they are, with threads, ``time.sleep`` and queues.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import lazily

if TYPE_CHECKING:
    from .faults import Faults
    from .peer import Peer, ScriptedPeer
    from .scheduler import OutOfTime, Stuck
    from .simulation import Simulation, fail_each, simulate

__getattr__, __dir__ = lazily(
    __name__,
    {
        "faults": ("Faults",),
        "peer": ("Peer", "ScriptedPeer"),
        "scheduler": ("OutOfTime", "Stuck"),
        "simulation": ("Simulation", "fail_each", "simulate"),
    },
)

__all__ = ["Faults", "OutOfTime", "Peer", "ScriptedPeer", "Simulation", "Stuck", "fail_each", "simulate"]
