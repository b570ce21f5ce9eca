"""The chat's page in Firefox, where it is installed: what Chromium's tests show in full holds there too."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ..firefox import ENTER, Firefox, Tab, firefox  # noqa: F401 - a fixture among them
from .chats import ChatServer
from .test_chat_browser import Network


class Visitor:
    """Somebody who has the page open."""

    def __init__(self, tab: Tab, url: str, nick: str) -> None:
        self.tab = tab
        tab.goto(url)
        tab.until("() => document.activeElement.id === 'nick'")
        tab.type(nick, ENTER)
        tab.until("() => document.activeElement.id === 'text'")
        self.is_connected()

    def is_connected(self) -> None:
        self.tab.until("() => document.querySelector('#state').textContent === 'Connected'")

    @property
    def worker(self) -> int:
        """The process that serves this page."""
        self.is_connected()
        return int(self.tab.evaluate("() => document.querySelector('#state').title.split('.').pop()"))

    def say(self, text: str) -> None:
        self.tab.evaluate("() => document.querySelector('#text').focus()")
        self.tab.type(text, ENTER)

    def sees(self, *texts: str) -> None:
        """These messages, and no other ones."""
        self.tab.until(
            "(texts) => JSON.stringify([...document.querySelectorAll('#said .text')].map(one => one.textContent))"
            " === JSON.stringify(texts)",
            texts,
        )

    def reads(self, text: str, place: str) -> None:
        self.tab.until("([text, place]) => document.querySelector(place).innerText.includes(text)", [text, place])

    def hurry(self) -> None:
        """Reconnect now, unless the page has done so by itself."""
        self.tab.evaluate("() => document.querySelector('#now').click()")


@pytest.fixture
def visit(firefox: Firefox) -> Iterator[Callable[..., Visitor]]:  # noqa: F811
    tabs: list[Tab] = []

    def visit(url: str, nick: str, *size: int) -> Visitor:
        tabs.append(firefox.tab(*size))
        return Visitor(tabs[-1], url, nick)

    yield visit
    for tab in tabs:
        tab.close()


def test_two_pages_talk_and_what_they_write_is_text(visit: Callable[..., Visitor], server: ChatServer) -> None:
    text = "<img src=x onerror=alert(1)><script>document.title = 'owned'</script>&amp;"
    ada, eve = (visit(f"{server.url}#{server.room}", nick) for nick in ("Ada", "<b>Eve</b>"))
    ada.reads("<b>Eve</b>", "#people ul")
    eve.say(text)
    ada.sees(text)
    ada.say("Hello!")
    for visitor in (ada, eve):
        visitor.sees(text, "Hello!")
    assert ada.tab.evaluate("() => document.querySelectorAll('#chat :is(b, script, #log img)').length") == 0
    assert ada.tab.evaluate("() => document.title").endswith(f"#{server.room} · Chat")


def test_nothing_is_lost_or_doubled(visit: Callable[..., Visitor], tmp_path: Path) -> None:
    with ChatServer(tmp_path, 0, "--workers", "2") as server, contextlib.closing(Network(server.port)) as network:
        ada, bob = visit(server.url, "Ada"), visit(network.url, "Bob", 360, 740)
        for _ in range(50):
            if bob.worker != ada.worker:
                break
            bob.tab.reload()
        assert ada.worker != bob.worker
        ada.say("one")
        bob.sees("one")

        network.cut()
        bob.tab.until("() => !document.querySelector('#connection').hidden")
        ada.say("two")
        ada.sees("one", "two")
        bob.say("said into nothing")
        bob.reads("said into nothing", "#unsent")
        network.cut(False)
        bob.hurry()
        texts = ["one", "two", "said into nothing"]
        for visitor in (ada, bob):
            visitor.sees(*texts)

        os.kill(ada.worker, signal.SIGKILL)
        ada.say("three")
        ada.hurry()
        for visitor in (ada, bob):
            visitor.sees(*texts, "three")
            visitor.is_connected()
        bob.say("the last")
        for visitor in (ada, bob):
            visitor.sees(*texts, "three", "the last")
        server.kill_quietly()
