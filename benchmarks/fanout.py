"""One publisher and thousands of subscribers on one worker: ``python benchmarks/fanout.py``.

    python benchmarks/fanout.py [--subscribers 5000] [--size 128] [--messages 60] [--rounds 5] [--json FILE]

Contenders, interleaved in one run: a plain ``broadcast`` to all connections; our hub in-process, which sends what was
published as it is, and with its JSON envelope; the hub over Redis and over the backplane of one host's workers; and
python-socketio with its Redis manager, where that is installed. Redis is one that this program starts for itself.

The publisher is a client as well: its message goes to a handler, which publishes it. A few are under way at a time. The
subscribers are sockets in one process without any WebSocket library, and a message counts when it is complete. What is
printed is deliveries for each second and the server's CPU time for each delivery, medians of the rounds.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import os
import select
import shutil
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from attacks import FIN, TEXT, frame
from servers import HOST, announce
from soak import raise_limit
from turns import HERE, ROOT, Process, Trouble

KINDS = {
    "broadcast": "plain broadcast",
    "hub": "hub, as published",
    "hub-json": "hub, JSON envelope",
    "hub-workers": "hub over workers:",
    "hub-redis": "hub over redis:",
    "socketio": "python-socketio, Redis manager",
}
WINDOW = 4  # messages under way
PATIENCE = 60.0  # seconds without anything
START = 30.0  # seconds for a server


# The servers.


def serve(kind: str, place: str) -> None:
    """This process as a server; does not return."""
    logging.disable()
    raise_limit()
    if kind == "socketio":
        serve_socketio(place)
    else:
        asyncio.run(serve_ours(kind, place))


async def serve_ours(kind: str, place: str) -> None:
    from websock.asyncio.server import broadcast
    from websock.asyncio.server import serve as listen
    from websock.pubsub import Event, Hub, to_json

    connections: set[Any] = set()

    async def to_all(connection: Any) -> None:
        connections.add(connection)
        try:
            async for message in connection:
                broadcast(connections, message)
        finally:
            connections.discard(connection)

    def as_it_is(event: Event) -> str | None:
        return event.data if event.kind == "message" else None

    backplane = {"hub-workers": f"workers:{place}/hub", "hub-redis": f"unix://{place}/redis"}.get(kind)
    encode = to_json if kind == "hub-json" else as_it_is
    hub = None if kind == "broadcast" else Hub(backplane, encode=encode)

    async def in_hub(connection: Any) -> None:
        assert hub is not None
        async with hub.join(connection) as member:
            await member.subscribe("room")
            async for message in connection:
                hub.publish_nowait("room", message)

    async with listen(to_all if hub is None else in_hub, HOST, 0, backlog=4096, compression=None) as server:
        announce(next(iter(server.sockets)).getsockname()[1])
        await asyncio.get_running_loop().create_future()


def serve_socketio(place: str) -> None:
    import socketio
    from aiohttp import web

    async def start() -> None:
        manager = socketio.AsyncRedisManager(f"unix://{place}/redis")
        server = socketio.AsyncServer(async_mode="aiohttp", client_manager=manager, cors_allowed_origins="*")

        async def publish(sid: str, message: str) -> None:
            await server.emit("m", message, room="room")

        async def enter(sid: str, *_: Any) -> None:
            await server.enter_room(sid, "room")

        server.on("connect", enter)
        server.on("p", publish)
        app = web.Application()
        server.attach(app)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, HOST, 0, backlog=4096)
        await site.start()
        assert runner.addresses
        announce(runner.addresses[0][1])
        await asyncio.get_running_loop().create_future()

    asyncio.run(start())


# The clients.


class Client:
    """A socket that counts the messages which it gets."""

    def __init__(self, port: int, speaks_socketio: bool) -> None:
        self.sock = socket.create_connection((HOST, port), timeout=PATIENCE)
        self.socketio = speaks_socketio
        self.buffer = b""
        path = "/socket.io/?EIO=4&transport=websocket" if speaks_socketio else "/"
        self.sock.sendall(
            f"GET {path} HTTP/1.1\r\nHost: {HOST}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )

    def opened(self) -> None:
        """Wait until the server has answered, and knows us as a subscriber."""
        while b"\r\n\r\n" not in self.buffer:
            self.read()
        head, _, self.buffer = self.buffer.partition(b"\r\n\r\n")
        if b" 101 " not in head.split(b"\r\n")[0]:
            raise Trouble(f"the server answered {head[:80]!r}")
        if self.socketio:
            self.answer(b"0{")
            self.sock.sendall(frame(FIN | TEXT, b"40"))
            self.answer(b"40")

    def answer(self, beginning: bytes) -> None:
        while True:
            for payload in self.frames():
                if payload.startswith(beginning):
                    return
            self.read()

    def read(self) -> None:
        data = self.sock.recv(2**18)
        if not data:
            raise Trouble("the server closed a connection")
        self.buffer += data

    def frames(self) -> list[bytes]:
        """The payloads of all frames that are complete."""
        found, at, data = [], 0, self.buffer
        while len(data) - at >= 2:
            size, start = data[at + 1] & 0x7F, at + 2
            if size == 126:
                size, start = int.from_bytes(data[start : start + 2], "big"), start + 2
            elif size == 127:
                size, start = int.from_bytes(data[start : start + 8], "big"), start + 8
            if len(data) < start + size:
                break
            found.append(data[start : start + size])
            at = start + size
        self.buffer = data[at:]
        return found

    def publish(self, text: str) -> None:
        payload = "42" + json.dumps(["p", text]) if self.socketio else text
        self.sock.sendall(frame(FIN | TEXT, payload.encode()))

    def count(self, payloads: list[bytes], mark: bytes) -> int:
        for payload in payloads:
            if self.socketio and payload == b"2":  # Engine.IO's ping
                self.sock.sendall(frame(FIN | TEXT, b"3"))
        return sum(mark in payload for payload in payloads)


def turn(kind: str, place: str, subscribers: int, size: int, messages: int) -> tuple[float, float]:
    """One contender: deliveries for each second, and microseconds of the server's CPU time for each."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(HERE)])}
    environment.pop("WEBSOCK_BACKPLANE", None)
    command = [sys.executable, str(HERE / "fanout.py"), "--serve", kind, "--place", place]
    server = Process(command, os.sched_getaffinity(0), environment)
    clients: list[Client] = []
    epoll = select.epoll()
    try:
        port = int(server.line(START))
        while len(clients) < subscribers:
            some = [Client(port, kind == "socketio") for _ in range(min(100, subscribers - len(clients)))]
            clients += some
            for client in some:
                client.opened()
        by_fd = {client.sock.fileno(): client for client in clients}
        for client in clients:
            client.sock.setblocking(False)
            epoll.register(client.sock.fileno(), select.EPOLLIN)
        mark = b"@" * 16
        text = mark.decode() + "x" * (size - 16)

        def deliver(number: int) -> None:
            """Publish so many, and wait until every subscriber has each."""
            due, got = number * subscribers, 0
            sent = 0
            while got < due:
                while sent < number and sent * subscribers - got < WINDOW * subscribers:
                    clients[0].sock.setblocking(True)
                    clients[0].publish(text)
                    clients[0].sock.setblocking(False)
                    sent += 1
                ready = epoll.poll(PATIENCE)
                if not ready:
                    raise Trouble(f"{due - got} messages did not come")
                for fd, _ in ready:
                    client = by_fd[fd]
                    client.read()
                    got += client.count(client.frames(), mark)
            if got != due:
                raise Trouble(f"{got} messages came, and not {due}")

        deliver(3)
        began, cpu = time.perf_counter(), server.cpu()
        deliver(messages)
        took, used = time.perf_counter() - began, server.cpu() - cpu
        return messages * subscribers / took, used / (messages * subscribers) * 1e6
    finally:
        for client in clients:
            client.sock.close()
        epoll.close()
        server.close()


def redis(place: str) -> Process | None:
    """A Redis of our own that takes connections, on a Unix socket; None where there is no such program.

    Raises:
        Trouble: it does not start.
    """
    program = shutil.which("redis-server")
    if program is None:
        return None
    command = [program, "--port", "0", "--unixsocket", f"{place}/redis", "--save", "", "--dir", place]
    process = Process(command, os.sched_getaffinity(0))
    try:
        while "ready to accept connections" not in process.line(START).lower():
            pass
    except Trouble:
        process.close()
        raise
    return process


def contenders(has_redis: bool, only: Sequence[str] | None) -> list[str]:
    """Those that can be run here."""
    try:
        import socketio  # noqa: F401 - whether it is there

        has_socketio = True
    except ImportError:
        has_socketio = False
    found = []
    for kind in only or KINDS:
        if kind in ("hub-redis", "socketio") and not has_redis:
            print(f"{KINDS[kind]}: left out, there is no redis-server", file=sys.stderr)
        elif kind == "socketio" and not has_socketio:
            print(f"{KINDS[kind]}: left out, it is not installed", file=sys.stderr)
        else:
            found.append(kind)
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="One publisher and thousands of subscribers on one worker.")
    parser.add_argument("--subscribers", type=int, default=5000, metavar="N")
    parser.add_argument("--size", type=int, default=128, metavar="OCTETS", help="of a message, from 16")
    parser.add_argument("--messages", type=int, default=60, metavar="N", help="for each contender in a round")
    parser.add_argument("--rounds", type=int, default=5, metavar="N")
    parser.add_argument("--only", choices=KINDS, action="append", help="contenders; again for more")
    parser.add_argument("--json", metavar="FILE", help="write all figures")
    parser.add_argument("--serve", choices=KINDS, help=argparse.SUPPRESS)
    parser.add_argument("--place", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.serve:
        serve(options.serve, options.place)
        return 0
    if min(options.subscribers, options.messages, options.rounds) < 1 or options.size < 16:
        parser.error("--subscribers, --messages and --rounds are from 1, and --size is from 16")
    if raise_limit() < options.subscribers + 200:
        parser.error(f"{options.subscribers} subscribers are more than the descriptors that a process may have")
    rates: dict[str, list[tuple[float, float]]] = {}
    with contextlib.ExitStack() as stack:
        place = stack.enter_context(tempfile.TemporaryDirectory(prefix="fanout-"))
        kind = "redis-server"
        try:
            backplane = redis(place)
            if backplane is not None:
                stack.callback(backplane.close)
            kinds = contenders(backplane is not None, options.only)
            for _ in range(options.rounds):
                for kind in kinds:
                    figures = turn(kind, place, options.subscribers, options.size, options.messages)
                    rates.setdefault(kind, []).append(figures)
        except Trouble as error:
            print(f"{kind}: {error}", file=sys.stderr)
            return 2
    if not rates:
        return 2  # it was said what is missing
    base = statistics.median(rate for rate, _ in rates[next(iter(rates))])
    print(f"{'contender':32}{'deliveries/s':>14}{'of the first':>14}{'CPU us each':>13}")
    for kind, turns in rates.items():
        rate = statistics.median(one for one, _ in turns)
        cpu = statistics.median(one for _, one in turns)
        print(f"{KINDS[kind]:32}{rate:14,.0f}{rate / base:14.2f}{cpu:13.2f}")
    if options.json:
        Path(options.json).write_text(json.dumps(rates, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
