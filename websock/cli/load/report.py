"""The counts of a load in words, in JSON, and what they mean."""

from __future__ import annotations

import enum
import math
from collections.abc import Iterator
from typing import Any, Final

from ..terminal import inert
from .histogram import Histogram
from .plan import Plan
from .tally import Tally

__all__ = ["Progress", "Verdict", "as_json", "bottleneck", "describe", "problems", "report"]

QUANTILES: Final = (("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999))
_WIDTH: Final = 40  # of the longest bar
_STEPS: Final = (10, 15, 20, 30, 50, 70)  # where the rows of a decade begin
_BUSY, _FULL = 0.6, 0.85  # of a core
_SLOW: Final = 20_000_000  # ns: opening a connection is a hundred times the work of sending a message
_LATE: Final = 5_000_000  # ns: a loop that is later than that has more to do than it can
_NO_ANSWERS: Final = "nothing was answered: an echo server is expected (or use --expect none)"


def describe(plan: Plan) -> str:
    """One line: what is to be done."""
    uri = plan.uri  # without the password that it may have
    scheme = "wss" if uri.secure else "ws"
    where = f"{scheme}+unix://{uri.unix_path}" if uri.unix_path else f"{scheme}://{uri.host_header}{uri.resource}"
    if plan.messages:
        load = f"{_number(plan.messages)} messages/s in turn (open loop)"
    else:
        load = f"{plan.in_flight} in flight on each (closed loop)" if plan.in_flight else "no messages"
    kind = "binary" if plan.binary else "text"
    sizes = f", {'/'.join(map(str, plan.sizes))} octets of {kind}" if plan.messages or plan.in_flight else ""
    how_long = "until Ctrl-C" if math.isinf(plan.duration) else f"for {plan.duration:g} s"
    return inert(f"{where}: {plan.connections:,} connections, {load}{sizes}, {how_long}")


def report(plan: Plan, tally: Tally, processes: int, cores: int) -> str:
    """All of it, in lines.

    Args:
        plan: of the whole load.
        tally: of the whole load.
        processes: of the tool.
        cores: of this machine.
    """
    about = ["", *_about_tool(plan, tally, processes, cores)] if tally.opened else []
    return "\n".join([*_lines(plan, tally), *about, ""])


def _lines(plan: Plan, tally: Tally) -> Iterator[str]:
    yield describe(plan)
    yield ""
    yield f"connections  {tally.tried:,} tried in {tally.opening:.2f} s, {tally.opened:,} opened"
    for what, reasons in _OUTCOMES:
        for reason, many in sorted(getattr(tally, reasons).items(), key=lambda item: -item[1]):
            yield f"  {what:<12} {many:>9,}  {inert(reason)}"
    if (plan.messages or plan.in_flight) and tally.opened:
        came = f"{tally.answered:,} answered" if plan.answers else f"{tally.received:,} received"
        yield f"messages     {tally.due:,} due, {tally.sent:,} sent, {came}"
        for name, what in _FAULTS:
            if many := getattr(tally, name):
                yield f"  {name:<12} {many:>9,}  {what}"
        yield _rates(plan, tally)
    tables = [(name, one) for name, one in (("handshake", tally.handshakes), ("message", tally.latency)) if one.count]
    if tables:
        yield ""
        yield "ms           " + "".join(f"{name:>11}" for name in ("count", *dict(QUANTILES), "max", "mean"))
        for name, one in tables:
            figures = [*(one.quantile(share) for _, share in QUANTILES), one.most, one.mean]
            yield f"{name:<13}{one.count:>11,}" + "".join(f"{_ms(figure):>11}" for figure in figures)
    if tally.latency.count:
        since = "when they were sent" if plan.in_flight else "when they were due"
        more = tally.latency.count > tally.answered
        aged = "; unanswered ones count with their age, if their connection stayed" if more else ""
        yield ""
        yield f"messages by the ms from {since} to the answer{aged}"
        yield from bars(tally.latency)


def _rates(plan: Plan, tally: Tally) -> str:
    sent, answered, out, back = (
        many / (tally.seconds or math.inf)
        for many in (tally.sent, tally.answered, tally.octets_sent, tally.octets_received)
    )
    answers = f", {answered:,.1f} answered" if plan.answers else ""
    return f"per second   {sent:,.1f} sent{answers}; octets: {out:,.0f} out, {back:,.0f} in"


_OUTCOMES: Final = (("refused", "refused"), ("failed", "failed"), ("closed early", "dropped"), ("ended badly", "ended"))
_FAULTS: Final = (
    ("lost", "no answer, though a later message has one"),
    ("unanswered", "no answer at the end"),
    ("doubled", "answered more than once"),
    ("reordered", "answered behind a later message"),
    ("altered", "came back otherwise than they were sent"),
    ("strange", "came, and are no answers"),
    ("unread", "were due, and the server did not take what was sent before"),
    ("cut", "were due on connections that had ended"),
    ("behind", "were due, and this tool was too slow"),
)


def bars(histogram: Histogram) -> list[str]:
    """A row for each range of durations, between the least and the greatest."""
    rows: dict[int, int] = {}
    for start, end, count in histogram.buckets():
        row = _row((start + end) // 2)
        rows[row] = rows.get(row, 0) + count
    most, lines = max(rows.values(), default=1), []
    for row in range(min(rows, default=0), max(rows, default=-1) + 1):
        count = rows.get(row, 0)
        bar = "#" * math.ceil(count / most * _WIDTH)
        line = f"{_ms(_begin(row)):>10} - {_ms(_begin(row + 1)):<10} {count:>11,} {count / histogram.count:>6.1%} {bar}"
        lines.append(line.rstrip())
    return lines


def _begin(row: int) -> int:
    """Where a row begins, ns; row 0 is all below 1 us."""
    decade, step = divmod(row - 1, len(_STEPS))
    return 0 if row <= 0 else _STEPS[step] * 10 ** (decade + 2)


def _row(value: int) -> int:
    row = 0
    while _begin(row + 1) <= value:
        row += 1
    return row


def _ms(nanoseconds: float) -> str:
    """Three digits that count, or more."""
    ms = nanoseconds / 1e6
    return f"{ms:,.0f}" if ms >= 1000 else f"{ms:.1f}" if ms >= 100 else f"{ms:.2f}" if ms >= 10 else f"{ms:.3f}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value == int(value) else f"{value:,.6g}"


class Verdict(enum.IntEnum):
    """Whether the tool, and not the server, decided the figures."""

    NO = 0
    PERHAPS = 1
    YES = 2


def bottleneck(tally: Tally) -> tuple[Verdict, list[str]]:
    """Whether the tool was the bottleneck, and why."""
    level, why = Verdict.NO, []
    late, lag, slow = (one.quantile(0.99) for one in (tally.lateness, tally.lag, tally.opening_lateness))
    if slow > _SLOW and slow > tally.handshakes.quantile(0.99) / 4:
        level = Verdict.YES if slow > tally.handshakes.quantile(0.99) / 2 else Verdict.PERHAPS
        why.append(f"it began to open 1 of 100 connections {_ms(slow)} ms late or more: --rate is more than it can")
    if tally.behind:
        level = Verdict.YES
        why.append(f"{tally.behind:,} messages were due that it did not get to")
    if (busy := tally.cpu + tally.starved) >= _BUSY:
        level = Verdict.YES if busy >= _FULL else max(level, Verdict.PERHAPS)
        starved = f", and waited for one for {tally.starved:.0%} of the time" if tally.starved >= 0.05 else ""
        why.append(f"a process of it used {tally.cpu:.0%} of a core{starved}")
    if late > _LATE or (late > 1_000_000 and late > tally.latency.quantile(0.99) / 4):
        level = max(level, Verdict.PERHAPS)
        why.append(f"it sent 1 of 100 messages {_ms(late)} ms late or more")
    if lag > _LATE:
        level = max(level, Verdict.PERHAPS)
        why.append(f"its event loop was {_ms(lag)} ms late or more, 1 of 100 times")
    return level, why


def _about_tool(plan: Plan, tally: Tally, processes: int, cores: int) -> Iterator[str]:
    level, why = bottleneck(tally)
    if level is Verdict.NO:
        late = f", messages left {_ms(tally.lateness.quantile(0.99))} ms late" if tally.lateness.count else ""
        lag = f"its event loop {_ms(tally.lag.quantile(0.99))} ms late{late} (p99)"
        yield f"this tool was not the bottleneck: {tally.cpu:.0%} of a core, {lag}"
    else:
        was = "THIS TOOL WAS THE BOTTLENECK" if level is Verdict.YES else "this tool was perhaps a bottleneck"
        yield f"{was}: {'; '.join(why)}"
        more = (
            "fewer messages or connections" if processes >= cores else f"--processes {cores}, or from another machine"
        )
        yield f"  the figures tell of the tool as well as of the server: try {more}"
    if is_local(plan):
        yield f"the server may have run on this machine too, and shared its {cores} cores with the tool"


def is_local(plan: Plan) -> bool:
    """Whether the address says that the server is on this machine."""
    uri = plan.uri
    return uri.unix_path is not None or uri.host in ("localhost", "::1") or uri.host.startswith("127.")


def problems(plan: Plan, tally: Tally) -> list[str]:
    """What went wrong, a line each; none: all is as it should be."""
    uri, found = plan.uri, []
    where = inert(uri.unix_path or uri.host_header)
    reasons = {**tally.refused, **tally.failed}
    closed = sum(reasons.values())
    reason = max(reasons, key=lambda one: reasons[one], default="")
    if closed and not tally.opened:
        problem = reason if reason.startswith("can't ") else f"can't connect to {where}: {reason}"
        rest = plan.connections - tally.tried
        found.append(problem + (f" ({closed:,} attempts; the other {rest:,} were not made)" if rest else ""))
    elif closed:
        refused = sum(tally.refused.values())
        by_server = f", {refused:,} of them refused by the server" if refused else ""
        found.append(f"{closed:,} of {tally.tried:,} connections were not opened{by_server}: {reason}")
    for reason, many in tally.dropped.items():
        found.append(f"{many:,} of {tally.opened:,} connections ended early: {reason}")
    for reason, many in tally.ended.items():
        found.append(f"{many:,} of {tally.opened:,} connections did not end well: {reason}")
    if plan.answers and tally.sent and not (tally.answered or tally.altered):
        found.append(_NO_ANSWERS)
    faults = [f"{getattr(tally, name):,} {name}" for name, _ in _FAULTS if getattr(tally, name)]
    if faults:
        found.append(f"of {tally.due:,} messages: {', '.join(faults)}")
    return found


def as_json(plan: Plan, tally: Tally, processes: int, cores: int) -> dict[str, Any]:
    """The whole report for programs: durations in seconds."""
    level, why = bottleneck(tally)
    counts = {name: value for name, value in tally.to_json().items() if not isinstance(getattr(tally, name), Histogram)}
    settings = {name: value for name, value in plan.to_json().items() if name not in _PRIVATE}
    return {
        "plan": {"what": describe(plan), "processes": processes, **settings},
        **counts,
        "handshakes": _figures(tally.handshakes),
        "latency": _figures(tally.latency),
        "lateness": _figures(tally.lateness),
        "opening_lateness": _figures(tally.opening_lateness),
        "lag": _figures(tally.lag),
        "bottleneck": {"tool": level.name.lower(), "why": why, "cores": cores, "same_machine": is_local(plan)},
        "problems": problems(plan, tally),
    }


_PRIVATE: Final = ("uri", "headers", "first", "offset")  # secrets may be in them; and what is of one process


def _figures(histogram: Histogram) -> dict[str, Any]:
    return {
        "count": histogram.count,
        "min": histogram.least / 1e9,
        **{name: histogram.quantile(share) / 1e9 for name, share in QUANTILES},
        "max": histogram.most / 1e9,
        "mean": histogram.mean / 1e9,
        "buckets": [[start / 1e9, end / 1e9, count] for start, end, count in histogram.buckets()],
    }


class Progress:
    """Lines about what happens at the moment: each tells of the time since the last."""

    def __init__(self) -> None:
        self._at = 0.0
        self._sent = self._answered = 0
        self._latency = Histogram()

    def line(self, at: float, phase: str, tally: Tally) -> str:
        """The line at `at` seconds after the beginning."""
        passed = max(at - self._at, 1e-9)
        lost = sum(map(sum, (one.values() for one in (tally.refused, tally.failed, tally.dropped))))
        parts = [f"{tally.open:,} open" + (f", {lost:,} failed or closed" if lost else "")]
        if tally.sent > self._sent or tally.answered > self._answered:
            sent, answered = (tally.sent - self._sent) / passed, (tally.answered - self._answered) / passed
            parts.append(f"{sent:,.0f} sent/s, {answered:,.0f} answered/s")
        waiting = tally.due - tally.answered - tally.altered - tally.cut - tally.behind
        if tally.answered and waiting:
            parts.append(f"{waiting:,} wait")
        wrong = tally.doubled + tally.altered + tally.strange + tally.reordered
        if wrong:
            parts.append(f"{wrong:,} wrong")
        recent = tally.latency.since(self._latency)
        if recent.count:
            parts.append(f"p50 {_ms(recent.quantile(0.5))} p99 {_ms(recent.quantile(0.99))} max {_ms(recent.most)} ms")
        self._at, self._sent, self._answered = at, tally.sent, tally.answered
        self._latency = Histogram()
        self._latency.merge(tally.latency)
        return f"{at:5.0f} s  {phase:<8}  {'; '.join(parts)}"
