"""Thousands of connections on one server for minutes: ``make soak``.

    python benchmarks/soak.py [--connections 10000] [--minutes 10] [--model asyncio|uvloop|thread|...] [--json FILE]

A server in a process of its own, and clients in as many others as descriptors need (`soakers.py`), which echo messages
of 0 to 64 KiB, most of them short, ping, leave and come again, some of them without a word, and now and then ask for a
broadcast. Each message carries who sent it, and which one of that connection it is: what does not come back, comes
twice, or too early, is counted. Meanwhile the server's memory and descriptors are read, which must be flat in the
second half: they may end higher than they began by a few percent only.

A server is a command (``python benchmarks/soak.py --serve MODEL`` is one) that prints its port. The exit status says
whether anything was lost, doubled or out of order, or grew.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import json
import logging
import os
import resource
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from floods import resident
from servers import HOST, announce, run
from turns import HERE, ROOT, Process, Trouble

MODELS = {"asyncio": 10_000, "uvloop": 10_000, "thread": 2_000}
"""Models of this file, with the connections that they get unless told otherwise: a thread for each costs more."""

SERVING = {"pool": 500, "processes": 100, "prefork": 10_000}
"""Models of `websock.serving`; "prefork" is two workers with an event loop each."""

SPARE = 200  # descriptors that a process needs for other things
START = 20.0  # seconds for a server to print its port
EVERY = 1.0  # seconds between two looks at the server
ALLOWED = 0.05  # how much more memory at the end of the second half than at its beginning, as a share, or
ALLOWED_MB = 5.0  # so much
ALLOWED_FDS = 0.03  # the same for descriptors; connections come and go, so there is some noise


# The server.


async def serve_tasks() -> None:
    from websock.asyncio.server import broadcast, serve

    async def answer(connection: Any) -> None:
        async for message in connection:
            if message[:1] == b"B":
                broadcast(connection.server.connections, message)
            else:
                await connection.send(message)

    async with serve(answer, HOST, 0, backlog=4096) as server:
        announce(next(iter(server.sockets)).getsockname()[1])
        await asyncio.get_running_loop().create_future()


def serve_threads() -> None:
    from websock.sync.server import broadcast, serve

    def answer(connection: Any) -> None:
        for message in connection:
            if message[:1] == b"B":
                broadcast(connection.server.connections, message)
            else:
                connection.send(message)

    threading.stack_size(256 * 1024)
    with serve(answer, HOST, 0, backlog=4096) as server:
        announce(server.socket.getsockname()[1])
        server.serve_forever()


def echo(connection: Any) -> None:
    """The handler for models that have no list of all connections: each answers its own only."""
    for message in connection:
        connection.send(message)


async def echo_in_tasks(connection: Any) -> None:
    """As `echo`."""
    async for message in connection:
        await connection.send(message)


def serve(model: str) -> None:
    """This process as a server; does not return."""
    logging.disable()  # ends without Close are what this is about
    raise_limit()
    if model == "thread":
        serve_threads()
    elif model in MODELS:
        run(serve_tasks(), model == "uvloop")
    else:
        from websock import serving

        def ready(sockets: Sequence[Any]) -> None:
            announce(sockets[0].getsockname()[1])

        how: dict[str, Any] = {"model": model}
        if model == "pool":
            how["model"] = serving.Pool(threads=500)
        elif model == "prefork":
            how = {"workers": 2}
        handler = echo_in_tasks if model == "prefork" else echo
        serving.run(handler, HOST, 0, backlog=4096, on_ready=ready, **how)


def command_of(model: str) -> list[str]:
    """How to start a server of this model."""
    # glibc's malloc keeps freed blocks for each thread, seven of each of 64 sizes. Threads that live as long as the
    # server, and have messages of all sizes, fill that for hours: growth with an end, that would hide one without.
    without = ["env", "GLIBC_TUNABLES=glibc.malloc.tcache_count=0"] if model == "pool" else []
    return [*without, sys.executable, str(HERE / "soak.py"), "--serve", model]


# What is looked at.


def raise_limit() -> int:
    """The descriptors that this process may have."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return 2**20 if most == resource.RLIM_INFINITY else most


@dataclasses.dataclass
class Series:
    """What was read once a second."""

    values: list[float] = dataclasses.field(default_factory=list)

    def second_half(self) -> list[float]:
        return self.values[len(self.values) // 2 :]

    def slope(self) -> float:
        """By how much it rises in a minute, in the second half: least squares."""
        half = self.second_half()
        count = len(half)
        if count < 2:
            return 0.0
        middle, mean = (count - 1) / 2, sum(half) / count
        along = sum((at - middle) * (value - mean) for at, value in enumerate(half))
        return along / sum((at - middle) ** 2 for at in range(count)) * 60 / EVERY

    def difference(self) -> float:
        """The mean of its last tenth less that of its first tenth, in the second half."""
        half = self.second_half()
        tenth = max(len(half) // 10, 1)
        return sum(half[-tenth:]) / tenth - sum(half[:tenth]) / tenth if half else 0.0

    def flat(self, share: float, least: float) -> bool:
        half = self.second_half()
        return self.difference() <= max(share * (sum(half) / max(len(half), 1)), least)


def descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def family(pid: int) -> list[int]:
    """A process and all that came of it."""
    found = [pid]
    for one in found:
        try:
            for thread in os.listdir(f"/proc/{one}/task"):
                found += map(int, Path(f"/proc/{one}/task/{thread}/children").read_text().split())
        except OSError:
            pass  # it has ended meanwhile
    return found


def of_each(what: Callable[[int], float], pids: Sequence[int]) -> Iterator[float]:
    """What is read of those processes that have not ended meanwhile."""
    for pid in pids:
        try:
            yield what(pid)
        except (FileNotFoundError, ProcessLookupError):
            pass


COUNTS = ("sent", "answered", "lost", "doubled", "disordered", "wrong", "failed", "opened", "dropped", "pings")
FAULTS = ("lost", "doubled", "disordered", "wrong", "failed")


def soak(
    command: Sequence[str],
    connections: int,
    seconds: float,
    *,
    broadcasts: bool = True,
    patience: float = 30,
    say: Any = print,
) -> dict[str, Any]:
    """One run; what was counted. `patience` is how many seconds the last answers may take.

    Raises:
        Trouble: the server, or a process of clients, did not start or ended early.
    """
    room = raise_limit() - SPARE
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(HERE), os.environ.get("PYTHONPATH", "")]),
    }
    cores = os.sched_getaffinity(0)
    if connections > room:
        say(f"{connections} connections are more than a process may have: {room} it is")
        connections = room
    workers = max(2, -(-connections // 2500)) if connections >= 100 else 1
    shares = [connections // workers + (number < connections % workers) for number in range(workers)]
    processes: list[Process] = []
    memory, fds = Series(), Series()
    found = dict.fromkeys(COUNTS, 0)
    try:
        server = Process(list(command), cores, environment)
        processes.append(server)
        port = server.line(START).rpartition(":")[2]
        for number, share in enumerate(shares):
            soaker = [sys.executable, str(HERE / "soakers.py"), HOST, port, str(share), str(seconds), str(number)]
            soaker += [str(patience), *["--no-broadcasts"] * (not broadcasts)]
            processes.append(Process(soaker, cores, environment))
        for process in processes[1:]:
            process.line(60 + connections / 50)  # all of its connections are open
        say(f"{connections} connections open")
        for process in processes[1:]:
            process.say("go")
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            time.sleep(min(EVERY, max(end - time.monotonic(), 0)))
            if not server.alive:
                raise Trouble(f"the server ended: {server.last_words()}")
            pids = family(server.pid)
            memory.values.append(sum(of_each(resident, pids)))
            fds.values.append(sum(of_each(descriptors, pids)))
        for process in processes[1:]:
            told = json.loads(process.line(90))
            for name in COUNTS:
                found[name] += told[name]
    finally:
        for process in processes[::-1]:
            process.close()
    flat = memory.flat(ALLOWED, ALLOWED_MB), fds.flat(ALLOWED_FDS, 20)
    return {
        "connections": connections,
        "seconds": seconds,
        **found,
        "memory MB": round(memory.values[-1], 1) if memory.values else 0,
        "memory difference MB": round(memory.difference(), 2),
        "memory slope MB/min": round(memory.slope(), 2),
        "memory flat": flat[0],
        "fds": fds.values[-1] if fds.values else 0,
        "fds difference": round(fds.difference(), 1),
        "fds slope 1/min": round(fds.slope(), 1),
        "fds flat": flat[1],
        "good": not any(found[name] for name in FAULTS) and all(flat) and found["answered"] > 0,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Thousands of connections on one server for minutes.")
    parser.add_argument("--model", choices=[*MODELS, *SERVING], default="asyncio", help="how the server works")
    parser.add_argument("--server", metavar="COMMAND", help="start this instead, which prints its port")
    parser.add_argument("--connections", type=int, metavar="N", help="default: as the model can")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--json", metavar="FILE", help="write what was counted")
    parser.add_argument("--serve", choices=[*MODELS, *SERVING], help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.serve:
        serve(options.serve)
    if (options.connections is not None and options.connections < 1) or options.minutes <= 0:
        parser.error("--connections and --minutes must be more than nothing")
    connections = options.connections or {**MODELS, **SERVING}[options.model]
    command = options.server.split() if options.server else command_of(options.model)
    try:
        found = soak(
            command, connections, options.minutes * 60, broadcasts=options.model in MODELS and not options.server
        )
    except (Trouble, OSError) as error:
        print(f"{options.model}: {error}", file=sys.stderr)
        return 2
    for name, value in found.items():
        print(f"{name:24}{value}")
    if options.json:
        Path(options.json).write_text(json.dumps({"model": options.model, **found}, indent=1))
    return 0 if found["good"] else 1


if __name__ == "__main__":
    sys.exit(main())
