"""The chat example in processes of its own, and those who talk to it."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import select
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest

import websock
from websock.exceptions import ConnectionClosed
from websock.sync.client import connect

__all__ = ["CHAT", "PATIENCE", "ChatServer", "Guest", "Writer", "fail_to_start", "nicks"]

CHAT = Path(__file__).parents[2] / "examples" / "chat"
PATIENCE = 20  # seconds for what takes milliseconds, on a busy machine


class ChatServer:
    """The server in a process (and a process group) of its own, on a free port."""

    def __init__(self, cwd: Path, port: int = 0, *options: str) -> None:
        self.process = run_server("--port", str(port), *options, cwd=cwd)
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
        self.room = "lobby"  # where guests go whom nobody tells
        self.rough = False  # connections are cut on purpose

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

    def workers(self) -> list[int]:
        """The processes that serve, when there are several."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return [int(pid) for pid in children.split()]

    def kill_quietly(self) -> None:
        """End it, where something went wrong on purpose, of which it has complained."""
        os.killpg(self.process.pid, signal.SIGTERM)
        self.process.communicate(timeout=PATIENCE)
        assert self.process.returncode == 0

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


def run_server(*options: str, cwd: Path) -> subprocess.Popen[str]:
    library = Path(websock.__file__).parents[1]
    return subprocess.Popen(
        [sys.executable, "-B", str(CHAT / "server.py"), *options],
        cwd=cwd,
        env={name: value for name, value in os.environ.items() if name != "WEBSOCK_BACKPLANE"}
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

    numbers = itertools.count(1)

    def __init__(
        self, server: ChatServer, nick: str | None = None, *rooms: str, key: str | None = None, **options: Any
    ) -> None:
        self.websocket = connect(f"ws://127.0.0.1:{server.port}/ws", **options)
        self.inbox: list[dict[str, Any]] = []
        self.key = key or (f"key-of-guest-{next(self.numbers):06}" if nick is None else f"key-of-{nick.encode().hex()}")
        self.key = self.key.ljust(16, "-")
        self.room = server.room
        server.guests.append(self)
        if nick is not None:
            self.welcome = self.ask("welcome", type="hello", nick=nick, key=self.key)
            for room in rooms or (self.room,):
                self.enter(room)

    def send(self, **message: Any) -> None:
        self.websocket.send(json.dumps(message))

    def receive(self, *kinds: str) -> dict[str, Any]:
        """The next message of these kinds, while others wait; without any, the next one that is no server's report."""
        deadline = time.monotonic() + PATIENCE
        for waiting in self.inbox:
            if not kinds or waiting["type"] in kinds:
                self.inbox.remove(waiting)
                return waiting
        while True:
            text = self.websocket.recv(timeout=deadline - time.monotonic())
            assert isinstance(text, str)
            message: dict[str, Any] = json.loads(text)
            if message["type"] in kinds if kinds else message["type"] not in ("rooms", "state"):
                return message
            if message["type"] not in ("rooms", "state"):
                self.inbox.append(message)

    def ask(self, *kinds: str, **message: Any) -> dict[str, Any]:
        self.send(**message)
        return self.receive(*kinds)

    def enter(self, room: str, after: str | None = None) -> dict[str, Any]:
        """Be in a room; what was said there is in `heard`."""
        self.entered = self.ask("entered", type="enter", room=room, after=after)
        self.heard = [self.receive("said") for _ in range(self.entered["replayed"])]
        return self.entered

    def say(self, text: str, room: str | None = None, uid: str | None = None) -> dict[str, Any]:
        """Say something and wait for the receipt, or for the refusal."""
        room = self.room if room is None else room
        uid = uid or f"message-{next(self.numbers):06}"
        return self.ask("sent", "error", type="say", room=room, text=text, uid=uid)

    def has_heard_nothing(self) -> bool:
        """Nothing but of people and of servers, up to now."""
        self.ask("pong", type="ping")
        return not any(message["type"] in ("said", "error") for message in self.inbox)

    def closed(self) -> int:
        """Wait for the end of the connection; return the code that came with it."""
        with contextlib.suppress(ConnectionClosed):
            while True:
                self.receive()
        assert self.websocket.close_code is not None
        return self.websocket.close_code


class Writer:
    """A guest who writes one number after the other into a room, as fast as the server lets them, until `stop`. Where
    the connection is lost, or its worker, they come back and say again what was not confirmed."""

    def __init__(self, server: ChatServer, room: str) -> None:
        self.server = server
        self.room = room
        self.confirmed = 0
        self._stop = threading.Event()
        self._news = threading.Condition()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Writer:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def stop(self) -> list[str]:
        """Write no more; all that was written, in order."""
        self._stop.set()
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()
        return [self.text(number) for number in range(self.confirmed)]

    def text(self, number: int) -> str:
        return f"{self.room} {number}"

    def go_on(self, count: int) -> None:
        """Wait until so many more are confirmed."""
        most = self.confirmed + count
        with self._news:
            assert self._news.wait_for(lambda: self.confirmed >= most, PATIENCE)

    def _run(self) -> None:
        guest: Guest | None = None
        while not self._stop.is_set():
            try:
                guest = guest or Guest(self.server, f"Writer {self.room}", self.room, key=f"key-of-writer-{self.room}")
                number = self.confirmed
                answer = guest.say(self.text(number), self.room, f"{self.room}-{number:08}")
            except (ConnectionClosed, OSError):
                guest = None
                self._stop.wait(0.05)
                continue
            guest.inbox.clear()
            if answer["type"] == "sent":
                with self._news:
                    self.confirmed += 1
                    self._news.notify_all()
            self._stop.wait(answer.get("wait", 0.05))


def nicks(entered: dict[str, Any]) -> list[str]:
    return [nick for _, nick in entered["people"]]
