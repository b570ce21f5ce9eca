"""Positions, cursors and records as text and bytes: strictly, since cursors come from strangers."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from websock.pubsub import Cursor, Position, Record
from websock.pubsub.positions import MAX_EXTRAS, ZERO, Span

NUMBERS = st.integers(0, 2**63 - 1)
POSITIONS = st.builds(Position, NUMBERS, NUMBERS)
ORIGINS = st.text("abcdefghijklmnopqrstuvwxyz234567", min_size=1, max_size=8)
EXTRAS = st.dictionaries(ORIGINS, st.integers(1, 2**63 - 1), max_size=MAX_EXTRAS)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)
RECORDS = st.builds(
    Record,
    topic=st.text(),
    origin=ORIGINS,
    n=st.integers(1, 2**63 - 1),
    data=JSON | st.binary(),
    by=st.none() | st.text(),
    at=st.floats(0, 2**40),
    uid=st.none() | st.text(),
    kind=st.sampled_from(["message", "other"]),
    was=st.lists(st.builds(Span, POSITIONS, POSITIONS), max_size=3).map(tuple),
)


@given(POSITIONS, EXTRAS)
def test_what_is_written_is_read(position: Position, extras: dict[str, int]) -> None:
    assert Position.parse(str(position)) == position
    cursor = Cursor(position, extras)
    if len(str(cursor)) <= 512:
        assert Cursor.parse(str(cursor)) == cursor


@given(RECORDS)
def test_a_record_goes_as_bytes(record: Record) -> None:
    raw = record.to_bytes()
    again = Record.from_bytes(raw)
    assert again == record
    assert again.to_bytes() == raw
    assert record.octets == len(raw)


@pytest.mark.parametrize(
    "text",
    [
        "", "1", "1-", "-1", "1-2-3", "01-0", "1-00", "+1-1", "1-1 ", " 1-1", "1-1\n", "1--1", "1-1+", "1-1+a",
        "1-1+a.", "1-1+a.0", "1-1+a.01", "1-1+a.1,", "1-1+a.1,a.2", "1-1+A.1", "1-1+a.1+b.1", "1-1+.1", "١-0",
        "9223372036854775808-0", "0-9223372036854775808", "1-1+a.9223372036854775808", "99999999999999999999-0",
        "1-1+" + ",".join(f"a{i}.1" for i in range(17)), "1-1+" + "a" * 600 + ".1", "x" * 100_000, "$", "*", "-", "+",
    ],
)  # fmt: skip
def test_made_up_cursors_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".{5}") as caught:
        Cursor.parse(text)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("value", [None, 1, b"1-1", ["1-1"], {}])
def test_a_cursor_is_text(value: Any) -> None:
    with pytest.raises(ValueError, match="a text of"):
        Cursor.parse(value)


@given(st.text() | st.from_regex(r"\d{1,3}-\d{1,3}(\+[ab]\.\d{1,2}(,[ab]\.\d{1,2})?)?", fullmatch=True))
def test_what_is_read_was_written(text: str) -> None:
    try:
        cursor = Cursor.parse(text)
    except ValueError:
        return
    assert str(cursor) == text


@pytest.mark.parametrize(
    "raw",
    [
        b"", b"null", b"[]", b"{}", b'"x"', b"{", b"\xff", b"[" * 100_000,
        *(
            json.dumps(dict[str, Any](t="a", o="w", n=1, a=0, d=1) | wrong).encode()
            for wrong in list[dict[str, Any]]([
                {"t": 1}, {"o": "W"}, {"o": None}, {"n": 0}, {"n": True}, {"n": "1"}, {"n": 2**63}, {"a": "x"},
                {"b": 1}, {"u": []}, {"k": 1}, {"w": 1}, {"w": [1]}, {"w": [["1-1"]]}, {"w": [["1", "2"]]}, {"x": "?"},
                {"x": 1}, {"a": None},
            ])
        ),
    ],
)  # fmt: skip
def test_what_is_no_record_is_refused(raw: bytes) -> None:
    with pytest.raises(ValueError):
        Record.from_bytes(raw)


@pytest.mark.parametrize("data", [float("nan"), {1, 2}, object(), {"a": b"x"}, [float("inf")]])
def test_data_is_for_json(data: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        Record("a", "w", 1, data).to_bytes()


def test_data_too_deep_is_a_wrong_value() -> None:
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(ValueError, match="too deep"):
        Record("a", "w", 1, deep).to_bytes()
    while deep:  # freed step by step
        deep = deep[0]


@pytest.mark.parametrize(
    ("last", "now", "following"),
    [((5, 3), 4, (5, 4)), ((5, 3), 5, (5, 4)), ((5, 3), 6, (6, 0)), ((0, 0), 0, (0, 1))],
)
def test_positions_rise(last: tuple[int, int], now: int, following: tuple[int, int]) -> None:
    assert Position(*last).following(now) == following
    before = Position(*following).preceding
    assert before < following
    assert before.following(before.ms) >= following or before.seq == 2**63 - 1


@pytest.mark.parametrize(
    ("cursor", "position", "was", "seen"),
    [
        ("5-0", 5, [], True),
        ("5-0", 6, [], False),
        ("5-0+w.7", 6, [], True),
        ("5-0+w.6", 6, [], False),
        ("5-0+v.9", 6, [], False),
        ("5-0", 9, [(5, 5)], True),  # seen where it was first
        ("5-0", 9, [(6, 7)], False),
        ("8-0", 9, [(6, 7)], False),  # a place in the log that came after the loss says nothing
        ("8-0", 9, [(2, 3), (6, 8)], True),
        ("9-0", 9, [(6, 7)], True),
    ],
)
def test_what_a_cursor_covers(cursor: str, position: int, was: list[tuple[int, int]], seen: bool) -> None:
    spans = tuple(Span(Position(one, 0), Position(till, 0)) for one, till in was)
    record = Record("a", "w", 7, None, was=spans)
    assert Cursor.parse(cursor).covers(Position(position, 0), record) is seen


def test_a_record_remembers_where_it_was() -> None:
    record = Record("a", "w", 1, "x")
    record.to_bytes()
    for number in range(1, 7):
        record = record.lost(Position(number, 0), Position(number, 5))
    assert [one.position.ms for one in record.was] == [3, 4, 5, 6]
    assert Record.from_bytes(record.to_bytes()) == record
    assert record.lost(Position(6, 0), Position(9, 0)).was[-1] == ((6, 0), (9, 0))
    assert len(record.lost(Position(6, 0), Position(9, 0)).was) == 4


def test_a_cursor_names_the_last_origins() -> None:
    cursor = Cursor(ZERO, {f"o{number}": number for number in range(1, 21)})
    assert list(Cursor.parse(str(cursor)).extras) == [f"o{number}" for number in range(5, 21)]
