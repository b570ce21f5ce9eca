"""The socket layer beside bare sockets: ``python benchmarks/sockets.py``; ``--help`` lists its options.

Each contender is a server in a process of its own, which echoes for one client, on the same core or with ``--apart`` on
another one; they have their turns one after the other, in rounds. What is shown is the CPU time of the server for each
message, the rate, and the ratio of the rates to the bare socket in the same round. Then a file is sent to a reader that
throws it away.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import BinaryIO

ROOT = Path(__file__).resolve().parents[1]
NAMES = ("bare", "stream", "bare-asyncio", "stream-asyncio", "bare-uvloop", "stream-uvloop")


def serve_bare(listener: socket.socket) -> None:
    connection, _ = listener.accept()
    with connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while data := connection.recv(65536):
            connection.sendall(data)


def serve_stream(listener: socket.socket) -> None:
    from websock.net import Listener

    with Listener([listener]) as listening, listening.accept() as stream:
        while data := stream.receive():
            stream.send_all(data)


async def serve_protocol(listener: socket.socket) -> None:
    over = asyncio.get_running_loop().create_future()

    class Echo(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport = transport

        def data_received(self, data: bytes) -> None:
            self.transport.write(data)  # type: ignore[attr-defined]  # uvloop's have it and another class

        def connection_lost(self, exc: Exception | None) -> None:
            over.set_result(None)

    async with await asyncio.get_running_loop().create_server(Echo, sock=listener):
        await over


async def serve_tasks(listener: socket.socket) -> None:
    from websock.net.asyncio import Listener

    async with Listener([listener]) as listening, await listening.accept() as stream:
        while data := await stream.receive():
            await stream.send_all(data)


def be_server(name: str) -> None:
    """One contender: prints its port, serves one client, prints the CPU time that it used for that."""
    kind, _, loop = name.partition("-")
    for module in ("websock.net.listener", "websock.net.asyncio.listener"):
        importlib.import_module(module)  # which is not what is measured
    with socket.create_server(("127.0.0.1", 0)) as listener:
        print(listener.getsockname()[1], flush=True)
        sys.stdin.readline()
        before = time.process_time()
        if not loop:
            (serve_bare if kind == "bare" else serve_stream)(listener)
        else:
            factory = None
            if loop == "uvloop":
                import uvloop

                factory = uvloop.new_event_loop
            with asyncio.Runner(loop_factory=factory) as runner:
                runner.run((serve_protocol if kind == "bare" else serve_tasks)(listener))
        print(time.process_time() - before, flush=True)


def turn(name: str, messages: int, size: int, core: int) -> tuple[float, float]:
    """Seconds for each message, and those of the server's CPU."""
    # Otherwise chance decides whether glibc gives the 256 KiB of bare asyncio's read back to the system each time.
    environment = {"MALLOC_TRIM_THRESHOLD_": str(2**25), **os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, __file__, "--server", name],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
        text=True,
    ) as server:
        assert server.stdin is not None  # for the type checker
        assert server.stdout is not None
        port = int(server.stdout.readline())
        os.sched_setaffinity(server.pid, {core})
        message, buffer = b"x" * size, bytearray(size)
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            server.stdin.write("go\n")
            server.stdin.flush()
            started = time.perf_counter()
            for _ in range(messages):
                client.sendall(message)
                got = 0
                while got < size:
                    got += client.recv_into(memoryview(buffer)[got:])
            took = time.perf_counter() - started
        return took / messages, float(server.stdout.readline()) / messages


def send_file(send: Callable[[socket.socket, BinaryIO], object], file: BinaryIO) -> float:
    """Seconds that it takes to send all of `file`."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        reader = threading.Thread(target=_read_all, args=[listener.getsockname()])
        reader.start()
        sock, _ = listener.accept()
        file.seek(0)
        started = time.perf_counter()
        with contextlib.closing(sock):
            send(sock, file)
        reader.join()
        return time.perf_counter() - started


def _read_all(address: tuple[str, int]) -> None:
    buffer = bytearray(2**20)
    with socket.create_connection(address) as sock:
        while sock.recv_into(buffer):
            pass


def bare_sendfile(sock: socket.socket, file: BinaryIO) -> None:
    sock.sendfile(file)


def with_stream(sock: socket.socket, file: BinaryIO) -> None:
    from websock.net import Stream

    with Stream(sock) as stream:
        stream.send_file(file)


def spread(values: Iterable[float]) -> str:
    ordered = sorted(values)
    return f"{statistics.median(ordered):.2f} ({ordered[0]:.2f} to {ordered[-1]:.2f})"


def main(rounds: int, messages: int, size: int, file_size: int, apart: bool) -> None:
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    names = [name for name in NAMES if "uvloop" not in name or _has_uvloop()]
    took: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    for index in range(rounds):
        for name in names:
            took[name].append(turn(name, messages, size, max(cores) if apart else min(cores)))
            print(f"\rround {index + 1} of {rounds}: {name:20}", end="", file=sys.stderr)
    print(file=sys.stderr)
    for name in names:
        base = name.replace("stream", "bare")
        rate = statistics.median(1 / seconds for seconds, _ in took[name])
        cpu = statistics.median(used for _, used in took[name])
        line = f"{name:15} {rate:>9,.0f}/s  {cpu * 1e6:5.2f} us CPU"
        if base != name:
            both = list(zip(took[base], took[name], strict=True))
            ratios = [bare[0] / ours[0] for bare, ours in both]
            used = [ours[1] / bare[1] for bare, ours in both]
            line += f"  rate {spread(ratios)}, CPU {spread(used)} times {base}"
        print(line)
    with tempfile.TemporaryFile() as file:
        file.truncate(file_size)
        pairs = [(send_file(bare_sendfile, file), send_file(with_stream, file)) for _ in range(rounds)]
    ratio = spread(bare / ours for bare, ours in pairs)
    print(f"a file of {file_size:,} octets by send_file: {ratio} times socket.sendfile")


def _has_uvloop() -> bool:
    try:
        import uvloop  # noqa: F401 - to see whether it is there
    except ImportError:
        return False
    return True


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    parser = argparse.ArgumentParser(description="The socket layer beside bare sockets.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--messages", type=int, default=20_000)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--file-size", type=int, default=2**30, metavar="OCTETS")
    parser.add_argument("--apart", action="store_true", help="client and server on a core each")
    parser.add_argument("--server", choices=NAMES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.server:
        be_server(options.server)
    else:
        main(options.rounds, options.messages, options.size, options.file_size, options.apart)
