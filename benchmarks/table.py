"""A record as Markdown."""

from __future__ import annotations

from record import Cell, Record, Result, number, spread

NOTES = """\
Every contender has its turn in each round, one after the other, each in a process of its own. Rates are medians of
the rounds; ratios are taken within a round, and shown as median and extremes. CPU is the time that the contender's own
process used for each message. The load comes from `load.c`, the same for all, which compares every octet of every echo;
the texts that it sends are decoded and checked by all libraries but picows' callbacks, which need not. Compression is
off but where it is named, sizes are unlimited, and everything else is as each library has it by default.
Connections of the handshakes are opened, agreed, and closed with both Close frames.
"""


def markdown(record: Record, picture: str | None) -> str:
    """The page: what was run, a summary, then a table for each workload."""
    parts = ["# Benchmarks\n", "".join(f"- {title}: {text}\n" for title, text in record.about.items()), NOTES]
    if picture:
        parts.append(f"![Rates of the contenders]({picture})\n")
    parts.append(summary(record))
    parts += [table(record, result) for result in record.results]
    return "\n".join(parts)


def shown(result: Result, cell: Cell) -> str:
    if not cell.good:
        return f"error: {cell.error or 'no result'}".replace("|", "/").replace("\n", " ")
    return number(cell.median) + (result.unit if result.unit.startswith("/") else f" {result.unit}")


def summary(record: Record) -> str:
    """Our fastest beside the fastest of the peers."""
    lines = [
        "## Summary\n",
        "| workload | fastest of ours | fastest peer | ratio |",
        "|---|--:|--:|--:|",
    ]
    for result in record.results:
        best = {}
        for name in reversed(result.ranking()):
            if result.cells[name].good:
                best[record.contenders[name].kind] = name
        if "ours" not in best or "peer" not in best:
            continue
        ours, peer = best["ours"], best["peer"]
        cells = [f"{shown(result, result.cells[name])} {record.contenders[name].label}" for name in (ours, peer)]
        less = " (less is better)" if result.lower_is_better else ""
        lines.append(f"| {result.title}{less} | {' | '.join(cells)} | {spread(result.ratios(ours, peer))} |")
    return "\n".join(lines) + "\n" if len(lines) > 3 else ""


def table(record: Record, result: Result) -> str:
    """One workload."""
    base = record.contenders[record.base].label
    less = " (less is better)" if result.lower_is_better else ""
    with_cpu = any(any(cell.cpu) for cell in result.cells.values())
    lines = [
        f"## {result.title}{less}\n",
        f"`{result.name}`\n",
        f"| contender | {'value' if result.lower_is_better else 'rate'} |{' CPU |' if with_cpu else ''} times {base} |",
        f"|---|--:|{'--:|' if with_cpu else ''}--:|",
    ]
    for name in result.ranking():
        cell, label = result.cells[name], record.contenders[name]
        title = f"**{label.label}**" if label.kind == "ours" else label.label
        ratio = "1" if name == record.base and cell.good else spread(result.ratios(name, record.base))
        lines.append(f"| {title} | {shown(result, cell)} |{_cpu(cell) if with_cpu else ''} {ratio} |")
    return "\n".join(lines) + "\n"


def _cpu(cell: Cell) -> str:
    if not cell.good or not any(cell.cpu):
        return " |"
    ordered = sorted(cell.cpu)
    return f" {number(ordered[len(ordered) // 2])} µs |"
