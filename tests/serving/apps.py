"""Handlers that the programs under test serve."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from typing import Any


def _answer(message: Any) -> Any:
    """What a message is answered with; some do more."""
    match message:
        case "pid":
            return str(os.getpid())
        case "place":
            return os.environ.get("WEBSOCK_BACKPLANE", "none")
        case "raise":
            raise RuntimeError("a fault of the handler's")
        case "die":
            os.kill(os.getpid(), signal.SIGKILL)
        case "busy":
            time.sleep(600)
    return message


def plain(ws: Any) -> None:
    for message in ws:
        if isinstance(message, str) and message.startswith("until "):
            ws.send("it begins")
            while not os.path.exists(message[6:]):
                time.sleep(0.01)
        ws.send(_answer(message))


async def tasks(ws: Any) -> None:
    async for message in ws:
        if isinstance(message, str) and message.startswith("until "):
            await ws.send("it begins")
            while not os.path.exists(message[6:]):  # noqa: ASYNC110, ASYNC240 - nothing else tells of a file
                await asyncio.sleep(0.01)
        await ws.send(_answer(message))


async def stubborn(ws: Any) -> None:
    """It looks at its connection no more."""
    await asyncio.sleep(600)


def generator(ws: Any) -> Any:
    yield ws


class Deep:
    """Handlers need not stand in the module itself."""

    handler = staticmethod(plain)


number = 5
