"""Our client and our server under faults, for thousands of seeds: what must be true, is true for all of them.

``WEBSOCK_SEEDS=50000`` tries so many; ``WEBSOCK_SEED=1234`` that one alone.
"""

from __future__ import annotations

import logging
import os

import pytest

from websock.accelerated import ACCELERATED
from websock.testing import simulate

from ..sockets import Logs
from . import asyncio_programs, blocking_programs, mixed_programs
from .plans import BOUND, Wrong, faults_of, judge

BLOCK = 50

ADAPTERS = {
    "asyncio": asyncio_programs.run_program,
    "blocking": blocking_programs.run_program,
    "mixed": mixed_programs.run_program,
}


USUAL = {"asyncio": 1000, "blocking": 250, "mixed": 100}  # seeds; they differ in what they cost


def blocks(adapter: str) -> list[range]:
    if one := os.environ.get("WEBSOCK_SEED"):
        return [range(int(one), int(one) + 1)]
    end = int(os.environ.get("WEBSOCK_SEEDS", USUAL[adapter]))
    return [range(at, min(at + BLOCK, end)) for at in range(0, end, BLOCK)]


ALL = [(adapter, seeds) for adapter in ADAPTERS for seeds in blocks(adapter)]


def attempt(adapter: str, seed: int, logs: Logs) -> int:
    """Run the program of a seed and judge it; the fingerprint of the run."""
    logs.clear()
    with simulate(seed, faults_of(seed), limit=BOUND) as sim:
        runs = ADAPTERS[adapter](sim, seed)
    sim.check()
    for run in runs:
        judge(run, faults_of(seed))
    planned = [record for record in logs.tracebacks() if record.exc_info and record.exc_info[0] is not None]
    wrong = [logs.text(record) for record in planned if record.exc_info and record.exc_info[0].__name__ != "Planned"]  # type: ignore[union-attr]
    wrong += [logs.text(record) for record in logs.records if record.name == "asyncio"]
    if wrong:
        raise Wrong("\n".join(wrong))
    return sim.fingerprint


@pytest.mark.parametrize(("adapter", "seeds"), ALL, ids=[f"{adapter}-{seeds[0]}" for adapter, seeds in ALL])
def test_seeds(adapter: str, seeds: range, logs: Logs) -> None:
    logging.getLogger("websock").setLevel(logging.ERROR)
    failures: list[tuple[int, Exception]] = []
    for seed in seeds:
        try:
            attempt(adapter, seed, logs)
        except Exception as error:
            failures.append((seed, error))
    logs.clear()
    if failures:
        told = "\n".join(f"seed {seed}: {type(error).__name__}: {str(error)[:600]}" for seed, error in failures)
        pure = "" if ACCELERATED else "WEBSOCK_PURE=1 "
        again = f"{pure}WEBSOCK_SEED={failures[0][0]} python -m pytest tests/simulation -k {adapter}"
        raise AssertionError(f"{len(failures)} of {len(seeds)} seeds fail\n{told}\nagain: {again}") from failures[0][1]
