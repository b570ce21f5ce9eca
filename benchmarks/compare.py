"""websock beside other libraries, interleaved in one run: ``make bench``.

    python benchmarks/compare.py [--quick] [--only WORKLOAD]... [--contenders NAME]... [--rounds N] [--list]

Machines differ and are noisy, so each round gives each contender its turn, and what counts are the ratios within the
rounds, the medians, and the CPU time for a message. What can't be measured is an error in its cell, and stops nothing.
A whole run writes results.json, results.md and results.svg beside this file; one of a part writes to build/bench.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import chart
import table
from contenders import Contender, accelerated, all_contenders, select, versions
from record import Cell, Label, Record, Result, number, read, spread
from turns import HERE, ROOT, Tools, Trouble, Turns, compiler
from workloads import RUNNABLE, Workload, active

PART = ROOT / "build" / "bench"
PINS = {
    "auto": "contender and load share one where one message is under way at a time, else each has its own",
    "together": "contender and load share one",
    "apart": "contender and load each have their own",
    "no": "as the kernel chooses",
}


class Progress:
    """One line on a terminal; else a line for each workload."""

    def __init__(self, turns: int) -> None:
        self._turns = turns
        self._done = 0
        self._start = time.monotonic()
        self._terminal = sys.stderr.isatty()

    def begin(self, workload: Workload) -> None:
        if not self._terminal:
            self._say(f"{self._counted()} {workload.title}\n")

    def turn(self, workload: Workload, text: str) -> None:
        if self._terminal:
            self._say(f"\r\033[K{self._counted()} {workload.title}: {text}")
        self._done += 1

    def _counted(self) -> str:
        spent = time.monotonic() - self._start
        left = f", {spent / self._done * (self._turns - self._done) / 60:.0f} min left" if self._done > 20 else ""
        return f"[{self._done}/{self._turns}{left}]"

    def clear(self) -> None:
        self._say("\r\033[K" if self._terminal else "")

    def _say(self, text: str) -> None:
        sys.stderr.write(text)
        sys.stderr.flush()


def measure(
    turns: Turns, workload: Workload, contenders: Sequence[Contender], rounds: int, seconds: float, progress: Progress
) -> list[Result]:
    """All rounds of one workload."""
    shown = [workload, active(workload)] if workload.kind == "hold" else [workload]
    cells = [{each.name: Cell() for each in contenders} for _ in shown]
    failed: set[str] = set()

    def fail(contender: Contender, error: Trouble | OSError) -> None:
        failed.add(contender.name)
        for row in cells:
            row[contender.name].error = str(error) or type(error).__name__
        turns.forget(contender)  # whatever state it is in, the next workload starts it anew

    progress.begin(workload)
    for contender in contenders:
        try:
            turns.prepare(workload, contender)
        except (Trouble, OSError) as error:
            fail(contender, error)
    for number_of_round in range(rounds):
        start = number_of_round % len(contenders)  # nobody always comes behind the same one
        for contender in [*contenders[start:], *contenders[:start]]:
            progress.turn(workload, f"round {number_of_round + 1} of {rounds}, {contender.label}")
            if contender.name in failed:
                continue
            try:
                found = turns.take(workload, contender, seconds)
            except (Trouble, OSError) as error:
                fail(contender, error)
                continue
            for row, (value, cpu) in zip(cells, found, strict=True):
                row[contender.name].values.append(value)
                row[contender.name].cpu.append(cpu)
    return [
        Result(each.name, each.title, each.unit, each.chart, each.lower_is_better, row)
        for each, row in zip(shown, cells, strict=True)
    ]


def show(record: Record, result: Result) -> None:
    """The table on the terminal."""
    print(f"\n{result.title}" + (" (less is better)" if result.lower_is_better else ""))
    for name in result.ranking():
        cell, label = result.cells[name], record.contenders[name].label
        if not cell.good:
            print(f"  {label:36}error: {cell.error or 'no result'}")
            continue
        cpu = f"{sorted(cell.cpu)[len(cell.cpu) // 2]:11.2f} us CPU" if any(cell.cpu) else ""
        ratio = spread(result.ratios(name, record.base))
        print(f"  {label:36}{number(cell.median):>12} {result.unit:4}{cpu:18}  {ratio}")
    sys.stdout.flush()


def about(options: argparse.Namespace) -> dict[str, str]:
    """What a reader must know of a run."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")
    loads = os.getloadavg()
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": f"{model}, {os.cpu_count()} cores, {platform.system()} {platform.release()}, "
        f"load {loads[0]:.1f} at the start",
        "Python": f"{platform.python_implementation()} {platform.python_version()}",
        "websock's codec": "native" if accelerated() else "pure Python",
        "versions": ", ".join(f"{name} {found}" for name, found in versions().items()),
        "rounds": f"{options.rounds}, of {options.seconds} s for each contender" + (" (quick)" * options.quick),
        "cores": PINS[options.pin],
    }


def write(record: Record, folder: Path) -> None:
    """JSON, table and chart."""
    folder.mkdir(parents=True, exist_ok=True)
    record.write(folder / "results.json")
    drawn = any(result.chart for result in record.results)
    if drawn:
        (folder / "results.svg").write_text(chart.svg(record))
    (folder / "results.md").write_text(table.markdown(record, "results.svg" if drawn else None))
    print(f"\nwritten: {os.path.relpath(folder)}/results.md, .json" + (", .svg" if drawn else ""))


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Compare websock with other libraries.")
    parser.add_argument("--quick", action="store_true", help="some rounds of short turns: a first look, in 3 minutes")
    parser.add_argument("--only", action="append", default=[], metavar="WORKLOAD", help="as 'echo*'; may be repeated")
    parser.add_argument("--contenders", action="append", default=[], metavar="NAME", help="as 'picows*'; as --only")
    parser.add_argument("--rounds", type=int, help="turns of each contender (default: 5; quick: 2)")
    parser.add_argument("--seconds", type=float, help="of load in each turn (default: 0.7; quick: 0.12)")
    parser.add_argument(
        "--pin",
        choices=list(PINS),
        default="auto",
        help="contender and load on one core where one message is under way, else apart (auto, the default); always "
        "together; always apart; or as the kernel chooses (no)",
    )
    parser.add_argument("--output", type=Path, metavar="FOLDER", help="where results go")
    parser.add_argument("--list", action="store_true", help="show all workloads and contenders")
    parser.add_argument("--draw", type=Path, metavar="FILE", help="make table and chart anew from a results.json")
    options = parser.parse_args(arguments)
    if options.rounds is None:
        options.rounds = 2 if options.quick else 5
    if options.seconds is None:
        options.seconds = 0.12 if options.quick else 0.7
    if options.rounds < 1 or not 0 < options.seconds <= 600:
        parser.error("--rounds and --seconds must be more than nothing")
    try:
        contenders = all_contenders()
        names = select(options.contenders, [each.name for each in contenders], "contender")
        options.chosen = [each for each in contenders if each.name in names]
        names = select(options.only, [each.name for each in RUNNABLE], "workload")
        options.workloads = [
            each for each in RUNNABLE if each.name in names and not (options.quick and each.slow and not options.only)
        ]
        options.record = read(options.draw) if options.draw else None
    except ValueError as error:
        parser.error(str(error))
    return options


def run(options: argparse.Namespace, folder: str) -> Record:
    record = Record(about(options), options.chosen[0].name)
    record.contenders = {each.name: Label(each.label, each.kind, each.chart) for each in options.chosen}
    plan = [(each, [one for one in options.chosen if each.fits(one)]) for each in options.workloads]
    plan = [(workload, contenders) for workload, contenders in plan if contenders]
    rounds = {each.name: min(options.rounds, 1 if options.quick and each.kind == "hold" else each.rounds)
              for each, _ in plan}  # fmt: skip
    progress = Progress(sum(rounds[workload.name] * len(contenders) for workload, contenders in plan))
    with Turns(Tools(folder), options.pin) as turns:
        last = ""
        for workload, contenders in plan:
            if workload.variant != last or workload.kind == "hold":
                turns.forget()
                last = workload.variant
            found = measure(turns, workload, contenders, rounds[workload.name], options.seconds, progress)
            progress.clear()
            for result in found:
                record.results.append(result)
                show(record, result)
    return record


def main(arguments: Sequence[str] | None = None) -> int:
    sys.path.insert(0, str(ROOT))  # this tree, also where another one is installed; contenders get the same
    os.environ.pop("WEBSOCK_PURE", None)  # each contender says itself which twin it is
    options = parse(arguments)
    if options.list:
        for each in RUNNABLE:
            more = f"; and {active(each).title}" if each.kind == "hold" else ""
            print(f"{each.name:16}{each.title}{more}{' (not in --quick)' if each.slow else ''}")
        print()
        for one in all_contenders():
            print(f"{one.name:28}{one.label}")
        return 0
    if options.record is not None:
        write(options.record, options.output or options.draw.parent)
        return 0
    if compiler() is None:
        print("the benchmarks need Linux and a C compiler (cc)", file=sys.stderr)
        return 1
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # ends the processes that we started
    with tempfile.TemporaryDirectory() as folder:
        record = run(options, folder)
    whole = not (options.quick or options.only or options.contenders)
    write(record, options.output or (HERE if whole else PART))
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
