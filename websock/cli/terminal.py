"""What people see: text from strangers made harmless, and lines that come in while a person types."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import sys
import unicodedata
from collections.abc import Iterator
from typing import Any, Final, TextIO

from ..typing import Data

__all__ = ["Screen", "inert", "printable"]

PROMPT: Final = "> "
_SHOWN: Final = 32  # octets of a binary message that are shown

# C0, DEL and C1, which terminals obey; line separators, which would make one message look like two; and the
# controls of writing direction, which make a line read other than it is (Unicode Standard Annex 9).
_BIDI: Final = (0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))
_ESCAPES: Final = {
    code: repr(chr(code))[1:-1] for code in (*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029, *_BIDI)
}  # \n, \x1b, \u202e, ...


def inert(text: str) -> str:
    """The text in one line that no terminal obeys: control characters are spelled as in a Python string."""
    return text.translate(_ESCAPES)


def printable(message: Data) -> str:
    """A message in one line."""
    if isinstance(message, str):
        return inert(message)
    more = " ..." if len(message) > _SHOWN else ""
    octets = message[:_SHOWN].hex(" ")
    return f"<binary, {len(message)} bytes{': ' if octets else ''}{octets}{more}>"


class Screen:
    """Messages on standard output, everything else on standard error; a line that is being typed stays intact.

    Attributes:
        interactive: a person types at a terminal, and sees there what comes.
    """

    def __init__(self) -> None:
        self.interactive = _is_terminal(sys.stdin) and _is_terminal(sys.stdout)
        self._prompting = False
        self._plain = os.name == "nt" or os.environ.get("TERM", "dumb") == "dumb"  # may not know escape sequences
        self._saved: list[Any] | None = None
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")  # never fail for what an encoding does not have

    def message(self, message: Data) -> None:
        """Show what the peer sent.

        Raises:
            OSError: standard output is gone.
        """
        self._show(sys.stdout, printable(message))

    def note(self, text: str) -> None:
        """Show something about the connection."""
        with contextlib.suppress(OSError):
            self._show(sys.stderr, inert(text))

    def _show(self, stream: TextIO, line: str) -> None:
        if not self._prompting or not _is_terminal(stream):
            stream.write(line + "\n")
        elif self._plain:
            stream.write(f"\r{line}\n{PROMPT}")
        else:
            stream.write("".join(map(_above, _rows(line, shutil.get_terminal_size().columns))))
        stream.flush()

    def lines(self) -> Iterator[str]:
        """What is typed or piped into the program, line by line. To be called in a thread: it blocks.

        Raises:
            ValueError: it is not UTF-8.
        """
        if self.interactive:
            try:
                while True:
                    yield input(PROMPT)
            except (EOFError, OSError):
                return
        if sys.stdin is None:
            return
        # Not sys.stdin itself: at exit Python would wait for the lock of a thread that still reads there.
        with open(sys.stdin.fileno(), "rb", closefd=False) as stream:
            for number, line in enumerate(stream, 1):
                try:
                    text = line.decode()
                except UnicodeDecodeError:
                    raise ValueError(f"line {number} of the input is not UTF-8") from None
                yield text.removesuffix("\n").removesuffix("\r")

    def start(self) -> None:
        """From now on there is a prompt, if a person is there."""
        if not self.interactive:
            return
        self._prompting = True
        try:
            import termios

            self._saved = termios.tcgetattr(sys.stdin.fileno())
        except (ImportError, OSError):  # not a POSIX system
            pass
        try:
            import readline  # from now on `input` has a history and arrow keys
        except ImportError:
            return
        # This mode of the terminal would stay on when we leave while `input` waits.
        readline.parse_and_bind("set enable-bracketed-paste off")

    def stop(self) -> None:
        """Remove the prompt, and leave the terminal as it was: `input` may still wait, in its thread."""
        if not self._prompting:
            return
        self._prompting = False
        with contextlib.suppress(OSError):
            sys.stdout.write("\n" if self._plain else "\r\x1b[K")
            sys.stdout.flush()
        if self._saved is not None:
            import termios

            with contextlib.suppress(termios.error):
                termios.tcsetattr(sys.stdin.fileno(), termios.TCSADRAIN, self._saved)


def _is_terminal(stream: TextIO | None) -> bool:
    return stream is not None and not stream.closed and stream.isatty()


def _above(row: str) -> str:
    """Write a row above the one with the cursor, which moves down with all that is in it.

    Save the cursor; make sure that there is a row below; insert a row; write; back to the cursor, one row lower.
    """
    return f"\x1b7\n\x1b[A\x1b[L\r{row}\n\x1b8\x1b[B"


def _rows(line: str, columns: int) -> Iterator[str]:
    """The line in pieces that fit into a row of the terminal."""
    start = used = 0
    for index, character in enumerate(line):
        width = 0 if unicodedata.combining(character) else 1 + (unicodedata.east_asian_width(character) in "WF")
        if used + width > max(columns - 1, 2):
            yield line[start:index]
            start, used = index, 0
        used += width
    yield line[start:]
