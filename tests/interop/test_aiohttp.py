"""aiohttp's server and client.

Of the parameters it knows those of the server's direction, and as a client obeys those of its own. It never sends
fragments.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from websock.core import Deflate

from ..adapters.drivers import BOUND, AsyncioAdapter, Bench
from ..programs import missing
from .conversation import (
    COMPRESSIBLE,
    OURS,
    Case,
    cases,
    connect,
    finish,
    serve_echo,
    talk,
    talk_alike,
    talk_choosing,
    talk_compressible,
)
from .meter import Meter

try:
    from aiohttp import ClientSession, WSMsgType, web
except ImportError:
    AIOHTTP = False
else:
    AIOHTTP = True

pytestmark = pytest.mark.parametrize("ours", OURS)


@pytest.fixture(autouse=True)
def needs_aiohttp() -> None:
    if not AIOHTTP:
        missing("aiohttp (of PyPI)")


@pytest.fixture
def loop(bench: Bench) -> AsyncioAdapter:
    """The loop that theirs run in."""
    loop = bench.adapter("asyncio")
    assert isinstance(loop, AsyncioAdapter)
    return loop


async def say(ws: Any, message: Any) -> None:
    await (ws.send_str(message) if isinstance(message, str) else ws.send_bytes(message))


async def echo(request: Any) -> Any:
    ws = web.WebSocketResponse(compress=True)
    await ws.prepare(request)
    async for message in ws:
        assert message.type in (WSMsgType.TEXT, WSMsgType.BINARY)
        await say(ws, message.data)
    return ws


@contextlib.contextmanager
def server(loop: AsyncioAdapter) -> Iterator[int]:
    """Their echo server: its port."""

    async def start() -> Any:
        application = web.Application()
        application.router.add_get("/", echo)
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=BOUND)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return runner

    async def stop() -> None:
        await runner.cleanup()

    runner = loop.run(start())
    try:
        yield runner.addresses[0][1]
    finally:
        loop.run(stop())


@contextlib.contextmanager
def client(loop: AsyncioAdapter, port: int, **settings: Any) -> Iterator[tuple[Callable[..., Any], ...]]:
    """Their client: how it sends and receives."""

    async def start() -> tuple[Any, Any]:
        session = ClientSession()
        try:
            return session, await session.ws_connect(f"ws://127.0.0.1:{port}/", **settings)
        except BaseException:
            await session.close()
            raise

    async def stop() -> None:
        await ws.close()
        await session.close()

    async def receive() -> Any:
        message = await ws.receive(timeout=BOUND)
        assert message.type in (WSMsgType.TEXT, WSMsgType.BINARY)
        return message.data

    session, ws = loop.run(start())
    try:
        yield lambda message: loop.run(say(ws, message)), lambda: loop.run(receive())
    finally:
        loop.run(stop())


@cases(
    plain=Case(Deflate(), {}, "", client=(12, False)),
    server_forgets_as_asked=Case(
        Deflate(server_no_context_takeover=True), {}, "server_no_context_takeover", (15, True), (12, False)
    ),
    # Theirs does not answer that; a client may do it all the same.
    client_forgets_by_itself=Case(Deflate(client_no_context_takeover=True), {}, "", client=(12, True)),
    all_at_once=Case(
        Deflate(True, True, 9, 9),
        {},
        "server_no_context_takeover; server_max_window_bits=9",
        (9, True),
        (9, True),
    ),
    # They cannot compress with 8 bits, and decline.
    server_8=Case(Deflate(server_max_window_bits=8), {}, None),
    **{
        f"server_{bits}_as_asked": Case(
            Deflate(server_max_window_bits=bits), {}, f"server_max_window_bits={bits}", (bits, False), (12, False)
        )
        for bits in (9, 10, 12, 14)
    },
    **{
        f"client_{bits}_by_itself": Case(Deflate(client_max_window_bits=bits), {}, "", client=(bits, False))
        for bits in (8, 9, 15)
    },
)
def test_our_client(bench: Bench, loop: AsyncioAdapter, ours: str, case: Case) -> None:
    with server(loop) as port:
        end = connect(bench, ours, port, case.ours)
        case.check(end.ws, "client")
        talk(end.send, end.recv)
        finish(end)


@cases(
    plain=Case(
        Deflate(), {"compress": 15}, "server_max_window_bits=12; client_max_window_bits=12", (12, False), (12, False)
    ),
    server_forgets_by_itself=Case(
        Deflate(server_no_context_takeover=True, server_max_window_bits=15, client_max_window_bits=15),
        {"compress": 15},
        "server_no_context_takeover; client_max_window_bits=15",
        (15, True),
    ),
    client_forgets_as_told=Case(
        Deflate(client_no_context_takeover=True, server_max_window_bits=15, client_max_window_bits=15),
        {"compress": 15},
        "client_no_context_takeover; client_max_window_bits=15",
        client=(15, True),
    ),
    all_at_once=Case(
        Deflate(True, True, 9, 9),
        {"compress": 12},
        "server_no_context_takeover; client_no_context_takeover; server_max_window_bits=9; client_max_window_bits=9",
        (9, True),
        (9, True),
    ),
    **{
        f"server_{bits}_as_asked": Case(
            Deflate(server_max_window_bits=15),
            {"compress": bits},
            f"server_max_window_bits={bits}; client_max_window_bits=12",
            (bits, False),
            (12, False),
        )
        for bits in (9, 12, 14)
    },
    **{
        f"client_{bits}_as_told": Case(
            Deflate(server_max_window_bits=8, client_max_window_bits=bits),
            {"compress": 15},
            f"server_max_window_bits=8; client_max_window_bits={bits}",
            (8, False),
            (bits, False),
        )
        for bits in (9, 10, 15)
    },
)
def test_our_server(bench: Bench, loop: AsyncioAdapter, ours: str, case: Case) -> None:
    where, next_end = serve_echo(bench, ours, case.ours)
    with client(loop, where.port, **case.theirs) as (send, receive):
        case.check(next_end().ws, "server")
        talk(send, receive, fragments=False)


def test_each_message_has_its_choice(bench: Bench, loop: AsyncioAdapter, ours: str) -> None:
    with server(loop) as port:
        end = connect(bench, ours, port, "deflate")
        talk_choosing(end)
        finish(end)


def test_octets_on_the_wire(bench: Bench, loop: AsyncioAdapter, ours: str) -> None:
    """Both directions are compressed, in both roles."""
    with server(loop) as port, Meter(port) as one:
        end = connect(bench, ours, one.port, "deflate")
        talk_compressible(end.send, end.recv)
        finish(end)
    where, _ = serve_echo(bench, ours, "deflate")
    with Meter(where.port) as two, client(loop, two.port, compress=15) as (send, receive):
        talk_compressible(send, receive)
    one.shows_compression(COMPRESSIBLE)
    two.shows_compression(COMPRESSIBLE)


def test_context_takeover_pays(bench: Bench, loop: AsyncioAdapter, ours: str) -> None:
    meters = []
    for forgets in (False, True):
        with server(loop) as port, Meter(port) as meter:
            end = connect(bench, ours, meter.port, Deflate(forgets, forgets))
            talk_alike(end.send, end.recv)
            finish(end)
        meters.append(meter)
    meters[0].shows_takeover(meters[1])
