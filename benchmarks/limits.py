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
import subprocess
import sys
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
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


async def serve_tasks(on: bool) -> None:
    from websock.asyncio.server import ServerConnection, serve

    async def echo(ws: ServerConnection) -> None:
        async for message in ws:
            await ws.send(message)

    async with serve(echo, "127.0.0.1", 0, compression=None, limits=limits(on)) as server:  # type: ignore[arg-type]
        print(server.sockets[0].getsockname()[1], flush=True)
        await server.serve_forever()


def serve_threads(on: bool) -> None:
    from websock.sync.server import ServerConnection, serve

    def echo(ws: ServerConnection) -> None:
        for message in ws:
            ws.send(message)

    with serve(echo, "127.0.0.1", 0, compression=None, limits=limits(on)) as server:  # type: ignore[arg-type]
        print(server.socket.getsockname()[1], flush=True)
        server.serve_forever()


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


def cpu(pid: int) -> float:
    """Seconds that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def compare(kind: str, rounds: int, seconds: float) -> None:
    servers = [
        subprocess.Popen(
            [sys.executable, __file__, "--server", kind, *(["--on"] if on else [])],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            text=True,
        )
        for on in (False, True)
    ]
    try:
        ports = [int(server.stdout.readline()) for server in servers if server.stdout is not None]
        rates: list[list[float]] = [[], []]
        costs: list[list[float]] = [[], []]
        for number in range(rounds + 1):
            for which in (0, 1) if number % 2 else (1, 0):
                before = cpu(servers[which].pid)
                rate = asyncio.run(load(ports[which], seconds))
                if number:  # the first one warms up
                    rates[which].append(rate)
                    costs[which].append((cpu(servers[which].pid) - before) / (rate * seconds))
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
            server.kill()
            server.communicate()


def main() -> None:
    parser = argparse.ArgumentParser(description="What limits cost.")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=0.5)
    parser.add_argument("--server", choices=KINDS, help=argparse.SUPPRESS)
    parser.add_argument("--on", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.server == "asyncio":
        asyncio.run(serve_tasks(options.on))
    elif options.server:
        threading.stack_size(2**18)
        serve_threads(options.on)
    else:
        for kind in KINDS:
            compare(kind, options.rounds, options.seconds)


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()
