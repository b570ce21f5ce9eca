"""Networks whose links can be cut, for `resilience.py`.

With the rights for it and ``ip`` of iproute2 they are network namespaces on bridges, and a cut sets a link down:
packets vanish, and nobody is told. Without, all is on the loopback, and what goes over a link that can be cut goes
through a relay, which a cut makes stop: nothing is read and nothing written, as with packets that vanish.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Mapping, Sequence
from typing import Protocol

PIECE = 65536  # octets that a relay reads at once

Link = tuple[str, str]
"""A host and the name of the network that the link leads to."""


class Network(Protocol):
    """What both kinds are."""

    name: str

    def prefix(self, host: str) -> list[str]:
        """What stands before a command that is to run there."""

    def address(self, host: str, wire: str) -> str:
        """Where to listen there."""

    def way(self, link: Link, address: tuple[str, int]) -> tuple[str, int]:
        """What to connect to for an address, over this link."""

    def cut(self, link: Link) -> None: ...

    def mend(self, link: Link) -> None: ...

    def close(self) -> None: ...


def _ip(*arguments: str) -> None:
    subprocess.run([shutil.which("ip") or "ip", *arguments], check=True, capture_output=True, timeout=20)


class Namespaces:
    """Hosts as network namespaces, each with an interface for each network that it is in.

    Raises:
        OSError, subprocess.CalledProcessError: they can't be made.
    """

    name = "network namespaces"

    def __init__(self, hosts: Mapping[str, Sequence[str]]) -> None:
        wires = sorted({wire for some in hosts.values() for wire in some})
        self._made: list[str] = []
        self._start = f"resil{os.getpid()}"
        self._numbers = {host: number for number, host in enumerate(hosts, 1)}
        self._wires = {wire: number for number, wire in enumerate(wires)}
        self._hub = f"{self._start}-wires"
        try:
            for host in (self._hub, *map(self._of, hosts)):
                _ip("netns", "add", host)
                self._made.append(host)
                _ip("-n", host, "link", "set", "lo", "up")
            for wire in wires:
                _ip("-n", self._hub, "link", "add", wire, "type", "bridge", "mcast_snooping", "0")
                _ip("-n", self._hub, "link", "set", wire, "up")
            for host, some in hosts.items():
                for wire in some:
                    self._connect(host, wire)
        except BaseException:
            self.close()
            raise

    def _connect(self, host: str, wire: str) -> None:
        inside, port = self._of(host), self._port((host, wire))
        _ip("-n", self._hub, "link", "add", port, "type", "veth", "peer", "name", wire, "netns", inside)
        _ip("-n", self._hub, "link", "set", port, "master", wire, "up")
        _ip("-n", inside, "address", "add", f"{self.address(host, wire)}/24", "dev", wire)
        _ip("-n", inside, "link", "set", wire, "up")

    def _of(self, host: str) -> str:
        return f"{self._start}-{host}"

    def _port(self, link: Link) -> str:
        return f"p{self._numbers[link[0]]}-{self._wires[link[1]]}"

    def prefix(self, host: str) -> list[str]:
        return [shutil.which("ip") or "ip", "netns", "exec", self._of(host)]

    def address(self, host: str, wire: str) -> str:
        return f"10.98.{self._wires[wire]}.{self._numbers[host]}"

    def way(self, link: Link, address: tuple[str, int]) -> tuple[str, int]:
        return address

    def cut(self, link: Link) -> None:
        _ip("-n", self._hub, "link", "set", self._port(link), "down")

    def mend(self, link: Link) -> None:
        _ip("-n", self._hub, "link", "set", self._port(link), "up")

    def close(self) -> None:
        while self._made:
            with contextlib.suppress(subprocess.SubprocessError, OSError):
                _ip("netns", "delete", self._made.pop())


class Relays:
    """All hosts are this one; what goes over a link goes through a relay in a thread."""

    name = "relays on the loopback"

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="relays")
        self._thread.start()
        self._open: dict[Link, asyncio.Event] = {}
        self._ways: dict[tuple[Link, tuple[str, int]], tuple[str, int]] = {}
        self._servers: list[asyncio.Server] = []

    def prefix(self, host: str) -> list[str]:
        return []

    def address(self, host: str, wire: str) -> str:
        return "127.0.0.1"

    def way(self, link: Link, address: tuple[str, int]) -> tuple[str, int]:
        if (link, address) not in self._ways:
            listening = asyncio.run_coroutine_threadsafe(self._listen(link, address), self._loop)
            self._ways[link, address] = ("127.0.0.1", listening.result(10))
        return self._ways[link, address]

    async def _listen(self, link: Link, address: tuple[str, int]) -> int:
        if link not in self._open:
            self._open[link] = asyncio.Event()
            self._open[link].set()
        is_open = self._open[link]

        async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writers = [writer]
            try:
                await is_open.wait()
                there, back = await asyncio.open_connection(*address)
                writers.append(back)
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._copy(reader, back, is_open))
                    group.create_task(self._copy(there, writer, is_open))
            except (OSError, ExceptionGroup):
                pass  # one side is gone, and so is the other then
            finally:
                for one in writers:
                    one.transport.abort()

        server = await asyncio.start_server(relay, "127.0.0.1", 0, backlog=4096, limit=PIECE)
        self._servers.append(server)
        port: int = server.sockets[0].getsockname()[1]
        return port

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, is_open: asyncio.Event) -> None:
        while data := await reader.read(PIECE):
            await is_open.wait()
            writer.write(data)
            await writer.drain()
        await is_open.wait()
        with contextlib.suppress(OSError):
            writer.write_eof()

    def cut(self, link: Link) -> None:
        self._loop.call_soon_threadsafe(self._open[link].clear)

    def mend(self, link: Link) -> None:
        self._loop.call_soon_threadsafe(self._open[link].set)

    async def _end(self) -> None:
        for server in self._servers:
            server.close()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for _ in range(3):
            await asyncio.sleep(0)  # for the ends of the transports

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


def network(hosts: Mapping[str, Sequence[str]], *, namespaces: bool = True) -> Network:
    """Hosts, and the networks that each is in: as namespaces where that can be."""
    if namespaces:
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            return Namespaces(hosts)
    return Relays()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port: int = sock.getsockname()[1]
        return port
