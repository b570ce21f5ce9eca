"""``websock echo``: a server that sends back what it gets, to try clients on."""

from __future__ import annotations

import asyncio
import os
import signal
import ssl
import sys
import urllib.parse
from typing import Any

from ..asyncio.server import ServerConnection, serve, unix_serve
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
            sys.stdout.write(_spell(sock.getsockname(), "ws" if tls is None else "wss") + "\n")
        sys.stdout.flush()
        await stop.wait()
    return Exit.OK


async def _echo(ws: ServerConnection) -> None:
    async for message in ws:
        await ws.send(message)


def _spell(address: Any, scheme: str) -> str:
    """The address to give to ``websock connect``."""
    if isinstance(address, str):
        return f"{scheme}+unix://{urllib.parse.quote(os.path.abspath(address))}"
    host, port = address[:2]
    return f"{scheme}://[{host}]:{port}/" if ":" in host else f"{scheme}://{host}:{port}/"
