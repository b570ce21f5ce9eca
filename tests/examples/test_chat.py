"""The chat example as people run it: a process of its own, a port, a signal at the end."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import runpy
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest

import websock
from websock.exceptions import ConnectionClosed, InvalidStatus
from websock.sync.client import connect

CHAT = Path(__file__).parents[2] / "examples" / "chat"
PATIENCE = 20  # seconds for what takes milliseconds, on a busy machine


class ChatServer:
    """The server in a process (and a process group) of its own, on a free port."""

    def __init__(self, cwd: Path, port: int = 0) -> None:
        self.process = run_server("--port", str(port), cwd=cwd)
        assert self.process.stdout is not None
        ready = select.select([self.process.stdout], [], [], PATIENCE)[0]
        first_line = self.process.stdout.readline() if ready else ""
        found = re.fullmatch(r"The chat is at (http://127\.0\.0\.1:(\d+)/) \(Ctrl-C stops it\)\n", first_line)
        if not found:
            self.process.kill()
            pytest.fail(f"the server did not start: {first_line}{self.process.communicate()[1]}")
        self.url = found[1]
        self.port = int(found[2])
        self.guests: list[Guest] = []

    def __enter__(self) -> ChatServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            for guest in self.guests:
                guest.websocket.close()
            if self.process.returncode is None and kind is None:
                self.stop(signal.SIGTERM)
        finally:
            self.kill()

    def stop(self, number: signal.Signals) -> None:
        """End it as Ctrl-C in a terminal does, with a signal to the group; it must go without a complaint."""
        os.killpg(self.process.pid, number)
        assert self.process.communicate(timeout=PATIENCE) == ("", "")
        assert self.process.returncode == 0

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


def run_server(*options: str, cwd: Path) -> subprocess.Popen[str]:
    library = Path(websock.__file__).parents[1]
    return subprocess.Popen(
        [sys.executable, str(CHAT / "server.py"), *options],
        cwd=cwd,
        env={name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        | {"PYTHONPATH": str(library)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def fail_to_start(*options: str, cwd: Path) -> tuple[int, str]:
    """Run a server that cannot run; return its exit status and what it says about it."""
    process = run_server(*options, cwd=cwd)
    try:
        output, errors = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
    assert output == ""
    return process.returncode, errors


class Guest:
    """Somebody who talks to the server as the page does."""

    def __init__(self, server: ChatServer, nick: str | None = None, **options: Any) -> None:
        self.websocket = connect(f"ws://127.0.0.1:{server.port}/ws", **options)
        server.guests.append(self)
        if nick is not None:
            self.here = self.ask(type="join", nick=nick)["here"]

    def send(self, **message: str) -> None:
        self.websocket.send(json.dumps(message))

    def receive(self) -> dict[str, Any]:
        message = self.websocket.recv(timeout=PATIENCE)
        assert isinstance(message, str)
        decoded = json.loads(message)
        assert isinstance(decoded, dict)
        return decoded

    def ask(self, **message: str) -> dict[str, Any]:
        self.send(**message)
        return self.receive()

    def has_nothing_to_receive(self) -> bool:
        return self.ask(type="ping") == {"type": "pong"}

    def closed(self) -> int:
        """Wait for the end of the connection; return the code that came with it."""
        with contextlib.suppress(ConnectionClosed):
            while True:
                self.receive()
        assert self.websocket.close_code is not None
        return self.websocket.close_code


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ChatServer]:
    with ChatServer(tmp_path) as server:
        yield server


# ---- the room ----


def test_guests_come_talk_and_go(server: ChatServer) -> None:
    ada = Guest(server)
    assert ada.ask(type="join", nick="Ada") == {
        "type": "welcome",
        "nick": "Ada",
        "here": ["Ada"],
        "max_text": 2000,
    }
    bob = Guest(server, "Bob")
    assert bob.here == ["Ada", "Bob"]
    assert ada.receive() == {"type": "joined", "nick": "Bob"}
    bob.send(type="say", text="  Hello, Ada!\nHow are you?\n")
    said = {"type": "said", "nick": "Bob", "text": "Hello, Ada!\nHow are you?"}
    assert ada.receive() == bob.receive() == said
    bob.websocket.close()
    assert ada.receive() == {"type": "left", "nick": "Bob"}
    assert Guest(server, "Bob").here == ["Ada", "Bob"]


def test_only_guests_who_joined_are_told(server: ChatServer) -> None:
    watcher, ada = Guest(server), Guest(server, "Ada")
    assert ada.ask(type="say", text="Is anybody here?")["type"] == "said"
    assert watcher.has_nothing_to_receive()


@pytest.mark.parametrize("nick", ["Ada Byron", "  Ada Byron ", "ADA BYRON", "Ada  Byron", "\uff21da Byron"])
def test_a_name_is_taken_by_one_guest_only(server: ChatServer, nick: str) -> None:
    ada, other = Guest(server, "Ada Byron"), Guest(server)
    error = other.ask(type="join", nick=nick)
    assert (error["type"], error["code"]) == ("error", "nick-taken")
    assert "Please choose another name" in error["text"]
    assert other.ask(type="join", nick="Bob")["here"] == ["Ada Byron", "Bob"]
    assert ada.receive() == {"type": "joined", "nick": "Bob"}


@pytest.mark.parametrize("nick", ["", " \t ", "x" * 33, "a\nb", "a\x00b", "a\x7fb", "a\u200bb", "a\u202eb", "\ud800"])
def test_a_name_can_be_seen(server: ChatServer, nick: str) -> None:
    guest = Guest(server)
    assert guest.ask(type="join", nick=nick) == {
        "type": "error",
        "code": "nick-invalid",
        "text": "A name has 1 to 32 characters, all of them visible.",
    }
    assert guest.ask(type="join", nick="x" * 32)["type"] == "welcome"


def test_a_name_is_trimmed(server: ChatServer) -> None:
    assert Guest(server, "\n Ada  ").here == ["Ada"]


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
        '{"type": "say", "text": 7}',
        '{"type": "join", "nick": "Ada Lovelace"}',
        b'{"type": "say", "text": "Hello!"}',
        pytest.param("[" * 30_000, id="deep"),
        pytest.param("9" * 30_000, id="great"),
    ],
)
def test_what_the_server_does_not_expect_concerns_its_sender_only(server: ChatServer, message: str | bytes) -> None:
    ada, bob = Guest(server, "Ada"), Guest(server, "Bob")
    assert ada.receive()["type"] == "joined"
    ada.websocket.send(message)
    assert ada.receive() == {
        "type": "error",
        "code": "unexpected",
        "text": "The server did not expect this message.",
    }
    assert bob.has_nothing_to_receive()
    assert ada.ask(type="say", text="Sorry.") == bob.receive()


def test_nothing_is_said_before_joining(server: ChatServer) -> None:
    ada, watcher = Guest(server, "Ada"), Guest(server)
    assert watcher.ask(type="say", text="Hello!")["code"] == "unexpected"
    assert ada.has_nothing_to_receive()


def test_the_longest_message_arrives_and_a_longer_one_is_refused(server: ChatServer) -> None:
    ada, bob = Guest(server, "Ada"), Guest(server, "Bob")
    assert ada.receive()["type"] == "joined"
    longest = "\N{GRINNING FACE}" * 2000
    assert ada.ask(type="say", text=longest)["text"] == bob.receive()["text"] == longest
    assert ada.ask(type="say", text="x" * 2001) == {
        "type": "error",
        "code": "text-invalid",
        "text": "A message has 1 to 2000 characters, this one 2001.",
    }
    assert ada.ask(type="say", text=" \n ")["code"] == "text-invalid"
    assert bob.has_nothing_to_receive()


def test_half_a_surrogate_pair_harms_nobody(server: ChatServer) -> None:
    ada = Guest(server, "Ada")
    assert ada.ask(type="say", text="\ud83d")["text"] == "\ud83d"


def test_a_message_of_more_bytes_than_any_page_sends_ends_the_connection(server: ChatServer) -> None:
    ada, bob = Guest(server, "Ada"), Guest(server, "Bob")
    ada.send(type="say", text="x" * 40_000)
    assert ada.closed() == 1009
    assert bob.receive() == {"type": "left", "nick": "Ada"}
    assert bob.has_nothing_to_receive()


def test_who_says_too_much_has_to_wait_alone(server: ChatServer) -> None:
    ada, bob = Guest(server, "Ada"), Guest(server, "Bob")
    assert ada.receive()["type"] == "joined"
    for _ in range(8):
        assert ada.ask(type="say", text="Me!") == bob.receive()
    error = ada.ask(type="say", text="Me!")
    assert error.pop("wait") <= 1.0
    assert error == {"type": "error", "code": "too-fast", "text": "Not so fast: please wait a moment."}
    assert bob.ask(type="say", text="Me too.") == ada.receive()


def test_the_pace() -> None:
    guest = runpy.run_path(str(CHAT / "server.py"))["Guest"](None)
    assert [guest.must_wait(100.0) for _ in range(9)] == [0.0] * 8 + [1.0]
    assert [guest.must_wait(100.75) for _ in range(2)] == [0.25, 0.25]
    assert [guest.must_wait(101.0) for _ in range(2)] == [0.0, 1.0]
    assert [guest.must_wait(900.0) for _ in range(9)] == [0.0] * 8 + [1.0]


def test_a_guest_who_reads_nothing_delays_nobody(server: ChatServer) -> None:
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.connect(("127.0.0.1", server.port))
    Guest(server, "Stuck", sock=sock, close_timeout=0.1, compression=None)
    for _ in range(25):  # more in all, 5 MB, than the system would keep for the stuck one
        talker = Guest(server, "Talker")
        for _ in range(8):
            assert talker.ask(type="say", text="\N{GRINNING FACE}" * 2000)["type"] == "said"
        talker.websocket.close()
    server.stop(signal.SIGTERM)


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
        ("/favicon.ico", 200, "image/svg+xml", "<svg "),
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


def test_the_page_asks_nobody_else_for_anything() -> None:
    page = (CHAT / "page.html").read_text("utf-8")
    assert not re.search(r"https?://|innerHTML|outerHTML|insertAdjacentHTML|\beval\b|\sstyle=|\son\w+=", page)


def test_a_browser_that_opens_the_websocket_address_is_told_what_it_is(server: ChatServer) -> None:
    response, _ = fetch(server, "GET", "/ws")
    assert response.status == 426


def test_pages_of_other_sites_are_kept_out(server: ChatServer) -> None:
    with pytest.raises(InvalidStatus) as caught:
        Guest(server, additional_headers={"Origin": "http://evil.example"})
    assert caught.value.response.status_code == 403
    own = f"http://127.0.0.1:{server.port}"
    assert Guest(server, "Ada", additional_headers={"Origin": own}).here == ["Ada"]


# ---- the process ----


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_says_goodbye_to_all(server: ChatServer, number: signal.Signals) -> None:
    guests = [Guest(server, "Ada"), Guest(server, "Bob"), Guest(server)]
    os.killpg(server.process.pid, number)
    assert [guest.closed() for guest in guests] == [1001, 1001, 1001]
    assert server.process.communicate(timeout=PATIENCE) == ("", "")
    assert server.process.returncode == 0


def test_a_port_in_use_is_one_clear_line(server: ChatServer, tmp_path: Path) -> None:
    status, errors = fail_to_start("--port", str(server.port), cwd=tmp_path)
    assert status == 1
    assert re.fullmatch(rf"The chat cannot start: .*{server.port}.* already in use .*\n", errors)
    assert Guest(server, "Ada").here == ["Ada"]


def test_an_address_of_another_machine_is_one_clear_line(tmp_path: Path) -> None:
    status, errors = fail_to_start("--host", "192.0.2.1", "--port", "0", cwd=tmp_path)
    assert status == 1
    assert re.fullmatch(r"The chat cannot start: .+\n", errors)


@pytest.mark.parametrize(
    "options", [["--prot", "1"], ["--port", "http"], ["--port", "70000"], ["--port", "-1"], ["8765"]]
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
        assert Guest(server, "Ada").ask(type="say", text="Hello!")["type"] == "said"
    assert sorted(CHAT.rglob("*")) == before
    assert list(tmp_path.iterdir()) == []
