"""Histograms, the lag of a loop and the state of a backplane: numbers in, numbers out."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from websock.metrics import Backplane, Metrics
from websock.metrics.lag import INTERVAL, LoopLag
from websock.metrics.recording import _spelled
from websock.metrics.snapshots import Histogram

BOUNDS = (0.5, 1.0, 4.0)


@given(st.lists(st.one_of(st.floats(0, 10), st.sampled_from(BOUNDS))))
def test_each_value_is_in_one_class(values: list[float]) -> None:
    found = Histogram(BOUNDS, values).distribution()
    edges = [-math.inf, *BOUNDS, math.inf]
    assert list(found.counts) == [sum(low < one <= high for one in values) for low, high in itertools.pairwise(edges)]
    assert found.count == len(values)
    assert found.sum == pytest.approx(sum(values))
    assert found.most == max(values, default=0)


@given(st.lists(st.floats(0, 10), min_size=1), st.floats(0.01, 1))
def test_a_quantile_is_not_below_what_it_says(values: list[float], part: float) -> None:
    found = Histogram(BOUNDS, values).distribution().quantile(part)
    assert found is not None
    assert sum(one <= found for one in values) >= part * len(values) - 1e-9
    assert found <= max(values)


def test_without_values_there_is_no_quantile() -> None:
    assert Histogram(BOUNDS).distribution().quantile(0.5) is None


class Loop:
    """A loop that is called by hand."""

    def __init__(self) -> None:
        self.now = 100.0
        self.calls: list[tuple[float, Callable[[], None]]] = []

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, call: Callable[[], None]) -> Any:
        entry = when, call
        self.calls.append(entry)

        class Handle:
            def cancel(_) -> None:  # noqa: N805
                self.calls.remove(entry)

        return Handle()

    def run(self, late: float) -> None:
        """Call what is due next, late."""
        when, call = self.calls.pop(0)
        self.now = when + late
        call()


def test_lag_is_how_late_a_timer_is_called() -> None:
    seen: list[float] = []
    loop: Any = Loop()
    lag = LoopLag(loop, seen.append)
    for late in (0.0, 0.25, 3.0, 0.0):
        loop.run(late)
    assert seen == pytest.approx([0.0, 0.25, 3.0, 0.0])
    assert [when for when, _ in loop.calls] == [loop.now + INTERVAL]
    lag.stop()
    assert loop.calls == []


@dataclasses.dataclass
class HubState:
    backplane: str = "down"
    since: float = 12.5
    pending: int = 3
    topics: int = 2
    members: int = 40
    not_spread: int = 1


@dataclasses.dataclass
class Hub:
    state: HubState = dataclasses.field(default_factory=HubState)


def test_a_hub_tells_of_its_backplane() -> None:
    metrics = Metrics()
    assert metrics.snapshot().backplane is None
    metrics.hub = Hub()
    assert metrics.snapshot().backplane == Backplane("down", 12.5, 3, 2, 40, 1)
    assert Metrics(hub=Hub(HubState("up"))).snapshot().backplane == Backplane("up", 12.5, 3, 2, 40, 1)


@pytest.mark.parametrize(
    ("address", "text"),
    [
        (("192.0.2.1", 80), "192.0.2.1:80"),
        (("2001:db8::1", 80, 0, 0), "[2001:db8::1]:80"),
        ("/run/a\nb", "/run/a\N{REPLACEMENT CHARACTER}b"),
        ("", "a Unix socket"),
        (None, "a Unix socket"),
        (b"", "a Unix socket"),
    ],
)
def test_addresses_are_spelled(address: Any, text: str) -> None:
    assert _spelled(address) == text
