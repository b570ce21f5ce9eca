"""What all fuzz targets share: their list, their corpus, and how one input is tried.

A target is a module with ``check(data: bytes) -> None``, which takes any octets. What it may raise inside stands in it,
as ``PERMITTED``: that list is the test, and whatever else comes out of `check` is a bug. Beside it each target says
what must hold of the result.

The first octets of an input are decisions (how it is cut into pieces, which settings hold), the rest is what a stranger
sends. So the files of the corpus can be read, and made by hand.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from pathlib import Path

CORPUS = Path(__file__).resolve().parent / "corpus"

TARGETS = (
    "frames",
    "deflated",
    "server_handshake",
    "client_handshake",
    "extension_headers",
    "uri",
    "address",
    "close_payload",
    "connections",
)


def target(name: str) -> Callable[[bytes], None]:
    """The check of one target."""
    check: Callable[[bytes], None] = importlib.import_module(f"{__package__}.{name}").check
    return check


def corpus(name: str) -> Iterator[Path]:
    """The inputs that were once wrong, and some that show the way into the corners."""
    return (path for path in sorted((CORPUS / name).iterdir()) if path.is_file())


class Octets:
    """An input, read from its beginning. Behind its end everything is 0."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    def octet(self) -> int:
        self._position += 1
        return self._data[self._position - 1] if self._position <= len(self._data) else 0

    def take(self, size: int) -> bytes:
        self._position += size
        return self._data[self._position - size : self._position]

    def rest(self) -> bytes:
        return self._data[self._position :]

    @property
    def more(self) -> bool:
        return self._position < len(self._data)


def chunks(data: bytes, size: int) -> list[bytes]:
    """In pieces of `size`; whole with 0."""
    size = size or max(len(data), 1)
    return [data[start : start + size] for start in range(0, len(data), size)]


def text_of(data: bytes) -> str:
    """UTF-8, in which single surrogates may stand too; else Latin-1."""
    try:
        return data.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return data.decode("latin-1")
