"""The chat's page in a real browser: Debian's Chromium, driven by Playwright."""

from __future__ import annotations

import os
import re
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .test_chat import ChatServer, Guest

try:
    from playwright.sync_api import Browser, expect, sync_playwright
except ImportError:
    PLAYWRIGHT = False
else:
    PLAYWRIGHT = True
    expect.set_options(timeout=20_000)

CHROMIUM = shutil.which("chromium")
FLAGS = [
    "--no-sandbox",  # root has none
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
DESKTOP = {"width": 1200, "height": 800}
PHONE = {"width": 360, "height": 740}


class Visitor:
    """Somebody who has the page open, in a browser that nobody else uses."""

    def __init__(self, browser: Browser, server: ChatServer, size: dict[str, int], dark: bool) -> None:
        self.server = server
        self.page = browser.new_page(
            viewport={"width": size["width"], "height": size["height"]},
            color_scheme="dark" if dark else "light",
        )
        self.complaints: list[str] = []
        self.addresses: list[str] = []
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.addresses.append(request.url))
        self.page.on("websocket", lambda websocket: self.addresses.append(websocket.url))
        self.page.goto(server.url)
        self.name = self.page.get_by_role("textbox", name="Your name")
        self.log = self.page.get_by_role("log", name="Messages")
        self.text = self.page.get_by_role("textbox", name="Message")
        self.people = self.page.get_by_role("region", name="Here now").get_by_role("listitem")
        self.trouble = self.page.get_by_role("status")
        self.unsent = self.page.get_by_role("list", name="Not sent yet").get_by_role("listitem")

    def join(self, nick: str) -> None:
        self.name.fill(nick)
        self.name.press("Enter")

    def say(self, text: str) -> None:
        self.text.fill(text)
        self.text.press("Enter")

    def press(self, button: str) -> None:
        self.page.get_by_role("button", name=button).click()

    def hurry(self) -> None:
        """Reconnect now, unless the page has done so by itself while we were on the way to the button."""
        self.page.locator("#now").dispatch_event("click")

    def stop_the_clock(self) -> None:
        """Let no timer of the page end by itself."""
        self.page.clock.pause_at(self.page.evaluate("Date.now()") + 1000)

    def sees(self, text: str) -> None:
        expect(self.log.get_by_text(text, exact=True)).to_be_visible()

    def sees_people(self, *names: str) -> None:
        expect(self.people).to_have_text([re.compile(f"{re.escape(name)}$") for name in names])

    def has_no_complaint(self) -> None:
        if self.server.process.returncode is not None:  # it was killed, and the browser says so
            self.complaints = [text for text in self.complaints if not re.search("CONNECTION_(REFUSED|RESET)", text)]
        # Chromium's remark when somebody has clicked into the page before it was ready.
        self.complaints = [text for text in self.complaints if not text.startswith("Autofocus processing was blocked")]
        assert self.complaints == []
        strangers = [address for address in self.addresses if address.split("/")[2] != f"127.0.0.1:{self.server.port}"]
        assert strangers == []


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if not (PLAYWRIGHT and CHROMIUM):
        missing = "chromium (of Debian)" if PLAYWRIGHT else "playwright (of PyPI)"
        if os.environ.get("CI"):
            pytest.fail(f"not installed: {missing}")
        pytest.skip(f"not installed: {missing}")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ChatServer]:
    with ChatServer(tmp_path) as server:
        yield server


@pytest.fixture
def visit(browser: Browser, server: ChatServer) -> Iterator[Callable[..., Visitor]]:
    """Give people who open the page; in the end, none of them may have seen an error or a foreign address."""
    visitors = []

    def visit(nick: str | None = None, size: dict[str, int] = DESKTOP, dark: bool = False) -> Visitor:
        visitor = Visitor(browser, server, size, dark)
        visitors.append(visitor)
        if nick is not None:
            visitor.join(nick)
            visitor.sees(f"You joined as {nick}")
        return visitor

    yield visit
    for visitor in visitors:
        visitor.has_no_complaint()
        visitor.page.close()


def test_two_pages_talk(visit: Callable[..., Visitor]) -> None:
    ada = visit("Ada")
    ada.sees_people("Ada(you)")
    bob = visit("Bob", PHONE)
    ada.sees("Bob joined")
    ada.sees_people("Ada(you)", "Bob")
    expect(bob.page.get_by_role("button", name="2 here")).to_be_visible()
    ada.say("Hello, Bob!")
    for visitor in (ada, bob):
        visitor.sees("Hello, Bob!")
    expect(ada.text).to_have_value("")
    bob.press("Leave")
    ada.sees("Bob left")
    ada.sees_people("Ada(you)")
    expect(bob.name).to_be_focused()


def test_the_keyboard_is_enough(visit: Callable[..., Visitor]) -> None:
    ada = visit()
    expect(ada.name).to_be_focused()
    ada.page.keyboard.type("Ada")
    ada.page.keyboard.press("Enter")
    expect(ada.text).to_be_focused()
    ada.page.keyboard.type("one")
    ada.page.keyboard.press("Shift+Enter")
    ada.page.keyboard.type("two")
    expect(ada.text).to_have_value("one\ntwo")
    ada.page.keyboard.press("Enter")
    ada.page.keyboard.type("three")
    ada.page.keyboard.press("Tab")
    expect(ada.page.get_by_role("button", name="Send")).to_be_focused()
    ada.page.keyboard.press("Space")
    texts = ada.log.locator(".text")
    expect(texts).to_have_text(["one\ntwo", "three"])
    expect(ada.text).to_be_focused()


def test_what_people_write_is_text(visit: Callable[..., Visitor]) -> None:
    name, text = "<b>Eve</b>", "<img src=x onerror=alert(1)><script>document.title = 'owned'</script>&amp;"
    ada, eve = visit("Ada"), visit(name)
    eve.say(text)
    ada.sees(text)
    ada.sees_people("<b>Eve</b>", "Ada(you)")
    ada.sees("<b>Eve</b> joined")
    expect(ada.page.locator("#room :is(b, script, #log img)")).to_have_count(0)
    expect(ada.page).to_have_title("Chat")


def test_a_taken_name_is_explained_and_another_one_works(visit: Callable[..., Visitor]) -> None:
    visit("Ada")
    other = visit()
    other.join(" ada ")
    expect(other.page.get_by_role("alert").first).to_have_text(
        "Somebody here is called ada. Please choose another name."
    )
    expect(other.name).to_be_focused()
    other.join("Ada Lovelace")
    other.sees_people("Ada", "Ada Lovelace(you)")


def test_a_message_that_is_too_long_is_explained_and_kept(visit: Callable[..., Visitor]) -> None:
    ada = visit("Ada")
    ada.say("x" * 2001)
    expect(ada.page.get_by_text("2001 of 2000 characters")).to_be_visible()
    expect(
        ada.page.get_by_text("This message is too long to be sent: 2001 characters of at most 2000.")
    ).to_be_visible()
    expect(ada.text).to_have_value("x" * 2001)
    ada.say("x" * 2000)
    ada.sees("x" * 2000)


def test_messages_that_come_too_fast_are_explained_and_arrive(visit: Callable[..., Visitor]) -> None:
    ada, bob = visit("Ada"), visit("Bob")
    texts = [f"number {number}" for number in range(10)]
    for text in texts:
        ada.say(text)
    expect(ada.page.get_by_text("Not so fast: please wait a moment.")).to_be_visible()
    expect(bob.log.locator(".text")).to_have_text(texts)
    expect(ada.log.locator(".text")).to_have_text(texts)


def test_pages_come_back_when_the_server_does(
    visit: Callable[..., Visitor], server: ChatServer, tmp_path: Path
) -> None:
    ada, bob = visit("Ada"), visit("Bob", PHONE, dark=True)
    ada.sees("Bob joined")
    bob.stop_the_clock()
    server.kill()
    expect(bob.trouble).to_have_text("Connection lost. Trying again")
    for visitor in (ada, bob):
        expect(visitor.trouble).to_have_text(re.compile("Trying again$"))
        expect(visitor.page.locator("#countdown")).to_have_text(re.compile(r"^in \d+ s$"))
    ada.say("Are you there?")
    expect(ada.unsent).to_contain_text(["Are you there?Will be sent when you are connected"])
    bob.text.fill("half a sent")
    with ChatServer(tmp_path, server.port):
        bob.press("Reconnect now")
        for visitor in (ada, bob):  # she by herself
            visitor.sees("You are back. What was said in the meantime is not shown.")
            expect(visitor.trouble).to_be_hidden()
        ada.sees_people("Ada(you)", "Bob")
        expect(ada.unsent).to_have_count(0)
        ada.sees("Are you there?")
        expect(bob.text).to_have_value("half a sent")
        bob.say("Yes!")
        ada.sees("Yes!")


def test_a_server_that_does_not_answer_is_left(
    visit: Callable[..., Visitor], server: ChatServer, tmp_path: Path
) -> None:
    ada, bob = visit(), visit()
    for visitor, nick in ((ada, "Ada"), (bob, "Bob")):
        visitor.page.clock.install()
        visitor.join(nick)
        visitor.sees(f"You joined as {nick}")
    ada.sees("Bob joined")
    server.process.send_signal(signal.SIGSTOP)
    ada.say("Hello?")
    ada.say("Anybody?")
    ada.page.clock.fast_forward(8_000)
    bob.page.clock.fast_forward(20_000)  # of silence: the page asks the server whether it is there
    bob.page.clock.fast_forward(8_000)
    for visitor in (ada, bob):
        expect(visitor.trouble).to_have_text(re.compile("The server does not answer. Trying again|Connecting…"))
    expect(ada.unsent).to_contain_text(["Perhaps not delivered.", "Will be sent when you are connected"])
    server.kill()
    with ChatServer(tmp_path, server.port):
        for visitor in (bob, ada):
            visitor.hurry()
            visitor.sees("You are back. What was said in the meantime is not shown.")
        ada.sees("Anybody?")
        expect(ada.unsent).to_have_count(1)
        ada.press("Send again")
        bob.sees("Hello?")
        expect(ada.unsent).to_have_count(0)


def test_a_name_that_was_taken_in_the_meantime(
    visit: Callable[..., Visitor], server: ChatServer, tmp_path: Path
) -> None:
    ada = visit("Ada")
    server.kill()
    expect(ada.trouble).to_be_visible()
    with ChatServer(tmp_path, server.port) as successor:
        thief = Guest(successor, "Ada")
        ada.hurry()
        expect(ada.trouble).to_have_text(re.compile("Ada is still here, perhaps over your lost connection."))
        thief.websocket.close()
        ada.sees("You are back. What was said in the meantime is not shown.")


def test_another_name_than_the_one_that_was_taken_in_the_meantime(
    visit: Callable[..., Visitor], server: ChatServer, tmp_path: Path
) -> None:
    ada = visit("Ada")
    server.kill()
    expect(ada.trouble).to_be_visible()
    with ChatServer(tmp_path, server.port) as successor:
        Guest(successor, "Ada")
        ada.hurry()
        ada.press("Choose another name")
        expect(ada.name).to_be_focused()
        expect(ada.name).to_have_value("Ada")
        ada.join("Ada Lovelace")
        ada.sees_people("Ada", "Ada Lovelace(you)")


def test_a_page_that_cannot_connect_says_so(visit: Callable[..., Visitor], server: ChatServer, tmp_path: Path) -> None:
    ada = visit()
    server.kill()
    ada.join("Ada")
    expect(ada.trouble).to_have_text("The server cannot be reached. Trying again")
    with ChatServer(tmp_path, server.port):
        ada.hurry()
        ada.sees("You joined as Ada")


@pytest.mark.parametrize("dark", [False, True])
def test_the_page_fits_a_phone(visit: Callable[..., Visitor], dark: bool) -> None:
    ada = visit(size=PHONE, dark=dark)

    def fits() -> None:
        width, height = "document.documentElement.scrollWidth", "document.documentElement.scrollHeight"
        assert ada.page.evaluate(f"({{width: {width}, height: {height}}})") == PHONE
        assert ada.page.evaluate("document.querySelector('#log').scrollWidth") <= PHONE["width"]

    fits()
    ada.join("A" * 32)
    visit("Б" * 32).say("endlessword" * 50 + "\n" * 30 + "!")
    expect(ada.log.get_by_text("endlessword")).to_be_visible()
    fits()
    expect(ada.text).to_be_in_viewport(ratio=1)
    expect(ada.people.first).to_be_hidden()
    ada.press("2 here")
    ada.sees_people(f"{'A' * 32}(you)", "Б" * 32)
    fits()
    ada.page.keyboard.press("Escape")
    expect(ada.people.first).to_be_hidden()
    expect(ada.page.get_by_role("button", name="2 here")).to_have_attribute("aria-expanded", "false")


def test_light_and_dark(visit: Callable[..., Visitor]) -> None:
    colours = "(({color, backgroundColor}) => [color, backgroundColor])(getComputedStyle(document.body))"
    light, dark = visit().page.evaluate(colours), visit(dark=True).page.evaluate(colours)
    assert light == ["rgb(27, 29, 35)", "rgb(241, 242, 246)"]
    assert dark == ["rgb(236, 238, 242)", "rgb(14, 15, 18)"]
