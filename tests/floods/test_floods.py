"""The attacks of `make floods`, scaled down, on both adapters: what a server allocates for them, and how each ends.

The attacker is a process of its own, so that what is counted here is the server's. Time is not looked at: the table of
`make floods` is for that.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import attacks
import pytest

ATTACKS = Path(attacks.__file__)
MB = 1_000_000
SIZE = 250_000  # octets of a message that the servers here accept


def answer(end: Any) -> None:
    while True:
        message = end.recv(60)
        if message == "flood":
            for _ in range(20):
                end.send("x" * MB)
        else:
            end.send(message)


def attack(port: int, name: str, scale: float) -> attacks.Outcome:
    command = [sys.executable, str(ATTACKS), name, "127.0.0.1", str(port), "--scale", str(scale), "--seconds", "30"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    return attacks.Outcome(**json.loads(done.stdout))


# Attack, how much of it, octets that the server may allocate at most, how it may end.
FLOODS = [
    ("empty-fragments", 0.03, 0.5 * MB, {("taken in", None), ("closed", 1008), ("closed", 1009)}),
    ("empty-fragments", 0.15, 0.5 * MB, {("closed", 1008), ("closed", 1009)}),  # more than a message may have
    ("one-byte-fragments", 0.03, 0.5 * MB, {("taken in", None), ("closed", 1008), ("closed", 1009)}),
    ("unread-pings", 0.3, 2 * MB, {("taken in", None), ("waits", None), ("cut", None), ("closed", 1008)}),
    ("empty-frames", 0.03, 4 * MB, {("taken in", None), ("closed", 1008)}),
    ("single-octets", 0.02, 1 * MB, {("taken in", None), ("closed", 1008)}),
    ("bomb", 0.1, 1.5 * MB, {("closed", 1009)}),
    ("half-open", 0.005, 1.5 * MB, {("taken in", None)}),
    ("many-headers", 0.2, 1.5 * MB, {("refused", 431)}),
    ("slow-reader", 0.3, 4.5 * MB, {("waits", None)}),  # the handler's message, its octets, and what is under way
]


@pytest.mark.parametrize(("flood", "scale", "most", "ends"), FLOODS, ids=[f"{one[0]}-{one[1]}" for one in FLOODS])
def test_a_flood_is_bounded(
    bench: Any, name: str, flood: str, scale: float, most: float, ends: set[tuple[str, int | None]]
) -> None:
    where = bench.where("tcp4")
    bench.serve(name, where, answer, max_size=SIZE, ping_interval=None, close_timeout=2)
    first = bench.connect(name, where)  # what is loaded and filled at first is nobody's attack
    first.send("x" * SIZE)
    assert first.recv(10) == "x" * SIZE
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        outcome = attack(where.port, flood, scale)
        peak = tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
    assert (outcome.what, outcome.code) in ends, outcome
    assert peak < most, f"{peak / MB:.2f} MB, {outcome}"
    first.send("still here")
    assert first.recv(10) == "still here"
