"""Where the hubs of pre-forked workers meet: a private folder that lives as long as their supervisor."""

from __future__ import annotations

import json
import logging
import os
import signal
import stat
import sys
from pathlib import Path
from typing import Any

import pytest

from websock.serving.backplane import meeting_place

from ..programs import PATIENCE
from .conftest import Serve, Served, ended, until

if sys.platform == "win32":
    pytest.skip("no fork", allow_module_level=True)


LOGGER = logging.getLogger("websock.server")


def ask(server: Served, message: str) -> str:
    with server.connect() as ws:
        ws.send(message)
        answer: str = ws.recv(timeout=PATIENCE)
    return answer


def test_what_the_environment_says_is_not_overruled(served: Serve) -> None:
    server = served("tests.serving.apps:plain", "--workers", "2", "--model", "threads", WEBSOCK_BACKPLANE="")
    server.says("server has 2 workers")
    assert ask(server, "place") == ""  # it was said already: by its emptiness, to be alone
    server.stop()


def test_the_place_survives_deaths_and_reloads(served: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WEBSOCK_BACKPLANE", raising=False)
    server = served("tests.serving.apps:plain", "--workers", "2", "--model", "threads")
    server.says("server has 2 workers")
    place = ask(server, "place")
    kind, _, path = place.partition(":")
    folder = os.path.dirname(path)
    assert kind == "workers"
    assert stat.S_IMODE(os.stat(folder).st_mode) == 0o700
    assert len(os.fsencode(path)) < 104
    victim = server.workers()[0]
    os.kill(victim, signal.SIGKILL)
    server.says("another one starts now")
    until(lambda: len({*server.workers()} - {victim}) == 2, "another worker")
    assert {ask(server, "place") for _ in range(8)} == {place}
    old = {*server.workers()}
    server.tell(signal.SIGHUP)
    server.says("server reloaded")
    until(lambda: not old & {*server.workers()}, "the end of the old ones")
    assert {ask(server, "place") for _ in range(8)} == {place}
    server.stop()
    assert not os.path.exists(folder)


def test_a_process_alone_meets_nobody(served: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WEBSOCK_BACKPLANE", raising=False)
    server = served("tests.serving.apps:plain", "--model", "threads")
    assert ask(server, "place") == "none"
    server.stop()


def test_a_long_temporary_folder_is_not_used(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WEBSOCK_BACKPLANE", raising=False)
    long = tmp_path / ("x" * 100)
    long.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(long))
    with meeting_place(LOGGER) as place:
        assert place is not None
        assert len(os.fsencode(place)) < 104
        assert os.path.isdir(os.path.dirname(place.partition(":")[2]))
    assert os.listdir(long) == []


def test_what_a_killed_server_leaves_is_removed(
    served: Serve, short_path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the next one, when none of its processes lives any more."""
    monkeypatch.delenv("WEBSOCK_BACKPLANE", raising=False)
    monkeypatch.setattr("tempfile.tempdir", short_path)
    server = served("tests.pubsub.hub_app:handler", "--workers", "2", TMPDIR=short_path)
    server.says("server has 2 workers")
    (folder,) = os.listdir(short_path)
    with server.connect() as ws:
        ws.send(json.dumps({"do": "publish", "topic": "t", "data": "x", "uid": None}))
        assert json.loads(ws.recv(timeout=PATIENCE))["spread"]
        one, other = server.workers()
        os.kill(one, signal.SIGSTOP)
        server.tell(signal.SIGKILL)
        server.program.process.wait(PATIENCE)
        os.kill(other, signal.SIGKILL)
        with meeting_place(LOGGER):
            assert len(os.listdir(short_path)) == 2  # a worker lives, if only just
        left = {*os.listdir(f"{short_path}/{folder}")}
        assert left > {"hub.sock", "hub.sock.lock", "hub.sock.log"}
        os.kill(one, signal.SIGKILL)
        ended(ws)

    def tidied() -> bool:
        with meeting_place(LOGGER) as place:
            assert place is not None
            return os.listdir(short_path) == [Path(place).parent.name]

    until(tidied, "the end of the folder")
    assert os.listdir(short_path) == []


def test_what_is_not_ours_stays(short_path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WEBSOCK_BACKPLANE", raising=False)
    monkeypatch.setattr("tempfile.tempdir", short_path)
    top = Path(short_path)

    def make(name: str, *files: str) -> None:
        (top / name).mkdir()
        for file in files:
            (top / name / file).touch()

    def start() -> list[str]:
        with meeting_place(LOGGER):
            pass
        return sorted(str(path.relative_to(top)) for path in top.rglob("*"))

    make("else", "alive", "hub.sock")
    (top / "websock-hub-link").symlink_to(top / "else")
    (top / "websock-hub-file").touch()
    make("websock-hub-no-lock", "hub.sock")
    make("websock-new-unlocked", "alive")
    (top / "websock-hub-linked").mkdir()
    (top / "websock-hub-linked" / "alive").symlink_to(top / "else" / "alive")
    before = sorted(str(path.relative_to(top)) for path in top.rglob("*"))
    make("websock-hub-stale", "alive", "hub.sock.log.new")
    make("websock-hub-more", "alive", "hub.sock", "hub.sock.mine")
    us = os.geteuid()
    with monkeypatch.context() as patch:
        patch.setattr(os, "geteuid", lambda: us + 1)
        assert len(start()) == len(before) + 7
    assert start() == sorted([*before, "websock-hub-more", "websock-hub-more/hub.sock.mine"])
