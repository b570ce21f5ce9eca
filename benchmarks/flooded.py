"""A server under attack: ``python flooded.py NAME`` prints its port; then each line on its input asks for its lag.

An echo server with the defaults of its library, limits and compression included, which answers ``flood`` with 100
messages of 1 MB. Beside it runs a watcher, which sleeps for 5 ms over and over: on the event loop, or in a thread
where the server has threads. How much later it wakes is what everybody else in that process has to wait.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import resource
import sys
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any

from servers import HOST, announce, run

NAP = 0.005  # seconds
LARGE = "x" * 1_000_000
TIMES = 100


class Watcher:
    """The longest lag since it was last asked for, and the most CPU time of this process within one: in seconds."""

    def __init__(self) -> None:
        self._lag = self._busy = 0.0
        self._before = (time.perf_counter(), time.process_time())

    def woken(self) -> None:
        now, before = (time.perf_counter(), time.process_time()), self._before
        self._lag = max(self._lag, now[0] - before[0] - NAP)
        self._busy = max(self._busy, now[1] - before[1])
        self._before = now

    async def watch(self) -> None:
        while True:
            await asyncio.sleep(NAP)
            self.woken()

    def watch_in_thread(self) -> None:
        def watch() -> None:
            while True:
                time.sleep(NAP)
                self.woken()

        threading.Thread(target=watch, daemon=True).start()

    def answer_in_thread(self) -> None:
        """A line for each line of the input; the end of the input ends the process."""

        def answer() -> None:
            for _ in sys.stdin:
                lag, busy = self._lag, self._busy
                self._lag = self._busy = 0.0
                sys.stdout.write(f"{lag:.6f} {busy:.6f}\n")
                sys.stdout.flush()

        threading.Thread(target=answer, daemon=True).start()


async def answer(connection: Any) -> None:
    async for message in connection:
        if message == "flood":
            for _ in range(TIMES):
                await connection.send(LARGE)
        else:
            await connection.send(message)


async def coroutines(serve: Any) -> None:
    async with serve(answer, HOST, 0) as server:
        announce(next(iter(server.sockets)).getsockname()[1])
        await asyncio.get_running_loop().create_future()


async def websock() -> None:
    from websock.asyncio.server import serve

    await coroutines(serve)


async def websockets() -> None:
    from websockets.asyncio.server import serve

    await coroutines(serve)


async def picows_websockets() -> None:
    from picows.websockets.asyncio.server import serve

    await coroutines(serve)


async def aiohttp() -> None:
    from aiohttp import web

    async def handle(request: web.Request) -> web.WebSocketResponse:
        connection = web.WebSocketResponse()
        await connection.prepare(request)
        async for message in connection:
            if message.data == "flood":
                for _ in range(TIMES):
                    await connection.send_str(LARGE)
            else:
                await connection.send_str(message.data)
        return connection

    application = web.Application()
    application.router.add_get("/", handle)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, HOST, 0).start()
    announce(runner.addresses[0][1])
    await asyncio.get_running_loop().create_future()


def threads(serve: Any) -> None:
    def answer(connection: Any) -> None:
        for message in connection:
            if message == "flood":
                for _ in range(TIMES):
                    connection.send(LARGE)
            else:
                connection.send(message)

    with serve(answer, HOST, 0) as server:
        announce((getattr(server, "socket", None) or server.sockets[0]).getsockname()[1])
        server.serve_forever()


def websock_sync() -> None:
    from websock.sync.server import serve

    threads(serve)


def websockets_sync() -> None:
    from websockets.sync.server import serve

    threads(serve)


ASYNC: dict[str, Callable[[], Coroutine[Any, Any, None]]] = {
    "websock": websock,
    "websockets": websockets,
    "picows-websockets": picows_websockets,
    "aiohttp": aiohttp,
}
BLOCKING: dict[str, Callable[[], None]] = {"websock-sync": websock_sync, "websockets-sync": websockets_sync}


async def watched(main: Coroutine[Any, Any, None], watcher: Watcher) -> None:
    task = asyncio.create_task(watcher.watch())
    try:
        await main
    finally:
        task.cancel()


def main() -> None:
    parser = argparse.ArgumentParser(description="A server under attack.")
    parser.add_argument("name", choices=[*ASYNC, *BLOCKING])
    parser.add_argument("--uvloop", action="store_true")
    options = parser.parse_args()
    logging.disable()  # what each library says about an attack is not what is measured
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    watcher = Watcher()
    watcher.answer_in_thread()
    gc.collect()
    if options.name in BLOCKING:
        watcher.watch_in_thread()
        BLOCKING[options.name]()
    else:
        run(watched(ASYNC[options.name](), watcher), options.uvloop)


if __name__ == "__main__":
    main()
