"""Echo servers of the contenders: ``python servers.py NAME [VARIANT] [--uvloop]`` prints the port, then echoes.

Each is written as its library's own documentation does it, with the fastest ordinary use, and without compression and
limits of size, but in the variants: ``deflate`` (compression with the defaults of each), ``broadcast`` (a text that
begins with "B" goes to all connections), ``tls``.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import resource
import ssl
import sys
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

HOST = "127.0.0.1"
PEM = Path(__file__).resolve().parents[1] / "tests" / "localhost.pem"
VARIANTS = ("plain", "deflate", "broadcast", "tls")
HUGE = 2**30  # for those that have no "unlimited"


def announce(port: int) -> None:
    sys.stdout.write(f"{port}\n")
    sys.stdout.flush()


def tls_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(PEM)
    return context


def like_websockets(variant: str) -> dict[str, Any]:
    """The options of `serve`, which three libraries have in common."""
    options: dict[str, Any] = {"max_size": None, "compression": "deflate" if variant == "deflate" else None}
    return {**options, "ssl": tls_context()} if variant == "tls" else options


async def coroutines(serve: Any, broadcast: Any, variant: str, **more: Any) -> None:
    """An asyncio server with a coroutine for each connection."""
    connections: set[Any] = set()

    async def echo(connection: Any) -> None:
        async for message in connection:
            await connection.send(message)

    async def echo_to_all(connection: Any) -> None:
        connections.add(connection)
        try:
            async for message in connection:
                if message.startswith("B"):
                    broadcast(connections, message)
                else:
                    await connection.send(message)
        finally:
            connections.discard(connection)

    handler = echo_to_all if variant == "broadcast" else echo
    async with serve(handler, HOST, 0, **like_websockets(variant), **more) as server:
        announce(next(iter(server.sockets)).getsockname()[1])
        await asyncio.get_running_loop().create_future()


async def websock(variant: str, **more: Any) -> None:
    """With `more` options of its `serve`, as the programs that compare it with itself have them."""
    from websock.asyncio.server import broadcast, serve

    await coroutines(serve, broadcast, variant, **more)


async def websock_callback(variant: str, **more: Any) -> None:
    from websock.asyncio.server import broadcast, serve

    def echo(connection: Any, message: Any) -> None:
        connection.send(message)

    def echo_to_all(connection: Any, message: Any) -> None:
        if message.startswith("B"):
            broadcast(connection.server.connections, message)
        else:
            connection.send(message)

    on_message = echo_to_all if variant == "broadcast" else echo
    options: dict[str, Any] = {**like_websockets(variant), "on_message": on_message, **more}
    handler: Any = None
    async with serve(handler, HOST, 0, **options) as server:
        announce(next(iter(server.sockets)).getsockname()[1])
        await asyncio.get_running_loop().create_future()


async def websockets(variant: str) -> None:
    from websockets.asyncio.server import broadcast, serve

    await coroutines(serve, broadcast, variant)


async def picows_websockets(variant: str) -> None:
    from picows.websockets.asyncio.server import broadcast, serve

    await coroutines(serve, broadcast, variant)


async def picows(variant: str) -> None:
    from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_create_server

    close, text = WSMsgType.CLOSE, WSMsgType.TEXT
    transports: set[Any] = set()

    class Echo(WSListener):  # type: ignore[misc,unused-ignore]
        def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
            if frame.msg_type == close:
                transport.send_close(frame.get_close_code(), frame.get_close_message())
                transport.disconnect()
            else:
                transport.send(frame.msg_type, frame.get_payload_as_memoryview())

    class EchoToAll(Echo):
        def on_ws_connected(self, transport: WSTransport) -> None:
            transports.add(transport)

        def on_ws_disconnected(self, transport: WSTransport) -> None:
            transports.discard(transport)

        def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
            if frame.msg_type == text and (message := frame.get_payload_as_bytes()).startswith(b"B"):
                for each in transports:
                    each.send(text, message)
            else:
                super().on_ws_frame(transport, frame)

    listener = EchoToAll if variant == "broadcast" else Echo
    options: dict[str, Any] = {"ssl": tls_context()} if variant == "tls" else {}
    server = await ws_create_server(lambda request: listener(), HOST, 0, max_frame_size=HUGE, **options)
    announce(server.sockets[0].getsockname()[1])
    await server.serve_forever()


async def aiohttp(variant: str) -> None:
    from aiohttp import web

    connections: set[Any] = set()
    compress = variant == "deflate"

    async def echo(request: web.Request) -> web.WebSocketResponse:
        connection = web.WebSocketResponse(max_msg_size=0, compress=compress)
        await connection.prepare(request)
        async for message in connection:
            await connection.send_str(message.data)
        return connection

    async def echo_to_all(request: web.Request) -> web.WebSocketResponse:
        connection = web.WebSocketResponse(max_msg_size=0, compress=False)
        await connection.prepare(request)
        connections.add(connection)
        try:
            async for message in connection:
                for each in list(connections) if message.data.startswith("B") else [connection]:
                    await each.send_str(message.data)
        finally:
            connections.discard(connection)
        return connection

    application = web.Application()
    application.router.add_get("/", echo_to_all if variant == "broadcast" else echo)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, HOST, 0, ssl_context=tls_context() if variant == "tls" else None, backlog=1024).start()
    announce(runner.addresses[0][1])
    await asyncio.get_running_loop().create_future()


async def tornado(variant: str) -> None:
    from tornado.httpserver import HTTPServer
    from tornado.netutil import bind_sockets
    from tornado.web import Application
    from tornado.websocket import WebSocketHandler

    connections: set[Any] = set()

    class Echo(WebSocketHandler):  # type: ignore[misc,unused-ignore]
        def get_compression_options(self) -> dict[str, Any] | None:
            return {} if variant == "deflate" else None

        def open(self) -> None:
            self.set_nodelay(True)  # as its documentation advises for short answers

        def on_message(self, message: str | bytes) -> None:
            self.write_message(message, binary=isinstance(message, bytes))

    class EchoToAll(Echo):
        def open(self) -> None:
            super().open()
            connections.add(self)

        def on_close(self) -> None:
            connections.discard(self)

        def on_message(self, message: Any) -> None:
            for each in connections if message.startswith("B") else [self]:
                each.write_message(message)

    routes = [("/", EchoToAll if variant == "broadcast" else Echo)]
    application = Application(routes, websocket_max_message_size=HUGE, log_function=lambda handler: None)
    server = HTTPServer(application, ssl_options=tls_context() if variant == "tls" else None)
    sockets = bind_sockets(0, HOST)
    server.add_sockets(sockets)
    announce(sockets[0].getsockname()[1])
    await asyncio.get_running_loop().create_future()


async def wsproto(variant: str) -> None:
    from wsproto import ConnectionType, WSConnection
    from wsproto.events import AcceptConnection, CloseConnection, Message, Ping, Request
    from wsproto.extensions import Extension, PerMessageDeflate

    open_ones: set[Any] = set()

    class Pump(asyncio.Protocol):
        """wsproto has no input and output: the smallest pump that echoes, one write for each read."""

        def connection_made(self, transport: Any) -> None:
            self.transport = transport
            self.websocket = WSConnection(ConnectionType.SERVER)
            self.parts: list[Any] = []
            open_ones.add(self)

        def connection_lost(self, exc: Exception | None) -> None:
            open_ones.discard(self)

        def data_received(self, data: bytes) -> None:
            websocket, out, over = self.websocket, [], False
            websocket.receive_data(data)
            for event in websocket.events():
                if isinstance(event, Message):
                    self.parts.append(event.data)
                    if event.message_finished:
                        message, self.parts = self.parts[0][:0].join(self.parts), []
                        if variant == "broadcast" and message.startswith("B"):
                            for each in open_ones:
                                each.transport.write(each.websocket.send(Message(message)))
                        else:
                            out.append(websocket.send(Message(message)))
                elif isinstance(event, Request):
                    extensions: list[Extension] = [PerMessageDeflate()] if variant == "deflate" else []
                    out.append(websocket.send(AcceptConnection(extensions=extensions)))
                elif isinstance(event, Ping):
                    out.append(websocket.send(event.response()))
                elif isinstance(event, CloseConnection):
                    out.append(websocket.send(event.response()))
                    over = True
            self.transport.write(b"".join(out))
            if over:
                self.transport.close()

    await protocol_server(Pump, variant)


async def raw(variant: str) -> None:
    """Octets in, octets out: what the event loop itself costs. One buffer, as a fast program does it."""
    buffer = memoryview(bytearray(2**18))

    class Echo(asyncio.BufferedProtocol):
        def connection_made(self, transport: Any) -> None:
            self.transport = transport

        def get_buffer(self, sizehint: int) -> memoryview:
            return buffer

        def buffer_updated(self, nbytes: int) -> None:
            self.transport.write(bytes(buffer[:nbytes]))  # a copy: the transport may keep it

    await protocol_server(Echo, variant)


async def protocol_server(protocol: Callable[[], asyncio.BaseProtocol], variant: str) -> None:
    context = tls_context() if variant == "tls" else None
    server = await asyncio.get_running_loop().create_server(protocol, HOST, 0, ssl=context, backlog=1024)
    announce(server.sockets[0].getsockname()[1])
    await server.serve_forever()


def threads(serve: Any, broadcast: Any, variant: str, **more: Any) -> None:
    """A blocking server, which has a thread for each connection."""
    connections: set[Any] = set()

    def echo(connection: Any) -> None:
        for message in connection:
            connection.send(message)

    def echo_to_all(connection: Any) -> None:
        connections.add(connection)
        try:
            for message in connection:
                if message.startswith("B"):
                    broadcast(list(connections), message)
                else:
                    connection.send(message)
        finally:
            connections.discard(connection)

    handler = echo_to_all if variant == "broadcast" else echo
    with serve(handler, HOST, 0, **like_websockets(variant), **more) as server:
        announce((getattr(server, "socket", None) or server.sockets[0]).getsockname()[1])
        threading.Thread(target=server.serve_forever, daemon=True).start()
        threading.Event().wait()


def websock_sync(variant: str, **more: Any) -> None:
    from websock.sync.server import broadcast, serve

    threads(serve, broadcast, variant, **more)


def websockets_sync(variant: str) -> None:
    from websockets.sync.server import serve

    def broadcast(connections: list[Any], message: str) -> None:  # it has none
        for connection in connections:
            connection.send(message)

    threads(serve, broadcast, variant)


ASYNC: dict[str, Callable[[str], Coroutine[Any, Any, None]]] = {
    "websock": websock,
    "websock-callback": websock_callback,
    "websockets": websockets,
    "picows": picows,
    "picows-websockets": picows_websockets,
    "aiohttp": aiohttp,
    "tornado": tornado,
    "wsproto": wsproto,
    "raw": raw,
}
BLOCKING: dict[str, Callable[[str], None]] = {"websock-sync": websock_sync, "websockets-sync": websockets_sync}


def run(main: Coroutine[Any, Any, None], with_uvloop: bool) -> None:
    if with_uvloop:
        import uvloop

        uvloop.run(main)
    else:
        asyncio.run(main)


def main() -> None:
    parser = argparse.ArgumentParser(description="An echo server of one contender.")
    parser.add_argument("name", choices=[*ASYNC, *BLOCKING])
    parser.add_argument("variant", choices=VARIANTS, nargs="?", default="plain")
    parser.add_argument("--uvloop", action="store_true")
    options = parser.parse_args()
    logging.disable()  # a load ends without Close; what each library says about that is not what is measured
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    if options.name in BLOCKING:
        BLOCKING[options.name](options.variant)
    else:
        run(ASYNC[options.name](options.variant), options.uvloop)


if __name__ == "__main__":
    main()
