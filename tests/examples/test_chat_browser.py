"""The chat's page in a real browser: Debian's Chromium, driven by Playwright."""

from __future__ import annotations

import contextlib
import datetime
import itertools
import os
import re
import signal
import socket
import threading
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ..browser import watched
from .chats import ChatServer, Guest, Writer

with contextlib.suppress(ImportError):  # without it, what needs `browser` does not run
    from playwright.sync_api import Browser, Locator, expect

DESKTOP = {"width": 1200, "height": 800}
PHONE = {"width": 360, "height": 740}


class Visitor:
    """Somebody who has the page open, in a browser that nobody else uses."""

    def __init__(
        self, browser: Browser, server: ChatServer, size: dict[str, int], dark: bool, key: str, url: str | None = None
    ) -> None:
        self.server = server
        self.page = browser.new_page(
            viewport={"width": size["width"], "height": size["height"]},
            color_scheme="dark" if dark else "light",
        )
        self.page.add_init_script(f"localStorage['chat-key'] ??= 'key-of-visitor-{zlib.crc32(key.encode())}'")
        self.complaints, self.addresses = watched(self.page)
        self.page.goto(f"{url or server.url}#{server.room}")
        self.name = self.page.get_by_role("textbox", name="Your name")
        self.log = self.page.get_by_role("log", name="Messages")
        self.said = self.page.locator("#said .text")
        self.text = self.page.get_by_role("textbox", name="Message", exact=True)
        self.people = self.page.get_by_role("complementary", name="Here now").get_by_role("listitem")
        self.rooms = self.page.get_by_role("navigation", name="Rooms")
        self.state = self.page.locator("#state")
        self.trouble = self.page.get_by_role("status")
        self.unsent = self.page.get_by_role("list", name="Not sent yet").get_by_role("listitem")

    def join(self, nick: str) -> None:
        self.name.fill(nick)
        self.name.press("Enter")

    def room(self, name: str) -> Locator:
        """A room of the list."""
        return self.rooms.get_by_role("link", name=re.compile(f"^{name}( |$)"))

    def go(self, room: str) -> None:
        """Choose it."""
        self.room(room).click()
        expect(self.page.get_by_role("heading", name=f"# {room}", exact=True)).to_be_visible()

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

    @property
    def uids(self) -> list[str]:
        """The names of the messages that are shown."""
        found: list[str] = self.page.eval_on_selector_all("#said [data-uid]", "all => all.map(one => one.dataset.uid)")
        return found

    @property
    def worker(self) -> int:
        """The process that serves this page."""
        expect(self.state).to_have_attribute("title", re.compile(r"\.\d+$"))
        return int((self.state.get_attribute("title") or "").rpartition(".")[2])

    def has_no_complaint(self) -> None:
        if self.server.rough or self.server.process.returncode is not None:  # of which the browser tells
            lost = re.compile("CONNECTION_|SOCKET_NOT_CONNECTED|closed before")
            self.complaints = [text for text in self.complaints if not lost.search(text)]
        # Chromium's remark when somebody has clicked into the page before it was ready.
        self.complaints = [text for text in self.complaints if not text.startswith("Autofocus processing was blocked")]
        assert self.complaints == []
        strangers = [address for address in self.addresses if address.split("/")[2].partition(":")[0] != "127.0.0.1"]
        assert strangers == []


class Network:
    """What lies between a page and the server, and can be cut."""

    def __init__(self, port: int) -> None:
        self._target = ("127.0.0.1", port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/"
        self._sockets: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]
        self._lock = threading.Lock()
        self._cut = False
        self._threads[0].start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                with self._lock:
                    self._sockets.append(near)
                    try:
                        if self._cut:
                            raise ConnectionError
                        far = socket.create_connection(self._target)
                    except OSError:  # as when the server has ended
                        near.close()
                        continue
                    self._sockets.append(far)
                    for one, other in ((near, far), (far, near)):
                        thread = threading.Thread(target=self._pump, args=(one, other))
                        self._threads.append(thread)
                        thread.start()

    def _pump(self, one: socket.socket, other: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := one.recv(65536):
                other.sendall(data)
        for sock in (one, other):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def cut(self, cut: bool = True) -> None:
        """End all connections, and let none be made; or let them be made again."""
        with self._lock:
            self._cut = cut
            for sock in self._sockets if cut else ():
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self.cut()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(20)
        for sock in self._sockets:
            sock.close()


@pytest.fixture
def visit(browser: Browser) -> Iterator[Callable[..., Visitor]]:
    """Give people who open the page; in the end, none of them may have seen an error or a foreign address."""
    visitors: list[Visitor] = []
    numbers = itertools.count(1)

    def visit(
        server: ChatServer,
        nick: str | None = None,
        size: dict[str, int] = DESKTOP,
        dark: bool = False,
        key: str | None = None,
        url: str | None = None,
    ) -> Visitor:
        visitor = Visitor(browser, server, size, dark, key or nick or f"{next(numbers)}", url)
        visitors.append(visitor)
        if nick is not None:
            visitor.join(nick)
            expect(visitor.state).to_have_text("Connected")
            expect(visitor.log).to_contain_text("You have entered.")
        return visitor

    yield visit
    for visitor in visitors:
        visitor.has_no_complaint()
        visitor.page.close()


def test_two_pages_talk(visit: Callable[..., Visitor], server: ChatServer) -> None:
    ada = visit(server, "Ada")
    ada.sees_people("Ada(you)")
    bob = visit(server, "Bob", PHONE)
    ada.sees("Bob has come")
    ada.sees_people("Ada(you)", "Bob")
    expect(bob.page.get_by_role("button", name="2 here")).to_be_visible()
    bob.text.press_sequentially("Hello,")
    expect(ada.page.get_by_text("Bob is typing…")).to_be_visible()
    bob.say("Hello, Ada!")
    for visitor in (ada, bob):
        visitor.sees("Hello, Ada!")
    expect(ada.page.get_by_text("Bob is typing…")).to_be_hidden()
    expect(bob.text).to_have_value("")
    cy = visit(server, "Cy")
    expect(cy.said).to_have_text(["Hello, Ada!"])
    bob.press("Rooms")
    bob.press("Sign out")
    ada.sees_people("Ada(you)", "Cy")
    expect(bob.name).to_be_focused()


def test_rooms_have_addresses_and_a_list(visit: Callable[..., Visitor], server: ChatServer) -> None:
    ada, bob = visit(server, "Ada"), visit(server, "Bob")
    first, second = server.room, f"{server.room}-more"
    bob.page.get_by_role("textbox", name="Open a room").fill(f"#{second.upper()}")
    bob.press("Open")
    expect(bob.page).to_have_url(re.compile(f"#{second}$"))
    bob.say("Here!")
    ada.room(second).click()  # as the server has reported
    expect(ada.said).to_have_text(["Here!"])
    ada.go(first)
    bob.say("And here!")
    expect(ada.room(second)).to_have_text(re.compile(f"{second}1 new, 2 here"))
    expect(ada.page).to_have_title(f"(1) #{first} · Chat")
    ada.page.go_back()
    expect(ada.said).to_have_text(["Here!", "And here!"])
    expect(ada.page).to_have_title(f"#{second} · Chat")
    ada.press("Leave this room")
    bob.sees_people("Bob(you)")
    expect(ada.page).to_have_url(re.compile(f"#{first}$"))
    ada.page.reload()  # who reloads is where they were
    ada.sees_people("Ada(you)", "Bob")
    ada.page.get_by_role("textbox", name="Open a room").fill("no/room")
    ada.press("Open")
    expect(ada.page.get_by_role("alert").first).to_contain_text("The name of a room has 1 to 30 small letters")
    expect(ada.rooms.get_by_role("link", name="no/room")).to_have_count(0)


def test_the_keyboard_is_enough(visit: Callable[..., Visitor], server: ChatServer) -> None:
    ada = visit(server, key="Ada")
    keyboard = ada.page.keyboard
    expect(ada.name).to_be_focused()
    keyboard.type("Ada")
    keyboard.press("Enter")
    expect(ada.text).to_be_focused()
    keyboard.type("one")
    keyboard.press("Shift+Enter")
    keyboard.type("two")
    expect(ada.text).to_have_value("one\ntwo")
    keyboard.press("Enter")
    keyboard.type("three")
    keyboard.press("Tab")
    expect(ada.page.get_by_role("button", name="Send")).to_be_focused()
    keyboard.press("Space")
    expect(ada.said).to_have_text(["one\ntwo", "three"])
    expect(ada.text).to_be_focused()
    skip = ada.page.get_by_role("link", name="Skip to writing")
    skip.focus()  # the first of all, where the address bar leads
    keyboard.press("Enter")
    expect(ada.text).to_be_focused()
    skip.focus()
    keyboard.press("Tab")
    expect(ada.room(server.room)).to_be_focused()
    keyboard.press("Tab")
    keyboard.press("Enter")  # the first room of those that are there for newcomers
    expect(ada.page.get_by_role("heading", name="# lobby")).to_be_visible()
    expect(ada.text).to_be_focused()
    keyboard.type("four")
    keyboard.press("Enter")
    ada.sees("four")


def test_the_list_of_rooms_keeps_the_focus_on_its_room(visit: Callable[..., Visitor], own_server: ChatServer) -> None:
    ada, bob = visit(own_server, "Ada"), Guest(own_server, "Bob", "alpha", "beta")
    beta = ada.room("beta")
    beta.focus()
    beta.evaluate("link => { window.focused = link; }")
    for _ in range(2):
        bob.receive("rooms")
    assert ada.page.evaluate("document.activeElement === window.focused")  # else it is read out with every report
    Guest(own_server, "Cy", "beta")
    expect(beta).to_have_text(re.compile("2 here"))
    expect(beta).to_be_focused()  # although it stands elsewhere now


def test_what_people_write_is_text(visit: Callable[..., Visitor], server: ChatServer) -> None:
    name, text = "<b>Eve</b>", "<img src=x onerror=alert(1)><script>document.title = 'owned'</script>&amp;"
    ada, eve = visit(server, "Ada"), visit(server, name)
    eve.say(text)
    ada.sees(text)
    ada.sees_people("<b>Eve</b>", "Ada(you)")
    ada.sees("<b>Eve</b> has come")
    expect(ada.page.locator("#chat :is(b, script, #log img)")).to_have_count(0)
    expect(ada.page).to_have_title(f"#{server.room} · Chat")


def test_a_taken_name_is_explained_and_another_one_works(visit: Callable[..., Visitor], server: ChatServer) -> None:
    visit(server, "Ada")
    other = visit(server, key="Ada Lovelace")
    other.join(" ada ")
    expect(other.page.get_by_role("alert").first).to_have_text(
        "Somebody here is called ada. Please choose another name."
    )
    expect(other.name).to_be_focused()
    other.join("Ada Lovelace")
    other.sees_people("Ada", "Ada Lovelace(you)")


def test_messages_too_long_or_too_fast_are_explained(visit: Callable[..., Visitor], server: ChatServer) -> None:
    ada, bob = visit(server, "Ada"), visit(server, "Bob")
    ada.say("x" * 2001)
    expect(ada.page.get_by_text("2001 of 2000 characters")).to_be_visible()
    expect(
        ada.page.get_by_text("This message is too long to be sent: 2001 characters of at most 2000.")
    ).to_be_visible()
    expect(ada.text).to_have_value("x" * 2001)
    ada.say("gnp.\u202eexe")
    expect(ada.unsent).to_contain_text(["invisible character that cannot be sent here (U+202E)."])
    ada.press("Remove")
    texts = [f"number {number}" for number in range(10)]
    for text in texts:
        ada.say(text)
    expect(ada.page.get_by_text("Not so fast: please wait a moment.")).to_be_visible()
    for visitor in (ada, bob):
        expect(visitor.said).to_have_text(texts)


def test_nothing_is_lost_or_doubled(visit: Callable[..., Visitor], tmp_path: Path) -> None:
    with ChatServer(tmp_path, 0, "--workers", "2") as server, contextlib.closing(Network(server.port)) as network:
        server.rough = True
        ada, bob = visit(server, "Ada"), visit(server, "Bob", PHONE, url=network.url)
        for _ in range(50):
            if bob.worker != ada.worker:
                break
            bob.page.reload()
        assert ada.worker != bob.worker
        ada.sees_people("Ada(you)", "Bob")
        for visitor, text in ((ada, "one"), (bob, "two"), (ada, "three")):
            visitor.say(text)
            for one in (ada, bob):
                one.sees(text)

        network.cut()
        expect(bob.trouble).to_have_text(re.compile("^(Connection lost|The server cannot be reached)"))
        ada.say("four")
        bob.say("said into nothing")
        expect(bob.unsent).to_contain_text(["said into nothingWill be sent when you are connected"])
        ada.say("five")
        ada.sees("five")
        network.cut(False)
        bob.hurry()
        ada.sees("said into nothing")
        bob.sees("You are back. In the meantime:")
        expect(bob.unsent).to_have_count(0)

        os.kill(ada.worker, signal.SIGKILL)
        ada.say("six")
        bob.say("seven")
        for visitor in (ada, bob):
            visitor.hurry()
            visitor.sees("six")
            visitor.sees("seven")
            expect(visitor.state).to_have_text("Connected")
            expect(visitor.unsent).to_have_count(0)
        bob.say("the last")
        for visitor in (ada, bob):
            expect(visitor.said.last).to_have_text("the last")  # not what waits to be sent
        assert ada.uids == bob.uids and len({*ada.uids}) == len(ada.uids) == 9
        texts = ada.said.all_text_contents()
        assert texts == bob.said.all_text_contents()
        assert texts[:6] == ["one", "two", "three", "four", "five", "said into nothing"] and texts[8] == "the last"
        server.kill_quietly()


def test_two_rooms_on_two_workers(visit: Callable[..., Visitor], tmp_path: Path) -> None:
    with (
        ChatServer(tmp_path, 0, "--workers", "2") as server,
        contextlib.closing(Network(server.port)) as network,
        Writer(server, "left") as left,
        Writer(server, "right") as right,
    ):
        server.rough = True
        for writer in (left, right):
            writer.go_on(1)
        server.room = "left"
        ada = visit(server, "Ada")
        server.room = "right"
        bob = visit(server, "Bob", PHONE, url=network.url)
        for _ in range(50):
            if bob.worker != ada.worker:
                break
            bob.page.reload()
        assert ada.worker != bob.worker
        network.cut()
        expect(bob.state).not_to_have_text("Connected")
        right.go_on(2)
        network.cut(False)
        bob.hurry()
        bob.sees("You are back. In the meantime:")
        os.kill(ada.worker, signal.SIGKILL)
        expect(ada.log).to_contain_text("You are back")
        for writer in (left, right):
            writer.go_on(2)
        for visitor, writer in ((ada, left), (bob, right)):
            texts = writer.stop()
            expect(visitor.said).to_have_text(texts)
        server.kill_quietly()


def test_nobody_types_for_ever(visit: Callable[..., Visitor], own_server: ChatServer) -> None:
    with contextlib.closing(Network(own_server.port)) as network:
        own_server.rough = True
        ada, bob = visit(own_server, "Ada", url=network.url), Guest(own_server, "Bob")
        bob.send(type="typing", room="lobby")
        typing = ada.page.get_by_text("Bob is typing…")
        expect(typing).to_be_visible()
        network.cut()
        network.cut(False)
        ada.hurry()
        expect(ada.log).to_contain_text("You are back")
        expect(typing).to_be_hidden()


def test_what_waits_is_not_said_by_who_comes_next(visit: Callable[..., Visitor], own_server: ChatServer) -> None:
    ada, bob = visit(own_server, key="Ada"), Guest(own_server, "Bob")
    ada.page.clock.install()
    ada.join("Ada")
    expect(ada.log).to_contain_text("You have entered.")
    for number in range(9):
        ada.say(f"number {number}")
    expect(ada.page.get_by_text("Not so fast: please wait a moment.")).to_be_visible()
    ada.press("Sign out")
    ada.join("Eve")
    expect(ada.log).to_contain_text("You have entered.")
    ada.page.clock.fast_forward(5_000)
    ada.say("I am Eve.")
    heard = [bob.receive("said")["text"] for _ in range(9)]
    assert heard == [*(f"number {number}" for number in range(8)), "I am Eve."]


def test_an_address_that_is_too_long_is_explained(visit: Callable[..., Visitor], own_server: ChatServer) -> None:
    own_server.room = "a" * 40_000
    ada = visit(own_server, "Ada")
    expect(ada.page.locator("#entry-room bdi")).to_have_text(f"# {'a' * 99}")
    expect(ada.page.get_by_role("heading", name="# lobby")).to_be_visible()
    expect(ada.page.get_by_role("alert").first).to_contain_text("The name of a room has 1 to 30 small letters")


def test_a_clock_that_is_set_back_changes_nothing(visit: Callable[..., Visitor], own_server: ChatServer) -> None:
    ada, bob = visit(own_server, key="Ada"), Guest(own_server, "Bob")
    clock = ada.page.clock
    clock.install()
    ada.join("Ada")
    expect(ada.log).to_contain_text("You have entered.")
    hour = datetime.timedelta(hours=1)
    for text in ("x", "y"):
        ada.text.press_sequentially(text)
        assert bob.receive("typing")["nick"] == "Ada"
        clock.fast_forward(4_000)
        clock.set_system_time(datetime.datetime.now(datetime.UTC) - hour)
    own_server.kill()
    countdown = ada.page.locator("#countdown")
    expect(countdown).to_have_text(re.compile(r"^in \d+ s$"))
    clock.set_system_time(datetime.datetime.now(datetime.UTC) - 2 * hour)
    ada.page.evaluate("new Promise(done => setTimeout(done, 1100))")  # it counts down meanwhile
    expect(countdown).to_have_text(re.compile(r"^(in \d\d? s)?$"))


def test_pages_come_back_when_the_server_does(
    visit: Callable[..., Visitor], own_server: ChatServer, tmp_path: Path
) -> None:
    ada, bob = visit(own_server, "Ada"), visit(own_server, "Bob", PHONE, dark=True)
    ada.sees("Bob has come")
    for visitor in (ada, bob):
        visitor.stop_the_clock()
    own_server.kill()
    expect(bob.trouble).to_have_text("Connection lost. Trying again")
    expect(bob.page.locator("#countdown")).to_have_text(re.compile(r"^in \d+ s$"))
    ada.say("Are you there?")
    expect(ada.unsent).to_contain_text(["Are you there?Will be sent when you are connected"])
    bob.text.fill("half a sent")
    with ChatServer(tmp_path, own_server.port) as successor:
        thief = Guest(successor, "Ada")
        bob.press("Reconnect now")
        ada.hurry()  # the history was lost with the only server
        bob.sees("You are back. Some messages from the meantime may be missing here.")
        expect(bob.trouble).to_be_hidden()
        expect(ada.page.get_by_role("alert").first).to_contain_text("Please choose another name.")
        expect(ada.name).to_have_value("Ada")
        ada.join("Ada Lovelace")
        ada.sees_people("Ada", "Ada Lovelace(you)", "Bob")
        expect(ada.unsent).to_have_count(0)
        ada.sees("Are you there?")
        expect(bob.text).to_have_value("half a sent")
        bob.say("Yes!")
        ada.sees("Yes!")
        thief.websocket.close()


def test_a_server_that_does_not_answer_is_left(visit: Callable[..., Visitor], own_server: ChatServer) -> None:
    ada, bob = visit(own_server, key="Ada"), visit(own_server, key="Bob")
    for visitor, nick in ((ada, "Ada"), (bob, "Bob")):
        visitor.page.clock.install()
        visitor.join(nick)
        expect(visitor.log).to_contain_text("You have entered.")
    ada.sees("Bob has come")
    own_server.process.send_signal(signal.SIGSTOP)
    ada.say("Hello?")
    ada.say("Anybody?")
    ada.page.clock.fast_forward(8_000)
    bob.page.clock.fast_forward(20_000)  # of silence: the page asks the server whether it is there
    bob.page.clock.fast_forward(8_000)
    for visitor in (ada, bob):
        expect(visitor.trouble).to_have_text(re.compile("The server does not answer. Trying again|Connecting…"))
    expect(ada.unsent).to_contain_text(["Hello?Will be sent when you are connected", "Anybody?Will be sent"])
    own_server.process.send_signal(signal.SIGCONT)  # it may have read the first of them, or not
    for visitor in (bob, ada):
        visitor.hurry()
    for visitor in (bob, ada):
        expect(visitor.said).to_have_text(["Hello?", "Anybody?"])
    expect(ada.unsent).to_have_count(0)
    own_server.kill()


def test_servers_that_do_not_reach_each_other_are_shown(visit: Callable[..., Visitor], tmp_path: Path) -> None:
    with ChatServer(tmp_path, 0, "--redis", "redis://127.0.0.1:1") as server:
        ada, bob = visit(server, "Ada"), visit(server, "Bob", PHONE)
        expect(ada.trouble).to_contain_text("Some servers cannot be reached at the moment")
        ada.say("Can you hear me?")
        bob.sees("Can you hear me?")
        expect(ada.log.get_by_text("Not on all servers yet")).to_be_visible()
        server.kill_quietly()


def test_a_page_that_cannot_connect_says_so(
    visit: Callable[..., Visitor], own_server: ChatServer, tmp_path: Path
) -> None:
    ada = visit(own_server, key="Ada")
    own_server.kill()
    ada.join("Ada")
    expect(ada.trouble).to_have_text("The server cannot be reached. Trying again")
    with ChatServer(tmp_path, own_server.port):
        ada.hurry()
        expect(ada.log).to_contain_text("You have entered.")


@pytest.mark.parametrize("dark", [False, True])
def test_the_page_fits_a_phone(visit: Callable[..., Visitor], server: ChatServer, dark: bool) -> None:
    ada = visit(server, size=PHONE, dark=dark, key="long")

    def fits() -> None:
        width, height = "document.documentElement.scrollWidth", "document.documentElement.scrollHeight"
        assert ada.page.evaluate(f"({{width: {width}, height: {height}}})") == PHONE
        assert ada.page.evaluate("document.querySelector('#log').scrollWidth") <= PHONE["width"]

    fits()
    ada.join("A" * 32)
    visit(server, "Б" * 32).say("endlessword" * 50 + "\n" * 30 + "!")
    expect(ada.log.get_by_text("endlessword")).to_be_visible()
    fits()
    expect(ada.text).to_be_in_viewport(ratio=1)
    expect(ada.people.first).to_be_hidden()
    expect(ada.rooms).to_be_hidden()
    ada.press("2 here")
    ada.sees_people(f"{'A' * 32}(you)", "Б" * 32)
    fits()
    ada.page.keyboard.press("Escape")
    expect(ada.people.first).to_be_hidden()
    who = ada.page.get_by_role("button", name="2 here")
    expect(who).to_have_attribute("aria-expanded", "false")
    expect(who).to_be_focused()
    ada.press("Rooms")
    expect(ada.page.get_by_role("button", name="Close the list of rooms")).to_be_focused()
    fits()
    ada.go("help")
    expect(ada.rooms).to_be_hidden()
    fits()


def test_what_shows_now_and_then_can_be_read_as_well(visit: Callable[..., Visitor], own_server: ChatServer) -> None:
    ada, bob = visit(own_server, "Ada", PHONE), visit(own_server, "Bob")
    bob.say("\n".join("word" for _ in range(60)))
    expect(ada.log).to_contain_text("word")
    ada.log.evaluate("log => { log.scrollTop = 0; log.onscroll({target: log}); }")
    bob.say("more")
    newer = ada.page.get_by_role("button", name="New messages")
    expect(newer).to_be_visible()
    box = newer.bounding_box()
    assert box is not None and box["height"] < 50  # one line
    newer.click()
    expect(newer).to_be_hidden()
    own_server.kill()
    expect(bob.page.locator("#people.stale .avatar").first).to_have_css("background-color", "rgb(100, 105, 121)")


def test_light_and_dark(visit: Callable[..., Visitor], server: ChatServer) -> None:
    colours = "(({color, backgroundColor}) => [color, backgroundColor])(getComputedStyle(document.body))"
    light, dark = (visit(server, dark=dark).page.evaluate(colours) for dark in (False, True))
    assert light == ["rgb(27, 29, 35)", "rgb(241, 242, 246)"]
    assert dark == ["rgb(236, 238, 242)", "rgb(14, 15, 18)"]
