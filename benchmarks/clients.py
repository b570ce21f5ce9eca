"""Clients of the contenders: ``python clients.py NAME [--uvloop]`` sends and awaits echoes, one at a time.

A line of standard input, "PORT SIZE SECONDS", asks for a run against the C echo server; the answer is "COUNT SECONDS
CPU", or "error: " and why. Messages are binary, compression is off, and each echo is compared, as bytes.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import socket
import sys
import time
from collections.abc import Callable, Coroutine
from typing import Any

HOST = "127.0.0.1"
HUGE = 2**30  # for those that have no "unlimited"


class Run:
    """One run: the message, and what is counted."""

    def __init__(self, port: int, size: int, seconds: float) -> None:
        self.port = port
        self.uri = f"ws://{HOST}:{port}/"
        self.message = bytes(range(97, 123)) * (size // 26) + b"." * (size % 26)
        self.seconds = seconds
        self.count = 0
        self.took = self.used = 0.0

    def start(self) -> None:
        """The connection is open."""
        self._used, self._start = time.process_time(), time.perf_counter()
        self._end = self._start + self.seconds

    def goes_on(self, echo: Any) -> bool:
        """Take an echo; whether there is time for one more."""
        if echo != self.message:
            raise ValueError("a wrong echo")
        self.count += 1
        if time.perf_counter() < self._end:
            return True
        self.took, self.used = time.perf_counter() - self._start, time.process_time() - self._used
        return False


async def coroutines(connect: Any, run: Run, **options: Any) -> None:
    async with connect(run.uri, compression=None, max_size=None, **options) as connection:
        send, receive, message = connection.send, connection.recv, run.message
        run.start()
        await send(message)
        while run.goes_on(await receive()):
            await send(message)


async def websock(run: Run) -> None:
    from websock.asyncio.client import connect

    await coroutines(connect, run)


async def websock_callback(run: Run) -> None:
    from websock.asyncio.client import connect

    over = asyncio.get_running_loop().create_future()

    def on_message(connection: Any, message: Any) -> None:
        try:
            if run.goes_on(message):
                connection.send(run.message)
            elif not over.done():
                over.set_result(None)
        except ValueError as error:
            over.set_exception(error)

    options: dict[str, Any] = {"on_message": on_message, "compression": None, "max_size": None}
    async with connect(run.uri, **options) as connection:
        run.start()
        await connection.send(run.message)
        await over


async def websockets(run: Run) -> None:
    from websockets.asyncio.client import connect

    await coroutines(connect, run, proxy=None)


async def picows_websockets(run: Run) -> None:
    from picows.websockets.asyncio.client import connect

    await coroutines(connect, run, proxy=None)


async def picows(run: Run) -> None:
    from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

    binary = WSMsgType.BINARY
    over = asyncio.get_running_loop().create_future()

    class Client(WSListener):  # type: ignore[misc,unused-ignore]
        def on_ws_connected(self, transport: WSTransport) -> None:
            run.start()
            transport.send(binary, run.message)

        def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
            if frame.msg_type != binary:
                return
            try:
                if run.goes_on(frame.get_payload_as_bytes()):
                    transport.send(binary, run.message)
                elif not over.done():
                    over.set_result(None)
            except ValueError as error:
                over.set_exception(error)

    transport, _ = await ws_connect(Client, run.uri, max_frame_size=HUGE)
    await over
    transport.disconnect()


async def aiohttp(run: Run) -> None:
    from aiohttp import ClientSession

    async with ClientSession() as session, session.ws_connect(run.uri, max_msg_size=0, compress=0) as connection:
        run.start()
        await connection.send_bytes(run.message)
        while run.goes_on(await connection.receive_bytes()):
            await connection.send_bytes(run.message)


async def raw(run: Run) -> None:
    """Octets to a server that gives them back: what the event loop itself costs."""
    over = asyncio.get_running_loop().create_future()
    buffer = bytearray(len(run.message) + 65536)
    view = memoryview(buffer)

    class Client(asyncio.BufferedProtocol):
        have = 0

        def connection_made(self, transport: Any) -> None:
            self.transport = transport
            run.start()
            transport.write(run.message)

        def get_buffer(self, sizehint: int) -> memoryview:
            return view[self.have :]

        def buffer_updated(self, nbytes: int) -> None:
            self.have += nbytes
            if self.have < len(run.message):
                return
            echo, self.have = bytes(view[: self.have]), 0
            try:
                if run.goes_on(echo):
                    self.transport.write(run.message)
                elif not over.done():
                    over.set_result(None)
            except ValueError as error:
                over.set_exception(error)

    transport, _ = await asyncio.get_running_loop().create_connection(Client, HOST, run.port)
    await over
    transport.close()


def threads(connect: Any, run: Run, **options: Any) -> None:
    with connect(run.uri, compression=None, max_size=None, **options) as connection:
        run.start()
        connection.send(run.message)
        while run.goes_on(connection.recv()):
            connection.send(run.message)


def websock_sync(run: Run) -> None:
    from websock.sync.client import connect

    threads(connect, run)


def websockets_sync(run: Run) -> None:
    from websockets.sync.client import connect

    threads(connect, run, proxy=None)


def websocket_client(run: Run) -> None:
    from websocket import create_connection

    connection = create_connection(run.uri, sockopt=[(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)])
    try:
        run.start()
        connection.send_binary(run.message)
        while run.goes_on(connection.recv()):
            connection.send_binary(run.message)
    finally:
        connection.close()


ASYNC: dict[str, Callable[[Run], Coroutine[Any, Any, None]]] = {
    "websock": websock,
    "websock-callback": websock_callback,
    "websockets": websockets,
    "picows": picows,
    "picows-websockets": picows_websockets,
    "aiohttp": aiohttp,
    "raw": raw,
}
BLOCKING: dict[str, Callable[[Run], None]] = {
    "websock-sync": websock_sync,
    "websockets-sync": websockets_sync,
    "websocket-client": websocket_client,
}


def perform(name: str, run: Run, with_uvloop: bool) -> None:
    if name in BLOCKING:
        BLOCKING[name](run)
    elif with_uvloop:
        import uvloop

        uvloop.run(ASYNC[name](run))
    else:
        asyncio.run(ASYNC[name](run))


def main() -> None:
    parser = argparse.ArgumentParser(description="A client of one contender; it is told on standard input what to do.")
    parser.add_argument("name", choices=[*ASYNC, *BLOCKING])
    parser.add_argument("--uvloop", action="store_true")
    options = parser.parse_args()
    logging.disable()
    for line in sys.stdin:
        port, size, seconds = line.split()
        run = Run(int(port), int(size), float(seconds))
        try:
            perform(options.name, run, options.uvloop)
        except Exception as error:
            print(f"error: {error!r}", flush=True)
        else:
            print(f"{run.count} {run.took:.6f} {run.used:.6f}", flush=True)


if __name__ == "__main__":
    main()
