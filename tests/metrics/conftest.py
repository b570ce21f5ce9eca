"""What the tests of metrics share with those of the adapters: servers of both, and nothing left behind."""

from __future__ import annotations

import urllib.error
import urllib.request

import pytest

from ..adapters.conftest import bench  # noqa: F401 - pytest looks for fixtures and hooks here
from ..browser import browser  # noqa: F401 - likewise
from ..sockets import (  # noqa: F401 - likewise
    certificate,
    client_ssl,
    logs,
    pytest_collection_modifyitems,
    server_ssl,
    short_path,
)

NAMES = ["asyncio", "sync"]


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    """The name of an adapter."""
    return str(request.param)


def ask(url: str, headers: dict[str, str] | None = None, method: str = "GET") -> tuple[int, str, dict[str, str]]:
    """Status, text and header fields that a URL is answered with."""
    request = urllib.request.Request(url, headers=headers or {}, method=method)  # noqa: S310 - a server of the test's
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310 - likewise
            return answer.status, answer.read().decode(), dict(answer.headers)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode(), dict(error.headers)
