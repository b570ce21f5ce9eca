"""Drain a server under load: ``python benchmarks/drain.py``; ``--help`` lists its options.

The server is a process of its own, and so are its clients. Every client sends numbered messages, and waits for the
answer to one before it sends the next; one in ten sends without waiting. In the middle of that the server drains.
What the server's handlers took is compared with what the clients had answers to: a message that was taken and not
answered is lost. Each client tells how its connection ended.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import json
import os
import resource
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
MODELS = ("asyncio", "uvloop", "thread")


def more_files() -> None:
    """As many descriptors as the system allows."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


# The server.


async def serve_tasks(taken: collections.Counter[str], deadline: float, spread: float) -> str:
    from websock.asyncio.server import ServerConnection, serve

    async def handler(ws: ServerConnection) -> None:
        assert ws.request is not None
        name = ws.request.path
        async for message in ws:
            taken[name] += 1
            await ws.send(message)

    async with serve(handler, "127.0.0.1", 0, compression=None) as server:
        print(server.sockets[0].getsockname()[1], flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
        return str(await server.drain(deadline, spread=spread))


def serve_threads(taken: collections.Counter[str], deadline: float, spread: float) -> str:
    from websock.sync.server import ServerConnection, serve

    def handler(ws: ServerConnection) -> None:
        assert ws.request is not None
        name = ws.request.path
        for message in ws:
            taken[name] += 1
            ws.send(message)

    with serve(handler, "127.0.0.1", 0, compression=None) as server:
        accepting = threading.Thread(target=server.serve_forever)
        accepting.start()
        print(server.socket.getsockname()[1], flush=True)
        sys.stdin.readline()
        report = str(server.drain(deadline, spread=spread))
        accepting.join()
        return report


def be_server(model: str, deadline: float, spread: float) -> None:
    more_files()
    taken: collections.Counter[str] = collections.Counter()
    if model == "thread":
        report = serve_threads(taken, deadline, spread)
    else:
        factory = None
        if model == "uvloop":
            import uvloop

            factory = uvloop.new_event_loop
        with asyncio.Runner(loop_factory=factory) as runner:
            report = runner.run(serve_tasks(taken, deadline, spread))
    print(json.dumps({"report": report, "taken": taken}), flush=True)


# The clients.


async def talk(uri: str, waits: bool, opened: Any, answered: collections.Counter[str], ends: Any) -> None:
    """One client, until its connection is closed."""
    from websock.asyncio.client import connect
    from websock.exceptions import ConnectionClosed

    name = "/" + uri.rpartition("/")[2]
    try:
        ws = await connect(uri, compression=None, open_timeout=60)
    except OSError as error:
        ends[f"not open: {error}"] += 1
        return
    opened[0] += 1

    async def send_on() -> None:
        number = 0
        while True:
            await ws.send(f"{number}")
            number += 1
            await asyncio.sleep(0.01)

    sending = None if waits else asyncio.create_task(send_on())
    try:
        number = 0
        while True:
            if waits:
                await ws.send(f"{number}")
            if await ws.recv() != f"{number}":
                ends["WRONG ANSWER"] += 1
                return
            answered[name] += 1
            number += 1
            await asyncio.sleep(0.01)
    except ConnectionClosed as closed:
        ends[str(closed.rcvd) if closed.rcvd is not None else f"NO CLOSE: {closed}"] += 1
    finally:
        if sending is not None:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)


async def talk_all(port: int, count: int) -> None:
    answered: collections.Counter[str] = collections.Counter()
    ends: collections.Counter[str] = collections.Counter()
    opened = [0]
    talking = [
        asyncio.create_task(talk(f"ws://127.0.0.1:{port}/{index}", index % 10 != 0, opened, answered, ends))
        for index in range(count)
    ]
    while opened[0] < count and any(not task.done() for task in talking):  # noqa: ASYNC110 - two ends to wait for
        await asyncio.sleep(0.05)
    print("open", flush=True)
    await asyncio.gather(*talking)
    print(json.dumps({"answered": answered, "ends": ends}), flush=True)


def start(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, __file__, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        text=True,
    )


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def run(model: str, connections: int, seconds: float, deadline: float, spread: float) -> bool:
    """One drain; whether nothing was lost and every client saw the Close."""
    with start("--be-server", model, "--deadline", str(deadline), "--spread", str(spread)) as server:
        port = said(server).strip()
        with start("--be-clients", port, "--connections", str(connections)) as clients:
            assert said(clients) == "open\n"
            time.sleep(seconds)
            assert server.stdin is not None
            server.stdin.write("drain\n")
            server.stdin.flush()
            drained = json.loads(said(server))
            told = json.loads(said(clients))
    taken, answered, ends = drained["taken"], told["answered"], told["ends"]
    lost = sum(max(0, count - answered.get(name, 0)) for name, count in taken.items())
    more = sum(max(0, count - taken.get(name, 0)) for name, count in answered.items())
    closed = sum(count for how, count in ends.items() if how.startswith(("1001", "1012")))
    print(f"{model}: {drained['report']}")
    print(f"  {sum(taken.values()):,} messages taken, {sum(answered.values()):,} answered: {lost} lost, {more} made up")
    print(f"  {closed} of {connections} clients saw 1001 or 1012; all: {ends}")
    return not lost and not more and closed == connections


def main() -> int:
    parser = argparse.ArgumentParser(description="Drain a server under load, and see what is lost.")
    parser.add_argument("--models", nargs="+", default=MODELS, choices=MODELS)
    parser.add_argument("--connections", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=2.0, help="of load before it drains")
    parser.add_argument("--deadline", type=float, default=30.0)
    parser.add_argument("--spread", type=float, default=1.0)
    parser.add_argument("--be-server", choices=MODELS, help=argparse.SUPPRESS)
    parser.add_argument("--be-clients", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.be_server:
        be_server(options.be_server, options.deadline, options.spread)
    elif options.be_clients:
        more_files()
        asyncio.run(talk_all(options.be_clients, options.connections))
    else:
        results = [
            run(model, options.connections, options.seconds, options.deadline, options.spread)
            for model in options.models
        ]
        return 0 if all(results) else 1
    return 0


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    sys.exit(main())
