"""What the tests of the chat share: its servers, and a browser for its page."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ..browser import browser  # noqa: F401 - pytest looks for fixtures here
from .chats import ChatServer, Guest


@pytest.fixture(scope="module")
def for_all(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChatServer]:
    with ChatServer(tmp_path_factory.mktemp("chat")) as server:
        yield server


@pytest.fixture
def server(for_all: ChatServer) -> Iterator[ChatServer]:
    """A server that was there before, and a room in which nobody was."""
    for_all.room = f"room-{next(Guest.numbers)}"
    yield for_all
    for guest in for_all.guests:
        guest.websocket.close()
    for_all.guests.clear()


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[ChatServer]:
    """A server of the test's own."""
    with ChatServer(tmp_path) as server:
        yield server
