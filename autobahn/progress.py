"""A sign of life while wstest runs."""

from __future__ import annotations

from typing import TextIO

_EVERY = 25
"""Without a terminal, so many cases make a line."""


class Progress:
    """Says on `stream` where each testee is: in place on a terminal, else with a line now and then."""

    def __init__(self, stream: TextIO, total: int, *, columns: int) -> None:
        self._stream = stream
        self._total = total
        self._columns = columns
        self._in_place = stream.isatty()
        self._now: dict[str, str] = {}

    def at(self, testee: str, number: int, case: str) -> None:
        """`testee` has come to `case`, which is the number so-and-so."""
        where = f"{testee} {number}/{self._total} {case}"
        if self._in_place:
            self._now[testee] = where
            self._redraw()
        elif number % _EVERY == 0 or number == self._total:
            self._write(f"{where}\n")

    def end(self, testee: str, summary: str) -> None:
        """`testee` is through."""
        self._now.pop(testee, None)
        clear = "\r\x1b[K" if self._in_place else ""
        self._write(f"{clear}{testee} {summary}\n")
        if self._now:
            self._redraw()

    def _redraw(self) -> None:
        self._write("\r\x1b[K" + " | ".join(self._now.values())[: self._columns - 1])

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()
