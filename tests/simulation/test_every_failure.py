"""Programs of which every single call of the network fails once: what must be true is true each time."""

from __future__ import annotations

import logging

import pytest

from websock.testing import Faults, fail_each

from ..sockets import Logs
from .plans import BOUND, judge
from .test_seeds import ADAPTERS

SEEDS = {"asyncio": (0, 7, 8), "blocking": (6, 7), "mixed": (6, 7)}
FAULTS = Faults(latency=(0, 0.01), reset_at=None, capacity=2**14)
MOST = 150  # operations: the programs of a few seeds are much longer


@pytest.mark.parametrize(("adapter", "seed"), [(adapter, seed) for adapter in ADAPTERS for seed in SEEDS[adapter]])
def test_every_operation_fails_once(adapter: str, seed: int, logs: Logs) -> None:
    logging.getLogger("websock").setLevel(logging.CRITICAL)
    failures = set()
    for n, sim in fail_each(seed, FAULTS, limit=BOUND):
        with sim:
            runs = ADAPTERS[adapter](sim, seed)
        sim.check()
        for run in runs:
            judge(run, Faults(reset_at=1))
        failures.add(sim.failed.partition(": ")[2].partition(" ")[0])
        if n == MOST:
            break
    assert failures >= {"connect", "accept", "send", "recv"}
    assert not [record for record in logs.records if record.name == "asyncio"]
