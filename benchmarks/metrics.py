"""What metrics cost: ``python benchmarks/metrics.py``; ``--help`` lists its options.

Servers echo texts, without metrics, with metrics and, with ``--base``, one of another tree of this repository, to see
whether metrics cost something where they are not used. They have their turns one after the other in rounds; shown are
the ratios of the rates within a round, and of the server's CPU time for each message. The load is a C program.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import os
import statistics
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

from servers import websock, websock_callback, websock_sync
from turns import PATIENCE, ROOT, Process, Tools, compiler

KINDS = ("asyncio", "on_message", "thread")
LOADS = {"1 connection, 256 B": ("1", "1", "256"), "64 connections, 16 pipelined, 64 B": ("64", "16", "64")}


def more(on: bool) -> dict[str, object]:
    """Options of `serve`."""
    if not on:
        return {}
    from websock.metrics import Metrics

    return {"metrics": Metrics()}


def beside(base: list[float], ones: list[float]) -> float:
    """The ratio in the middle; not a number where nothing was measured, as in a turn too short for the clock."""
    ratios = [one / other for other, one in zip(base, ones, strict=True) if other]
    return statistics.median(ratios) if ratios else math.nan


def compare(kind: str, trees: list[tuple[str, Path, bool]], load: str, rounds: int, seconds: float, pure: bool) -> None:
    """Print what the first one does, and the others beside it."""
    free = sorted(os.sched_getaffinity(0))
    servers = []
    try:
        for _, tree, on in trees:
            environment = {**os.environ, "PYTHONPATH": str(tree), "WEBSOCK_PURE": "1" if pure else ""}
            command = [sys.executable, __file__, "--server", kind, *(["--on"] if on else [])]
            servers.append(Process(command, {free[0]}, environment))
        ports = [server.line(PATIENCE) for server in servers]
        for name, how in LOADS.items():
            rates: list[list[float]] = [[] for _ in trees]
            costs: list[list[float]] = [[] for _ in trees]
            for number in range(rounds + 1):
                for step in range(len(trees)):
                    which = (step + number) % len(trees)
                    done = subprocess.run(
                        [load, "echo", ports[which], *how, str(seconds)],
                        env={**os.environ, "LOAD_PID": str(servers[which].pid)},
                        capture_output=True,
                        text=True,
                        check=True,
                        timeout=60,
                    )
                    count, took, cpu = map(float, done.stdout.split())
                    if number:  # the first one warms up
                        rates[which].append(count / took)
                        costs[which].append(cpu / count if count else 0.0)
            kindness = f"{kind}, {'pure' if pure else 'native'}, {name}"
            print(f"{kindness}: {statistics.median(rates[0]):,.0f}/s {trees[0][0]}", flush=True)
            for (title, _, _), rate, cost in list(zip(trees, rates, costs, strict=True))[1:]:
                ratio, spent = beside(rates[0], rate), beside(costs[0], cost)
                print(f"    {title}: {ratio:.3f} of the rate, {spent:.3f} of the CPU time for a message", flush=True)
    finally:
        for server in servers:
            server.close()


def main() -> None:
    parser = argparse.ArgumentParser(description="What metrics cost.")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=0.5)
    parser.add_argument("--base", type=Path, help="another tree, with which this one is compared")
    parser.add_argument("--pure", action="store_true", help="over the Python twins")
    parser.add_argument("--kind", choices=KINDS, action="append")
    parser.add_argument("--server", choices=KINDS, help=argparse.SUPPRESS)
    parser.add_argument("--on", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.server == "thread":
        threading.stack_size(2**18)
        websock_sync("plain", **more(options.on))
    elif options.server:
        serve = websock_callback if options.server == "on_message" else websock
        asyncio.run(serve("plain", **more(options.on)))
    elif compiler() is None:
        raise SystemExit("it needs a C compiler")
    else:
        trees = [("without metrics", ROOT, False), ("with metrics", ROOT, True)]
        if options.base is not None:
            trees.insert(0, ("of the other tree", options.base, False))
        with tempfile.TemporaryDirectory() as folder:
            load = Tools(folder).program("load")
            for kind in options.kind or KINDS:
                compare(kind, trees, load, options.rounds, options.seconds, options.pure)


if __name__ == "__main__":
    main()
