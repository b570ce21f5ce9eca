"""Chromium against our server; one browser for all. (Pages cannot ask for parameters, nor send fragments.)"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from websock import Request, Response
from websock.core import Deflate

from ..adapters.drivers import BOUND, Bench
from ..browser import browser  # noqa: F401 - a fixture
from .conversation import ALIKE, COMPRESSIBLE, MESSAGES, OURS, Case, Message, cases, serve_echo
from .meter import Meter

PAGE = Path(__file__).with_name("page.html").read_text("utf-8")

pytestmark = pytest.mark.parametrize("ours", OURS)


def answer(connection: Any, request: Request) -> Response | None:
    if request.path == "/ws":
        return None
    response: Response = connection.respond(200, PAGE)
    del response.headers["Content-Type"]
    response.headers["Content-Type"] = "text/html; charset=utf-8"
    return response


@pytest.fixture(scope="module")
def page(browser: Any) -> Iterator[Any]:  # noqa: F811
    page = browser.new_page()
    page.set_default_timeout(BOUND * 1000)
    addresses: list[str] = []
    page.on("request", lambda request: addresses.append(request.url))
    page.on("websocket", lambda websocket: addresses.append(websocket.url))
    yield page
    page.close()
    assert addresses
    assert [one for one in addresses if not one.startswith(("http://127.0.0.1:", "ws://127.0.0.1:", "data:"))] == []


def talk(page: Any, port: int, messages: list[Any], burst: list[str] = ALIKE, ws_port: int = 0) -> str:
    """Let a page of our server talk to it: the extensions that the browser tells."""
    page.goto(f"http://127.0.0.1:{port}/")
    said = [one if isinstance(one, str) else [base64.b64encode(one).decode()] for one in messages]
    # evaluate() has no time limit of its own.
    verdict = page.evaluate(
        """([time, ...talking]) => Promise.race([
            talk(...talking),
            new Promise((resolve) => setTimeout(() => resolve("out of time"), time)),
        ])""",
        [BOUND * 1000, ws_port or port, said, burst],
    )
    assert isinstance(verdict, dict), verdict
    assert (verdict["wrong"], verdict["code"], verdict["wasClean"]) == ([], 1000, True)
    return str(verdict["extensions"])


BITS = "server_max_window_bits={}; client_max_window_bits={}"


@cases(
    plain=Case(Deflate(), {}, BITS.format(12, 12), (12, False), (12, False)),
    widest=Case(
        Deflate(server_max_window_bits=15, client_max_window_bits=15),
        {},
        "client_max_window_bits=15",
    ),
    server_forgets=Case(
        Deflate(server_no_context_takeover=True),
        {},
        f"server_no_context_takeover; {BITS.format(12, 12)}",
        (12, True),
        (12, False),
    ),
    client_forgets=Case(
        Deflate(client_no_context_takeover=True),
        {},
        f"client_no_context_takeover; {BITS.format(12, 12)}",
        (12, False),
        (12, True),
    ),
    all_at_once=Case(
        Deflate(True, True, 9, 9),
        {},
        f"server_no_context_takeover; client_no_context_takeover; {BITS.format(9, 9)}",
        (9, True),
        (9, True),
    ),
    server_8_forgets=Case(
        Deflate(server_no_context_takeover=True, server_max_window_bits=8),
        {},
        f"server_no_context_takeover; {BITS.format(8, 12)}",
        (8, True),
        (12, False),
    ),
    **{
        f"server_{bits}": Case(
            Deflate(server_max_window_bits=bits), {}, BITS.format(bits, 12), (bits, False), (12, False)
        )
        for bits in (8, 9, 10)
    },
    **{
        f"client_{bits}": Case(
            Deflate(client_max_window_bits=bits), {}, BITS.format(12, bits), (12, False), (bits, False)
        )
        for bits in (8, 9, 10, 15)
    },
)
def test_our_server(bench: Bench, page: Any, ours: str, case: Case) -> None:
    where, next_end = serve_echo(bench, ours, case.ours, process_request=answer)
    extensions = talk(page, where.port, MESSAGES)
    ws = next_end().ws
    case.check(ws, "server")
    assert extensions == ws.response.headers["Sec-WebSocket-Extensions"]


def test_octets_on_the_wire(bench: Bench, page: Any, ours: str) -> None:
    where, _ = serve_echo(bench, ours, "deflate", process_request=answer, origins=None)  # it comes by another port
    with Meter(where.port) as meter:
        talk(page, where.port, COMPRESSIBLE, [], meter.port)
    meter.shows_compression(COMPRESSIBLE)


def test_context_takeover_pays(bench: Bench, page: Any, ours: str) -> None:
    meters = []
    alike: list[Message] = [*ALIKE]
    for forgets in (False, True):
        where, _ = serve_echo(bench, ours, Deflate(forgets, forgets), process_request=answer, origins=None)
        with Meter(where.port) as meter:
            talk(page, where.port, alike, [], meter.port)
        meters.append(meter)
    meters[0].shows_takeover(meters[1])
