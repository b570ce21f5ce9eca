"""Fixtures for pytest. In ``conftest.py``::

    pytest_plugins = ["websock.testing.fixtures"]

They are loaded when they are asked for, and not by themselves in each run of pytest where websock is installed.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ..net.leaks import LeakCheck
from .simulation import Simulation

__all__ = ["simulation", "websock_no_leaks", "websock_server"]

SEED = "WEBSOCK_SEED"


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "simulation(seed=0, faults=None, limit=..., preempt=...): for that fixture")


@pytest.fixture
def simulation(request: pytest.FixtureRequest) -> Iterator[Simulation]:
    """A simulation that runs while the test does; at its end nothing may be left behind.

    ``@pytest.mark.simulation(seed=7, faults=...)`` sets it up, and the environment variable ``WEBSOCK_SEED`` another
    seed. The seed of a test that fails is in its report.
    """
    marker = request.node.get_closest_marker("simulation")
    settings = {} if marker is None else dict(marker.kwargs)
    if SEED in os.environ:
        settings["seed"] = int(os.environ[SEED])
    sim = Simulation(**settings)
    request.node.add_report_section("call", "websock simulation", f"again with {SEED}={sim.seed}")
    with sim:
        yield sim
    sim.check()


@pytest.fixture
def websock_no_leaks() -> Iterator[None]:
    """Every socket of the process that is opened in the test is closed at its end: see `websock.net.leaks`."""
    with LeakCheck():
        yield


@pytest.fixture
def websock_server(request: pytest.FixtureRequest) -> Iterator[Callable[..., str]]:
    """A real server on this machine: ``uri = websock_server(handler, **options)``, as often as one likes.

    A coroutine function is served by asyncio, in a thread, another function by the blocking server; options are those
    of ``serve``. All are closed at the end of the test.
    """
    if "websock_no_leaks" in request.fixturenames:  # in whatever order a test names them: it looks behind our end
        request.getfixturevalue("websock_no_leaks")
    with contextlib.ExitStack() as stack:

        def start(handler: Callable[..., Any], **options: Any) -> str:
            serving = _served_by_asyncio if inspect.iscoroutinefunction(handler) else _served
            port = stack.enter_context(serving(handler, options))
            return f"{'wss' if options.get('ssl') else 'ws'}://localhost:{port}/"

        yield start


@contextlib.contextmanager
def _served(handler: Callable[..., Any], options: dict[str, Any]) -> Iterator[int]:
    from ..sync.server import serve

    with serve(handler, "127.0.0.1", 0, **options) as server:
        thread = threading.Thread(target=server.serve_forever, name="websock_server", daemon=True)
        thread.start()
        yield server.socket.getsockname()[1]
    thread.join()


@contextlib.contextmanager
def _served_by_asyncio(handler: Callable[..., Any], options: dict[str, Any]) -> Iterator[int]:
    from ..asyncio.server import serve

    ready = threading.Event()
    stop: list[Callable[[], object]] = []
    found: list[int | BaseException] = []

    async def run() -> None:
        over = asyncio.Event()
        loop = asyncio.get_running_loop()
        stop.append(lambda: loop.call_soon_threadsafe(over.set))
        async with serve(handler, "127.0.0.1", 0, **options) as server:
            found.append(server.sockets[0].getsockname()[1])
            ready.set()
            await over.wait()

    def body() -> None:
        try:
            asyncio.run(run())
        except BaseException as error:
            found.append(error)
        finally:
            ready.set()

    thread = threading.Thread(target=body, name="websock_server", daemon=True)
    thread.start()
    ready.wait()
    if isinstance(found[0], BaseException):
        thread.join()
        raise found[0]
    try:
        yield found[0]
    finally:
        stop[0]()
        thread.join()
    if isinstance(found[-1], BaseException):
        raise found[-1]
