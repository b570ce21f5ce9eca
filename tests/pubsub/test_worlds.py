"""Whatever befalls hubs, clients and the backplane: each message once, in order, or it is told that some are lost."""

from __future__ import annotations

import faulthandler
import math
import os
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from websock.pubsub import History
from websock.pubsub.history import LOG

from .worlds import Step, run

NUMBER = st.integers(0, 63)
# Lists that Hypothesis makes are short: it shrinks what fails. Long ones are made of a seed.
STEPS = st.lists(st.tuples(NUMBER, NUMBER, NUMBER), max_size=120)
EXAMPLES = int(os.environ.get("WEBSOCK_WORLDS", "150"))


@pytest.fixture(autouse=True)
def time_enough(nothing_left_behind: None) -> None:
    """Who asks for many is not hung."""
    if EXAMPLES > 1000:
        faulthandler.cancel_dump_traceback_later()


@settings(max_examples=EXAMPLES)
@given(STEPS)
def test_each_message_once(steps: list[Step]) -> None:
    world = run(History(count=10_000), steps)
    if world.quiet and world.born == len(world.hubs):
        assert [client.told for client in world.clients] == [0, 0, 0]


@settings(max_examples=EXAMPLES)
@given(STEPS)
def test_each_message_once_or_told(steps: list[Step]) -> None:
    run(History(count=3), steps)


@pytest.mark.parametrize("count", range(6))
def test_what_a_new_log_has_cut_is_missing_to_who_comes_from_the_lost_one(count: int) -> None:
    # A client has seen the log that is lost; another hub fills the new one, which is cut, before its own hub is back.
    run(
        History(count),
        [
            (9, 7, 57), (1, 52, 43), (1, 27, 40), (14, 6, 62), (14, 59, 37), (12, 28, 45), (0, 19, 44), (4, 58, 17),
            (6, 4, 44), (11, 22, 1), (1, 49, 13), (4, 16, 21),
        ],
    )  # fmt: skip


@settings(max_examples=EXAMPLES)
@given(STEPS, st.sampled_from([0, LOG + 2000, 2 * LOG + 5000]))
def test_each_message_once_or_told_beside_other_topics(steps: list[Step], octets: int) -> None:
    run(History(count=10_000), steps, octets)


@pytest.mark.parametrize(
    ("count", "octets"), [(3, math.inf), (20, math.inf), (10_000, math.inf), (20, LOG + 3000), (10_000, 2 * LOG + 6000)]
)
def test_long_lives(count: int, octets: float) -> None:
    for seed in range(EXAMPLES):
        chance = random.Random(f"{count} {seed}")
        usual = [chance.randrange(16) for _ in range(40)]  # more of some than of others, in each life
        steps = [
            (chance.choice(usual if chance.random() < 0.5 else range(16)), chance.randrange(64), chance.randrange(64))
            for _ in range(chance.randrange(10, 250))
        ]
        try:
            run(History(count), steps, octets)
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {error}") from error
