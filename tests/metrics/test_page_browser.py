"""The live page in a real browser: Debian's Chromium, driven by Playwright."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from websock.exceptions import ConnectionClosed
from websock.metrics import Metrics

from ..adapters.drivers import BOUND, until
from ..adapters.raw import REQUEST
from ..browser import watched
from .test_snapshots import Hub, HubState

with contextlib.suppress(ImportError):  # without it, what needs `browser` does not run
    from playwright.sync_api import Browser, expect

DESKTOP, PHONE = (1200, 800), (360, 740)


class Watcher:
    """Somebody who has the page open."""

    def __init__(self, browser: Browser, url: str, size: tuple[int, int], dark: bool) -> None:
        self.url = url
        self.page = browser.new_page(
            viewport={"width": size[0], "height": size[1]}, color_scheme="dark" if dark else "light"
        )
        self.complaints, self.addresses = watched(self.page)
        self.page.goto(url)
        expect(self.page.locator("#state")).to_have_text("Live")
        self.rows = self.page.locator("#peers tbody tr:not(.empty)")

    def has_no_complaint(self) -> None:
        # When its server is gone, the browser says so.
        complaints = [text for text in self.complaints if "ERR_CONNECTION" not in text]
        assert complaints == []
        assert {address.split("/")[2] for address in self.addresses} == {self.url.split("/")[2]}


@pytest.fixture
def shown(bench: Any) -> tuple[Metrics, Any, Any]:
    """Metrics, where their server is, and the ends of its connections."""
    metrics = Metrics(page=0)
    where = bench.where("tcp4")
    _, ends = bench.serve_parked("asyncio", where, metrics=metrics, ping_interval=None)
    return metrics, where, ends


@pytest.fixture
def watch(browser: Browser, shown: Any) -> Iterator[Callable[..., Watcher]]:
    watchers = []

    def watch(size: tuple[int, int] = DESKTOP, dark: bool = False) -> Watcher:
        watchers.append(Watcher(browser, shown[0].addresses["page"], size, dark))
        return watchers[-1]

    yield watch
    for watcher in watchers:
        watcher.has_no_complaint()
        watcher.page.close()


def test_what_goes_on_is_seen(watch: Callable[..., Watcher], shown: Any, bench: Any) -> None:
    metrics, where, ends = shown
    metrics.hub = Hub(HubState("up"))
    watcher = watch()
    page = watcher.page
    expect(page.locator("#open")).to_have_text("0")
    expect(page.get_by_text("Nobody is connected.")).to_be_visible()
    expect(page.locator("#backplane-text")).to_contain_text("Connected")
    client = bench.connect("asyncio", where, ping_interval=None)
    end = ends.get(timeout=BOUND)
    client.send("hello")
    end.send(end.recv())
    client.recv()
    end.latency_of()
    expect(page.locator("#open")).to_have_text("1")
    expect(page).to_have_title("1 open – websock")
    expect(watcher.rows).to_have_count(1)
    expect(watcher.rows.first).to_contain_text("{}:{}".format(*client.local_address))
    expect(watcher.rows.first).to_contain_text("1 / 1")
    expect(page.locator("#bytes-in")).to_contain_text("1 in all")
    expect(page.locator("#latency")).to_have_text(re.compile(r"^[\d.]+ m?s$"))
    client.close()
    end.wait_closed()
    expect(page.locator("#closed")).to_contain_text("closed by the peer")
    expect(watcher.rows).to_have_count(0)
    metrics.hub.state.backplane = "down"
    expect(page.locator("#backplane-text")).to_contain_text("Not connected")


def test_one_is_closed_with_the_keyboard_alone(watch: Callable[..., Watcher], shown: Any, bench: Any) -> None:
    _, where, _ = shown
    clients = [bench.connect("sync", where, ping_interval=None) for _ in range(2)]
    watcher = watch()
    page = watcher.page
    expect(watcher.rows).to_have_count(2)
    name = "{}:{}".format(*clients[1].ws.local_address)
    page.locator("#order").focus()
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Pause")).to_be_focused()
    button = page.get_by_role("button", name=f"Close the connection of {name}")
    for _ in range(3):
        page.keyboard.press("Tab")
        if button.evaluate("one => one === document.activeElement"):
            break
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog", name="Close this connection?")).to_contain_text(name)
    expect(page.get_by_role("button", name="Keep it")).to_be_focused()
    page.keyboard.press("Escape")
    expect(button).to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    with pytest.raises(ConnectionClosed) as closed:
        clients[1].recv()
    assert closed.value.code == 1008
    expect(page.get_by_role("status")).to_have_text("It is being closed.")
    expect(page.locator("#open")).to_have_text("1")
    clients[0].ws.ping().wait(BOUND)


def test_what_strangers_say_is_text(watch: Callable[..., Watcher], shown: Any) -> None:
    metrics, where, _ = shown
    evil = b"<img/src=x/onerror=alert(1)><script>document.title='owned'</script>"
    head = b"GET /" + evil.replace(b" ", b"") + b" HTTP/1.1\r\nUser-Agent: " + evil + b"\xad&amp;\r\n"
    with where.raw_client() as peer:
        assert b" 101 " in peer.ask(REQUEST.replace(b"GET / HTTP/1.1\r\n", head))
        watcher = watch()
        expect(watcher.rows.locator(".path")).to_have_text("/" + evil.decode())
        expect(watcher.rows.locator(".agent")).to_have_text(evil.decode() + "\ufffd&amp;")
        expect(watcher.page.locator("main :is(img, script)")).to_have_count(0)
        expect(watcher.page).to_have_title("1 open – websock")
        width = watcher.page.evaluate("document.documentElement.scrollWidth")
        assert width == DESKTOP[0]
        peer.drop()
    until(lambda: not metrics.peers())


def test_rows_stay_where_somebody_points(watch: Callable[..., Watcher], shown: Any, bench: Any) -> None:
    _, where, _ = shown
    clients = [bench.connect("sync", where, ping_interval=None) for _ in range(3)]
    watcher = watch()
    expect(watcher.rows).to_have_count(3)
    watcher.page.get_by_label("Show first").select_option("newest")
    names = ["{}:{}".format(*client.ws.local_address) for client in reversed(clients)]
    expect(watcher.rows.locator("bdi:first-child")).to_have_text(names)
    watcher.rows.nth(1).get_by_role("button").focus()
    clients[2].close()
    expect(watcher.page.locator("#open")).to_have_text("2")
    expect(watcher.rows).to_have_count(3)
    expect(watcher.rows.first).to_have_class("gone")
    expect(watcher.rows.nth(1).get_by_role("button")).to_be_focused()
    watcher.page.get_by_role("button", name="Pause").click()
    clients[1].close()
    expect(watcher.page.locator("#state")).to_have_text("Paused")
    watcher.page.get_by_role("button", name="Pause").click()
    expect(watcher.rows).to_have_count(1)


def test_a_page_whose_server_is_gone_says_so_and_comes_back(browser: Browser, bench: Any) -> None:
    metrics = Metrics(page=0)
    server = bench.adapter("sync").serve(lambda end: None, bench.where("tcp4"), metrics=metrics)
    url = metrics.addresses["page"]
    watcher = Watcher(browser, url, PHONE, False)
    server.close()
    expect(watcher.page.get_by_role("alert")).to_contain_text("The server cannot be reached.")
    again = Metrics(page=int(url.rstrip("/").rpartition(":")[2]))
    server = bench.adapter("sync").serve(lambda end: None, bench.where("tcp4"), metrics=again)
    expect(watcher.page.locator("#state")).to_have_text("Live")
    expect(watcher.page.get_by_role("alert")).to_be_hidden()
    watcher.has_no_complaint()
    watcher.page.close()
    server.close()


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_it_fits_a_phone(watch: Callable[..., Watcher], shown: Any, dark: bool) -> None:
    _, where, _ = shown
    head = b"GET /" + b"x" * 300 + b" HTTP/1.1\r\nUser-Agent: " + b"y" * 300 + b"\r\n"
    with where.raw_client() as peer:
        peer.ask(REQUEST.replace(b"GET / HTTP/1.1\r\n", head))
        page = watch(PHONE, dark).page
        expect(page.locator("#peers tbody tr")).to_have_count(1)
        assert page.evaluate("document.documentElement.scrollWidth") == PHONE[0]
        button = page.get_by_role("button", name="Close the connection")
        box = button.bounding_box()
        assert box is not None and box["height"] >= 44 and box["x"] + box["width"] <= PHONE[0]
        button.click()
        expect(page.get_by_role("dialog")).to_be_in_viewport(ratio=1)
        expected = ["rgb(232, 239, 236)", "rgb(13, 18, 16)"] if dark else ["rgb(23, 33, 29)", "rgb(243, 245, 244)"]
        colours = "(({color, backgroundColor}) => [color, backgroundColor])(getComputedStyle(document.body))"
        assert page.evaluate(colours) == expected
