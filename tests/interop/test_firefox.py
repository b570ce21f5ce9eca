"""Firefox against our server, where it is installed. It offers compression without parameters."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from websock.core import Deflate

from ..adapters.drivers import Bench
from ..firefox import Firefox, Tab, firefox  # noqa: F401 - a fixture among them
from .conversation import MESSAGES, OURS, Case, cases, serve_echo
from .test_chromium import answer, talk

pytestmark = pytest.mark.parametrize("ours", OURS)


@pytest.fixture(scope="module")
def tab(firefox: Firefox) -> Iterator[Tab]:  # noqa: F811
    tab = firefox.tab()
    yield tab
    tab.close()


@cases(
    plain=Case(Deflate(), {}, "server_max_window_bits=12", (12, False), (15, False)),
    server_forgets=Case(
        Deflate(server_no_context_takeover=True),
        {},
        "server_no_context_takeover; server_max_window_bits=12",
        (12, True),
        (15, False),
    ),
    client_forgets=Case(
        Deflate(client_no_context_takeover=True),
        {},
        "client_no_context_takeover; server_max_window_bits=12",
        (12, False),
        (15, True),
    ),
    server_8=Case(Deflate(server_max_window_bits=8), {}, "server_max_window_bits=8", (8, False), (15, False)),
)
def test_our_server(bench: Bench, tab: Tab, ours: str, case: Case) -> None:
    where, next_end = serve_echo(bench, ours, case.ours, process_request=answer)
    assert talk(tab, where.port, MESSAGES) == "permessage-deflate"  # it does not tell pages the parameters
    case.check(next_end().ws, "server")
