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
        ws.send(_answer(message))


async def tasks(ws: Any) -> None:
    async for message in ws:
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
