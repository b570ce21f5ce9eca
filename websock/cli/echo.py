"""``websock echo``: a server that sends back what it gets, to try clients on."""

from __future__ import annotations

import asyncio
import signal
import ssl
import sys

from ..asyncio.server import ServerConnection, serve, unix_serve
from ..serving.places import spell
from . import Exit, complain, explain

__all__ = ["echo"]

_PATIENCE = 2  # seconds that a client may take to say goodbye when we stop


def echo(host: str, port: int, *, path: str | None, tls: ssl.SSLContext | None) -> Exit:
    """Serve on host and port, or on the Unix socket `path`, until SIGINT or SIGTERM."""
    return asyncio.run(_serve(host, port, path, tls))


async def _serve(host: str, port: int, path: str | None, tls: ssl.SSLContext | None) -> Exit:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: loop.call_soon_threadsafe(stop.set))
    try:
        if path is None:
            server = await serve(_echo, host, port, ssl=tls, close_timeout=_PATIENCE)
        else:
            server = await unix_serve(_echo, path, ssl=tls, close_timeout=_PATIENCE)
    except OSError as error:
        problem = explain(error)
        complain("echo", problem if problem.startswith("can't ") else f"can't listen on {path or host}: {problem}")
        return Exit.FAILED
    async with server:
        for sock in server.sockets:
            sys.stdout.write(spell(sock, secure=tls is not None) + "\n")
        sys.stdout.flush()
        await stop.wait()
    return Exit.OK


async def _echo(ws: ServerConnection) -> None:
    async for message in ws:
        await ws.send(message)
