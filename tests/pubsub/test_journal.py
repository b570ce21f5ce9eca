"""What a broker writes down: whole entries, in one file, or nothing."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

import pytest

import websock.pubsub.journal
from websock.pubsub.broker import Broker
from websock.pubsub.journal import Journal
from websock.pubsub.wire import frame

from ..sockets import Logs

if sys.platform == "win32":
    pytest.skip("no Unix sockets", allow_module_level=True)


def test_what_was_written_is_read(tmp_path: Path) -> None:
    path = str(tmp_path / "log")
    journal = Journal(path)
    assert journal.read() is None
    journal.begin([b"one", b"two"])
    journal.add(b"three\nmore")
    assert Journal(path).read() == [b"one", b"two", b"three\nmore"]
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    journal.close()
    journal.add(b"four")  # nothing is written any more
    assert Journal(path).read() == [b"one", b"two", b"three\nmore"]


def test_an_entry_that_was_cut_off_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"one\n\ntw")
    assert Journal(str(path)).read() == [b"one"]


def test_it_is_begun_anew_when_it_has_grown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(websock.pubsub.journal, "LEAST", 10)
    journal = Journal(str(tmp_path / "log"))
    journal.begin([])
    journal.add(b"x" * 10)
    assert not journal.full
    journal.add(b"x")
    assert journal.full
    journal.begin([b"x" * 100])
    assert not journal.full
    for _ in range(100):
        assert not journal.full
        journal.add(b"x")
    journal.add(b"x")
    assert journal.full
    journal.close()


def test_what_cannot_be_written_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, logs: Logs) -> None:
    journal = Journal(str(tmp_path / "log"))
    journal.begin([b"one"])
    monkeypatch.setattr(os, "write", lambda number, data: len(data) - 1)  # the disk is full
    journal.add(b"two")
    monkeypatch.undo()
    assert os.listdir(tmp_path) == []
    assert "journal cannot be written" in logs.loud()[0].getMessage()
    journal.add(b"three")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "entry",
    [
        b"",
        b"x",
        b"[]",
        b'["add"]',
        b'["add","room",1,[1,1,1],"x",null]',
        frame(["topic", "room", 1, [1, 1, 1], [], []]),
    ],
)
def test_no_journal(entry: bytes) -> None:
    broker = Broker()
    with pytest.raises(ValueError):
        broker.remember([entry])
    assert list(broker.kept()) == []
