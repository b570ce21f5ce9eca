"""What the tests of the adapters share; above all: nothing may be left behind by any of them."""

from __future__ import annotations

import faulthandler
import gc
import itertools
import logging
import os
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from .drivers import Bench, Where

try:
    import uvloop
except ImportError:
    uvloop = None  # type: ignore[assignment,unused-ignore]

# A test that hangs ends the run, with the stacks of all threads, on the real standard error.
_STDERR = os.dup(2)
_HANG = 30


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A file with a key and a certificate for localhost, signed by itself."""
    directory = tmp_path_factory.mktemp("tls")
    key, cert, both = directory / "key", directory / "cert", directory / "both.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
            *("-days", "2", "-keyout", str(key), "-out", str(cert), "-subj", "/CN=localhost"),
            *("-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1,IP:::1"),
        ],
        check=True,
        capture_output=True,
    )
    both.write_bytes(key.read_bytes() + cert.read_bytes())
    return str(both)


@pytest.fixture(scope="session")
def server_ssl(certificate: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


@pytest.fixture(scope="session")
def client_ssl(certificate: str) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=certificate)


@pytest.fixture
def short_path(tmp_path: Any) -> Iterator[str]:
    """A directory whose paths fit into the address of a Unix socket."""
    import tempfile

    with tempfile.TemporaryDirectory(prefix="ws-", dir="/tmp") as directory:
        yield directory


@pytest.fixture
def bench(short_path: str, server_ssl: ssl.SSLContext, client_ssl: ssl.SSLContext) -> Iterator[Bench]:
    def where(kind: str, name: str) -> Where:
        return Where(kind, short_path, server_ssl, client_ssl, name=name)

    bench = Bench(where)
    try:
        yield bench
    finally:
        bench.close()


class Logs(logging.Handler):
    """What websock and asyncio have logged."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.records: list[logging.LogRecord] = []
        self.expected = 0  # tracebacks that the test asks for

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    def loud(self) -> list[logging.LogRecord]:
        """INFO and above, but for what a server says of itself."""
        return [r for r in self.records if r.levelno >= logging.INFO and not r.getMessage().startswith("server ")]

    def tracebacks(self) -> list[logging.LogRecord]:
        return [r for r in self.records if r.exc_info]

    def text(self, record: logging.LogRecord) -> str:
        return logging.Formatter("%(name)s %(levelname)s %(message)s").format(record)

    def clear(self) -> None:
        self.records.clear()


@pytest.fixture
def logs() -> Iterator[Logs]:
    handler = Logs()
    loggers = [logging.getLogger(name) for name in ("websock", "asyncio")]
    levels = [one.level for one in loggers]
    for one in loggers:
        one.addHandler(handler)
        one.setLevel(logging.DEBUG)
    logging.getLogger("asyncio").setLevel(logging.INFO)
    try:
        yield handler
    finally:
        for one, level in zip(loggers, levels, strict=True):
            one.removeHandler(handler)
            one.setLevel(level)


def _descriptors() -> dict[str, str]:
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[name] = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            pass  # the directory's own
    return found


def _left(before: tuple[set[threading.Thread], dict[str, str]]) -> tuple[list[str], list[str]]:
    threads = [one.name for one in threading.enumerate() if one not in before[0]]
    descriptors = [f"{name}: {what}" for name, what in _descriptors().items() if before[1].get(name) != what]
    return threads, descriptors


_count = itertools.count(1)


@pytest.fixture(autouse=True)
def nothing_left_behind(logs: Logs) -> Iterator[None]:
    """No thread, no descriptor, nothing that asyncio had to complain of, and no traceback that was not asked for."""
    if next(_count) == 1:
        if uvloop is not None:
            uvloop.new_event_loop().close()  # its library keeps a few descriptors for the whole process
        gc.collect()
        gc.freeze()
    faulthandler.dump_traceback_later(_HANG, exit=True, file=_STDERR)
    before = set(threading.enumerate()), _descriptors()
    yield
    deadline = time.monotonic() + 3
    while (left := _left(before)) != ([], []) and time.monotonic() < deadline:
        gc.collect()
        time.sleep(0.01)
    faulthandler.cancel_dump_traceback_later()
    assert left == ([], []), f"threads and descriptors left behind: {left}"
    complaints = [logs.text(r) for r in logs.records if r.name == "asyncio" and r.levelno >= logging.WARNING]
    assert not complaints, "\n".join(complaints)
    tracebacks = [logs.text(r) for r in logs.tracebacks()]
    assert len(tracebacks) == logs.expected, "\n".join(tracebacks) or "no traceback"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if uvloop is None:
        for item in items:
            if "uvloop" in item.name:
                item.add_marker(pytest.mark.skip(reason="uvloop is not installed"))


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
