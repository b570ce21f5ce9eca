"""Child processes do not outlive the runner."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import processes
import pytest
from processes import Problem, end, free_port, how_ended, listening, output_of, running

STUBBORN = """
import os, signal, socket, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
os.fork()
telephone = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
telephone.sendall(b"!")
signal.pause()
"""
"""Two processes that do not want to end; each holds a connection to us for as long as it lives."""


def python(program: str, *arguments: object) -> list[str]:
    """Return the command that runs a program."""
    return [sys.executable, "-c", program, *map(str, arguments)]


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(20)
        yield server


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "_GRACE", 0.1)


@contextlib.contextmanager
def two_that_end(listener: socket.socket) -> Iterator[None]:
    """Wait for two processes that connect; after the block both must be gone."""
    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(listener.accept()[0]) for _ in range(2)]
        for connection in connections:
            connection.settimeout(20)
            assert connection.recv(1) == b"!"
        yield
        for connection in connections:
            assert connection.recv(1) == b""


@pytest.mark.usefixtures("impatient")
def test_end_ends_children_too(listener: socket.socket) -> None:
    async def main() -> None:
        async with running(python(STUBBORN, listener.getsockname()[1])) as process:
            with two_that_end(listener):
                await end(process)
        assert await how_ended(process) == "killed by SIGKILL"

    asyncio.run(main())


@pytest.mark.usefixtures("impatient")
def test_cancelled(listener: socket.socket) -> None:
    async def main() -> None:
        async with running(python(STUBBORN, listener.getsockname()[1])):
            with two_that_end(listener):
                started.set()
                await asyncio.Event().wait()

    started = asyncio.Event()

    async def cancel() -> None:
        task = asyncio.create_task(main())
        await started.wait()
        task.cancel()
        await asyncio.wait((task,))
        assert task.cancelled()

    asyncio.run(cancel())


def test_output_to_a_log(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(python("print('out', flush=True); 1/0"), log=tmp_path / "log") as process:
            await process.wait()
        assert await how_ended(process) == "exit code 1"

    asyncio.run(main())
    log = (tmp_path / "log").read_text()
    assert log.startswith("out\n")
    assert log.endswith("ZeroDivisionError: division by zero\n")


def test_output_of() -> None:
    assert asyncio.run(output_of(python("print('hello')"), limit=20)) == "hello\n"


@pytest.mark.parametrize(
    ("command", "limit", "message"),
    [
        (["/nowhere/to/be/found"], 20.0, r"cannot start /nowhere/to/be/found: No such file or directory"),
        (python("import sys; sys.exit('no such day')"), 20.0, r"(?s)exit code 1: .*no such day"),
        (python("import signal; signal.pause()"), 0.1, r"not done after 0.1 s: .*signal.pause"),
    ],
)
def test_output_of_fails(command: list[str], limit: float, message: str) -> None:
    with pytest.raises(Problem, match=message):
        asyncio.run(output_of(command, limit=limit))


SERVE = """
import socket, sys
with socket.create_server(("127.0.0.1", int(sys.argv[1]))) as server:
    server.accept()
    server.accept()
"""


def test_listening() -> None:
    async def main() -> None:
        port = free_port()
        async with running(python(SERVE, port)) as process:
            await listening("the server", process, port)
            with socket.create_connection(("127.0.0.1", port)):  # it does
                assert await process.wait() == 0

    asyncio.run(main())


def test_listening_ends_with_the_process() -> None:
    async def main() -> None:
        async with running(python("raise SystemExit(3)")) as process:
            await listening("the server", process, free_port())

    with pytest.raises(Problem, match="the server ended before it listened: exit code 3"):
        asyncio.run(main())


def test_listening_is_not_waited_for_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "_START", 0.1)
    port = free_port()

    async def main() -> None:
        async with running(python("import signal; signal.pause()")) as process:
            await listening("the server", process, port)

    with pytest.raises(Problem, match=f"the server does not listen on port {port} after 0.1 s"):
        asyncio.run(main())
