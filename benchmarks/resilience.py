"""A chat that loses workers, Redis and a link, and no message: ``python benchmarks/resilience.py``.

    python benchmarks/resilience.py --backplane workers|redis [--clients 1000] [--rooms 50] [--rate 200] [--seconds 120]
                                    [--redis-keeps] [--loopback] [--json FILE]

"workers" is one host with two pre-forked workers; "redis" is two hosts with a worker each, and a Redis on a third one,
which this program starts, and which keeps its data over a restart or not (`links.py` makes the hosts). Clients
(`resilient.py`) on two more hosts publish to their rooms, and at fixed moments something happens to them:

- workers: the worker with the broker is killed with -9; so is another one; the link of one half of the clients is cut.
- redis: a worker is killed with -9; Redis is killed with -9, and started again; the link between a host and Redis is
  cut; the link of one half of the clients is cut.

At the end every client must have every acknowledged message of its rooms exactly once, and those of each publisher in
order. The exit status says whether that holds; the table has how long messages took, by when they were published.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import contextlib
import functools
import importlib.util
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from links import Network, free_port, network
from servers import announce
from soak import family, raise_limit
from turns import HERE, ROOT, Process, Trouble

CUT = 10.0  # seconds, or a twelfth of the time if that is less
AWAY = 3.0  # seconds that Redis is away, or a fortieth
SETTLED = 5.0  # seconds after which what happened is over, or a twenty-fourth
START = 60.0  # seconds for a server, and for all clients to subscribe: there may be other load
GRACE = 60.0  # seconds at the end for what is under way
PARTS = {"p50": 0.5, "p99": 0.99, "max": 1.0}
FAULTS = ("lost", "doubled", "disordered", "unacknowledged", "away", "refused")
COUNTS = ("published", "deliveries", "repeated", "connections", "gone elsewhere", "gaps noticed", "gaps told")


# The server.


@functools.cache
def hub() -> Any:
    """That of this worker: made after the fork, since it has a name of its own."""
    from websock.pubsub import History, Hub

    return Hub(history=History(5000, 2**23, 3600.0), patience=float(os.environ["RESILIENCE_PATIENCE"]))


async def handler(ws: Any) -> None:
    from websock.exceptions import ConnectionClosed
    from websock.pubsub import BackplaneFull, NotSpread

    receipts: set[asyncio.Task[None]] = set()

    async def publish(member: Any, topic: str, data: Any, uid: str) -> None:
        try:
            receipt = await member.publish(topic, data, uid=uid)
            if not receipt.spread:
                await ws.send(json.dumps({"kind": "taken", "uid": uid}))
            await receipt.settled()
            await ws.send(json.dumps({"kind": "published", "uid": uid, "repeated": receipt.repeated}))
        except (BackplaneFull, NotSpread):
            await ws.close(1013)  # it is published again elsewhere
        except ConnectionClosed:
            pass

    try:
        async with hub().join(ws) as member:
            async for message in ws:
                said = json.loads(message)
                if said["do"] == "subscribe":
                    got = await member.subscribe(said["topic"], after=said["after"])
                    await ws.send(json.dumps({"kind": "got", "recovered": got.recovered, "why": got.why}))
                else:
                    task = asyncio.create_task(publish(member, said["topic"], said["data"], said["uid"]))
                    receipts.add(task)
                    task.add_done_callback(receipts.discard)
    except ConnectionClosed:
        pass
    finally:
        for task in receipts:
            task.cancel()


def serve(host: str, port: int, workers: int) -> None:
    from websock import serving

    raise_limit()
    logging.basicConfig(level=logging.ERROR)
    serving.run(
        handler,
        host,
        port,
        workers=workers,
        backlog=4096,
        compression=None,
        on_ready=lambda sockets: announce(sockets[0].getsockname()[1]),
    )


def workers_of(server: Process) -> list[int]:
    return [pid for pid in family(server.pid) if pid != server.pid]


def holder(path: str, pids: Sequence[int]) -> int | None:
    """Which of these processes has a file locked (proc(5)): the one with the broker."""
    for pid in pids:
        with contextlib.suppress(OSError):
            for fd in os.listdir(f"/proc/{pid}/fd"):
                is_it = os.readlink(f"/proc/{pid}/fd/{fd}") == path
                if is_it and "FLOCK" in Path(f"/proc/{pid}/fdinfo/{fd}").read_text():
                    return pid
    return None


class RedisHost:
    """A Redis on a host of its own.

    Raises:
        Trouble: there is no such program here, or no client for it.
    """

    def __init__(self, net: Network, place: str, keeps: bool) -> None:
        program = shutil.which("redis-server")
        if program is None or importlib.util.find_spec("redis") is None:
            raise Trouble("redis-server, and redis for Python, have to be installed")
        self.address = (net.address("data", "back"), free_port())
        self._command = [
            *net.prefix("data"),
            *(program, "--port", str(self.address[1]), "--bind", self.address[0], "--protected-mode", "no"),
            *("--dir", place, "--save", "", "--appendonly", "yes" if keeps else "no"),
        ]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


# What happens.


class Happening:
    """Steps at their moments: seconds from the beginning."""

    def __init__(self, name: str, steps: Sequence[tuple[float, Callable[[], object]]]) -> None:
        self.name = name
        self.steps = steps


class Stage:
    """All processes and hosts of one run."""

    def __init__(self, options: argparse.Namespace, place: str, stack: contextlib.ExitStack) -> None:
        self.options = options
        self.place = place
        redis = options.backplane == "redis"
        hosts = {"a": ["front"], "near": ["front"], "far": ["front"]}
        if redis:
            hosts |= {"a": ["front", "back"], "b": ["front", "back"], "data": ["back"]}
        self.net = network(hosts, namespaces=not options.loopback)
        stack.callback(self.net.close)
        self.redis: RedisHost | None = None
        if redis:
            self.redis = RedisHost(self.net, place, options.redis_keeps)
            stack.callback(self.redis.kill)
            self.redis.start()
        self.servers: dict[str, Process] = {}
        self._addresses: list[tuple[str, int]] = []
        for host in ("a", "b") if redis else ("a",):
            self._serve(host, stack)
        self.clients = [self._clients(number, host, stack) for number, host in enumerate(("near", "far"))]

    def _process(self, host: str, command: list[str], stack: contextlib.ExitStack, **more: str) -> Process:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(HERE)]), **more}
        process = Process([*self.net.prefix(host), sys.executable, *command], os.sched_getaffinity(0), environment)
        stack.callback(end, process)
        return process

    def _serve(self, host: str, stack: contextlib.ExitStack) -> None:
        backplane = f"workers:{self.place}/hub.sock"
        if self.redis is not None:
            there, port = self.net.way((host, "back"), self.redis.address)
            backplane = f"redis://{there}:{port}"
        address = self.net.address(host, "front")
        command = [str(HERE / "resilience.py"), "--serve", address, str(1 if self.redis else 2)]
        more = {"WEBSOCK_BACKPLANE": backplane, "RESILIENCE_PATIENCE": str(self.options.patience)}
        server = self.servers[host] = self._process(host, command, stack, **more)
        self._addresses.append((address, int(server.line(START))))

    def _clients(self, number: int, host: str, stack: contextlib.ExitStack) -> Process:
        names = ("clients", "rooms", "each", "rate", "seconds")
        about = {
            **{name: getattr(self.options, name) for name in names},
            "servers": [self.net.way((host, "front"), address) for address in self._addresses],
            "first": number,
            "step": 2,
            "grace": GRACE,
        }
        return self._process(host, [str(HERE / "resilient.py"), json.dumps(about)], stack)

    def kill_worker(self, host: str, broker: bool = False) -> None:
        """With -9; that with the broker, or the one that has lived for longest.

        Raises:
            Trouble: there is none.
        """
        known = workers_of(self.servers[host])
        chosen = holder(f"{self.place}/hub.sock.lock", known) if broker else known[0] if known else None
        if chosen is None:
            raise Trouble(f"{host} has no such worker, of {known}")
        os.kill(chosen, signal.SIGKILL)

    def happenings(self) -> list[Happening]:
        whole = self.options.seconds
        cut, away = min(CUT, whole / 12), min(AWAY, whole / 40)
        far = ("far", "front")

        def cutting(link: tuple[str, str], at: float) -> list[tuple[float, Callable[[], object]]]:
            return [(at, lambda: self.net.cut(link)), (at + cut, lambda: self.net.mend(link))]

        clients = Happening("link of half of the clients cut", cutting(far, whole * 0.78))
        if self.redis is None:
            return [
                Happening("worker with the broker killed", [(whole * 0.12, lambda: self.kill_worker("a", True))]),
                Happening("another worker killed", [(whole * 0.35, lambda: self.kill_worker("a"))]),
                clients,
            ]
        redis = self.redis
        return [
            Happening("worker killed", [(whole * 0.12, lambda: self.kill_worker("a"))]),
            Happening("Redis killed, restarted", [(whole * 0.3, redis.kill), (whole * 0.3 + away, redis.start)]),
            Happening("link of a host to Redis cut", cutting(("b", "back"), whole * 0.52)),
            clients,
        ]


def end(process: Process) -> None:
    """It and what came of it, as far as that is still there."""
    for pid in family(process.pid)[:0:-1]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.close()


def windows_of(happenings: Sequence[Happening], began: float, seconds: float) -> list[tuple[str, float]]:
    """Names of the times of publishing, and when each begins."""
    found = [("before", 0.0)]
    for happening in happenings:
        found.append((happening.name, began + happening.steps[0][0]))
        found.append(("  after that", began + happening.steps[-1][0] + min(SETTLED, seconds / 24)))
    # Names are keys: an "after" is told by its place.
    return [(f"{number} {name}", at) for number, (name, at) in enumerate(found)]


def run(options: argparse.Namespace, say: Callable[[str], object] = print) -> dict[str, Any]:
    """One run; what was counted.

    Raises:
        Trouble: a process did not start or ended early.
    """
    raise_limit()
    with contextlib.ExitStack() as stack:
        place = stack.enter_context(tempfile.TemporaryDirectory(prefix="resilience-"))
        stage = Stage(options, place, stack)
        for process in stage.clients:
            process.line(START + options.clients / 10)
        say(f"{options.clients} clients are there, on {stage.net.name}")
        happenings = stage.happenings()
        began = time.time() + 0.5
        for process in stage.clients:
            process.say(json.dumps(began))
        for happening in happenings:
            for number, (at, step) in enumerate(happening.steps):
                time.sleep(max(began + at - time.time(), 0))
                step()
                say(f"{time.time() - began:6.1f} s  {happening.name}{': over' if number else ''}")
        time.sleep(max(began + options.seconds - time.time(), 0))
        published: dict[str, dict[str, int]] = {}
        for process in stage.clients:
            for room, counts in json.loads(process.line(GRACE + 60))["published"].items():
                published.setdefault(room, {}).update(counts)
        windows = windows_of(happenings, began, options.seconds)
        for process in stage.clients:
            process.say(json.dumps({"published": published, "windows": windows}))
        told = [json.loads(process.line(GRACE + 120)) for process in stage.clients]
        words = {host: server.words() for host, server in stage.servers.items()}
        complaints = [line for process in stage.clients for line in process.words()]
    return {
        "backplane": options.backplane,
        "network": stage.net.name,
        **{name: sum(one.get(name, 0) for one in told) for name in (*COUNTS, *FAULTS[:-1])},
        "refused": dict(sum((collections.Counter(one["refused"]) for one in told), collections.Counter())),
        "latencies": {name: merged(one["latencies"][name] for one in told) for name, _ in windows},
        "said": words,
        "complaints": complaints,
    }


def merged(counters: Iterator[Mapping[str, int]]) -> dict[str, float]:
    """Milliseconds, of latencies in tenths of them."""
    total: collections.Counter[int] = collections.Counter()
    for counter in counters:
        total.update({int(tenths): count for tenths, count in counter.items()})
    return {"count": total.total(), **{name: share(total, part) for name, part in PARTS.items()}}


def share(total: collections.Counter[int], part: float) -> float:
    left = part * total.total()
    for tenths in sorted(total):
        left -= total[tenths]
        if left <= 1e-9:
            return tenths / 10
    return 0.0


def good(found: Mapping[str, Any]) -> bool:
    return not any(found[name] for name in FAULTS) and found["deliveries"] > 0


def table(found: Mapping[str, Any]) -> str:
    lines = [f"{'published':34}{'deliveries':>11}{'p50 ms':>9}{'p99 ms':>9}{'max ms':>9}"]
    for name, one in found["latencies"].items():
        label = name.partition(" ")[2]
        lines.append(f"{label:34}{one['count']:11,}{one['p50']:9,.1f}{one['p99']:9,.0f}{one['max']:9,.0f}")
    lines.append("")
    lines += [f"{name:16}{found[name] or 0}" for name in (*COUNTS, *FAULTS)]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="A chat that loses workers, Redis and a link, and no message.")
    parser.add_argument("--backplane", choices=["workers", "redis"], default="workers")
    parser.add_argument("--clients", type=int, default=1000, metavar="N")
    parser.add_argument("--rooms", type=int, default=50, metavar="N")
    parser.add_argument("--each", type=int, default=1, metavar="N", help="rooms of each client")
    parser.add_argument("--rate", type=float, default=200.0, help="messages a second, of all clients")
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--patience", type=float, default=0.5, help="of the hubs, in seconds")
    parser.add_argument("--redis-keeps", action="store_true", help="Redis keeps its data over its restart")
    parser.add_argument("--loopback", action="store_true", help="no network namespaces")
    parser.add_argument("--json", metavar="FILE", help="write what was counted")
    parser.add_argument("--serve", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.serve:
        host, workers = options.serve
        serve(host, 0, int(workers))
        return 0
    if min(options.clients, options.rooms, options.each) < 1 or min(options.rate, options.seconds) <= 0:
        parser.error("--clients, --rooms, --each, --rate and --seconds must be more than nothing")
    try:
        found = run(options)
    except (Trouble, OSError) as error:
        print(f"{options.backplane}: {error}", file=sys.stderr)
        return 2
    print(table(found))
    for host, words in found["said"].items():
        for line in words[-20:]:
            print(f"{host}: {line}", file=sys.stderr)
    for line in found["complaints"]:
        print(line, file=sys.stderr)
    if options.json:
        Path(options.json).write_text(json.dumps(found, indent=1))
    return 0 if good(found) else 1


if __name__ == "__main__":
    sys.exit(main())
