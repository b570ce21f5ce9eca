"""What a broker keeps, for how long, and what the next one gets of it: time is a number, and nobody is connected."""

from __future__ import annotations

import json
from typing import Any

import pytest

import websock.pubsub.broker
from websock.pubsub import History, Record
from websock.pubsub.broker import KEPT, SWEEP, Broker
from websock.pubsub.history import LOG, weight
from websock.pubsub.wire import unframe, written

from .worlds import balanced

START = 1_000_000_000_000
DAY = 86400.0


class Client:
    """It keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[list[Any]] = []


class Driver:
    """A broker, and a client that asks it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **options: Any) -> None:
        self.ms = START
        self.broker = Broker(lambda: self.ms, **options)
        self.client: Any = Client()

        def broadcast(clients: list[Client], message: bytes) -> None:
            for one in clients:
                one.told.append(json.loads(message.split(b"\n")[0]))

        monkeypatch.setattr(websock.pubsub.broker, "broadcast", broadcast)

    def open(self, topic: str, history: History) -> None:
        self.broker._open(self.client, 1, topic, written(history), "0-0")

    def leave(self, topic: str) -> None:
        self.broker._leave(self.client, topic, casts_only=False)

    def add(self, topic: str, n: int, history: History, uid: str | None = None, size: int = 1) -> bool:
        """Whether it was there already."""
        self.ms += 1
        one = Record(topic, "w", n, "x" * size, uid=uid)
        self.broker._add(self.client, 1, topic, written(history), "0-0", None, records=[one])
        found: bool = self.client.told[-1][2][0][1]
        return found

    def sweep_till(self, seconds: float) -> None:
        while (self.ms - START) / 1000 < seconds:
            self.ms = min(self.ms + int(SWEEP * 1000), START + int(seconds * 1000))
            self.broker.sweep()

    @property
    def topics(self) -> list[str]:
        return list(self.broker._topics)

    @property
    def kept(self) -> dict[str, list[int]]:
        """The numbers of the records of each topic that has some."""
        logs = {name: one.ledger.log for name, one in self.broker._topics.items() if one.ledger is not None}
        balanced(self.broker._histories, *logs.values())
        return {name: [record.n for _, record in log] for name, log in logs.items() if len(log)}


@pytest.mark.parametrize(
    ("history", "records", "till", "gone"),
    [
        (History(seconds=DAY), 0, KEPT, KEPT + SWEEP),  # a room that was entered and left empty
        (History(seconds=DAY), 1, DAY + KEPT - SWEEP, DAY + KEPT + 2 * SWEEP),
        (History(seconds=10), 1, KEPT, 2 * KEPT + SWEEP),
        (History(count=0), 1, KEPT, 2 * KEPT + SWEEP),
    ],
)
@pytest.mark.parametrize("uid", [None, "u"])
def test_what_nobody_follows_is_forgotten(
    monkeypatch: pytest.MonkeyPatch, history: History, records: int, till: float, gone: float, uid: str | None
) -> None:
    driver = Driver(monkeypatch)
    driver.open("room", history)
    for n in range(records):
        driver.add("room", n + 1, history, uid)
    driver.leave("room")
    driver.sweep_till(till)
    assert driver.topics == ["room"]
    driver.sweep_till(gone)
    assert driver.topics == []
    assert driver.kept == {}


def test_what_was_added_is_refused_as_long_as_somebody_may_repeat_it(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = Driver(monkeypatch)
    assert not driver.add("room", 1, History(seconds=1))
    driver.sweep_till(KEPT - SWEEP)
    assert driver.kept == {}
    assert driver.add("room", 1, History(seconds=1))


def test_what_is_followed_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = Driver(monkeypatch)
    driver.open("room", History(seconds=1))
    driver.sweep_till(5 * KEPT)
    assert driver.topics == ["room"]


def test_all_logs_together_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    one = weight(Record("a", "w", 1, "x"))
    driver = Driver(monkeypatch, history_octets=2 * LOG + 4 * one)
    for n in (1, 2):
        driver.add("a", n, History())
        driver.add("b", n, History())
    assert driver.kept == {"a": [1, 2], "b": [1, 2]}
    driver.open("a", History())  # is to use it
    driver.add("b", 3, History())
    assert driver.kept == {"a": [2], "b": [1, 2, 3]}
    ledger = driver.broker._topics["a"].ledger
    assert ledger is not None and not ledger.whole
    assert ledger.log.floor.ms == START + 1  # who comes from before that is told so


def test_the_next_broker_gets_what_fits_and_knows_what_was_used_last(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = Driver(monkeypatch)
    for name, size in (("first", 10), ("second", 10), ("large", 10_000), ("last", 10)):
        driver.add(name, 1, History(), size=size)
    monkeypatch.setattr(websock.pubsub.broker, "HANDED", 1000)
    handed = list(driver.broker.kept())
    assert [unframe(one)[0][1] for one in handed] == ["first", "second", "last"]
    one = weight(Record("second", "w", 1, "x" * 10))
    after = Driver(monkeypatch, history_octets=2 * (LOG + one))
    after.broker.remember(handed)
    assert after.kept == {"second": [1], "last": [1]}
    after.add("more", 1, History())
    assert after.kept == {"last": [1], "more": [1]}


def test_a_journal_that_breaks_off_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = Driver(monkeypatch)
    driver.add("room", 1, History())
    after = Driver(monkeypatch)
    for entries in ([*driver.broker.kept(), b"x"], [*driver.broker.kept()] * 2):
        with pytest.raises(ValueError):
            after.broker.remember(entries)
        assert after.topics == [] and after.kept == {}
        assert after.broker._histories.taken == 0
