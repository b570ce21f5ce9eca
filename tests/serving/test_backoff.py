"""When the dead are replaced: numbers in, numbers out."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from websock.serving.backoff import FIRST, LONGEST, STEADY, BackOff


def test_one_that_has_lived_is_replaced_at_once() -> None:
    assert [BackOff().died(STEADY), BackOff().died(1e9)] == [0, 0]


def test_a_first_quick_death_may_be_chance() -> None:
    assert BackOff().died(0.01) == 0


def test_each_quick_death_doubles_the_wait_up_to_the_longest() -> None:
    back_off = BackOff()
    waits = [back_off.died(0) for _ in range(12)]
    assert waits == [0, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30, 30]


def test_a_long_life_makes_it_begin_again() -> None:
    back_off = BackOff()
    for _ in range(9):
        back_off.died(0)
    assert [back_off.died(STEADY), back_off.died(0)] == [0, FIRST]


@given(st.lists(st.floats(0, 100)))
def test_no_wait_is_longer_than_the_longest(lives: list[float]) -> None:
    back_off = BackOff()
    assert all(0 <= back_off.died(life) <= LONGEST for life in lives)
