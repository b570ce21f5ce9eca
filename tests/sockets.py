"""Fixtures for tests with sockets; above all: nothing may be left behind by any of them."""

from __future__ import annotations

import gc
import itertools
import logging
import os
import ssl
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

try:
    import uvloop
except ImportError:
    uvloop = None  # type: ignore[assignment,unused-ignore]

__all__ = [
    "Logs",
    "certificate",
    "client_ssl",
    "logs",
    "nothing_left_behind",
    "pytest_collection_modifyitems",
    "server_ssl",
    "short_path",
]


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
    with tempfile.TemporaryDirectory(prefix="ws-", dir="/tmp") as directory:
        yield directory


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
    before = set(threading.enumerate()), _descriptors()
    yield
    deadline = time.monotonic() + 20
    while (left := _left(before)) != ([], []) and time.monotonic() < deadline:
        gc.collect()
        time.sleep(0.01)
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
