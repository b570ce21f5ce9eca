"""`Limits` and what counts them: buckets, meters, the gate, counted log lines. Time is a number."""

from __future__ import annotations

import logging
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import websock
from websock.core.counting import CountedLog
from websock.core.forwarding import Networks, ProxyHeader
from websock.core.gate import YOUNG, Gate, Ticket
from websock.core.handshake import ServerHandshake, refusal_bytes
from websock.core.limits import SAVED, Bucket, Limits, Meter
from websock.core.protocol import Protocol, State
from websock.datastructures import Headers
from websock.exceptions import (
    CloseCause,
    InvalidHandshake,
    InvalidMessage,
    LimitExceeded,
    RateExceeded,
    TooManyFragments,
)
from websock.http11 import Request
from websock.spec import MAX_FRAGMENTS, MAX_HEADERS

from .frames import BINARY, CONT, TEXT, frame
from .heads import parse_answer, request

FRAGMENTS = frame(TEXT, fin=False, key=b"abcd") + frame(CONT, key=b"abcd")
A, B, C = ("192.0.2.1", 1), ("192.0.2.2", 2), ("192.0.2.3", 3)


# The object.


def test_the_defaults() -> None:
    limits = websock.Limits()
    assert (limits.connections, limits.per_client, limits.handshakes_per_second) == (None, None, None)
    assert (limits.messages_per_second, limits.bytes_per_second, limits.half_open) == (None, None, 512)
    assert (limits.max_fragments, limits.max_headers, limits.retry_after) == (MAX_FRAGMENTS, MAX_HEADERS, 10)
    assert limits.meter() is None
    assert pickle.loads(pickle.dumps(limits)) == limits
    with pytest.raises(AttributeError):
        limits.connections = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("name", "value", "kind"),
    [
        *[(n, v, ValueError) for n in ("connections", "per_client", "half_open", "max_fragments") for v in (0, -1)],
        ("max_headers", 2**31, ValueError),
        ("retry_after", -1, ValueError),
        *[(n, None, TypeError) for n in ("max_fragments", "max_headers", "retry_after")],
        *[(n, v, TypeError) for n in ("connections", "half_open", "retry_after") for v in ("1", 1.5, True)],
        *[(n, v, TypeError) for n in ("messages_per_second", "handshakes_per_second") for v in ("1", True, b"1")],
        *[
            (n, v, ValueError)
            for n in ("messages_per_second", "bytes_per_second", "handshakes_per_second")
            for v in (0, -1, float("nan"), float("inf"))
        ],
    ],
)
def test_what_is_no_limit_is_refused_by_name(name: str, value: Any, kind: type[Exception]) -> None:
    with pytest.raises(kind, match=f"^{name} must be"):
        Limits(**{name: value})


# Buckets and meters.


def test_a_bucket() -> None:
    bucket = Bucket(10)
    assert all(bucket.take(1, 5.0) for _ in range(10))
    assert not bucket.take(1, 5.0) and not bucket.take(1, 5.05)
    assert bucket.take(1, 5.125) and not bucket.take(1, 5.125)
    assert bucket.take(10, 100.0) and not bucket.take(1, 100.0)  # one second's worth, however long it was quiet
    assert not bucket.take(1, 50.0)  # a clock that goes back gives nothing, and takes nothing


def test_a_slow_bucket_has_room_for_one() -> None:
    bucket = Bucket(0.5)
    assert bucket.take(1, 0.0) and not bucket.take(1, 1.875) and bucket.take(1, 2.0)


@given(st.lists(st.tuples(st.integers(1, 30), st.integers(0, 400)), max_size=40), st.sampled_from([1, 4, 16, 80]))
def test_no_window_holds_more_than_its_time_and_one_burst(steps: list[tuple[int, int]], rate: int) -> None:
    bucket, now = Bucket(rate), 0.0
    taken: list[tuple[float, int]] = []
    for count, wait in steps:
        now += wait / 256
        if bucket.take(count, now):
            taken.append((now, count))
    for i, (start, _) in enumerate(taken):
        for j in range(i, len(taken)):
            assert sum(count for _, count in taken[i : j + 1]) <= rate * (taken[j][0] - start) + rate + 1e-6


def test_what_was_lost_by_our_own_doing_is_saved() -> None:
    bucket = Bucket(10)
    bucket.save(100)  # it is full before anybody came
    assert bucket.take(10, 0.0) and not bucket.take(1, 0.0)
    bucket.save(5)
    assert bucket.take(50, 5.0) and not bucket.take(1, 5.0)
    bucket.save(10**6)
    assert bucket.take(10 * SAVED, 10**6 + 5.0) and not bucket.take(1, 10**6 + 5.0)


@pytest.mark.parametrize("rate", [1, 10, 100, 12_345])
def test_a_meter_gives_at_least_the_limit_and_a_sixteenth_more(rate: int) -> None:
    def fits(count: int, parts: int) -> bool:
        """Whether so many come through at once, in so many reads."""
        meter = Meter(rate, None)
        meter.add(0, 0, 0.0)
        for part in range(parts):
            messages = count * (part + 1) // parts - count * part // parts
            if meter.count(0, messages) and meter.add(0, 0, 0.0) is not None:
                return False
        return meter.add(0, 0, 0.0) is None

    for parts in (1, 3, 16, 1000):
        assert fits(rate, parts)
        assert not fits(rate + rate // 16 + 1, parts)


def test_a_steady_peer_at_its_limit_is_never_too_fast() -> None:
    meter, now = Meter(100, 6400), 0.0
    for _ in range(10_000):
        now += 1 / 128
        if meter.count(32, 0):
            assert meter.add(0, 0, now) is None
    for _ in range(10_000):
        now += 1 / 64
        if meter.count(64, 1):
            assert meter.add(0, 0, now) is None


def test_a_meter_says_which_limit_it_was() -> None:
    assert str(Meter(10, None).add(0, 11, 0.0)) == "more than 10 messages per second"
    assert str(Meter(10, 1e6).add(2**21, 1, 0.0)) == "more than 1e+06 bytes per second"
    assert Meter(10, 1000).add(1000, 10, 0.0) is None


def test_a_connection_over_its_rate_is_closed_with_1008() -> None:
    protocol = Protocol(server=True, limits=Limits(messages_per_second=10))
    protocol.measure(0, 10, 0.0)
    assert protocol.state is State.OPEN
    protocol.measure(0, 1, 0.0)
    assert protocol.close_sent == websock.Close(1008, "more than 10 messages per second")
    assert isinstance(protocol.closed().__cause__, RateExceeded)
    Protocol(server=True).measure(10**9, 10**9, 0.0)  # no meter: nothing to measure


def test_what_came_while_we_did_not_read_is_not_too_fast() -> None:
    protocol = Protocol(server=True, limits=Limits(messages_per_second=10))
    protocol.tick(0.0)
    protocol.measure(0, 10, 0.0)
    protocol.pause(0.0)
    protocol.resume(8.0)
    protocol.measure(0, 80, 8.0)
    assert protocol.state is State.OPEN
    protocol.measure(0, 1, 8.0)
    assert protocol.close_sent is not None and protocol.close_sent.code == 1008


def test_limits_of_a_handshake_reach_the_connection() -> None:
    limits = Limits(max_fragments=2, max_headers=10)
    handshake = ServerHandshake(limits=limits)
    handshake.receive(request(more=[(f"X-{i}", "") for i in range(5)]))
    handshake.accept()
    assert handshake.protocol is not None
    part = frame(CONT, fin=False, key=b"abcd")
    handshake.protocol.receive(frame(BINARY, fin=False, key=b"abcd") + part)
    assert handshake.protocol.unsettled is None
    handshake.protocol.receive(part)
    assert isinstance(handshake.protocol.unsettled, TooManyFragments)
    refused = ServerHandshake(limits=limits)
    refused.receive(request(more=[(f"X-{i}", "") for i in range(6)]))
    assert refused.response is not None and refused.response.status_code == 431


# The gate.


class Lines(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.logger = logging.Logger("test")
        self.logger.addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        assert record.levelno == (logging.INFO if record.getMessage().startswith("closed with") else logging.WARNING)
        self.texts.append(record.getMessage())


def gate(trusted: list[Any] | None = None, proxy_protocol: bool = False, **limits: Any) -> Gate:
    networks = None if trusted is None else Networks(trusted)
    return Gate(Limits(**limits), Lines().logger, networks, proxy_protocol)


def entered(gate: Gate, address: Any, now: float = 0.0) -> Ticket:
    ticket = gate.enter(address, now)
    assert isinstance(ticket, Ticket)
    return ticket


def refused(gate: Gate, address: Any, now: float = 0.0) -> int:
    failure = gate.enter(address, now)
    assert isinstance(failure, LimitExceeded)
    return failure.status


def asked(**headers: str) -> Request:
    return Request("/", Headers({name.replace("_", "-"): value for name, value in headers.items()}))


def test_connections() -> None:
    one = gate(connections=2)
    first, second, third = (entered(one, A) for _ in range(3))  # half-open ones keep nobody out
    assert one.opened(first, asked(), 0.0) is None and one.opened(second, asked(), 0.0) is None
    failure = one.opened(third, asked(), 0.0)
    assert isinstance(failure, LimitExceeded) and failure.status == 503
    one.leave(third)
    assert refused(one, B) == 503
    one.leave(first)
    one.leave(first)
    third = entered(one, B)
    assert one.opened(third, asked(), 0.0) is None
    assert refused(one, B) == 503
    one.answered(third)  # a hook refused it
    entered(one, B)


def test_per_client() -> None:
    one = gate(per_client=2)
    first = entered(one, A)
    entered(one, A)
    assert refused(one, A) == 429
    entered(one, B)
    for _ in range(5):
        entered(one, "")  # a Unix socket
    one.leave(first)
    one.leave(first)
    entered(one, ("::ffff:192.0.2.1", 5, 0, 0))
    assert refused(one, A) == 429 == refused(one, ("::ffff:192.0.2.1", 6, 0, 0))
    entered(one, ("2001:db8::1", 1, 0, 0))
    entered(one, ("2001:db8::ffff:1", 1, 0, 0))
    assert refused(one, ("2001:db8:0:0:8000::", 1, 0, 0)) == 429
    entered(one, ("2001:db8:0:1::1", 1, 0, 0))
    entered(one, ("fe80::1%eth0", 1, 0, 2))
    entered(one, ("fe80::2%eth0", 1, 0, 2))
    assert refused(one, ("fe80::3%eth1", 1, 0, 2)) == 429


def test_a_gate_forgets_those_who_left() -> None:
    one = gate(per_client=2, connections=5)
    for number in range(1000):
        ticket = entered(one, (f"10.0.{number // 256}.{number % 256}", 1))
        if number % 2:
            one.opened(ticket, asked(), 0.0)
        one.leave(ticket)
    assert not one._clients and not len(one) and one._open == 0


def test_handshakes_per_second() -> None:
    one = gate(handshakes_per_second=5)
    for number in range(5):
        one.leave(entered(one, ("10.0.0.1", number)))
    assert refused(one, A) == 429
    assert refused(one, A, 0.125) == 429
    entered(one, A, 0.25)


def test_the_oldest_half_open_one_is_given_up() -> None:
    one = gate(half_open=3)
    gone: list[str] = []
    tickets = []
    for second, name in enumerate("abcd"):
        ticket = entered(one, A, float(second))
        ticket.give_up = lambda failure, name=name: gone.append(f"{name} {failure.status}")  # type: ignore[misc]
        tickets.append(ticket)
    assert gone == ["a 503"] and len(one) == 3
    assert one.opened(tickets[1], asked(), 0.0) is None  # it has made it
    entered(one, A, 9.0)
    assert gone == ["a 503"]
    entered(one, A, 9.0)
    assert gone == ["a 503", "c 503"] and len(one) == 3
    one.answered(tickets[3])
    one.leave(tickets[0])
    assert len(one) == 2
    many = gate(half_open=None)
    for _ in range(2000):
        entered(many, A)
    assert len(many) == 2000


def test_clients_that_come_all_at_once_wait_and_are_not_given_up() -> None:
    one = gate(half_open=3)
    told: list[str] = []
    one.on_room = lambda: told.append("room")
    tickets = [entered(one, A, 10.0 + number / 10) for number in range(3)]
    for ticket in tickets:
        ticket.give_up = lambda failure: told.append("given up")
    assert one.wait(10.2) == pytest.approx(YOUNG - 0.2)
    late = entered(one, A, 10.2)  # who was accepted all the same comes in
    assert told == [] and len(one) == 4
    assert one.opened(late, asked(), 10.3) is None
    assert told == []
    assert one.opened(tickets[1], asked(), 10.3) is None
    assert told == ["room"] and one.wait(10.3) == 0.0
    entered(one, A, 10.3)
    assert one.wait(10.0 + YOUNG) == 0.0
    entered(one, A, 10.0 + YOUNG)
    assert told == ["room", "given up"]
    assert gate(half_open=None).wait(0.0) == 0.0


def test_who_waits_for_us_is_passed_over() -> None:
    one = gate(half_open=20)
    gone: list[int] = []
    waiting = set(range(5))

    def enter(number: int) -> None:
        ticket = entered(one, A, float(number))
        ticket.give_up = lambda failure: gone.append(number)
        ticket.waits_for_us = lambda: number in waiting

    for number in range(20):
        enter(number)
    enter(20)
    assert gone == [5] and len(one) == 20
    waiting.clear()
    enter(21)
    enter(22)
    assert gone == [5, 6, 7]  # those that were passed over are the newest now
    waiting.update(range(1000))
    for number in range(23, 200):
        enter(number)
    assert len(one) == 80 and len(gone) == 3 + 120 - 3


def test_behind_proxies_clients_are_counted_by_what_these_say() -> None:
    one = gate(["10.0.0.0/8", "unix"], per_client=1)
    proxy = ("10.0.0.1", 99)
    first, second, third = entered(one, proxy), entered(one, proxy), entered(one, "")
    assert one.opened(first, asked(X_Forwarded_For="192.0.2.1"), 0.0) is None
    assert (first.address, first.proxy_address) == (("192.0.2.1", 0), proxy)
    failure = one.opened(second, asked(Forwarded='for="192.0.2.1:80";proto=HTTPS'), 0.0)
    assert isinstance(failure, LimitExceeded) and failure.status == 429
    assert second.address == ("192.0.2.1", 80) and second.forwarded_proto == "https"
    assert one.opened(third, asked(X_Forwarded_For="192.0.2.2"), 0.0) is None
    assert refused(one, ("192.0.2.1", 1)) == 429  # the same client, past the proxy
    outsider = entered(one, ("192.0.2.9", 1))
    assert one.opened(outsider, asked(X_Forwarded_For="192.0.2.77"), 0.0) is None
    assert outsider.address == ("192.0.2.9", 1) and outsider.proxy_address is None
    silent = entered(one, proxy)  # a health check of the proxy's own
    assert one.opened(silent, asked(), 0.0) is None and silent.address == proxy
    broken = entered(one, proxy)
    failed = one.opened(broken, asked(Forwarded="for=192.0.2.1", X_Forwarded_For="192.0.2.2"), 0.0)
    assert failed is not None and failed.status == 400


def test_a_proxy_header_tells_the_client() -> None:
    one = gate(["10.0.0.0/8"], proxy_protocol=True, per_client=1)
    assert isinstance(one.enter(A, 0.0), InvalidMessage)
    first, second, own = (entered(one, ("10.0.0.1", 5)) for _ in range(3))
    header, local = ProxyHeader(), ProxyHeader()
    header.receive(b"PROXY TCP4 192.0.2.1 10.0.0.1 4000 80\r\n")
    local.receive(b"PROXY UNKNOWN\r\n")
    assert one.proxied(first, header, 0.0) is None
    assert (first.address, first.proxy_address) == (("192.0.2.1", 4000), ("10.0.0.1", 5))
    failure = one.proxied(second, header, 0.0)
    assert isinstance(failure, LimitExceeded) and failure.status == 429
    assert one.proxied(own, local, 0.0) is None
    assert (own.address, own.proxy_address) == (("10.0.0.1", 5), None)
    assert one.opened(first, asked(X_Forwarded_For="192.0.2.200"), 0.0) is None
    assert first.address == ("192.0.2.1", 4000)  # its client is nobody's proxy
    anybody = gate(proxy_protocol=True)
    assert anybody.proxied(entered(anybody, A), header, 0.0) is None


def test_the_ready_answer() -> None:
    answer = parse_answer(refusal_bytes(LimitExceeded("too many connections", 503, 7)))
    assert answer.status == 503 and answer.headers["retry-after"] == ["7"] and "date" in answer.headers
    assert answer.headers["content-length"] == [str(len(answer.body))] and b"too many connections" in answer.body
    assert answer.headers["connection"] == ["close"]
    failure = LimitExceeded("enough", 429, 0)
    assert pickle.loads(pickle.dumps(failure)).status == 429 and str(failure) == "enough"


# Log lines.


def test_counted_lines() -> None:
    lines = Lines()
    log = CountedLog(lines.logger, 60)
    log.count("full", "a", 0.0)
    assert lines.texts == ["full: a"]
    for second in range(1, 60):
        log.count("full", "a", float(second))
    log.count("other", "x", 59.0)
    assert lines.texts == ["full: a", "other: x"]
    log.count("full", "a", 60.0)
    assert lines.texts[2:] == ["full: 60 times in the last 60 s, all by a"]
    for number in range(1234):
        log.count("full", "ab"[number % 2], 61.0)
    log.count("full", "c", 200.0)
    assert lines.texts[3:] == ["full: 1,235 times in the last 140 s, at last c"]
    log.flush(300.0)
    assert len(lines.texts) == 4
    log.count("full", "b", 310.0)
    log.flush(320.0)
    log.flush(330.0)
    assert lines.texts[4:] == ["full: 1 times in the last 110 s, all by b"]


def test_one_line_for_all_that_a_limit_refuses() -> None:
    lines = Lines()
    one = Gate(Limits(per_client=1), lines.logger)
    entered(one, A)
    for number in range(5000):
        assert refused(one, A, number / 100) == 429
    assert lines.texts == ["refused with 429, too many connections from one address: 192.0.2.1"]
    refused(one, A, 61.0)
    assert lines.texts[1:] == [
        "refused with 429, too many connections from one address: 5,000 times in the last 61 s, all by 192.0.2.1"
    ]


def test_what_strangers_send_makes_no_kinds_of_lines() -> None:
    lines = Lines()
    one = Gate(Limits(), lines.logger, proxy_protocol=True)
    for number in range(1000):
        ticket = entered(one, A)
        one.broken_header(ticket, InvalidMessage(f"a PROXY header that is none: {number}"), 0.0)
        one.leave(ticket)
    assert len(one.log._counts) == 1 and len(lines.texts) == 1


@pytest.mark.parametrize(
    ("limits", "data", "line"),
    [
        (
            {"max_fragments": 1},
            frame(TEXT, fin=False, key=b"abcd") + frame(CONT, key=b"abcd"),
            "closed with 1008 (OVER_LIMIT), too many fragments: 192.0.2.1",
        ),
        ({}, frame(BINARY, bytes(2**20 + 1), key=b"abcd"), "closed with 1009 (OVER_LIMIT), message too big: 192.0.2.1"),
        ({}, frame(TEXT, b"\xff", key=b"abcd"), None),
        ({}, b"", None),
    ],
)
def test_the_end_by_a_limit_has_a_line(limits: dict[str, int], data: bytes, line: str | None) -> None:
    lines = Lines()
    one = Gate(Limits(**limits), lines.logger)
    ticket = entered(one, A)
    protocol = Protocol(server=True, limits=one.limits)
    protocol.receive(data)
    if not data:
        protocol.close(1008, "by the application")
    protocol.lost()
    one.leave(ticket)
    one.closed(ticket, protocol, 0.0)
    assert lines.texts == ([] if line is None else [line])
    assert not len(one)


def test_a_crowd_that_is_too_slow_has_one_line() -> None:
    lines = Lines()
    one = Gate(Limits(), lines.logger)
    for number in range(1000):
        ticket = entered(one, A)
        protocol = Protocol(server=True)
        protocol.fail(1013, "too slow", why=CloseCause.SLOW_CONSUMER)
        protocol.lost()
        one.leave(ticket)
        one.closed(ticket, protocol, 0.0)
        one.warn(ticket, "kept: we stalled (event loop busy)", f"for {number}.0 s", 0.0)
    assert lines.texts == [
        "connection closed with 1013 (SLOW_CONSUMER): it did not take what was broadcast: 192.0.2.1",
        "connection kept: we stalled (event loop busy): 192.0.2.1, for 0.0 s",
    ]


def test_failures_of_the_gate_are_handshake_failures() -> None:
    assert issubclass(LimitExceeded, InvalidHandshake)
