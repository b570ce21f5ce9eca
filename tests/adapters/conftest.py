"""What the tests of the adapters share."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ..sockets import (  # noqa: F401 - pytest looks for fixtures and hooks here
    Logs,
    certificate,
    client_ssl,
    logs,
    nothing_left_behind,
    pytest_collection_modifyitems,
    server_ssl,
    short_path,
)
from .drivers import Bench, Where


# F811: parameters have the names of the fixtures above, which is how pytest finds them.
@pytest.fixture
def bench(short_path: str, server_ssl: ssl.SSLContext, client_ssl: ssl.SSLContext) -> Iterator[Bench]:  # noqa: F811
    def where(kind: str, name: str) -> Where:
        return Where(kind, short_path, server_ssl, client_ssl, name=name)

    bench = Bench(where)
    try:
        yield bench
    finally:
        bench.close()


KINDS = ["tcp4", "tcp6", "tls", "unix", "sock"]
BOTH = ["asyncio", "sync"]

Make = Callable[..., tuple[Any, Any]]

PAIRS = [(server, client, kind) for kind in KINDS for server in BOTH for client in BOTH]
PAIRS += [("uvloop", "uvloop", "tcp4"), ("uvloop", "uvloop", "tls"), ("uvloop", "sync", "unix")]
ENDS = [(name, role, kind) for kind in ("tcp4", "tls", "unix") for name in BOTH for role in ("server", "client")]
ENDS += [("uvloop", "server", "tcp4"), ("uvloop", "client", "tls")]


@pytest.fixture(params=PAIRS, ids="-".join)
def pair(request: pytest.FixtureRequest, bench: Bench) -> Make:
    """Two of our ends, connected: ``client, server = pair(**options)``."""
    return lambda **options: bench.pair(*request.param, **options)


@pytest.fixture(params=[one for one in PAIRS if one[2] in ("tcp4", "tls")], ids="-".join)
def few_pairs(request: pytest.FixtureRequest, bench: Bench) -> Make:
    """As `pair`, for what takes time or does not depend on the kind of socket."""
    return lambda **options: bench.pair(*request.param, **options)


@pytest.fixture(params=ENDS, ids="-".join)
def against(request: pytest.FixtureRequest, bench: Bench) -> Make:
    """One of our ends and a raw peer: ``end, raw = against(**options)``."""
    return lambda **options: bench.raw(*request.param, **options)


@pytest.fixture(params=[one for one in ENDS if one[2] == "tcp4"], ids="-".join)
def against_tcp(request: pytest.FixtureRequest, bench: Bench) -> Make:
    return lambda **options: bench.raw(*request.param, **options)


@pytest.fixture(params=["asyncio", "sync"])
def name(request: pytest.FixtureRequest) -> str:
    """The name of an adapter."""
    return str(request.param)
