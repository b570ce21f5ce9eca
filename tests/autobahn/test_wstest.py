"""The watch over wstest, with stand-ins for it and for testees with bad habits."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from results import Examination
from suite import Suite
from testees import Testee, server_at
from wstest import Bounds, Run

from .conftest import CASES
from .fake_testees import client, server

LONG = Bounds(stall=20.0, total=20.0)


def examine(
    suite: Suite,
    testee: Testee,
    folder: Path,
    bounds: Bounds = LONG,
    on_case: Callable[[int, str], None] = lambda number, case: None,
) -> Examination:
    """Examine the testee with the three cases."""

    async def main() -> Examination:
        return await Run(suite, testee, CASES, folder, bounds, on_case).examine()

    return asyncio.run(main())


@pytest.mark.parametrize("testee", [server("ok", "ok", "ok"), client("ok", "ok", "ok")])
def test_all_is_well(suite: Suite, testee: Testee, tmp_path: Path) -> None:
    told: list[tuple[int, str]] = []
    examination = examine(suite, testee, tmp_path, on_case=lambda *at: told.append(at))
    assert examination.problem is None
    assert list(examination.results) == list(CASES)
    assert told == [(1, "1.1.1"), (2, "2.1"), (3, "10.1.1")]
    assert 0 < examination.seconds < LONG.total


@pytest.mark.parametrize("testee", [server("ok", "hang"), client("ok", "hang")])
def test_testee_hangs(suite: Suite, testee: Testee, tmp_path: Path) -> None:
    """wstest alone would wait for ever, and have nothing to show; here it is freed, and tells what it knows."""
    bounds = Bounds(stall=20.0, total=20.0)

    def lose_patience(number: int, case: str) -> None:
        if case == "2.1":
            bounds.stall = 0.5

    examination = examine(suite, testee, tmp_path, bounds, lose_patience)
    assert examination.problem == f"stalled: no sign of life for 0.5 s; last case started: 2.1; logs in {tmp_path}"
    assert list(examination.results) == ["1.1.1", "2.1"]
    assert examination.seconds < LONG.total


def test_server_ends(suite: Suite, tmp_path: Path) -> None:
    examination = examine(suite, server("ok", "exit"), tmp_path)
    assert examination.problem is not None
    assert examination.problem.startswith("the server ended by itself: exit code 7; last case started: 2.1;")
    assert list(examination.results) == ["1.1.1", "2.1"]


def test_client_fails(suite: Suite, tmp_path: Path) -> None:
    examination = examine(suite, client("ok", "exit"), tmp_path)
    assert examination.problem is not None
    assert examination.problem.startswith("the client failed: exit code 7; last case started: 2.1;")
    assert list(examination.results) == ["1.1.1", "2.1"]


def test_client_stops_early(suite: Suite, tmp_path: Path) -> None:
    examination = examine(suite, client("ok"), tmp_path)
    assert examination.problem is None
    assert examination.count()["missing"] == 2


def test_server_does_not_start(suite: Suite, tmp_path: Path) -> None:
    testee = Testee("server", "server", (sys.executable, "-c", "import nothing_like_that"))
    examination = examine(suite, testee, tmp_path)
    assert examination.problem is not None
    assert examination.problem.startswith("the server ended before it listened: exit code 1;")
    assert "nothing_like_that" in (tmp_path / "server.log").read_text()


def test_client_does_not_start(suite: Suite, tmp_path: Path) -> None:
    examination = examine(suite, Testee("client", "client", ("/nowhere/to/be/found",)), tmp_path)
    assert examination.problem is not None
    assert examination.problem.startswith("cannot start /nowhere/to/be/found: No such file or directory;")


def test_any_server(suite: Suite, tmp_path: Path, closing_server: str) -> None:
    examination = examine(suite, server_at(closing_server), tmp_path)
    assert examination.problem is None
    assert list(examination.results) == list(CASES)


def test_no_server(suite: Suite, tmp_path: Path) -> None:
    examination = examine(suite, server_at("ws://127.0.0.1:1"), tmp_path)
    assert examination.problem is not None
    assert examination.problem.startswith("Connection to ws://127.0.0.1:1 failed (")
    assert examination.count()["missing"] == 3


def wstest(program: str) -> Suite:
    """Return a suite whose wstest is this program."""
    return Suite("stand-in", (sys.executable, "-u", "-c", program), CASES)


@pytest.mark.parametrize(
    ("program", "bounds", "problem"),
    [
        (
            "import signal; print('Hello'); signal.pause()",
            Bounds(stall=0.5, total=40.0),
            "stalled: no sign of life for 0.5 s",
        ),
        ("while True: print('Running', end=' ')", Bounds(stall=40.0, total=0.5), "not finished after 0.5 s"),
        ("raise SystemExit(1)", LONG, "wstest failed: exit code 1"),
    ],
)
def test_wstest_itself(program: str, bounds: Bounds, problem: str, tmp_path: Path, closing_server: str) -> None:
    examination = examine(wstest(program), server_at(closing_server), tmp_path, bounds)
    assert examination.problem == f"{problem}; last case started: none; logs in {tmp_path}"
    assert examination.count()["missing"] == 3
    assert examination.seconds < LONG.total


def test_wstest_does_not_serve(tmp_path: Path) -> None:
    examination = examine(wstest("raise SystemExit(1)"), client("ok"), tmp_path)
    assert examination.problem is not None
    assert examination.problem.startswith("wstest ended before it listened: exit code 1;")


@pytest.fixture
def closing_server() -> Iterator[str]:
    """Anyone's server, which runs already: the URL."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with contextlib.suppress(OSError):  # it is shut down
                while True:
                    listener.accept()[0].close()

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"ws://127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
