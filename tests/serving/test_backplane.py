"""Where the hubs of pre-forked workers meet: a private folder that lives as long as their supervisor."""

from __future__ import annotations

import os
import signal
import stat
import sys
from typing import Any

import pytest

from websock.serving.backplane import meeting_place

from ..programs import PATIENCE
from .conftest import Serve, Served, until

if sys.platform == "win32":
    pytest.skip("no fork", allow_module_level=True)


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
    with meeting_place() as place:
        assert place is not None
        assert len(os.fsencode(place)) < 104
        assert os.path.isdir(os.path.dirname(place.partition(":")[2]))
    assert os.listdir(long) == []
