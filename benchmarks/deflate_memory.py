"""Resident memory of an asyncio server for each connection, by its settings of permessage-deflate.

    python benchmarks/deflate_memory.py [--connections 1000]

Once when the connections are open, and once when each has echoed some messages of 1 KiB of JSON and is idle again.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
from pathlib import Path

from texts import texts

from websock.sync import connect
from websock.sync.client import ClientConnection

SETTINGS = {
    "no compression": "None",
    "default: 12 bits, memory level 5": "Deflate()",
    "least: 9 bits, memory level 1": "Deflate(server_max_window_bits=9, client_max_window_bits=9, memory_level=1)",
    "most: 15 bits, memory level 9": "Deflate(server_max_window_bits=15, client_max_window_bits=15, memory_level=9)",
    "shared: no context takeover": "Deflate(server_no_context_takeover=True, client_no_context_takeover=True)",
    "the server's side shared": "Deflate(server_no_context_takeover=True)",
}
SERVER = """
import asyncio, resource
from websock.asyncio import serve
from websock.core import Deflate

async def echo(ws):
    async for message in ws:
        await ws.send(message)

async def main():
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    async with serve(echo, "127.0.0.1", 0, compression={settings}) as server:
        print(server.sockets[0].getsockname()[1], flush=True)
        await server.serve_forever()

asyncio.run(main())
"""


def memory(pid: int) -> float:
    """KiB of resident memory."""
    return float(Path(f"/proc/{pid}/status").read_text().partition("VmRSS:")[2].split()[0])


def measure(settings: str, count: int, messages: list[str]) -> tuple[float, float]:
    """KiB for a connection that is open, and for one that was used."""
    server = subprocess.Popen(
        [sys.executable, "-c", SERVER.format(settings=settings)], stdout=subprocess.PIPE, text=True
    )
    clients: list[ClientConnection] = []
    try:
        assert server.stdout is not None
        uri = f"ws://127.0.0.1:{int(server.stdout.readline())}/"
        with connect(uri) as warm:
            for text in messages:
                warm.send(text)
                warm.recv()
        before = memory(server.pid)
        clients += (connect(uri, ping_interval=None) for _ in range(count))
        opened = memory(server.pid)
        for text in messages[:5]:
            for client in clients:
                client.send(text)
                client.recv()
        return (opened - before) / count, (memory(server.pid) - before) / count
    finally:
        server.kill()
        server.communicate()
        for client in clients:
            client.fail(1000)
            client.wait_closed()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--connections", type=int, default=1000, help="default: %(default)s")
    count = parser.parse_args().connections
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, count + 500), hard))
    print(f"{'KiB for each of ' + str(count) + ' connections':40}{'open':>10}{'used':>10}")
    for name, settings in SETTINGS.items():
        opened, used = measure(settings, count, texts(10, 1024))
        print(f"{name:40}{opened:10.1f}{used:10.1f}", flush=True)


if __name__ == "__main__":
    main()
