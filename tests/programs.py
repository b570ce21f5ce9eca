"""Programs that tests start: lines awaited, never slept for, and always ended."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import TracebackType
from typing import IO, NoReturn

import pytest

__all__ = ["LIBRARY", "PATIENCE", "PEM", "Program", "missing"]

LIBRARY = Path(__file__).parents[1]
PEM = str(Path(__file__).with_name("localhost.pem"))  # certificate and key
PATIENCE = 30  # seconds for what takes milliseconds, on a busy machine


def missing(what: str) -> NoReturn:
    """What a test needs is not there: for CI a failure."""
    if os.environ.get("CI"):
        pytest.fail(f"not installed: {what}")
    pytest.skip(f"not installed: {what}")


class Program:
    """A Python program in a process and a session of its own, with its output as lines.

    Every warning is an error there, so that what it leaves open shows on its standard error.
    """

    def __init__(
        self, *arguments: str, cwd: str | Path = LIBRARY, pass_fds: tuple[int, ...] = (), **environment: str
    ) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=cwd,
            pass_fds=pass_fds,
            env={**os.environ, "PYTHONPATH": str(LIBRARY), "PYTHONIOENCODING": "utf-8", **environment},
            start_new_session=True,
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        self.input = self.process.stdin
        self._lines: list[queue.SimpleQueue[str | None]] = [queue.SimpleQueue(), queue.SimpleQueue()]
        self._threads = [
            threading.Thread(target=_read, args=(stream, lines))
            for stream, lines in zip((self.process.stdout, self.process.stderr), self._lines, strict=True)
        ]
        for thread in self._threads:
            thread.start()

    def out(self) -> str:
        """The next line of standard output."""
        return self._next(0)

    def err(self) -> str:
        """The next line of standard error."""
        return self._next(1)

    def _next(self, which: int) -> str:
        line = self._lines[which].get(timeout=PATIENCE)
        assert line is not None, f"the output has ended; the rest of the other: {self._rest(1 - which)}"
        return line

    def _rest(self, which: int) -> list[str]:
        rest = []
        while (line := self._lines[which].get(timeout=PATIENCE)) is not None:
            rest.append(line)
        self._lines[which].put(None)
        return rest

    def say(self, *lines: str) -> None:
        """Write lines to its input."""
        for line in lines:
            self.input.write(line.encode() + b"\n")
        self.input.flush()

    def interrupt(self, number: signal.Signals = signal.SIGINT) -> None:
        self.process.send_signal(number)

    def end(self) -> tuple[int, list[str], list[str]]:
        """Wait for its end: exit status, and what is left of standard output and standard error."""
        status = self.process.wait(PATIENCE)
        return status, self._rest(0), self._rest(1)

    def run(self, text: str | bytes = "") -> tuple[int, list[str], list[str]]:
        """Give it all its input, and wait for its end."""
        self.input.write(text.encode() if isinstance(text, str) else text)
        self.input.close()
        return self.end()

    def __enter__(self) -> Program:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.kill()
        self.process.wait()
        for thread in self._threads:
            thread.join()
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        for stream in (self.input, self.process.stdout, self.process.stderr):
            try:
                stream.close()
            except BrokenPipeError:
                pass  # it ended before it took all its input


def _read(stream: IO[bytes], lines: queue.SimpleQueue[str | None]) -> None:
    for line in stream:
        lines.put(line.decode().removesuffix("\n"))
    lines.put(None)
