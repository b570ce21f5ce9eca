"""The rules of ``websock bench``: counting, numbering, planning, telling. No I/O and no clock."""

from __future__ import annotations

import dataclasses
import json
import math
import random
import sys
import tracemalloc
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from websock.cli.load.histogram import Histogram
from websock.cli.load.limits import Files, raise_files, waited_for_core
from websock.cli.load.messages import Messages, Order, Seen
from websock.cli.load.plan import Plan
from websock.cli.load.report import Progress, Verdict, as_json, bars, bottleneck, describe, problems, report
from websock.cli.load.tally import Tally, count_reason
from websock.core.uri import parse_uri

HERE = parse_uri("ws://127.0.0.1:8765/")
PLAN = Plan(HERE)
MS = 1_000_000


def histogram(*values: int) -> Histogram:
    found = Histogram()
    for value in values:
        found.add(value)
    return found


def same(one: Histogram, other: Histogram) -> bool:
    return one.to_json() == other.to_json() and one.count == other.count


# Histogram


@given(st.lists(st.integers(0, 2**42 - 1), min_size=1), st.floats(0, 1))
def test_quantiles_are_right_to_a_bucket(values: list[int], share: float) -> None:
    found = histogram(*values).quantile(share)
    true = sorted(values)[max(1, math.ceil(share * len(values))) - 1]
    assert true <= found <= true * (1 + 1 / 128)


@settings(max_examples=30)
@given(st.lists(st.integers(0, 2**50)), st.lists(st.integers(0, 2**50)))
def test_histograms_can_be_added_subtracted_and_sent(first: list[int], second: list[int]) -> None:
    one, both = histogram(*first), histogram(*first, *second)
    copied = Histogram.from_json(json.loads(json.dumps(one.to_json())))
    assert same(copied, one)
    copied.merge(histogram(*second))
    assert same(copied, both)
    since, alone = both.since(one), histogram(*second)
    assert list(since.buckets()) == list(alone.buckets())
    assert (since.count, since.total) == (alone.count, alone.total)
    assert since.least <= alone.least and (since.most >= alone.most or alone.most == both.most)


@pytest.mark.parametrize("value", [0, 1, 255, 256, 257, 511, 512, 10**6, 10**9, 2**42 - 1, 2**42, 2**60])
def test_a_value_is_in_its_bucket(value: int) -> None:
    found = histogram(value)
    assert (found.quantile(0), found.quantile(1), found.least, found.most, found.mean) == (value,) * 5
    [(start, end, count)] = found.buckets()
    assert count == 1 and start <= min(value, 2**42 - 1) < end


def test_a_histogram_takes_the_same_memory_whatever_it_counts() -> None:
    found = histogram(5)
    before = sys.getsizeof(found._buckets)
    for _ in range(10_000):
        found.add(random.randrange(2**50))
    found.add(7, 10**12)
    assert sys.getsizeof(found._buckets) == before < 50_000
    assert found.count == 10_001 + 10**12


def test_a_histogram_of_nothing() -> None:
    found = Histogram()
    assert (found.quantile(0.5), found.mean, list(found.buckets()), bars(found)) == (0, 0.0, [], [])
    found.add(-5)  # a clock that was set back
    assert (found.count, found.least, found.most) == (1, 0, 0)
    with pytest.raises(ValueError):
        found.quantile(99)


# Messages and their order


@pytest.mark.parametrize("binary", [False, True])
def test_messages(binary: bool) -> None:
    messages = Messages((16, 50, 1000), binary=binary)
    for number in (0, 1, 2, 3, 2**40 - 1):
        message = messages.make(77, number)
        assert len(message) == messages.size(number) == (16, 50, 1000)[number % 3]
        assert isinstance(message, bytes) is binary
        assert messages.number(message, 77) == number
        assert messages.number(message, 78) == -1
        assert messages.intact(message, 77, number)
        other = message.decode() if isinstance(message, bytes) else message.encode()
        assert messages.number(other, 77) == number
        assert not messages.intact(other, 77, number)
        for place in range(len(message)):
            bad: Any = bytearray(message) if isinstance(message, bytes) else list(message)
            bad[place] = 1 if binary else "\x01"
            altered = bytes(bad) if binary else "".join(bad)
            assert not messages.intact(altered, 77, number)
        assert not messages.intact(message[:-1], 77, number)
        longer: Any = message
        assert not messages.intact(longer + longer[-1:], 77, number)


@pytest.mark.parametrize("message", ["", "hello", "x" * 100, "00004d", b"", b"\xff" * 30, "é" * 16, "-0004d0000000001"])
def test_what_is_no_message(message: str | bytes) -> None:
    assert Messages((16,), binary=False).number(message, 0x4D) < 0


def test_a_large_message_takes_its_size_and_little_more() -> None:
    size = 2**24
    tracemalloc.start()
    try:
        messages = Messages((size,), binary=True)
        assert tracemalloc.get_traced_memory()[1] < 3 * size
    finally:
        tracemalloc.stop()
    made = messages.make(1, 2)
    assert isinstance(made, bytes) and len(made) == size
    assert messages.intact(made, 1, 2)
    assert not messages.intact(made[:-1] + b"!", 1, 2)


@given(st.lists(st.integers(0, 30)))
def test_order_as_a_list_would_have_it(numbers: list[int]) -> None:
    order, seen = Order(), set[int]()
    for number in numbers:
        expected = Seen.AGAIN if number in seen else Seen.NEXT if number > max(seen, default=-1) else Seen.LATE
        assert order.take(number) is expected
        seen.add(number)
        assert order.next == max(seen) + 1
        assert order.lost == order.next - len(seen)


def test_order_remembers_no_more_than_so_many_holes() -> None:
    order = Order()
    for number in range(1, 100_000, 2):
        assert order.take(number) is Seen.NEXT
    assert order.lost == 50_000
    assert order._holes is not None and len(order._holes) == 1024
    assert order.take(99_998) is Seen.LATE
    assert order.take(0) is Seen.AGAIN  # it is forgotten
    assert order.take(10**9) is Seen.NEXT
    assert order.lost == 10**9 + 1 - 50_001 - 1 and len(order._holes) == 1024


# Tally


def test_tallies_can_be_added_and_sent() -> None:
    one = Tally(sent=3, refused={"no": 1}, latency=histogram(5), seconds=1.0, cpu=0.3)
    two = Tally(sent=4, refused={"no": 2, "never": 1}, latency=histogram(7, 9), seconds=2.0, cpu=0.2)
    one.merge(Tally.from_json(json.loads(json.dumps(two.to_json()))))
    assert (one.sent, one.refused, one.seconds, one.cpu) == (7, {"no": 3, "never": 1}, 2.0, 0.3)
    assert same(one.latency, histogram(5, 7, 9))
    assert Tally.from_json(one.to_json()).to_json() == one.to_json()


def test_a_server_cannot_fill_the_memory_with_reasons() -> None:
    reasons: dict[str, int] = {}
    for number in range(1000):
        count_reason(reasons, f"reason {number}")
    count_reason(reasons, "reason 0", 5)
    assert len(reasons) == 21 and sum(reasons.values()) == 1005 and reasons["reason 0"] == 6


# Plan


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"connections": 0}, "from 1 to"),
        ({"connections": 2**24}, "from 1 to"),
        ({"rate": 0.0}, "rate of 0"),
        ({"messages": -1.0}, "a number"),
        ({"messages": math.inf}, "--in-flight"),
        ({"in_flight": 1}, "not both"),
        ({"in_flight": 1, "messages": 0.0, "answers": False}, "--expect none"),
        ({"duration": 0.0}, "more than 0"),
        ({"sizes": (128, 15)}, "16 octets"),
        ({"sizes": ()}, "16 octets"),
    ],
)
def test_what_cannot_be_done(change: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        dataclasses.replace(PLAN, **change)


@given(st.integers(1, 40), st.integers(1, 50))
def test_the_plans_of_processes_are_together_the_whole(connections: int, processes: int) -> None:
    plan = dataclasses.replace(PLAN, connections=connections, rate=70.0, messages=30.0)
    parts = plan.split(processes)
    assert len(parts) == min(connections, processes)
    numbers = [part.first + index for part in parts for index in range(part.connections)]
    assert numbers == list(range(connections))
    assert sum(part.rate for part in parts) == pytest.approx(70)
    assert sum(part.messages for part in parts) == pytest.approx(30)


def test_messages_are_due_evenly() -> None:
    plan = dataclasses.replace(PLAN, messages=10.0, duration=2.0)
    due = sorted(plan.due(number, place, 4) for number in range(5) for place in range(4))
    assert due == pytest.approx([index / 10 for index in range(20)])
    assert plan.total == 20
    assert dataclasses.replace(plan, duration=math.inf).total == math.inf


def test_a_plan_can_be_sent() -> None:
    plan = Plan(
        parse_uri("wss://ann:secret@[::1]:1/x?y"), rate=math.inf, duration=math.inf, sizes=(16, 17),
        headers=(("A", "b"),), subprotocols=("c",), origin="https://o", ca="f", compression="deflate",
    )  # fmt: skip
    assert Plan.from_json(json.loads(json.dumps(plan.to_json()))) == plan


# Words


def test_no_secrets_are_told() -> None:
    plan = Plan(parse_uri("wss://ann:secret@host/path"), headers=(("Authorization", "secret"),))
    for text in (describe(plan), report(plan, Tally(), 1, 1), json.dumps(as_json(plan, Tally(), 1, 1))):
        assert "secret" not in text and "wss://host/path: 10 connections" in text


@pytest.mark.parametrize(
    ("change", "verdict"),
    [
        ({}, Verdict.NO),
        ({"cpu": 0.59}, Verdict.NO),
        ({"cpu": 0.6}, Verdict.PERHAPS),
        ({"cpu": 0.85}, Verdict.YES),
        ({"cpu": 0.3, "starved": 0.2}, Verdict.NO),
        ({"cpu": 0.3, "starved": 0.4}, Verdict.PERHAPS),
        ({"cpu": 0.3, "starved": 0.6}, Verdict.YES),
        ({"behind": 1}, Verdict.YES),
        ({"behind": 1, "cpu": 0.6}, Verdict.YES),
        ({"lateness": histogram(2 * MS), "latency": histogram(20 * MS)}, Verdict.NO),
        ({"lateness": histogram(2 * MS), "latency": histogram(7 * MS)}, Verdict.PERHAPS),
        ({"lateness": histogram(6 * MS), "latency": histogram(900 * MS)}, Verdict.PERHAPS),
        ({"lag": histogram(6 * MS)}, Verdict.PERHAPS),
        ({"opening_lateness": histogram(19 * MS), "handshakes": histogram(20 * MS)}, Verdict.NO),
        ({"opening_lateness": histogram(30 * MS), "handshakes": histogram(200 * MS)}, Verdict.NO),
        ({"opening_lateness": histogram(30 * MS), "handshakes": histogram(100 * MS)}, Verdict.PERHAPS),
        ({"opening_lateness": histogram(60 * MS), "handshakes": histogram(100 * MS)}, Verdict.YES),
        ({"lag": histogram(4 * MS)}, Verdict.NO),
    ],
)
def test_whether_the_tool_was_the_bottleneck(change: dict[str, Any], verdict: Verdict) -> None:
    tally = Tally(opened=1, seconds=1.0, **change)
    found, why = bottleneck(tally)
    assert found is verdict and bool(why) is bool(verdict)
    text = report(PLAN, tally, 1, 2)
    said = ["was not the bottleneck", "was perhaps a bottleneck", "THIS TOOL WAS THE BOTTLENECK"]
    assert [one in text for one in said] == [one is verdict for one in Verdict]
    assert ("--processes 2" in text) is bool(verdict)
    assert "fewer messages" in report(PLAN, Tally(opened=1, cpu=1.0), 2, 2)


@pytest.mark.parametrize(
    ("uri", "local"),
    [("ws://localhost/", True), ("ws://127.8.8.8/", True), ("ws://[::1]/", True), ("ws+unix:///a.sock", True),
     ("ws://example.com/", False), ("wss://10.0.0.1/", False)],
)  # fmt: skip
def test_a_server_on_the_same_machine_is_told(uri: str, local: bool) -> None:
    assert ("this machine too" in report(Plan(parse_uri(uri)), Tally(opened=1), 1, 2)) is local


def test_bars() -> None:
    assert bars(histogram(*[1_200_000] * 40, 1_700_000, 2_500_000, 2_600_000, 6_000_000)) == [
        "     1.000 - 1.500               40  90.9% ########################################",
        "     1.500 - 2.000                1   2.3% #",
        "     2.000 - 3.000                2   4.5% ##",
        "     3.000 - 5.000                0   0.0%",
        "     5.000 - 7.000                1   2.3% #",
    ]
    assert len(bars(histogram(0, 2**60))) < 60
    assert [line.split()[2] for line in bars(histogram(0, 999, 1000, 10**12))][:2] == ["0.001", "0.002"]


def test_a_report() -> None:
    tally = Tally(
        tried=10, opened=8, refused={"HTTP 503\x1b[2J": 2}, dropped={"closed by the peer: 1001": 1}, due=100, sent=98,
        cut=2, received=97, answered=95, altered=1, lost=1, doubled=1, unanswered=1, octets_sent=980,
        octets_received=970, handshakes=histogram(MS), latency=histogram(*[2 * MS] * 96), opening=0.5, seconds=2.0,
        cpu=0.25, lateness=histogram(100_000), lag=histogram(200_000),
    )  # fmt: skip
    plan = Plan(parse_uri("ws://example.com/chat"), messages=50.0, duration=2.0)
    assert report(plan, tally, 1, 4).splitlines() == [
        "ws://example.com/chat: 10 connections, 50 messages/s in turn (open loop), 128 octets of text, for 2 s",
        "",
        "connections  10 tried in 0.50 s, 8 opened",
        "  refused              2  HTTP 503\\x1b[2J",
        "  closed early         1  closed by the peer: 1001",
        "messages     100 due, 98 sent, 95 answered",
        "  lost                 1  no answer, though a later message has one",
        "  unanswered           1  no answer at the end",
        "  doubled              1  answered more than once",
        "  altered              1  came back otherwise than they were sent",
        "  cut                  2  were due on connections that had ended",
        "per second   49.0 sent, 47.5 answered; octets: 490 out, 485 in",
        "",
        "ms                 count        p50        p90        p99      p99.9        max       mean",
        "handshake              1      1.000      1.000      1.000      1.000      1.000      1.000",
        "message               96      2.000      2.000      2.000      2.000      2.000      2.000",
        "",
        (
            "messages by the ms from when they were due to the answer; "
            "unanswered ones count with their age, if their connection stayed"
        ),
        "     2.000 - 3.000               96 100.0% ########################################",
        "",
        (
            "this tool was not the bottleneck: 25% of a core, its event loop 0.200 ms late, "
            "messages left 0.100 ms late (p99)"
        ),
    ]
    assert problems(plan, tally) == [
        "2 of 10 connections were not opened, 2 of them refused by the server: HTTP 503\x1b[2J",
        "1 of 8 connections ended early: closed by the peer: 1001",
        "of 100 messages: 1 lost, 1 unanswered, 1 doubled, 1 altered, 2 cut",
    ]
    assert as_json(plan, tally, 1, 4)["latency"]["p99"] == pytest.approx(0.002)


@pytest.mark.parametrize(("counted", "aged"), [(5, False), (8, True)])
def test_a_report_tells_of_ages_only_where_some_count(counted: int, aged: bool) -> None:
    tally = Tally(opened=1, due=8, sent=8, received=5, answered=5, unanswered=3, latency=histogram(*[MS] * counted))
    assert ("count with their age" in report(PLAN, tally, 1, 2)) is aged


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"opened": 1, "tried": 1, "due": 1, "sent": 1, "received": 1, "answered": 1}, []),
        ({"tried": 20, "failed": {"can't connect to x: refused": 20}},
         ["can't connect to x: refused (20 attempts; the other 80 were not made)"]),
        ({"tried": 100, "failed": {"timed out": 99, "reset": 1}}, ["can't connect to 127.0.0.1:8765: timed out"]),
        ({"opened": 1, "sent": 5, "due": 5, "unanswered": 5},
         ["nothing was answered: an echo server is expected (or use --expect none)", "of 5 messages: 5 unanswered"]),
        ({"opened": 1, "sent": 5, "due": 5, "received": 5, "unanswered": 5, "strange": 5},
         ["nothing was answered: an echo server is expected (or use --expect none)",
          "of 5 messages: 5 unanswered, 5 strange"]),
        ({"opened": 2, "ended": {"no answer to our close": 2}},
         ["2 of 2 connections did not end well: no answer to our close"]),
    ],
)  # fmt: skip
def test_problems(change: dict[str, Any], said: list[str]) -> None:
    assert problems(dataclasses.replace(PLAN, connections=100), Tally(**change)) == said


def test_progress_tells_of_the_time_since_the_last_line() -> None:
    progress, tally = Progress(), Tally(open=5, failed={"x": 2})
    assert progress.line(1.0, "opening", tally) == "    1 s  opening   5 open, 2 failed or closed"
    tally.due, tally.sent, tally.answered, tally.latency = 20, 20, 18, histogram(*[MS] * 18)
    assert progress.line(3.0, "sending", tally) == (
        "    3 s  sending   5 open, 2 failed or closed; 10 sent/s, 9 answered/s; 2 wait; "
        "p50 1.000 p99 1.000 max 1.000 ms"
    )
    tally.doubled = 1
    assert progress.line(4.0, "waiting", tally) == ("    4 s  waiting   5 open, 2 failed or closed; 2 wait; 1 wrong")


# Open files


@pytest.mark.parametrize(
    ("limits", "connections", "set_to"),
    [((1024, 4096), 100, None), ((1024, 4096), 2000, (2064, 4096)), ((1024, -1), 10**6, (10**6 + 64, -1)),
     ((-1, -1), 10**6, None)],
)  # fmt: skip
def test_the_limit_is_raised(
    monkeypatch: pytest.MonkeyPatch, limits: tuple[int, int], connections: int, set_to: tuple[int, int] | None
) -> None:
    resource = pytest.importorskip("resource")
    was_set = []
    monkeypatch.setattr(resource, "getrlimit", lambda which: limits)
    monkeypatch.setattr(resource, "setrlimit", lambda which, to: was_set.append(to))
    raise_files(connections)
    assert was_set == ([] if set_to is None else [set_to])


def test_a_limit_that_cannot_be_raised_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    resource = pytest.importorskip("resource")
    monkeypatch.setattr(resource, "getrlimit", lambda which: (1024, 4096))
    with pytest.raises(Files, match=r"4,033 connections in one process need 4,097 open files, and the limit is 4,096"):
        raise_files(4033)

    def refuse(which: int, to: tuple[int, int]) -> None:
        raise ValueError("not allowed")

    monkeypatch.setattr(resource, "setrlimit", refuse)
    with pytest.raises(Files, match="this system allows fewer"):
        raise_files(2000)


def test_the_time_without_a_core(monkeypatch: pytest.MonkeyPatch) -> None:
    before = waited_for_core()
    assert 0 <= before <= waited_for_core()

    def absent(*_: Any) -> Any:
        raise FileNotFoundError

    monkeypatch.setattr("builtins.open", absent)
    assert waited_for_core() == 0
