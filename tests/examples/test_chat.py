"""The chat example as people run it: processes of its own, a port, a signal at the end."""

from __future__ import annotations

import contextlib
import http.client
import importlib
import os
import re
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from websock.exceptions import ConnectionClosed, InvalidStatus

from ..pubsub.servers import redis_server
from .chats import CHAT, PATIENCE, ChatServer, Guest, fail_to_start, nicks

# ---- the rooms ----


def test_guests_come_talk_and_go(server: ChatServer) -> None:
    ada = Guest(server, "Ada")
    welcome = ada.welcome
    assert re.fullmatch(rf"[a-z2-7]{{8}}\.{server.process.pid}", welcome.pop("server"))
    assert welcome == {
        "type": "welcome",
        "nick": "Ada",
        "rooms": ["lobby", "help", "random"],
        "limits": {"text": 2000, "room": 30, "rooms": 20},
        "spread": True,
    }
    assert nicks(ada.entered) == ["Ada"] and ada.entered["recovered"]
    bob = Guest(server, "Bob")
    assert nicks(bob.entered) == ["Ada", "Bob"]
    came = ada.receive("came")
    assert (came["room"], came["nick"]) == (server.room, "Bob")
    bob.send(type="typing", room=server.room)
    assert ada.receive() == {"type": "typing", "room": server.room, "nick": "Bob"}
    bob.send(type="say", room=server.room, text="  Hello, Ada!\nHow are you?\n", uid="number-1")
    said = ada.receive()
    assert abs(time.time() - said.pop("at")) < 60 and re.fullmatch(r"\d+-\d+", said.pop("id"))
    assert said == {
        "type": "said",
        "room": server.room,
        "nick": "Bob",
        "text": "Hello, Ada!\nHow are you?",
        "uid": "number-1",
    }
    assert bob.receive("sent") == {"type": "sent", "room": server.room, "uid": "number-1", "spread": True}
    bob.websocket.close()
    assert ada.receive() == {**came, "type": "went"}


def test_what_is_said_in_a_room_stays_there(server: ChatServer) -> None:
    ada, bob, watcher = Guest(server, "Ada", server.room, "help"), Guest(server, "Bob", "help"), Guest(server)
    ada.say("in the lobby")
    ada.say("in help", "help")
    assert [ada.receive("said")["room"] for _ in range(2)] == [server.room, "help"]
    assert bob.receive("said")["text"] == "in help"
    assert watcher.ask(type="ping") == {"type": "pong"}
    assert bob.say("not mine", server.room)["code"] == "not-here"
    bob.send(type="exit", room="help")
    assert ada.receive("went")["nick"] == "Bob"
    assert bob.say("no more", "help")["code"] == "not-here"
    assert ada.has_heard_nothing()


def test_who_enters_is_shown_what_was_said_and_who_comes_back_what_was_missed(server: ChatServer) -> None:
    ada, bob = Guest(server, "Ada"), Guest(server, "Bob")
    for number in range(8):
        ada.say(f"number {number}")
    heard = [bob.receive("said") for _ in range(8)]
    cy = Guest(server, "Cy")
    assert cy.heard == heard and [one["text"] for one in heard] == [f"number {number}" for number in range(8)]
    bob.websocket.close()
    bob = Guest(server, "Bob", "help", key=bob.key)
    entered = bob.enter(server.room, after=heard[5]["id"])
    assert entered["recovered"] and bob.heard == heard[6:]
    assert bob.enter(server.room, after=heard[7]["id"])["replayed"] == 0


def test_the_same_message_again_is_said_once(server: ChatServer) -> None:
    ada, bob = Guest(server, "Ada"), Guest(server, "Bob")
    for _ in range(3):
        assert ada.say("Hello!", uid="the-first")["type"] == "sent"
    assert bob.say("I have that number, too", uid="the-first")["type"] == "sent"
    assert [bob.receive("said")["text"] for _ in range(2)] == ["Hello!", "I have that number, too"]
    assert bob.has_heard_nothing()


def test_where_people_are(server: ChatServer) -> None:
    ada, _, bob = Guest(server, "Ada", server.room, "help"), Guest(server), Guest(server, "Bob", "engines")
    where = [["engines", 1], ["help", 1], [server.room, 1]]
    while (report := bob.receive("rooms"))["rooms"] != where:
        pass
    assert report["server"] == ada.welcome["server"].partition(".")[0]


# ---- names ----


@pytest.mark.parametrize(
    "nick",
    [
        "Ada Byron",
        "  Ada Byron ",
        "ADA BYRON",
        "Ada  Byron",
        "\uff21da Byron",
        "Ada\ufe0f Byron",
        "Ada Byron\u3164",
        "A\u034fda \u2800 Byron",
    ],
)
def test_a_name_is_taken_by_one_person_only(server: ChatServer, nick: str) -> None:
    ada, other = Guest(server, "Ada Byron"), Guest(server)
    error = other.ask(type="hello", nick=nick, key=other.key)
    assert (error["type"], error["code"]) == ("error", "nick-taken")
    assert "Please choose another name" in error["text"]
    assert Guest(server, nick, key=ada.key).welcome["nick"] == nick.strip()  # in another tab of the same browser


def test_a_name_waits_for_its_owner(server: ChatServer) -> None:
    ada, bob = Guest(server, "Ada"), Guest(server, "Bob")
    while bob.receive("rooms")["rooms"] != [[server.room, 2]]:
        pass  # the server has not looked around yet
    ada.websocket.close()
    while bob.receive("rooms")["rooms"] != [[server.room, 1]]:
        pass
    other = Guest(server)
    error = other.ask(type="hello", nick="Ada", key=other.key)
    assert re.search("Somebody called Ada was here a moment ago.* try again in .* seconds", error["text"])
    assert Guest(server, "Ada", key=ada.key).welcome["nick"] == "Ada"


INVALID_NICKS = [
    "",
    " \t ",
    "x" * 33,
    "a\nb",
    "a\x00b",
    "a\x7fb",
    "a\u200bb",
    "a\u202eb",
    "\u3164",
    "\u2800\ufe0f",
    "\ud800",
    "YOU",
    "x" * 30_000,
]


def test_a_name_can_be_seen(server: ChatServer) -> None:
    guest = Guest(server)
    for nick in INVALID_NICKS:
        error = guest.ask(type="hello", nick=nick, key=guest.key)
        assert error["code"] == "nick-invalid", ascii(nick)
        assert nick == "YOU" or error["text"] == "A name has 1 to 32 characters, all of them visible."
    assert guest.ask(type="hello", nick="x" * 32, key=guest.key)["type"] == "welcome"


def test_a_word_of_a_name_has_one_alphabet(server: ChatServer) -> None:
    guest = Guest(server)
    for nick in ("\u0410da", "Ad\u0430 Byron", "\u0391da"):  # their A is not Ada's
        error = guest.ask(type="hello", nick=nick, key=guest.key)
        assert error["code"] == "nick-invalid" and "one alphabet" in error["text"]
    for nick in ("Иван Petrov", "Ελένη", "José", "张伟 2", "Ada❤️"):
        other = Guest(server)
        assert other.ask(type="hello", nick=nick, key=other.key)["type"] == "welcome"


@pytest.fixture
def modules(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The example's own modules, which have no package."""
    before = {*sys.modules}
    monkeypatch.syspath_prepend(CHAT)
    yield importlib.import_module
    for name in {"rules", "names", "rooms"} - before:
        sys.modules.pop(name, None)


def test_two_who_took_the_same_name_at_the_same_time(modules: Any) -> None:
    names, present = modules("names").Names(), importlib.import_module("websock.pubsub").Present
    first, second = present("Ada", "owner-a", 5.0, "hub1.1"), present("ada", "owner-b", 6.0, "hub2.7")
    assert names.look([first], 10.0) == set()
    assert names.look([first, second, present("Ada", "owner-a", 7.0, "hub2.8")], 11.0) == {"hub2.7"}


def test_how_long_a_name_is_kept(modules: Any) -> None:
    names, present = modules("names").Names(), importlib.import_module("websock.pubsub").Present
    refusal = modules("rules").Refusal
    ada = present("Ada", "owner-a", 5.0, "hub1.1")
    names.look([ada], 10.0)
    names.look([], 11.0)
    with pytest.raises(refusal, match="or try again in 10 seconds"):
        names.claim("ADA", "owner-b", [], 31.0)
    names.claim("ADA", "owner-a", [], 31.0)
    with pytest.raises(refusal, match="Somebody here is called Ada"):  # before the hub tells that she is there
        names.claim("Ada", "owner-b", [], 100.0)
    names.release("ADA", "owner-a")
    names.look([], 41.0)
    names.claim("Ada", "owner-b", [], 41.0)


# ---- what strangers send ----


@pytest.mark.parametrize(
    "message",
    [
        "",
        "Hello!",
        '{"type": "say", "te',
        '"say"',
        "[]",
        "{}",
        '{"type": "dance"}',
        '{"type": "say"}',
        '{"type": "say", "room": server.room, "text": 7, "uid": "12345678"}',
        '{"type": "say", "room": server.room, "text": "no uid"}',
        '{"type": "say", "room": server.room, "text": "a bad uid", "uid": "12345678\\u0000"}',
        '{"type": "enter", "room": "help", "after": 7}',
        '{"type": "exit", "room": "help"}',
        '{"type": "typing", "room": "help"}',
        '{"type": "hello", "nick": "Ada Lovelace", "key": "0123456789abcdef"}',
        b'{"type": "ping"}',
        pytest.param("[" * 30_000, id="deep"),
        pytest.param("9" * 30_000, id="great"),
    ],
)
def test_what_the_server_does_not_expect_concerns_its_sender_only(server: ChatServer, message: str | bytes) -> None:
    ada, bob = Guest(server, "Ada"), Guest(server, "Bob")
    ada.websocket.send(message)
    error = ada.receive("error")
    assert (error["code"], error["text"]) == ("unexpected", "The server did not expect this message.")
    assert bob.has_heard_nothing()
    assert ada.say("Sorry.")["type"] == "sent" and bob.receive("said")["text"] == "Sorry."


def test_nothing_is_said_before_hello(server: ChatServer) -> None:
    ada, watcher = Guest(server, "Ada"), Guest(server)
    for message in ({"type": "say", "text": "Hello!", "uid": "12345678"}, {"type": "enter", "after": None}):
        assert watcher.ask(room=server.room, **message)["code"] == "unexpected"
    assert watcher.ask(type="hello", nick="Eve", key="too short")["code"] == "unexpected"
    assert ada.has_heard_nothing()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("x" * 2001, "A message has 1 to 2000 characters, this one 2001."),
        (" \n ", "A message has 1 to 2000 characters, this one 0."),
        ("a\x00b", "an invisible character that cannot be sent here (U+0000)"),
        ("\x1b[31mred", "(U+001B)"),
        ("gnp.\u202eexe", "(U+202E)"),
        ("half a pair \ud83d", "(U+D83D)"),
    ],
)
def test_a_message_that_cannot_be_said_is_explained(server: ChatServer, text: str, says: str) -> None:
    ada, bob = Guest(server, "Ada"), Guest(server, "Bob")
    error = ada.say(text, uid="the-bad-one")
    assert (error["code"], error["uid"], error["room"]) == ("text-invalid", "the-bad-one", server.room)
    assert says in error["text"]
    assert bob.has_heard_nothing()


@pytest.mark.parametrize(
    "text", ["\N{GRINNING FACE}" * 2000, "<script>alert(1)</script>&amp;", "a\tb", "\u05e9\u05dc\u05d5\u05dd \u200fx"]
)
def test_any_other_message_arrives_as_it_is(server: ChatServer, text: str) -> None:
    ada, bob = Guest(server, "Ada"), Guest(server, "Bob")
    assert ada.say(text)["type"] == "sent"
    assert bob.receive("said")["text"] == text


@pytest.mark.parametrize(
    "room",
    ["", "Lobby", "a b", "x" * 31, "a/b", "a\x00", "\u202ea", "\u0301a", "\uff41", "\ud800", "a\ufe0f", "\u115f"],
)
def test_a_room_that_cannot_be_is_explained(server: ChatServer, room: str) -> None:
    error = Guest(server, "Ada").ask("error", type="enter", room=room, after=None)
    assert (error["code"], error["room"]) == ("room-invalid", room)
    assert error["text"] == "The name of a room has 1 to 30 small letters, digits, hyphens and underscores."


@pytest.mark.parametrize(
    "room", ["a", "x" * 30, "q-3_b", "\u4f1a\u8b70\u5ba4", "stra\u00dfe", "\u0939\u093f\u0928\u094d\u0926\u0940"]
)
def test_rooms_of_all_languages(server: ChatServer, room: str) -> None:
    assert Guest(server, "Ada", room).entered["room"] == room


MADE_UP = ["x", "0-0", "9999999999999-0", "1-1+aaaaaaaa.7", "1700000000000-0", "-1", "1" * 600, "\x00", "\ud800"]


def test_an_id_that_was_made_up_is_answered(server: ChatServer) -> None:
    bob, eve = Guest(server, "Bob"), Guest(server, "Eve")
    assert bob.say("Hello!")["type"] == "sent"
    for after in MADE_UP:
        entered = eve.enter(server.room, after)
        assert not entered["recovered"] and entered["why"] in ("unknown", "too old"), ascii(after)
        assert [one["text"] for one in eve.heard] == ["Hello!"]
    assert bob.receive("said") and bob.has_heard_nothing()


def test_a_name_of_a_megabyte_ends_the_connection(server: ChatServer) -> None:
    bob, eve = Guest(server, "Bob"), Guest(server)
    with contextlib.suppress(ConnectionClosed):
        eve.send(type="hello", nick="x" * 2**20, key=eve.key)
    assert eve.closed() == 1009
    assert bob.has_heard_nothing()


def test_who_says_too_much_has_to_wait_alone(server: ChatServer) -> None:
    ada, bob = Guest(server, "Ada"), Guest(server, "Bob")
    answers = [ada.say("Me!", uid=f"number-{number}") for number in range(10)]
    errors = [answer for answer in answers if answer["type"] == "error"]
    assert errors
    assert errors[0].pop("wait") <= 1.1
    assert errors[0].pop("uid").startswith("number-")
    text = "Not so fast: please wait a moment."
    assert errors[0] == {"type": "error", "code": "too-fast", "text": text, "room": server.room}
    assert bob.say("Me too.")["type"] == "sent"


def test_a_thousand_messages_a_second_end_the_connection_of_one(server: ChatServer) -> None:
    ada, bob = Guest(server, "Ada"), Guest(server, "Bob")
    with contextlib.suppress(ConnectionClosed):
        for number in range(1000):
            ada.send(type="say", room=server.room, text=f"number {number}", uid=f"number-{number}")
    assert ada.closed() == 1008
    heard = []
    while (message := bob.receive("said", "went"))["type"] == "said":
        heard.append(message["text"])
    assert heard == [f"number {number}" for number in range(8)][: len(heard)]  # what came before the end, in order
    assert bob.say("Quiet now.")["type"] == "sent"


def test_a_great_many_rooms_are_not_for_one(server: ChatServer) -> None:
    bob, eve = Guest(server, "Bob"), Guest(server, "Eve")
    for number in range(19):
        assert eve.enter(f"room-{number}")["recovered"]
    error = eve.ask("error", type="enter", room="one-more", after=None)
    assert (error["code"], error["room"]) == ("too-many", "one-more")
    assert error["text"] == "You are in 20 rooms. Leave one of them to enter another one."
    with contextlib.suppress(ConnectionClosed):
        for number in range(10_000):
            eve.send(type="enter", room=f"flood-{number}", after=None)
    assert eve.closed() == 1008
    assert bob.has_heard_nothing() and bob.say("Who was that?")["type"] == "sent"


def test_the_pace(modules: Any) -> None:
    pace = modules("rules").Pace(burst=8, seconds=1.0)
    assert [pace.must_wait(100.0) for _ in range(9)] == [0.0] * 8 + [1.0]
    assert [pace.must_wait(100.75) for _ in range(2)] == [0.25, 0.25]
    assert [pace.must_wait(101.0) for _ in range(2)] == [0.0, 1.0]
    assert [pace.must_wait(900.0) for _ in range(9)] == [0.0] * 8 + [1.0]


def test_a_guest_who_reads_nothing_delays_nobody(own_server: ChatServer) -> None:
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.connect(("127.0.0.1", own_server.port))
    Guest(own_server, "Stuck", sock=sock, close_timeout=0.1, compression=None)
    for _ in range(25):  # more in all, 5 MB, than the system would keep for the stuck one
        talker = Guest(own_server, "Talker")
        for _ in range(8):
            assert talker.say("\N{GRINNING FACE}" * 2000)["type"] == "sent"
        talker.websocket.close()


# ---- several processes ----


def pid_of(guest: Guest) -> int:
    return int(guest.welcome["server"].partition(".")[2])


def on_another_worker(server: ChatServer, guest: Guest, nick: str, **how: Any) -> Guest:
    """Connections are shared out by the kernel: try until it is another one."""
    for _ in range(200):
        other = Guest(server, nick, **how)
        if pid_of(other) != pid_of(guest):
            return other
        how["key"] = other.key
        other.websocket.close()
    raise AssertionError("one worker has them all")


def test_workers_are_one_chat_and_one_takes_over_from_the_other(tmp_path: Path) -> None:
    with ChatServer(tmp_path, 0, "--workers", "2") as server:
        ada = Guest(server, "Ada")
        bob = on_another_worker(server, ada, "Bob")
        assert nicks(bob.entered) == ["Ada", "Bob"]
        other = on_another_worker(server, ada, "Cy")
        error = other.ask("error", type="hello", nick="Ada", key=other.key)
        assert error["code"] == "unexpected"  # it has a name already
        thief = Guest(server)
        assert thief.ask("error", type="hello", nick="ADA", key=thief.key)["code"] == "nick-taken"
        bob.send(type="typing", room="lobby")
        assert ada.receive("typing")["nick"] == "Bob"
        ada.say("one")
        bob.say("two")
        heard = [ada.receive("said") for _ in range(2)]
        assert [one["text"] for one in heard] == ["one", "two"]
        os.kill(pid_of(ada), signal.SIGKILL)
        assert bob.say("three")["type"] == "sent"
        back = Guest(server, "Ada", "help", key=ada.key)  # although the others do not know yet that she had gone
        assert back.enter("lobby", heard[-1]["id"])["recovered"]
        assert [one["text"] for one in back.heard] == ["three"]
        assert back.say("two and a half", uid="message-again")["type"] == "sent"
        server.kill_quietly()


@pytest.fixture
def redis() -> Iterator[str]:
    pytest.importorskip("redis")
    with tempfile.TemporaryDirectory(prefix="ws-", dir="/tmp") as folder, redis_server(folder) as server:
        yield server.url


def test_two_hosts_with_redis(redis: str, tmp_path: Path) -> None:
    option = "--redis", redis
    with ChatServer(tmp_path, 0, *option) as here, ChatServer(tmp_path, 0, *option) as there:
        ada = Guest(here, "Ada")
        bob = Guest(there, "Bob")
        assert ada.welcome["spread"] and bob.welcome["spread"] and nicks(bob.entered) == ["Ada", "Bob"]
        thief = Guest(there)
        assert thief.ask("error", type="hello", nick="ada", key=thief.key)["code"] == "nick-taken"
        assert ada.say("Hello!")["spread"]
        heard = bob.receive("said")
        assert heard["text"] == "Hello!"
        here.process.kill()
        assert bob.say("Are you there?")["spread"]
        ada = Guest(there, "Ada", "help")
        assert ada.enter("lobby", heard["id"])["recovered"] and [one["text"] for one in ada.heard] == ["Are you there?"]
        here.kill()


def test_redis_that_is_not_there_is_no_end(tmp_path: Path) -> None:
    with ChatServer(tmp_path, 0, "--redis", "redis://127.0.0.1:1") as server:
        ada = Guest(server, "Ada")
        bob = Guest(server, "Bob")
        assert ada.welcome["spread"] is False
        sent = ada.say("Can you hear me?")
        assert (sent["type"], sent["spread"]) == ("sent", False)
        assert bob.receive("said")["text"] == "Can you hear me?"
        server.kill_quietly()


@pytest.mark.parametrize("url", ["redis://127.0.0.1:70000", "http://127.0.0.1", "workers:"])
def test_a_backplane_that_cannot_be_is_one_clear_line(url: str, tmp_path: Path) -> None:
    status, errors = fail_to_start("--port", "0", "--redis", url, cwd=tmp_path)
    assert status == 1
    assert re.fullmatch(r"The chat cannot start: .+\n", errors)


# ---- the web ----


def fetch(server: ChatServer, method: str, path: str) -> tuple[http.client.HTTPResponse, str]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)
    connection.request(method, path)
    response = connection.getresponse()
    body = response.read().decode()
    connection.close()
    return response, body


@pytest.mark.parametrize(
    ("path", "status", "kind", "content"),
    [
        ("/", 200, "text/html; charset=utf-8", "<title>Chat</title>"),
        ("/?from=a+link", 200, "text/html; charset=utf-8", "<title>Chat</title>"),
        ("/page.css", 200, "text/css; charset=utf-8", "prefers-color-scheme"),
        ("/page.js", 200, "text/javascript; charset=utf-8", "import {Talk"),
        ("/favicon.ico", 200, "image/svg+xml", "<svg "),
        ("/health", 200, "text/plain; charset=utf-8", "ok"),
        ("/server.py", 404, "text/plain; charset=utf-8", "The chat is at /"),
        ("/nothing", 404, "text/plain; charset=utf-8", "The chat is at /"),
        ("/../../pyproject.toml", 404, "text/plain; charset=utf-8", "The chat is at /"),
    ],
)
def test_the_web_side(server: ChatServer, path: str, status: int, kind: str, content: str) -> None:
    response, body = fetch(server, "GET", path)
    assert (response.status, response.headers.get_all("Content-Type")) == (status, [kind])
    assert content in body
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["Cache-Control"] == "no-store"
    policy = response.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    head, nothing = fetch(server, "HEAD", path)
    assert (head.status, nothing) == (status, "")
    different = {"Date"}
    assert {name: value for name, value in head.getheaders() if name not in different} == {
        name: value for name, value in response.getheaders() if name not in different
    }


def test_nothing_can_be_done_to_the_web_side(server: ChatServer) -> None:
    for method in ("OPTIONS", "DELETE", "BREW"):
        response, body = fetch(server, method, "/")
        assert (response.status, response.headers["Allow"]) == (405, "GET, HEAD")
        assert response.headers["Content-Security-Policy"] and "<" not in body


def test_the_page_asks_nobody_else_for_anything() -> None:
    for path in (path for path in CHAT.iterdir() if path.suffix in (".html", ".css", ".js")):
        found = re.search(
            r"https?://|innerHTML|outerHTML|insertAdjacentHTML|\beval\b|\sstyle=|\son\w+=\"", path.read_text("utf-8")
        )
        assert not found, path


def test_a_browser_that_opens_the_websocket_address_is_told_what_it_is(server: ChatServer) -> None:
    response, _ = fetch(server, "GET", "/ws")
    assert response.status == 426


def test_pages_of_other_sites_are_kept_out(server: ChatServer) -> None:
    with pytest.raises(InvalidStatus) as caught:
        Guest(server, additional_headers={"Origin": "http://evil.example"})
    assert caught.value.response.status_code == 403
    own = f"http://127.0.0.1:{server.port}"
    assert nicks(Guest(server, "Ada", additional_headers={"Origin": own}).entered) == ["Ada"]


def status_of_upgrade(sock: socket.socket, server: ChatServer, client: str) -> bytes:
    """Ask for a WebSocket as a proxy does that speaks for `client`."""
    sock.settimeout(PATIENCE)
    sock.connect(("127.0.0.1", server.port))
    sock.sendall(
        f"GET /ws HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        f"X-Forwarded-For: {client}\r\n\r\n".encode()
    )
    return sock.recv(1000).partition(b"\r\n")[0].split()[1]


@pytest.mark.parametrize(("trusted", "other"), [(["--trusted-proxy", "127.0.0.1"], b"101"), ([], b"429")])
def test_one_client_does_not_take_all_connections(trusted: list[str], other: bytes, tmp_path: Path) -> None:
    networks = ["--trusted-proxy", "192.0.2.0/24", *trusted]
    with ChatServer(tmp_path, 0, *networks) as server, contextlib.ExitStack() as stack:

        def upgrade(client: str) -> bytes:
            return status_of_upgrade(stack.enter_context(socket.socket()), server, client)

        assert {upgrade("198.51.100.7") for _ in range(200)} == {b"101"}
        assert upgrade("198.51.100.7") == b"429"
        assert upgrade("198.51.100.8") == other
        server.kill_quietly()


# ---- the process ----


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_says_goodbye_to_all(own_server: ChatServer, number: signal.Signals) -> None:
    guests = [Guest(own_server, "Ada"), Guest(own_server, "Bob"), Guest(own_server)]
    os.killpg(own_server.process.pid, number)
    assert [guest.closed() for guest in guests] == [1001, 1001, 1001]
    assert own_server.process.communicate(timeout=PATIENCE) == ("", "")
    assert own_server.process.returncode == 0


def test_a_port_in_use_is_one_clear_line(server: ChatServer, tmp_path: Path) -> None:
    status, errors = fail_to_start("--port", str(server.port), cwd=tmp_path)
    assert status == 1
    assert re.fullmatch(rf"The chat cannot start: .*{server.port}.* already in use .*\n", errors)
    assert nicks(Guest(server, "Ada").entered) == ["Ada"]


def test_an_address_of_another_machine_is_one_clear_line(tmp_path: Path) -> None:
    status, errors = fail_to_start("--host", "192.0.2.1", "--port", "0", cwd=tmp_path)
    assert status == 1
    assert re.fullmatch(r"The chat cannot start: .+\n", errors)


@pytest.mark.parametrize(
    "options",
    [
        ["--prot", "1"],
        ["--port", "http"],
        ["--port", "70000"],
        ["--port", "-1"],
        ["8765"],
        ["--workers", "0"],
        ["--trusted-proxy", "10.0.0.0/8", "--trusted-proxy", "10.0.0.1/8"],
        ["--workers", "2", "--trusted-proxy", "proxy.example"],
    ],
)
def test_a_mistyped_option_is_explained(options: list[str], tmp_path: Path) -> None:
    status, errors = fail_to_start(*options, cwd=tmp_path)
    assert status == 2
    assert errors.startswith("usage: server.py ")
    assert options[-1] in errors or options[0] in errors
    assert "Traceback" not in errors


def test_nothing_is_left_behind(tmp_path: Path) -> None:
    before = sorted(CHAT.rglob("*"))
    with ChatServer(tmp_path) as server:
        fetch(server, "GET", "/")
        assert Guest(server, "Ada").say("Hello!")["type"] == "sent"
    assert sorted(CHAT.rglob("*")) == before
    assert list(tmp_path.iterdir()) == []
