"""The package websockets, its asyncio and its blocking half, as server and as client."""

from __future__ import annotations

import contextlib
import threading
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
    in_pieces,
    serve_echo,
    talk,
    talk_alike,
    talk_choosing,
    talk_compressible,
)
from .meter import Meter

try:
    import websockets.asyncio.client
    import websockets.asyncio.server
    import websockets.sync.client
    import websockets.sync.server
    from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory, ServerPerMessageDeflateFactory
except ImportError:
    WEBSOCKETS = False
else:
    WEBSOCKETS = True

every_pair = pytest.mark.parametrize(("ours", "theirs"), [(ours, theirs) for ours in OURS for theirs in OURS])
# Nothing of what a parameter changes depends on the pair.
two_pairs = pytest.mark.parametrize(("ours", "theirs"), [("asyncio", "sync"), ("sync", "asyncio")])


@pytest.fixture(autouse=True)
def needs_websockets() -> None:
    if not WEBSOCKETS:
        missing("websockets (of PyPI)")


async def echo(ws: Any) -> None:
    async for message in ws:
        await ws.send(in_pieces(message))


def echo_blocking(ws: Any) -> None:
    for message in ws:
        ws.send(in_pieces(message))


@contextlib.contextmanager
def server(bench: Bench, theirs: str, **settings: Any) -> Iterator[int]:
    """Their echo server: its port."""
    options: dict[str, Any] = {"extensions": [ServerPerMessageDeflateFactory(**settings)], "compression": None}
    if theirs == "sync":
        with websockets.sync.server.serve(echo_blocking, "127.0.0.1", 0, **options) as blocking:
            accepting = threading.Thread(target=blocking.serve_forever, daemon=True)
            accepting.start()
            yield blocking.socket.getsockname()[1]
        accepting.join(BOUND)
        return
    loop = bench.adapter("asyncio")
    assert isinstance(loop, AsyncioAdapter)

    async def start() -> Any:
        return await websockets.asyncio.server.serve(echo, "127.0.0.1", 0, **options)

    async def stop() -> None:
        running.close()
        await running.wait_closed()

    running = loop.run(start())
    try:
        yield running.sockets[0].getsockname()[1]
    finally:
        loop.run(stop())


@contextlib.contextmanager
def client(bench: Bench, theirs: str, port: int, **settings: Any) -> Iterator[tuple[Callable[..., Any], ...]]:
    """Their client: how it sends and receives."""
    options: dict[str, Any] = {"extensions": [ClientPerMessageDeflateFactory(**settings)], "compression": None}
    uri = f"ws://127.0.0.1:{port}/"
    if theirs == "sync":
        with websockets.sync.client.connect(uri, proxy=None, **options) as blocking:
            yield blocking.send, lambda: blocking.recv(timeout=BOUND)
        return
    loop = bench.adapter("asyncio")
    assert isinstance(loop, AsyncioAdapter)

    async def open_it() -> Any:
        return await websockets.asyncio.client.connect(uri, proxy=None, **options)

    ws = loop.run(open_it())
    try:
        yield lambda message: loop.run(ws.send(message)), lambda: loop.run(ws.recv())
    finally:
        loop.run(ws.close())


FORGETS = (15, True)
BITS = [9, 10, 12, 15]


@two_pairs
@cases(
    plain=Case(Deflate(), {}, "", client=(12, False)),
    their_defaults=Case(
        Deflate(),
        {"server_max_window_bits": 12, "client_max_window_bits": 12},
        "server_max_window_bits=12; client_max_window_bits=12",
        (12, False),
        (12, False),
    ),
    server_forgets_as_asked=Case(
        Deflate(server_no_context_takeover=True, client_max_window_bits=15),
        {},
        "server_no_context_takeover; client_max_window_bits=15",
        FORGETS,
    ),
    server_forgets_by_itself=Case(
        Deflate(), {"server_no_context_takeover": True}, "server_no_context_takeover", FORGETS, (12, False)
    ),
    client_forgets_by_itself=Case(
        Deflate(client_no_context_takeover=True), {}, "client_no_context_takeover", client=(12, True)
    ),
    client_forgets_as_told=Case(
        Deflate(), {"client_no_context_takeover": True}, "client_no_context_takeover", client=(12, True)
    ),
    all_at_once=Case(
        Deflate(True, True, 10, 10),
        {"server_max_window_bits": 9, "client_max_window_bits": 9},
        "server_no_context_takeover; client_no_context_takeover; server_max_window_bits=9; client_max_window_bits=9",
        (9, True),
        (9, True),
    ),
    client_8=Case(Deflate(client_max_window_bits=8), {}, "client_max_window_bits=8", client=(8, False)),
    client_8_as_told=Case(Deflate(), {"client_max_window_bits": 8}, "client_max_window_bits=8", client=(8, False)),
    client_8_forgets=Case(
        Deflate(client_no_context_takeover=True, client_max_window_bits=8),
        {},
        "client_no_context_takeover; client_max_window_bits=8",
        client=(8, True),
    ),
    # They cannot compress with 8 bits, and decline.
    server_8=Case(Deflate(server_max_window_bits=8), {}, None),
    **{
        f"server_{bits}_as_asked": Case(
            Deflate(server_max_window_bits=bits, client_max_window_bits=9),
            {},
            f"server_max_window_bits={bits}; client_max_window_bits=9",
            (bits, False),
            (9, False),
        )
        for bits in BITS
    },
    **{
        f"client_{bits}_as_told": Case(
            Deflate(client_max_window_bits=15),
            {"client_max_window_bits": bits, "server_max_window_bits": 9},
            f"client_max_window_bits={bits}; server_max_window_bits=9",
            (9, False),
            (bits, False),
        )
        for bits in BITS
    },
)
def test_our_client(bench: Bench, ours: str, theirs: str, case: Case) -> None:
    with server(bench, theirs, **case.theirs) as port:
        end = connect(bench, ours, port, case.ours)
        case.check(end.ws, "client")
        talk(end.send, end.recv)
        finish(end)


@two_pairs
@cases(
    plain=Case(Deflate(), {}, "server_max_window_bits=12; client_max_window_bits=12", (12, False), (12, False)),
    client_bits_not_offered=Case(
        Deflate(client_max_window_bits=9), {"client_max_window_bits": None}, "server_max_window_bits=12", (12, False)
    ),
    server_forgets_as_asked=Case(
        Deflate(server_max_window_bits=15, client_max_window_bits=15),
        {"server_no_context_takeover": True},
        "server_no_context_takeover; client_max_window_bits=15",
        FORGETS,
    ),
    server_forgets_by_itself=Case(
        Deflate(server_no_context_takeover=True, server_max_window_bits=15),
        {"client_max_window_bits": None},
        "server_no_context_takeover",
        FORGETS,
    ),
    client_forgets_by_itself=Case(
        Deflate(server_max_window_bits=15),
        {"client_no_context_takeover": True, "client_max_window_bits": None},
        "client_no_context_takeover",
        client=FORGETS,
    ),
    client_forgets_as_told=Case(
        Deflate(client_no_context_takeover=True, server_max_window_bits=15),
        {"client_max_window_bits": None},
        "client_no_context_takeover",
        client=FORGETS,
    ),
    all_at_once=Case(
        Deflate(True, True, 10, 10),
        {"server_max_window_bits": 9, "client_max_window_bits": 9},
        "server_no_context_takeover; client_no_context_takeover; server_max_window_bits=9; client_max_window_bits=9",
        (9, True),
        (9, True),
    ),
    server_8_forgets=Case(
        Deflate(server_no_context_takeover=True, server_max_window_bits=8),
        {"client_max_window_bits": None},
        "server_no_context_takeover; server_max_window_bits=8",
        (8, True),
    ),
    **{
        f"server_{bits}_as_asked": Case(
            Deflate(server_max_window_bits=15, client_max_window_bits=9),
            {"server_max_window_bits": bits},
            f"server_max_window_bits={bits}; client_max_window_bits=9",
            (bits, False),
            (9, False),
        )
        for bits in [8, *BITS]
    },
    **{
        f"client_{bits}_by_itself": Case(
            Deflate(client_max_window_bits=15, server_max_window_bits=8),
            {"client_max_window_bits": bits},
            f"server_max_window_bits=8; client_max_window_bits={bits}",
            (8, False),
            (bits, False),
        )
        for bits in BITS
    },
)
def test_our_server(bench: Bench, ours: str, theirs: str, case: Case) -> None:
    where, next_end = serve_echo(bench, ours, case.ours)
    with client(bench, theirs, where.port, **case.theirs) as (send, receive):
        case.check(next_end().ws, "server")
        talk(send, receive)


@every_pair
def test_each_message_has_its_choice(bench: Bench, ours: str, theirs: str) -> None:
    with server(bench, theirs) as port:
        end = connect(bench, ours, port, "deflate")
        talk_choosing(end)
        finish(end)


@every_pair
def test_octets_on_the_wire(bench: Bench, ours: str, theirs: str) -> None:
    """Both directions are compressed, in both roles."""
    with server(bench, theirs) as port, Meter(port) as one:
        end = connect(bench, ours, one.port, "deflate")
        talk_compressible(end.send, end.recv)
        finish(end)
    where, _ = serve_echo(bench, ours, "deflate")
    with Meter(where.port) as two, client(bench, theirs, two.port) as (send, receive):
        talk_compressible(send, receive)
    one.shows_compression(COMPRESSIBLE)
    two.shows_compression(COMPRESSIBLE)


@every_pair
def test_context_takeover_pays(bench: Bench, ours: str, theirs: str) -> None:
    meters = []
    for forgets in (False, True):
        with server(bench, theirs) as port, Meter(port) as meter:
            end = connect(bench, ours, meter.port, Deflate(forgets, forgets))
            talk_alike(end.send, end.recv)
            finish(end)
        meters.append(meter)
    meters[0].shows_takeover(meters[1])
