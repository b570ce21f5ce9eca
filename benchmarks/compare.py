"""Rates of websock beside websockets and wsproto, interleaved in one run: ``make bench``.

Machines differ and are noisy, so what counts are the ratios, the medians over the rounds, and the CPU time that a
server used for each message. The load comes from `load.c`, which checks every echo.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).parent

# Title; connections, messages that each has under way, octets of a message.
WORKLOADS: dict[str, list[object]] = {
    "1 connection, 256 B": [1, 1, 256],
    "16 connections, 256 B": [16, 1, 256],
    "64 connections, 16 pipelined, 64 B": [64, 16, 64],
    "1 connection, 64 KiB": [1, 1, 65536],
}
PARTS = ["echo", "sync", "deflate", "decode", "memory"]
PAIRS = {
    "asyncio": ("websock", "websockets"),
    "sync": ("websock.sync", "websockets.sync"),
    "deflate": ("websock+deflate", "websockets+deflate"),  # the defaults of each, which are the same window and level
}


class EchoServer:
    """One contender: a process of its own that echoes."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "servers.py"), name],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # some log a traceback for each load that ends
            text=True,
        )
        assert self._process.stdout is not None
        self.port = self._process.stdout.readline().strip()
        if not self.port:
            sys.exit(f"the server {name} doesn't start; try: {sys.executable} {HERE / 'servers.py'} {name}")

    def cpu(self) -> float:
        """Seconds of CPU time used so far."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory(self) -> int:
        """KiB of resident memory."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0])

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


def build(folder: str, name: str, *libraries: str) -> str:
    """A load generator, compiled."""
    compiler = shutil.which("cc")
    if compiler is None or not Path("/proc/self/stat").exists():
        sys.exit("make bench needs Linux and a C compiler (cc) for the load generator")
    target = str(Path(folder) / name)
    command = [compiler, "-O2", "-Wall", "-o", target, str(HERE / f"{name}.c"), *libraries]
    if subprocess.run(command, check=False).returncode:
        sys.exit(f"{name}.c can't be compiled" + (f"; it needs the headers of {libraries}" if libraries else ""))
    return target


def texts(count: int, size: int) -> list[str]:
    """Texts of JSON, as a feed of a market has them, cut to a size."""
    rng = random.Random(1)
    found = []
    for number in range(count):
        quotes: list[dict[str, object]] = []
        while len(text := json.dumps({"channel": "book", "sequence": number, "quotes": quotes})) < size:
            side, price = rng.choice(["bid", "ask"]), round(rng.uniform(90, 110), 2)
            quotes.append({"side": side, "price": price, "size": rng.randrange(1, 500)})
        found.append(text[:size])
    return found


def echo(load: str, names: tuple[str, str], workloads: dict[str, list[object]], rounds: int, seconds: float) -> None:
    """Each round gives each server its turn; a row tells the medians. Workloads: title, arguments of the load."""
    servers = [EchoServer(name) for name in names]
    try:
        for title, shape in workloads.items():
            rates: dict[str, list[float]] = {name: [] for name in names}
            costs: dict[str, list[float]] = {name: [] for name in names}
            for turn in range(rounds):
                progress(f"{title}: round {turn + 1} of {rounds}")
                for server in servers:
                    before = server.cpu()
                    command = [load, server.port, *map(str, shape), str(seconds)]
                    done = subprocess.run(command, capture_output=True, text=True, check=False)
                    if done.returncode:
                        sys.exit(f"{server.name}, {title}: {done.stderr}")
                    messages, took = done.stdout.split()
                    rates[server.name].append(int(messages) / float(took))
                    costs[server.name].append((server.cpu() - before) / int(messages) * 1e6)
            for name in names:
                row(title, name, f"{statistics.median(rates[name]):,.0f}/s", statistics.median(costs[name]))
            ratios = sorted(ours / theirs for ours, theirs in zip(*(rates[name] for name in names), strict=True))
            cpu = statistics.median(costs[names[1]]) / statistics.median(costs[names[0]])
            verdict(f"rate {statistics.median(ratios):.2f} times ({ratios[0]:.2f} to {ratios[-1]:.2f}), CPU {cpu:.2f}")
    finally:
        for server in servers:
            server.close()


def decode(rounds: int) -> None:
    """Masked text of 64 B to messages, without sockets."""
    from websockets.protocol import OPEN, SERVER
    from websockets.protocol import Protocol as Websockets
    from wsproto.connection import Connection, ConnectionType

    from websock.core import Decoder, encode

    count, size = 20_000, 64
    stream = b"".join(b"".join(encode(1, b"x" * size, masked=True)) for _ in range(count))
    reads = [stream[i : i + 65536] for i in range(0, len(stream), 65536)]

    def ours() -> int:
        decoder = Decoder(lambda opcode, payload: None, masked=True, max_size=2**20)
        return sum(len(decoder.decode(read)) for read in reads)

    def websockets() -> int:
        protocol = Websockets(SERVER, state=OPEN, max_size=2**20)
        total = 0
        for read in reads:
            protocol.receive_data(read)
            total += len(protocol.events_received())
        return total

    def wsproto() -> int:
        connection = Connection(ConnectionType.SERVER)
        total = 0
        for read in reads:
            connection.receive_data(read)
            total += sum(event.message_finished for event in connection.events())  # type: ignore[attr-defined]
        return total

    contenders: dict[str, Callable[[], int]] = {"websock": ours, "websockets": websockets, "wsproto": wsproto}
    costs: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(rounds):
        progress(f"decode: round {turn + 1} of {rounds}")
        for name, run in contenders.items():
            start = time.process_time()
            if run() != count:
                sys.exit(f"{name} decoded a wrong number of messages")
            costs[name].append((time.process_time() - start) / count * 1e6)
    median = {name: statistics.median(values) for name, values in costs.items()}
    for name, cost in median.items():
        row("decode 64 B, no sockets", name, "", cost)
    verdict(f"{median['websockets'] / median['websock']:.2f} times websockets, "
            f"{median['wsproto'] / median['websock']:.2f} times wsproto")  # fmt: skip


def memory(count: int) -> None:
    """Resident memory of an asyncio server for each connection that is idle, with keepalive on."""
    import resource

    from websock.sync.client import ClientConnection, connect

    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, count + 500), hard))
    for name in PAIRS["asyncio"]:
        server = EchoServer(name)
        clients: list[ClientConnection] = []
        try:
            uri = f"ws://127.0.0.1:{server.port}/"
            connect(uri).close()
            before = server.memory()
            for number in range(count):
                if number % 500 == 0:
                    progress(f"{name}: {number} of {count} connections")
                clients.append(connect(uri, ping_interval=None))
            row(f"{count} idle connections", name, f"{(server.memory() - before) / count:.2f} KiB each", None)
        finally:
            server.close()
            for client in clients:
                client.fail(1000)
                client.wait_closed()


def progress(text: str) -> None:
    sys.stderr.write(f"\r\033[K{text}" if sys.stderr.isatty() else "")
    sys.stderr.flush()


def row(workload: str, name: str, rate: str, cost: float | None) -> None:
    progress("")
    print(f"{workload:36}{name:18}{rate:>16}" + ("" if cost is None else f"{cost:12.2f} us CPU"), flush=True)


def verdict(text: str) -> None:
    print(f"{'':36}{text}\n", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare echo rates, decoding and memory with websockets and wsproto.")
    parser.add_argument("--rounds", type=int, default=7, help="turns of each contender (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=1.0, help="of load in each turn (default: %(default)s)")
    parser.add_argument("--only", choices=PARTS, action="append")
    parser.add_argument("--connections", type=int, default=2000, help="idle ones for memory (default: %(default)s)")
    options = parser.parse_args()
    wanted = options.only or PARTS
    with tempfile.TemporaryDirectory() as folder:
        timing = (options.rounds, options.seconds)
        if "echo" in wanted:
            echo(build(folder, "load"), PAIRS["asyncio"], WORKLOADS, *timing)
        if "sync" in wanted:
            echo(build(folder, "load"), PAIRS["sync"], dict(list(WORKLOADS.items())[:1]), *timing)
        if "deflate" in wanted:
            file = Path(folder) / "texts"
            file.write_text("".join(texts(500, 1024)))
            shapes: dict[str, list[object]] = {
                "deflate, 1 connection, 1 KiB JSON": [1, file, 1024],
                "deflate, 16 connections, 1 KiB JSON": [16, file, 1024],
            }
            echo(build(folder, "deflate_load", "-lz"), PAIRS["deflate"], shapes, *timing)
    if "decode" in wanted:
        decode(options.rounds)
    if "memory" in wanted:
        memory(options.connections)


if __name__ == "__main__":
    main()
