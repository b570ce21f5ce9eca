"""What limits cost: ``python benchmarks/limits.py``; ``--help`` lists its options.

Two servers of each kind echo 256 octets, one with all limits (none of which is reached), one with none. They have their
turns one after the other in rounds, with 16 connections; shown are the ratio of the rates within a round, and of the
CPU time of the server for each message.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import os
import statistics
import sys
import threading
import time

from servers import websock, websock_sync
from turns import PATIENCE, ROOT, Process

KINDS = ("asyncio", "thread")
CLIENTS = 16


def limits(on: bool) -> object:
    from websock import Limits

    if not on:
        return Limits(half_open=None)
    return Limits(
        connections=10**6,
        per_client=10**6,
        handshakes_per_second=1e6,
        messages_per_second=1e7,
        bytes_per_second=1e10,
    )


async def load(port: int, seconds: float) -> float:
    """Messages for each second."""
    from websock.asyncio.client import connect

    end = time.perf_counter() + seconds
    count = 0

    async def talk() -> None:
        nonlocal count
        async with connect(f"ws://127.0.0.1:{port}/", compression=None) as ws:
            while time.perf_counter() < end:
                await ws.send(b"x" * 256)
                await ws.recv()
                count += 1

    started = time.perf_counter()
    await asyncio.gather(*(talk() for _ in range(CLIENTS)))
    return count / (time.perf_counter() - started)


def compare(kind: str, rounds: int, seconds: float) -> None:
    servers = []
    try:
        for on in (False, True):
            command = [sys.executable, __file__, "--server", kind, *(["--on"] if on else [])]
            servers.append(Process(command, os.sched_getaffinity(0), {**os.environ, "PYTHONPATH": str(ROOT)}))
        ports = [int(server.line(PATIENCE)) for server in servers]
        rates: list[list[float]] = [[], []]
        costs: list[list[float]] = [[], []]
        for number in range(rounds + 1):
            for which in (0, 1) if number % 2 else (1, 0):
                before = servers[which].cpu()
                rate = asyncio.run(load(ports[which], seconds))
                if number:  # the first one warms up
                    rates[which].append(rate)
                    costs[which].append((servers[which].cpu() - before) / (rate * seconds))
        rate_ratio = statistics.median(on / off for off, on in zip(*rates, strict=True))
        # The clock of a process counts hundredths of a second: a short turn may have had none.
        cost_ratios = [off / on for off, on in zip(*costs, strict=True) if on]
        cost_ratio = statistics.median(cost_ratios) if cost_ratios else math.nan
        print(
            f"{kind}: {statistics.median(rates[1]):,.0f}/s with limits, {rate_ratio:.3f} of the rate without; "
            f"without / with, CPU for each message: {cost_ratio:.3f}"
        )
    finally:
        for server in servers:
            server.close()


def main() -> None:
    parser = argparse.ArgumentParser(description="What limits cost.")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=0.5)
    parser.add_argument("--server", choices=KINDS, help=argparse.SUPPRESS)
    parser.add_argument("--on", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.server == "asyncio":
        asyncio.run(websock("plain", limits=limits(options.on)))
    elif options.server:
        threading.stack_size(2**18)
        websock_sync("plain", limits=limits(options.on))
    else:
        for kind in KINDS:
            compare(kind, options.rounds, options.seconds)


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()
