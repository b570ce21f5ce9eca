"""Programs written for ``websockets`` run here with only the name in the import changed, and the other way round."""

from __future__ import annotations

import asyncio
import importlib.util
import threading
from typing import Any

import pytest

import websock.asyncio
import websock.sync

from .drivers import Background, until

PACKAGES = ["websock", "websockets"]

ASYNCIO_QUICK_START = """
import asyncio
from PACKAGE.asyncio.client import connect
from PACKAGE.asyncio.server import serve
from PACKAGE.exceptions import ConnectionClosed, ConnectionClosedOK

async def hello(websocket):
    name = await websocket.recv()
    await websocket.send(f"Hello {name}!")

async def main():
    async with serve(hello, "localhost", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with connect(f"ws://localhost:{port}") as websocket:
            await websocket.send("World")
            result = await websocket.recv()
            try:
                await websocket.recv()
            except ConnectionClosed as exc:
                assert isinstance(exc, ConnectionClosedOK)
                return result, exc.rcvd.code, exc.sent.code, exc.rcvd_then_sent

RESULT = asyncio.run(main())
EXPECTED = ("Hello World!", 1000, 1000, True)
"""

SYNC_QUICK_START = """
import threading
from PACKAGE.sync.client import connect
from PACKAGE.sync.server import serve
from PACKAGE.exceptions import ConnectionClosed

def hello(websocket):
    name = websocket.recv()
    websocket.send(f"Hello {name}!")

with serve(hello, "localhost", 0) as server:
    port = server.socket.getsockname()[1]
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    with connect(f"ws://localhost:{port}") as websocket:
        websocket.send("World")
        result = websocket.recv()
        try:
            websocket.recv(timeout=30)
        except ConnectionClosed as exc:
            codes = exc.rcvd.code, exc.sent.code, exc.rcvd_then_sent
    server.shutdown()
thread.join()
RESULT = result, *codes
EXPECTED = ("Hello World!", 1000, 1000, True)
"""

COUNTER = """
import asyncio
import json
from PACKAGE.asyncio.client import connect
from PACKAGE.asyncio.server import broadcast, serve

USERS = set()
VALUE = 0

def users_event():
    return json.dumps({"type": "users", "count": len(USERS)})

def value_event():
    return json.dumps({"type": "value", "value": VALUE})

async def counter(websocket):
    global USERS, VALUE
    try:
        USERS.add(websocket)
        broadcast(USERS, users_event())
        await websocket.send(value_event())
        async for message in websocket:
            event = json.loads(message)
            if event["action"] == "minus":
                VALUE -= 1
            elif event["action"] == "plus":
                VALUE += 1
            broadcast(USERS, value_event())
    finally:
        USERS.remove(websocket)
        broadcast(USERS, users_event())

async def main():
    got = []
    async with serve(counter, "localhost", 0) as server:
        uri = "ws://localhost:%d" % server.sockets[0].getsockname()[1]
        async with connect(uri) as one:
            got += [await one.recv(), await one.recv()]
            async with connect(uri) as two:
                got += [await two.recv(), await two.recv(), await one.recv()]
                await two.send(json.dumps({"action": "plus"}))
                got += [await one.recv(), await two.recv()]
            got.append(await one.recv())
    return [json.loads(one).get("count", json.loads(one).get("value")) for one in got]

RESULT = asyncio.run(main())
EXPECTED = [1, 0, 2, 0, 2, 1, 1, 1]
"""

HOOKS = """
import asyncio
import http
import PACKAGE
from PACKAGE.asyncio.server import serve
from PACKAGE.exceptions import InvalidStatus
from PACKAGE.http11 import Response
from PACKAGE.datastructures import Headers

def health_check(connection, request):
    if request.path == "/healthz":
        return connection.respond(http.HTTPStatus.OK, "OK\\n")
    if request.path == "/page":
        return Response(200, "OK", Headers([("Content-Type", "text/html"), ("Content-Length", "3")]), b"<p>")

async def echo(websocket):
    assert websocket.request.headers["Authorization"] == "Bearer token"
    async for message in websocket:
        await websocket.send(message, text=isinstance(message, bytes))

async def main():
    async with serve(echo, "localhost", 0, process_request=health_check, max_size=2**20, max_queue=32) as server:
        uri = "ws://localhost:%d" % server.sockets[0].getsockname()[1]
        results = []
        for path in ("/healthz", "/page"):
            try:
                await PACKAGE.connect(uri + path)
            except InvalidStatus as exc:
                results += [exc.response.status_code, exc.response.body]
        headers = {"Authorization": "Bearer token"}
        async with PACKAGE.connect(uri, additional_headers=headers, subprotocols=["chat"]) as websocket:
            await websocket.send(b"bytes")
            results.append(await websocket.recv(decode=False))
            await websocket.send("str", text=False)
            results.append(await websocket.recv(decode=True))
            pong = await websocket.ping()
            results.append(await pong >= 0)
            results += [websocket.subprotocol, websocket.latency > 0]
        results += [websocket.close_code, websocket.close_reason, websocket.state.name]
        return results

RESULT = asyncio.run(main())
EXPECTED = [200, b"OK\\n", 200, b"<p>", b"bytes", "str", True, None, True, 1000, "", "CLOSED"]
"""

PROGRAMS = {"asyncio": ASYNCIO_QUICK_START, "sync": SYNC_QUICK_START, "counter": COUNTER, "hooks": HOOKS}


@pytest.mark.parametrize("package", PACKAGES)
@pytest.mark.parametrize("program", PROGRAMS)
def test_program(package: str, program: str) -> None:
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed")
    names: dict[str, Any] = {"__name__": "program"}
    exec(compile(PROGRAMS[program].replace("PACKAGE", package), program, "exec"), names)  # noqa: S102
    assert names["RESULT"] == names["EXPECTED"]


def exchange(client: Any) -> None:
    """Talk to an echo server of `websockets` or ours."""
    for message in ("text", b"octets", "", b"", "x" * 300_000, b"y" * 70_000):
        client.send(message)
        assert client.recv(timeout=30) == message
    assert client.ping().wait(30)
    client.send(["a", "b", "c"])
    assert client.recv(timeout=30) == "abc"
    client.close(3000, "done")


def test_websockets_client_and_our_servers(bench: Any, name: str) -> None:
    theirs = pytest.importorskip("websockets.sync.client")
    codes: list[Any] = []

    def echo(end: Any) -> None:
        try:
            while True:
                end.send(end.recv())
        except websock.ConnectionClosed as closed:
            codes.append(closed.rcvd)

    where = bench.where("tcp4")
    bench.serve(name, where, echo)
    with theirs.connect(where.uri, compression=None) as client:
        exchange(client)
    with theirs.connect(where.uri) as client:  # offers permessage-deflate
        exchange(client)
    until(lambda: len(codes) == 2)
    assert codes == [websock.Close(3000, "done")] * 2


def test_our_clients_and_a_websockets_server(bench: Any, name: str) -> None:
    theirs = pytest.importorskip("websockets.sync.server")

    def echo(connection: Any) -> None:
        for message in connection:
            connection.send(message)

    def quiet(connection: Any) -> None:
        try:
            echo(connection)
        except Exception:
            pass

    with theirs.serve(quiet, "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        uri = f"ws://127.0.0.1:{server.socket.getsockname()[1]}"
        if name == "sync":
            with websock.sync.connect(uri) as ws:
                exchange(ws)
        else:

            async def main() -> None:
                async with websock.asyncio.connect(uri) as ws:
                    for message in ("text", b"octets", "", "x" * 300_000):
                        await ws.send(message)
                        assert await ws.recv() == message
                    assert await (await ws.ping()) > 0

            asyncio.run(main())
        Background(server.shutdown).result()
        thread.join(5)
