"""The sign of life."""

from __future__ import annotations

import io

from progress import Progress


class Terminal(io.StringIO):
    """Says that it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_a_line_now_and_then() -> None:
    stream = io.StringIO()
    progress = Progress(stream, 60, columns=80)
    for number in range(1, 61):
        progress.at("server-sync", number, f"1.{number}")
    progress.end("server-sync", "2 s")
    assert stream.getvalue().splitlines() == [
        "server-sync 25/60 1.25",
        "server-sync 50/60 1.50",
        "server-sync 60/60 1.60",
        "server-sync 2 s",
    ]


def test_in_place_on_a_terminal() -> None:
    stream = Terminal()
    progress = Progress(stream, 60, columns=80)
    progress.at("server-sync", 1, "1.1")
    progress.at("client-sync", 1, "1.1")
    progress.at("server-sync", 2, "1.2")
    progress.end("server-sync", "2 s")
    assert stream.getvalue().split("\r\x1b[K")[1:] == [
        "server-sync 1/60 1.1",
        "server-sync 1/60 1.1 | client-sync 1/60 1.1",
        "server-sync 2/60 1.2 | client-sync 1/60 1.1",
        "server-sync 2 s\n",
        "client-sync 1/60 1.1",
    ]


def test_fits_the_terminal() -> None:
    stream = Terminal()
    Progress(stream, 60, columns=10).at("server-sync", 1, "1.1")
    assert stream.getvalue() == "\r\x1b[Kserver-sy"
