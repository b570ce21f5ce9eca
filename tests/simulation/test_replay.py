"""A seed is a run: the same in this process, in another one, and with other addresses and hashes of objects."""

from __future__ import annotations

import pytest

from ..programs import Program
from ..sockets import Logs
from .test_seeds import ADAPTERS, attempt

SEEDS = range(30)
CODE = """
import logging
from tests.simulation.test_seeds import attempt
from tests.sockets import Logs
logging.getLogger("websock").setLevel(logging.CRITICAL)
unused = [object() for _ in range(12_345)]
print(*[attempt({adapter!r}, seed, Logs()) for seed in {seeds}])
"""


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_the_same_again(adapter: str, logs: Logs) -> None:
    first = [attempt(adapter, seed, logs) for seed in SEEDS]
    assert first == [attempt(adapter, seed, logs) for seed in SEEDS]
    assert len(set(first)) > len(SEEDS) * 0.9
    with Program("-c", CODE.format(adapter=adapter, seeds=list(SEEDS)), PYTHONHASHSEED="5") as program:
        status, out, err = program.end()
    assert (status, err) == (0, [])
    assert [int(word) for word in out[0].split()] == first
    logs.clear()
