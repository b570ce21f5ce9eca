"""Logs are bounded, and say from where on they are complete; a ledger takes each record once."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from websock.pubsub import Added, History, Position, Record
from websock.pubsub.history import LOG, Histories, Log, weight
from websock.pubsub.ledger import Ledger
from websock.pubsub.positions import ZERO

from .worlds import balanced


def record(n: int, origin: str = "w", uid: str | None = None, size: int = 1) -> Record:
    return Record("t", origin, n, "x" * size, uid=uid)


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"count": -1}, ValueError), ({"count": 1.5}, TypeError), ({"count": True}, TypeError),
        ({"octets": None}, TypeError), ({"octets": -1}, ValueError), ({"seconds": "1"}, TypeError),
        ({"seconds": float("nan")}, ValueError), ({"seconds": float("inf")}, ValueError),
    ],
)  # fmt: skip
def test_a_history_is_numbers(wrong: dict[str, Any], error: type[Exception]) -> None:
    (name,) = wrong
    with pytest.raises(error, match=f"{name} of a history"):
        History(**wrong)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 50))), st.integers(0, 5), st.integers(0, 300))
def test_a_log_is_bounded_and_knows_its_floor(steps: list[tuple[int, int]], count: int, octets: int) -> None:
    log, now = Log(Position(1, 0)), 1
    history = History(count, octets, 0.005)
    everything: list[tuple[Position, Record]] = []
    for n, (passed, size) in enumerate(steps, 1):
        now += passed
        entry = log.last.following(now), record(n, size=size)
        log.append(*entry)
        log.trim(history, now)
        everything.append(entry)
        kept = list(log)
        assert len(kept) <= count
        assert log.octets == sum(one.octets for _, one in kept) <= octets
        assert all(position.ms >= now - 5 for position, _ in kept)
        assert kept == [one for one in everything if one[0] > log.floor]
        assert log.last == entry[0]
        for position, _ in everything:
            if position >= log.floor:
                assert log.after(position) == [one for one in everything if one[0] > position]
        assert log.newer(2) == kept[-2:]


def test_a_log_goes_forward() -> None:
    log = Log(Position(5, 0))
    log.append(Position(5, 1), record(1))
    with pytest.raises(ValueError, match="5-1 is not behind 5-1"):
        log.append(Position(5, 1), record(2))
    assert log.drop_last()[1] == record(1)
    assert (len(log), log.octets, log.last, log.newest) == (0, 0, (5, 1), None)


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 3), st.integers(0, 40))), st.integers(0, 40_000))
def test_all_logs_together_are_bounded(steps: list[tuple[int, int, int]], octets: int) -> None:
    histories = Histories(octets)
    cut: list[tuple[Position, Record]] = []
    logs = [Log(Position(1, 0), None, histories, lambda *one: cut.append(one)) for _ in range(4)]
    model: dict[int, list[tuple[Position, Record]]] = {number: [] for number in range(4)}  # used last: last
    for n, (what, number, size) in enumerate(steps, 1):
        log, mine = logs[number], model[number]
        wanted: list[tuple[Position, Record]] = []
        if what in (0, 1, 2) and mine:  # what is empty has nothing to lose
            model[number] = model.pop(number)
        match what:
            case 0:
                log.used()
            case 1 if mine:
                assert log.drop_last() == mine.pop()
            case 2:
                log.begin(log.last)
                mine.clear()
            case 3:
                log.trim(History(count=size // 10), 0)
                while len(mine) > size // 10:
                    wanted.append(mine.pop(0))
            case _ if what > 3:
                model[number] = model.pop(number)
                mine.append((log.last.following(n), record(n, size=10 * size)))
                log.append(*mine[-1])
                while sum(LOG * bool(one) + sum(weight(r) for _, r in one) for one in model.values()) > octets:
                    wanted.append(next(one for one in model.values() if one).pop(0))
        assert [list(one) for one in logs] == [model[one] for one in range(4)]
        assert cut == wanted
        cut.clear()
        balanced(histories, *logs)
        for one, entries in zip(logs, (model[number] for number in range(4)), strict=True):
            assert not entries or one.floor < entries[0][0]


def test_the_oldest_of_what_was_used_least_recently_is_cut() -> None:
    one = weight(record(1))
    histories = Histories(2 * LOG + 4 * one)
    first, second = (Log(histories=histories) for _ in range(2))
    for n in (1, 2):
        first.append(Position(n, 0), record(n))
        second.append(Position(n, 0), record(n))
    first.used()
    first.append(Position(3, 0), record(3))
    assert [len(first), len(second)] == [3, 1]
    assert (second.floor, first.floor) == ((1, 0), ZERO)


DATA: dict[str, Callable[[int], Any]] = {
    "short": lambda n: f"m{n}",
    "long": lambda n: "x" * 2000 + str(n),
    "one wide character": lambda n: "\U0001f600" + "x" * 2000 + str(n),
    "octets": lambda n: n.to_bytes(300, "big"),
    "an object": lambda n: {"text": f"m{n}", "to": f"n{n}"},
    "empty lists": lambda n: [[] for _ in range(300)],
    "lists in lists": lambda n: [[[[]]] for _ in range(100)],
    "objects in objects": lambda n: [{"a": {"a": {}}} for _ in range(100)],
    "numbers": lambda n: [n + one / 3 for one in range(300)],
}


@pytest.mark.parametrize("data", DATA.values(), ids=DATA)
def test_a_record_weighs_what_it_takes(data: Callable[[int], Any]) -> None:
    def come(n: int) -> Record:
        sent = Record(f"room/{n % 7}", "abcdefgh", n, data(n), f"ann{n}", n + 0.5, f"uid-{n:010}")
        return Record.from_bytes(sent.to_bytes())

    histories = Histories()
    log = Log(histories=histories)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for n in range(1, 101):
            log.append(Position(10**12, n), come(n))
        taken = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert 0.5 * histories.taken < taken < 1.3 * histories.taken


LONG = History()


def at(ms: int, seq: int) -> Added:
    return Added(Position(ms, seq), False)


def repeated(ms: int, seq: int) -> Added:
    return Added(Position(ms, seq), True)


def test_a_ledger_takes_each_record_once() -> None:
    ledger = Ledger(100)
    assert ledger.opened(ZERO) == ([], (100, 0), (100, 0), (100, 0))
    first, second = record(1), record(2)
    assert ledger.add([first, second], LONG, ZERO, 100) == [
        at(100, 1),
        at(100, 2),
    ]
    assert ledger.add([first, second, record(3)], LONG, ZERO, 105) == [
        repeated(100, 1), repeated(100, 2), at(105, 0),
    ]  # fmt: skip
    assert ledger.add([record(5), record(4)], LONG, ZERO, 90) == [at(105, 1), Added(None, True)]
    assert ledger.add([record(1, "v")], LONG, Position(400, 7), 110) == [at(400, 8)]
    assert [position.ms for position, _ in ledger.opened(Position(100, 1)).entries] == [100, 105, 105, 400]


def test_a_uid_is_taken_once_in_ten_minutes() -> None:
    ledger = Ledger(1000)
    (first,) = ledger.add([record(1, "w", "u")], LONG, ZERO, 1000)
    assert ledger.add([record(1, "v", "u")], LONG, ZERO, 2000) == [Added(first.position, True)]
    assert ledger.add([record(1, "v", "u")], LONG, ZERO, 2000) == [Added(first.position, True)]
    assert ledger.add([record(2, "v", "u")], LONG, ZERO, 602_000) == [at(602_000, 0)]


def test_what_a_ledger_remembers_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Ledger, "UIDS", 10)
    monkeypatch.setattr(Ledger, "ORIGINS", 5)
    ledger = Ledger(0)
    for n in range(1, 30):
        ledger.add([record(n, f"o{n % 12}", f"u{n}")], History(count=3), ZERO, 0)
    ledger.add([record(30)], LONG, ZERO, 0)
    assert len(ledger._uids) <= 10
    assert len(ledger._numbers) <= 5
    assert len(ledger.log) == 4


def test_a_log_that_is_added_anew_is_as_complete_as_it_was() -> None:
    ledger = Ledger(100)
    ledger.add([record(1), record(2)], LONG, Position(50, 0), 100, Position(7, 0))
    assert ledger.log.floor == (7, 0)
    ledger.add([record(1, "v")], LONG, Position(50, 0), 100, Position(3, 0))  # it cannot know what was refused
    assert ledger.log.floor == (7, 0)


@pytest.mark.parametrize("spoilt", ["refused", "cut", "cut later", "cut for others", "cut now"])
def test_else_it_begins_where_it_was_made(spoilt: str) -> None:
    histories = Histories()
    ledger = Ledger(100, ZERO, histories)
    if spoilt != "cut now":
        ledger.add([record(1)], History(count=0) if spoilt == "cut" else LONG, ZERO, 100)
    if spoilt == "cut later":
        ledger.log.trim(History(count=0), 100)
    if spoilt == "cut for others":
        histories.octets = LOG + weight(record(1))
        Log(histories=histories).append(Position(1, 0), record(1))
        histories.octets *= 10
    assert len(ledger.log) == (spoilt == "refused")
    records = [record(n) for n in range(2 if spoilt.startswith("cut") and spoilt != "cut now" else 1, 5)]
    history = History(count=2) if spoilt == "cut now" else LONG
    ledger.add(records, history, ZERO, 100, Position(7, 0))
    assert ledger.log.floor >= (100, 0)
