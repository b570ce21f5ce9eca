"""Echo servers of the contenders: ``python servers.py NAME`` prints the port, then echoes until it is ended."""

from __future__ import annotations

import asyncio
import resource
import sys
import threading
from typing import Any


async def run_async(serve: Any, options: dict[str, Any]) -> None:
    async def echo(connection: Any) -> None:
        async for message in connection:
            await connection.send(message)

    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    options = {"compression": None, **options}
    async with serve(echo, "127.0.0.1", 0, max_size=None, **options) as server:
        announce(next(iter(server.sockets)).getsockname()[1])
        await asyncio.get_running_loop().create_future()


def run_sync(serve: Any, options: dict[str, Any]) -> None:
    def echo(connection: Any) -> None:
        for message in connection:
            connection.send(message)

    with serve(echo, "127.0.0.1", 0, compression=None, max_size=None, **options) as server:
        socket = getattr(server, "socket", None) or server.sockets[0]
        announce(socket.getsockname()[1])
        threading.Thread(target=server.serve_forever, daemon=True).start()
        threading.Event().wait()


def announce(port: int) -> None:
    sys.stdout.write(f"{port}\n")
    sys.stdout.flush()


def main() -> None:
    name, *compression = sys.argv[1].split("+")
    options = {"compression": "deflate"} if compression else {}
    if name == "websock":
        from websock.asyncio.server import serve as ours

        asyncio.run(run_async(ours, options))
    elif name == "websockets":
        from websockets.asyncio.server import serve as theirs

        asyncio.run(run_async(theirs, options))
    elif name == "websock.sync":
        from websock.sync.server import serve as ours_sync

        run_sync(ours_sync, {})
    elif name == "websockets.sync":
        from websockets.sync.server import serve as theirs_sync

        run_sync(theirs_sync, {})
    else:
        sys.exit(f"no server {name!r}")


if __name__ == "__main__":
    main()
