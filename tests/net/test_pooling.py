"""The rules of the pool by themselves: no socket, no clock."""

from __future__ import annotations

from typing import Any

import pytest

from websock.net.address import Address
from websock.net.pooling import Key, Rules, Step, Ticket

A, B, C = ((Address.parse(f"tcp://h:{port}"), None) for port in (1, 2, 3))


def rules(size: int = 2, total: int = 3, idle: float | None = 10, age: float | None = None) -> Rules[str]:
    return Rules(size=size, total=total, idle=idle, age=age)


def out(pool: Rules[str], key: Key, name: str, now: float = 0) -> Ticket[str]:
    """A connection that is opened."""
    ticket = pool.ask(key, now)
    assert step(ticket) is Step.OPENING
    assert pool.opened(ticket, name, now)
    return ticket


def step(ticket: Ticket[str]) -> Step:
    """The type checker thinks that it stays what it was."""
    return ticket.step


def empty(pool: Rules[str]) -> bool:
    return (pool._places, pool._taken, pool._lines, pool._idle, pool._idle_count) == ({}, 0, {}, {}, 0)


@pytest.mark.parametrize(
    ("numbers", "error", "word"),
    [
        ({"size": 0}, ValueError, "size"),
        ({"total": 0}, ValueError, "total"),
        ({"size": 1.5}, TypeError, "size"),
        ({"size": True}, TypeError, "size"),
        ({"idle": 0}, ValueError, "idle"),
        ({"age": -1}, ValueError, "age"),
        ({"age": float("nan")}, ValueError, "age"),
        ({"idle": "1"}, TypeError, "idle is a number of seconds above 0"),
        ({"age": True}, TypeError, "age is a number of seconds above 0"),
    ],
)
def test_numbers(numbers: dict[str, Any], error: type[Exception], word: str) -> None:
    with pytest.raises(error, match=word):
        rules(**numbers)


def test_the_one_used_last_is_used_first() -> None:
    pool = rules()
    one, two = out(pool, A, "one"), out(pool, A, "two")
    assert pool.back(two, 1, usable=True) and pool.back(one, 2, usable=True)
    ticket = pool.ask(A, 3)
    assert (ticket.step, ticket.connection()) == (Step.CHECKING, "one")


def test_a_dead_one_is_followed_by_the_next_and_then_by_a_new_one() -> None:
    pool = rules(size=2)
    for ticket in [out(pool, A, "one"), out(pool, A, "two")]:
        pool.back(ticket, 0, usable=True)
    ticket = pool.ask(A, 1)
    assert ticket.connection() == "two"
    pool.dead(ticket)
    assert (ticket.step, ticket.connection()) == (Step.CHECKING, "one")
    pool.dead(ticket)
    assert step(ticket) is Step.OPENING
    assert (pool._places, pool._taken) == ({A: 1}, 1)
    pool.end(ticket)
    assert empty(pool)


def test_a_place_that_a_dead_one_leaves_is_for_who_waits() -> None:
    pool = rules(size=2, total=2)
    for ticket in [out(pool, A, "one"), out(pool, A, "two")]:
        pool.back(ticket, 0, usable=True)
    first, second, third = (pool.ask(A, 1) for _ in range(3))
    assert step(third) is Step.WAITING
    assert second.connection() == "one"
    pool.dead(second)
    assert step(second) is Step.OPENING
    pool.end(second)
    assert step(third) is Step.OPENING
    pool.end(first)
    pool.end(third)
    assert pool.stats().idle == 1  # nobody had looked at that of `first`


@pytest.mark.parametrize("waiting", [A, B])
def test_in_the_order_of_asking(waiting: Key) -> None:
    pool = rules(size=1, total=1)
    ticket = out(pool, A, "one")
    woken: list[int] = []
    line = [pool.ask(waiting, 0, lambda n=n: woken.append(n)) for n in range(3)]  # type: ignore[misc]
    pool.back(ticket, 0, usable=True)
    assert woken == [0]
    for n in range(3):
        assert line[n].step is not Step.WAITING
        pool.end(line[n])
    assert woken == [0, 1, 2]


def test_who_waits_for_his_own_address_is_overtaken() -> None:
    pool = rules(size=1, total=2)
    out(pool, A, "one")
    assert pool.ask(A, 0).step is Step.WAITING
    assert pool.ask(B, 0).step is Step.OPENING


def test_who_waits_longer_gets_the_idle_one_of_another_address() -> None:
    pool = rules(size=1, total=1)
    ticket = out(pool, B, "b")
    first, second = pool.ask(A, 0), pool.ask(B, 0)
    pool.back(ticket, 1, usable=True)
    assert (first.step, first.take_stale(), second.step) == (Step.OPENING, "b", Step.WAITING)
    pool.replaced(first)
    pool.end(first)
    assert step(second) is Step.OPENING
    pool.end(second)
    assert empty(pool)


def test_the_one_idle_longest_makes_room() -> None:
    pool = rules(total=2)
    a, b = out(pool, A, "a"), out(pool, B, "b")
    pool.back(b, 1, usable=True)
    pool.back(a, 2, usable=True)
    ticket = pool.ask(C, 3)
    assert ticket.take_stale() == "b"
    assert pool.stats().evicted == 1


def evicting() -> tuple[Rules[str], Ticket[str]]:
    pool = rules(size=1, total=1)
    pool.back(out(pool, B, "b"), 0, usable=True)
    ticket = pool.ask(A, 1)
    assert step(ticket) is Step.OPENING
    return pool, ticket


def test_what_was_to_make_room_stays_when_nobody_needs_it_any_more() -> None:
    pool, ticket = evicting()
    pool.end(ticket)
    assert (pool.stats().idle, pool._places) == (1, {B: 1})
    again = pool.ask(B, 2)
    assert again.connection() == "b"


def test_what_was_to_make_room_is_gone_when_somebody_took_it() -> None:
    pool, ticket = evicting()
    assert ticket.take_stale() == "b"
    pool.end(ticket)
    assert empty(pool)


def test_what_was_to_make_room_is_closed_with_the_pool() -> None:
    pool, ticket = evicting()
    pool.close()
    pool.end(ticket)
    assert [one.connection() for one in pool.closing] == ["b"]
    pool.end(pool.closing.popleft())
    assert empty(pool)


def test_what_makes_room_counts_for_its_address_until_it_is_closed() -> None:
    pool = rules(size=1, total=2)
    pool.back(out(pool, B, "b"), 0, usable=True)
    c = out(pool, C, "c")
    a = pool.ask(A, 1)
    assert a.take_stale() == "b"
    b = pool.ask(B, 2)
    pool.back(c, 2, usable=False)
    pool.end(c)
    assert step(b) is Step.WAITING  # though there is room in `total`
    pool.replaced(a)
    assert step(b) is Step.OPENING


@pytest.mark.parametrize(("now", "left"), [(9.9, 1), (10.0, 0)])
def test_idle_limit(now: float, left: int) -> None:
    pool = rules(idle=10)
    pool.back(out(pool, A, "a"), 0, usable=True)
    assert pool.deadline == 10
    pool.expire(now)
    assert (pool.stats().idle, pool.stats().closing) == (left, 1 - left)


def test_age_limit() -> None:
    pool = rules(idle=None, age=10)
    one, two = out(pool, A, "one"), out(pool, A, "two", 5)
    assert pool.back(two, 8, usable=True)
    assert pool.deadline == 15.0
    assert not pool.back(one, 10, usable=True)  # too old to be kept
    pool.end(one)
    pool.expire(15)
    assert [ticket.connection() for ticket in pool.closing] == ["two"]
    assert pool.stats().expired == 2
    assert pool.deadline in {None}


def test_an_expired_one_is_not_given_out() -> None:
    pool = rules(size=1, idle=10)
    pool.back(out(pool, A, "a"), 0, usable=True)
    ticket = pool.ask(A, 10)
    assert step(ticket) is Step.WAITING  # until that is closed
    pool.end(pool.closing.popleft())
    assert step(ticket) is Step.OPENING


def test_no_limit_no_deadline() -> None:
    pool = rules(idle=None)
    pool.back(out(pool, A, "a"), 0, usable=True)
    pool.expire(1e9)
    assert (pool.deadline, pool.stats().idle) == (None, 1)


def test_close() -> None:
    pool = rules(size=1)
    woken: list[str] = []
    used = out(pool, A, "a")
    pool.back(out(pool, B, "b"), 0, usable=True)
    opening = pool.ask(C, 0)
    waiting = pool.ask(A, 0, lambda: woken.append("waiting"))
    pool.close()
    pool.close()
    assert (waiting.step, woken) == (Step.REFUSED, ["waiting"])
    assert pool.ask(B, 0).step is Step.REFUSED
    assert [ticket.connection() for ticket in pool.closing] == ["b"]
    assert not pool.opened(opening, "c", 0)
    assert not pool.back(used, 0, usable=True)
    for ticket in [waiting, opening, used, pool.closing.popleft()]:
        pool.end(ticket)
        pool.end(ticket)  # again is nothing
    assert empty(pool)
    stats = pool.stats()
    assert (stats.idle, stats.out, stats.opening, stats.closing, stats.waiting) == (0,) * 5


def test_crowd() -> None:
    pool = rules(size=1)
    out(pool, A, "a")
    pool.ask(A, 0)
    assert pool.crowd(A) == "1 of 1 to that address are out, 1 of 3 in all, and 1 waits"


def test_one_that_was_being_checked_does_not_come_back() -> None:
    """Who was interrupted there has closed it: nobody knows what the check had said to the peer."""
    pool = rules()
    pool.back(out(pool, A, "a"), 0, usable=True)
    ticket = pool.ask(A, 1)
    assert ticket.connection() == "a"
    pool.end(ticket)
    assert empty(pool)


def test_one_that_is_opened_too_late_is_to_be_closed() -> None:
    pool = rules()
    ticket = pool.ask(A, 0)
    pool.close()
    assert not pool.opened(ticket, "a", 0)
    assert (pool.stats().out, pool.stats().closing) == (0, 1)
