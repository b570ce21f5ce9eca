"""Connecting to a place in memory from an event loop."""

from __future__ import annotations

import asyncio
import socket
from typing import cast

from ..memory import SCHEME, check, network_for

__all__ = ["check_loop", "connected"]


def check_loop(loop: asyncio.AbstractEventLoop, name: str) -> None:
    """Refuse a loop that waits for the system's sockets: it would never hear of ours.

    Raises:
        RuntimeError: it is none of a simulation, or none runs.
    """
    network_for(name)
    if not getattr(loop, "simulated", False):
        raise RuntimeError(f"{SCHEME}{name} needs the event loop of the simulation: sim.run(main())")


async def connected(name: str) -> socket.socket:
    """As `net.memory.connected`, for a task."""
    loop = asyncio.get_running_loop()
    check_loop(loop, name)
    sock = network_for(name).socket()
    writable = loop.create_future()
    try:
        try:
            sock.connect(name)
        except BlockingIOError:
            loop.add_writer(cast("socket.socket", sock), writable.set_result, None)
            try:
                await writable
            finally:
                loop.remove_writer(cast("socket.socket", sock))
        check(sock, name)
    except BaseException:
        sock.close()
        raise
    return cast("socket.socket", sock)
