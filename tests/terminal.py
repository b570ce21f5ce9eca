"""A terminal for tests: a program runs in a pseudo-terminal, and a model of the screen obeys what it writes."""

from __future__ import annotations

import codecs
import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from types import TracebackType
from typing import Any

from .programs import LIBRARY, PATIENCE

__all__ = ["Screen", "Terminal"]

ROWS, COLUMNS = 10, 40

# Opening the terminal in a new session makes it the controlling one, so that Ctrl-C becomes a signal.
_LEADER = (
    "import os, sys; os.close(os.open(os.ttyname(0), os.O_RDWR)); "
    "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
)


class Screen:
    """What a person sees. It knows the sequences that are needed here, and no other: one more is a failure."""

    def __init__(self) -> None:
        self._cells = [[" "] * COLUMNS for _ in range(ROWS)]
        self._row = self._column = 0
        self._saved = (0, 0)
        self._pending = ""

    @property
    def lines(self) -> list[str]:
        """The rows, without the empty ones at the end."""
        lines = ["".join(row).rstrip() for row in self._cells]
        while lines and not lines[-1]:
            lines.pop()
        return lines

    @property
    def current(self) -> str:
        """The row with the cursor, up to the cursor."""
        return "".join(self._cells[self._row][: self._column])

    def feed(self, text: str) -> None:
        text = self._pending + text
        self._pending = ""
        while text:
            if text[0] == "\x1b":
                found = re.match(r"\x1b(?:([78])|\[(\??[\d;]*)([A-Za-z@]))", text)
                if found is None:
                    assert len(text) < 10, f"what is this? {text!r}"
                    self._pending = text
                    return
                self._obey(found[1] or found[3], found[2] or "")
                text = text[found.end() :]
            else:
                self._put(text[0])
                text = text[1:]

    def _put(self, character: str) -> None:
        match character:
            case "\r":
                self._column = 0
            case "\n" if self._row == ROWS - 1:
                self._cells = [*self._cells[1:], [" "] * COLUMNS]
            case "\n":
                self._row += 1
            case "\b":
                self._column = max(0, self._column - 1)
            case "\a":
                pass
            case _:
                assert character.isprintable(), f"the terminal gets {character!r}"
                if self._column == COLUMNS:
                    self._put("\r")
                    self._put("\n")
                self._cells[self._row][self._column] = character
                self._column += 1

    def _obey(self, command: str, argument: str) -> None:
        row = self._cells[self._row]
        count = int(argument or 1) if argument.isdigit() or not argument else 0
        match command:
            case "7":
                self._saved = self._row, self._column
            case "8":
                self._row, self._column = self._saved
            case "A":
                self._row = max(0, self._row - count)
            case "B":
                self._row = min(ROWS - 1, self._row + count)
            case "C":
                self._column = min(COLUMNS - 1, self._column + count)
            case "D":
                self._column = max(0, self._column - count)
            case "K" if argument in ("", "0"):
                row[self._column :] = [" "] * (COLUMNS - self._column)
            case "J" if argument in ("", "0"):
                row[self._column :] = [" "] * (COLUMNS - self._column)
                self._cells[self._row + 1 :] = [[" "] * COLUMNS for _ in range(ROWS - self._row - 1)]
            case "L":
                self._cells[self._row : self._row] = [[" "] * COLUMNS for _ in range(count)]
                del self._cells[ROWS:]
            case "@":
                row[self._column : self._column] = [" "] * count
                del row[COLUMNS:]
            case "P":
                del row[self._column : self._column + count]
                row += [" "] * count
            case "h" | "l" | "m":
                pass  # modes and colours
            case _:
                raise AssertionError(f"the terminal is told {command!r} {argument!r}")


class Terminal:
    """A Python program in a terminal of its own."""

    def __init__(self, *arguments: str, **environment: str) -> None:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        self._slave = slave
        self.mode: list[Any] = termios.tcgetattr(slave)
        self.screen = Screen()
        self.raw = ""
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        settings = {"PYTHONPATH": str(LIBRARY), "TERM": "xterm", "INPUTRC": os.devnull, "LC_ALL": "C.UTF-8"}
        inherited = {name: value for name, value in os.environ.items() if name not in ("LINES", "COLUMNS")}
        self.process = subprocess.Popen(
            [sys.executable, "-c", _LEADER, "-W", "error", *arguments],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            cwd=LIBRARY,
            env=inherited | settings | environment,
            start_new_session=True,
        )

    def write(self, text: str) -> None:
        os.write(self._master, text.encode())

    def until(self, *lines: str | re.Pattern[str], typed: str | None = None) -> None:
        """Read until these lines stand on the screen, each whole, in this order; `typed` up to the cursor."""
        patterns = [re.compile(re.escape(line)) if isinstance(line, str) else line for line in lines]

        def there() -> bool:
            rows = iter(self.screen.lines)
            return all(any(map(pattern.fullmatch, rows)) for pattern in patterns) and typed in (
                None,
                self.screen.current,
            )

        deadline = time.monotonic() + PATIENCE
        while not there():
            assert self._read(deadline - time.monotonic()), f"waited for {lines}, {typed!r}: {self.screen.lines}"

    def end(self) -> int:
        """Wait for its end, and read what it has written; the exit status."""
        status = self.process.wait(PATIENCE)
        while self._read(0):
            pass
        return status

    def _read(self, timeout: float) -> bool:
        if not select.select([self._master], [], [], max(0, timeout))[0]:
            return False
        text = self._decoder.decode(os.read(self._master, 4096))
        self.raw += text
        self.screen.feed(text)
        return True

    def mode_now(self) -> list[Any]:
        """How the terminal is set."""
        return termios.tcgetattr(self._slave)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._master)
        os.close(self._slave)
