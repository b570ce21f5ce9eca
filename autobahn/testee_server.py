"""The echo server that Autobahn examines, in either adapter."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

from testee_options import parser, settings

from websock.asyncio import server as asyncio_server
from websock.exceptions import ConnectionClosed
from websock.sync import server as sync_server

HOST = "127.0.0.1"


async def echo(ws: asyncio_server.ServerConnection) -> None:
    """Send every message back, on asyncio. That most cases end the connection abnormally is no news."""
    with suppress(ConnectionClosed):
        async for message in ws:
            await ws.send(message)


def echo_sync(ws: sync_server.ServerConnection) -> None:
    """Send every message back, in a thread."""
    with suppress(ConnectionClosed):
        for message in ws:
            ws.send(message)


async def serve(port: int, options: dict[str, Any]) -> None:
    """Serve for ever on asyncio."""
    async with asyncio_server.serve(echo, HOST, port, **options) as server:
        await server.serve_forever()


def serve_sync(port: int, options: dict[str, Any]) -> None:
    """Serve for ever in threads."""
    with sync_server.serve(echo_sync, HOST, port, **options) as server:
        server.serve_forever()


def main() -> None:
    """Run the command line."""
    commands = parser(__doc__)
    commands.add_argument("--port", type=int, required=True)
    arguments = commands.parse_args()
    options = {"origins": None, **settings()}
    if arguments.adapter == "asyncio":
        asyncio.run(serve(arguments.port, options))
    else:
        serve_sync(arguments.port, options)


if __name__ == "__main__":
    main()
