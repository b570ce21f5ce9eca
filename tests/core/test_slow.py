"""The policies for peers that do not keep up with a broadcast, without any connection."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from websock.core.broadcast import Broadcast, to_all
from websock.core.slow import DEFAULT, Backlog, SlowConsumers, SlowPolicy, checked_policy


@dataclasses.dataclass(frozen=True)
class Item:
    number: int
    size: int


@pytest.mark.parametrize("policy", list(SlowPolicy))
def test_a_policy_may_be_given_by_its_name(policy: SlowPolicy) -> None:
    assert SlowConsumers(policy.value).policy is policy
    assert checked_policy(policy.value) == checked_policy(policy) == SlowConsumers(policy)


def test_the_default() -> None:
    assert checked_policy(None) is DEFAULT
    assert DEFAULT.policy is SlowPolicy.CLOSE
    assert checked_policy(SlowConsumers("wait", 5)) == SlowConsumers(SlowPolicy.WAIT, 5)


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"policy": "drop"}, ValueError, "policy of slow consumers is one of 'wait', 'close', .*, not 'drop'"),
        ({"policy": 3}, ValueError, "not 3"),
        ({"limit": -1}, ValueError, "limit"),
        ({"limit": 1.5}, TypeError, "limit"),
        ({"limit": True}, TypeError, "limit"),
        ({"on_drop": "print"}, TypeError, "on_drop"),
    ],
)
def test_wrong_settings(arguments: dict[str, Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        SlowConsumers(**arguments)


def test_something_else_as_a_policy() -> None:
    with pytest.raises(TypeError, match="slow_consumers"):
        checked_policy(5)  # type: ignore[arg-type]  # which is what is tested


ITEMS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 50)))


@given(ITEMS, st.integers(0, 120))
def test_oldest_go_first_and_nothing_is_lost_silently(items: list[tuple[int, int]], limit: int) -> None:
    backlog: Backlog[Item] = Backlog()
    dropped: list[Item] = []
    added = [Item(number, size) for number, (_, size) in enumerate(items)]
    for item in added:
        dropped += backlog.add(item, None, SlowPolicy.DROP_OLDEST, limit)
        assert backlog.octets <= limit
    kept = [backlog.take() for _ in range(len(backlog))]
    assert backlog.octets == 0
    assert dropped + kept == added
    assert sum(item.size for item in kept) <= limit


@given(ITEMS)
def test_the_latest_of_each_key(items: list[tuple[int, int]]) -> None:
    backlog: Backlog[Item] = Backlog()
    latest: dict[int, Item] = {}
    dropped: list[Item] = []
    for number, (key, size) in enumerate(items):
        item = Item(number, size)
        dropped += backlog.add(item, key, SlowPolicy.KEEP_LATEST, 10**9)
        latest[key] = item
        assert backlog.octets == sum(one.size for one in latest.values())
    kept = [backlog.take() for _ in range(len(backlog))]
    assert kept == sorted(latest.values(), key=lambda item: item.number)
    assert len(dropped) + len(kept) == len(items)


def test_the_latest_alone_may_be_too_large() -> None:
    backlog: Backlog[Item] = Backlog()
    old, new = Item(0, 5), Item(1, 50)
    assert backlog.add(old, "a", SlowPolicy.KEEP_LATEST, 10) == []
    assert backlog.add(new, "a", SlowPolicy.KEEP_LATEST, 10) == [old, new]
    assert len(backlog) == backlog.octets == 0


def test_forgetting() -> None:
    backlog: Backlog[Item] = Backlog()
    backlog.add(Item(0, 5), None, SlowPolicy.DROP_OLDEST, 10)
    assert backlog.clear() == 1
    assert (len(backlog), backlog.octets) == (0, 0)


def test_a_key_that_cannot_be_hashed_is_refused_at_once() -> None:
    with pytest.raises(TypeError, match="unhashable"):
        Broadcast("x", key=["a", "list"])  # type: ignore[arg-type]


def test_a_callback_may_take_connections_off_the_list() -> None:
    connections: set[Any] = {object(), object(), object()}
    had: list[Any] = []

    def deliver(connection: Any) -> None:
        had.append(connection)
        connections.discard(connection)

    to_all(connections, deliver, raise_exceptions=True)
    assert len(had) == 3
