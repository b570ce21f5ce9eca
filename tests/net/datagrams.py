"""Drivers: datagrams of each kind, blocking and in event loops, behind one blocking set of names."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import itertools
import os
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

from websock.net import asyncio as _  # noqa: F401 - loaded before descriptors are counted
from websock.net import datagram as blocking
from websock.net.asyncio import datagram as looping

__all__ = ["FORMS", "KINDS", "PATIENCE", "Driver", "Peer", "eventually"]

KINDS = ["udp4", "udp6", "unixgram", "abstract"]
FORMS = ["blocking", "asyncio", "uvloop"]
PATIENCE = 20  # seconds for what takes milliseconds
_number = itertools.count()


def eventually(true: Callable[[], object]) -> None:
    """Wait until that is so."""
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.001)


class Peer:
    """A `Datagram` of either form; what its methods return is awaited."""

    def __init__(self, driver: Driver, datagram: Any) -> None:
        self.driver = driver
        self.raw = datagram

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.raw, name)
        if name in ("receive", "receive_from", "receive_many", "send", "send_to", "send_many", "close"):
            return lambda *args, **options: self.driver.call(found, *args, **options)
        return found

    def start(self, name: str, *args: Any) -> concurrent.futures.Future[Any]:
        """Begin a call that will wait, and see it wait."""
        future = self.driver.start(getattr(self.raw, name), *args)
        if self.driver.name == "blocking":
            eventually(lambda: future.done() or self.raw._users)
        else:
            raw = self.raw
            eventually(lambda: future.done() or raw._watch.waiter.waiting or raw._writers or raw._gauges)
        return future

    def within(self, seconds: float, name: str, *args: Any) -> Any:
        """A call with a limit in time."""
        if self.driver.name == "blocking":
            attribute = "receive_timeout" if name.startswith("receive") else "send_timeout"
            setattr(self.raw, attribute, seconds)
            try:
                return getattr(self.raw, name)(*args)
            finally:
                setattr(self.raw, attribute, None)

        async def limited() -> Any:
            async with asyncio.timeout(seconds):
                return await getattr(self.raw, name)(*args)

        return self.driver.call(limited)


class Driver:
    """One form. The loop of an asynchronous one runs in a thread."""

    def __init__(self, name: str, directory: str) -> None:
        self.name = name
        self.directory = directory
        self.peers: list[Peer] = []
        self.loop: asyncio.AbstractEventLoop | None = None
        self.pool: concurrent.futures.ThreadPoolExecutor | None = None
        if name == "blocking":
            self.pool = concurrent.futures.ThreadPoolExecutor(8)
            return
        if name == "uvloop":
            import uvloop

            self.loop = uvloop.new_event_loop()
        else:
            self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever)
        self.thread.start()

    def end(self) -> None:
        for peer in self.peers:
            peer.close()
        if self.pool is not None:
            self.pool.shutdown()
        if self.loop is not None:
            self.call(self.loop.shutdown_default_executor)
            self.call(self.loop.shutdown_asyncgens)
            self.loop.call_soon_threadsafe(self.loop.stop)
            self.thread.join()
            self.loop.close()

    def start(self, function: Callable[..., Any], *args: Any, **options: Any) -> concurrent.futures.Future[Any]:
        if self.pool is not None:
            return self.pool.submit(function, *args, **options)
        assert self.loop is not None

        async def run() -> Any:
            result = function(*args, **options)
            return await result if isinstance(result, Coroutine) else result

        return asyncio.run_coroutine_threadsafe(run(), self.loop)

    def call(self, function: Callable[..., Any], *args: Any, **options: Any) -> Any:
        if self.pool is not None:
            return function(*args, **options)
        return self.start(function, *args, **options).result(PATIENCE)

    def address(self, kind: str) -> str:
        """A free address."""
        return {
            "udp4": "udp://127.0.0.1:0",
            "udp6": "udp://[::1]:0",
            "unixgram": f"unixgram://{self.directory}/{next(_number)}",
            "abstract": f"unixgram:@websock-{os.getpid()}-{next(_number)}",
        }[kind]

    def bind(self, address: Any, **options: Any) -> Peer:
        module = blocking if self.name == "blocking" else looping
        return self._keep(self.call(module.bind_datagram, address, **options))

    def connect(self, address: Any, **options: Any) -> Peer:
        module = blocking if self.name == "blocking" else looping
        return self._keep(self.call(module.connect_datagram, address, **options))

    def take(self, sock: Any) -> Peer:
        """One of a socket that is there."""
        module = blocking if self.name == "blocking" else looping
        return self._keep(self.call(module.Datagram, sock))

    def _keep(self, datagram: Any) -> Peer:
        peer = Peer(self, datagram)
        self.peers.append(peer)
        return peer


@contextlib.contextmanager
def driver(name: str, directory: str) -> Iterator[Driver]:
    one = Driver(name, directory)
    try:
        yield one
    finally:
        one.end()
