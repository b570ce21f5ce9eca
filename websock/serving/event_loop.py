"""Serving with an event loop: asyncio's, or uvloop's."""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import socket
import sys
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from ..asyncio.server import Server, serve
from .orders import Do, Orders
from .plan import QUICK, Plan, goodbye

__all__ = ["EventLoop"]


class EventLoop:
    """One thread for all connections: for coroutine functions, and for thousands of connections.

    Args:
        loop: "asyncio", "uvloop", or "auto": uvloop where it is installed.

    Raises:
        ValueError: another one.
    """

    asynchronous: ClassVar[bool] = True

    def __init__(self, loop: str = "auto") -> None:
        if loop not in ("auto", "asyncio", "uvloop"):
            raise ValueError(f"loop is 'auto', 'asyncio' or 'uvloop', not {loop!r}")
        self.name = ("uvloop" if importlib.util.find_spec("uvloop") else "asyncio") if loop == "auto" else loop

    def __repr__(self) -> str:
        return f"EventLoop({self.name!r})"

    def check(self) -> None:
        """Raise ImportError if the loop is not installed."""
        if self.name == "uvloop" and importlib.util.find_spec("uvloop") is None:
            raise ImportError("the model 'uvloop' needs uvloop: pip install uvloop")

    def serve(self, plan: Plan, sockets: Sequence[socket.socket], orders: Orders, ready: Callable[[], object]) -> None:
        """Serve until ordered to stop."""
        self.check()
        factory = None
        if self.name == "uvloop":
            factory = importlib.import_module("uvloop").new_event_loop
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(_serve(plan, sockets, orders, ready))


async def _serve(plan: Plan, sockets: Sequence[socket.socket], orders: Orders, ready: Callable[[], object]) -> None:
    loop = asyncio.get_running_loop()
    came = asyncio.Event()
    orders.listen(lambda: loop.call_soon_threadsafe(came.set))
    closed: asyncio.Task[Any] | None = None
    try:
        server = await serve(plan.handler, sock=sockets, **plan.keywords())
        ready()
        closed = loop.create_task(server.wait_closed())
        await _obey(plan, server, closed, orders, came)
    finally:
        orders.listen(None)
        if closed is not None:
            closed.cancel()


async def _obey(plan: Plan, server: Server, closed: asyncio.Task[Any], orders: Orders, came: asyncio.Event) -> None:
    """Do what is ordered, until the server is closed or its time is over."""
    loop = asyncio.get_running_loop()
    deadline: float | None = None
    while not closed.done():
        waiting = loop.create_task(came.wait())
        timeout = None if deadline is None else max(0.0, deadline - loop.time())
        try:
            await asyncio.wait({closed, waiting}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()
        came.clear()
        while (order := orders.take()) is not None:
            if order.do is Do.RELOAD:
                plan.reload()
                continue
            # What comes again is a person who does not want to wait.
            patience = QUICK if order.do is Do.QUIT or deadline is not None else plan.grace
            deadline = min(deadline or sys.float_info.max, loop.time() + patience)
            goodbye(server, order, patience)
            await asyncio.sleep(0)  # it has begun, as the next order has to see
        if deadline is not None and loop.time() >= deadline and not closed.done():
            # Their tasks are cancelled when the loop ends.
            if left := len(server.connections):
                plan.logger.warning("server cut %d connections that were left", left)
            else:
                plan.logger.warning("server waits no longer: connections are closed, but handlers or closings went on")
            return
