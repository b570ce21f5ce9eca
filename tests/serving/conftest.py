"""What the tests of serving share: programs that serve, and that leave nothing behind."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import websock.sync
from websock.exceptions import ConnectionClosed

from ..programs import PATIENCE, Program
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


def until(happened: Callable[[], Any], what: str = "it", seconds: float = PATIENCE) -> Any:
    """What `happened` gives, once that is true."""
    deadline = time.monotonic() + seconds
    while not (found := happened()):
        assert time.monotonic() < deadline, f"{what} did not happen"
        time.sleep(0.01)
    return found


def processes_in(session: int) -> dict[int, tuple[int, str]]:
    """The processes of a session: by number their parent's, and their state in one letter (proc(5))."""
    found = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                fields = Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue  # it has ended
            if int(fields[3]) == session:
                found[int(name)] = int(fields[1]), fields[0]
    return found


class Served:
    """``python -m websock serve``, which runs."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.pid = program.process.pid
        self.uri = program.out()
        self.err: list[str] = []

    @property
    def port(self) -> int:
        return int(self.uri.rstrip("/").rpartition(":")[2])

    def connect(self, **options: Any) -> Any:
        return websock.sync.connect(self.uri, close_timeout=5, **{"ping_interval": None, **options})

    def tell(self, number: signal.Signals) -> None:
        self.program.interrupt(number)

    def says(self, pattern: str) -> re.Match[str]:
        """The line of its log in which this is next."""
        while True:
            line = self.program.err()
            self.err.append(line)
            if found := re.search(pattern, line):
                return found

    def workers(self) -> list[int]:
        """Those that run."""
        return [pid for pid, (parent, state) in processes_in(self.pid).items() if parent == self.pid and state != "Z"]

    def stop(self, number: signal.Signals = signal.SIGTERM) -> list[str]:
        """Stop it; what is left of its log."""
        self.tell(number)
        status, _, err = self.program.end()
        assert status == 0, (self.err, err)
        return err


@pytest.fixture
def start() -> Iterator[Callable[..., Program]]:
    """Start a program; when the test is over, so are all processes that it has made."""
    with contextlib.ExitStack() as stack:
        programs: list[Program] = []

        def start(*arguments: str, **how: Any) -> Program:
            program = stack.enter_context(Program(*arguments, **how))
            programs.append(program)
            return program

        yield start
        for program in programs:
            program.process.kill()
            program.process.wait()
        left: dict[int, tuple[int, str]] = {}
        deadline = time.monotonic() + 15
        for program in programs:
            while (left := processes_in(program.process.pid)) and time.monotonic() < deadline:
                time.sleep(0.02)
            for pid in left:
                os.kill(pid, signal.SIGKILL)
            assert not left, f"processes left behind: {left}"


@pytest.fixture
def served(start: Callable[..., Program]) -> Callable[..., Served]:
    """Serve a handler on a free port, with the options of the command."""

    def served(handler: str, *arguments: str, **how: Any) -> Served:
        where = () if {"--unix", "--fd", "--port"} & {*arguments} else ("--port", "0")
        return Served(start("-m", "websock", "serve", handler, *where, *arguments, **how))

    return served


def ended(ws: Any) -> ConnectionClosed:
    """How a connection ends, with all that came before."""
    try:
        while True:
            ws.recv(timeout=PATIENCE)
    except ConnectionClosed as closed:
        ws.close()
        return closed


Start = Callable[..., Program]
Serve = Callable[..., Served]
