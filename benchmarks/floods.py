"""What floods do to a server, to its memory, and to its other clients: ``make floods``.

    python benchmarks/floods.py [--only ATTACK]... [--servers NAME]... [--json FILE] [--output FILE] [--list]

Each cell is a server in a process of its own, with the defaults of its library, two bystanders in another one, and one
attack from a third. What counts: how much the server's memory grows (its peak over what it was, read every 10 ms), how
late a watcher in the server wakes, what the bystanders wait for an echo (99th percentile, beside that of the same
second before), and how it ends. The exit status says whether all of our own cells are within the ceilings.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from attacks import ATTACKS, FIN, TEXT, Outcome, Peer, frame
from contenders import OURS, Contender, all_contenders, environment_of, select, versions
from turns import HERE, ROOT, Process, Trouble

HOST = "127.0.0.1"
SERVERS = (
    "websock", "websock-pure", "websock-sync", "websock-pure-sync", "websock-uvloop",
    "websockets", "websockets-sync", "picows-websockets", "aiohttp",
)  # fmt: skip
BY_DEFAULT = tuple(name for name in SERVERS if name != "websock-uvloop")

GROWTH = 5.0  # MB
LAG = 50.0  # ms
ECHO = 50.0  # ms, or
TIMES = 3.0  # so many times the quiet value, whichever is more
SAMPLE = 0.01  # seconds between two looks at the server's memory
QUIET = 1.0  # seconds in which the bystanders are alone, and the least that they are watched for in an attack
PATIENCE = 20.0  # seconds for an attack, beyond which it is ended


@dataclasses.dataclass
class Cell:
    """One attack on one server."""

    outcome: str
    growth: float  # MB
    lag: float  # ms
    busy: float  # ms of CPU time that the server itself had within one such lag, at most
    quiet: float  # ms
    echo: float  # ms, 99th percentile
    worst: float  # ms
    seconds: float
    misses: list[str]


def within(attack: str, outcome: Outcome) -> bool:
    """Taken in within the limits, or refused with what says why."""
    if attack == "many-headers":
        return outcome.what == "refused" and outcome.code in (400, 414, 431)
    if attack == "bomb":
        return (outcome.what, outcome.code) == ("closed", 1009) or outcome.note == "no compression"
    if attack in ("slow-reader", "unread-pings"):  # it neither reads our Close nor has to be closed at once
        return outcome.what in ("waits", "taken in", "closed", "cut")
    if attack == "half-open":
        return outcome.what == "taken in"
    return outcome.what == "taken in" or (outcome.what == "closed" and outcome.code in (1008, 1009))


def resident(pid: int) -> float:
    """MB."""
    with open(f"/proc/{pid}/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE") / 1e6


def ask(process: Process) -> str:
    process.say("?")
    return process.line(PATIENCE)


def warm_up(port: int) -> None:
    """What a library loads and fills at its first connections is not what an attack does."""
    for size in (10, 1000, 100_000, 10):
        peer = Peer(HOST, port)
        try:
            peer.open("Sec-WebSocket-Extensions: permessage-deflate\r\n")
            for _ in range(20):
                peer.write(frame(FIN | TEXT, b"w" * size), time.monotonic() + 5)
            peer.wait(time.monotonic() + 5, 20)
            peer.write(frame(0x88, b"\x03\xe8"), time.monotonic() + 1)
            peer.wait(time.monotonic() + 1)
        finally:
            peer.close()


def measure(attack: str, contender: Contender, scale: float) -> Cell:
    cores = os.sched_getaffinity(0)
    environment = environment_of(contender, str(ROOT))
    processes: list[Process] = []

    def start(*command: str) -> Process:
        processes.append(Process([sys.executable, *command], cores, environment))
        return processes[-1]

    try:
        server = start(str(HERE / "flooded.py"), contender.program, *(["--uvloop"] if contender.uvloop else []))
        port = server.line(PATIENCE)
        warm_up(int(port))
        bystanders = start(str(HERE / "bystanders.py"), HOST, port)
        bystanders.line(PATIENCE)
        time.sleep(0.3)
        ask(bystanders)
        time.sleep(QUIET)
        quiet = float(ask(bystanders).split()[1])
        ask(server)
        before = peak = resident(server.pid)
        began = time.monotonic()
        attacker = start(str(HERE / "attacks.py"), attack, HOST, port, "--scale", str(scale))
        said, ended = "", 0.0
        while not ended or time.monotonic() < max(ended + 0.3, began + QUIET):
            peak = max(peak, resident(server.pid))
            if not ended:
                try:
                    said = attacker.line(SAMPLE)
                    ended = time.monotonic()
                except Trouble:
                    if not attacker.alive or time.monotonic() > began + PATIENCE:
                        note = "no end" if attacker.alive else attacker.last_words()
                        said, ended = json.dumps({"what": "failed", "note": note}), time.monotonic()
                        attacker.close()
            else:
                time.sleep(SAMPLE)
        outcome = Outcome(**json.loads(said))
        try:
            lag, busy = (float(word) * 1000 for word in ask(server).split())
        except Trouble:  # it does not even answer us
            lag = busy = PATIENCE * 1000
        _, echo, worst, lost = map(float, ask(bystanders).split())
    finally:
        for process in processes[::-1]:
            process.close()
    cell = Cell(str(outcome), peak - before, lag, busy, quiet, echo, worst, ended - began, [])
    cell.misses = misses(cell)
    if lost:
        cell.misses.append("others cut")
    if not within(attack, outcome):
        cell.misses.append("outcome")
    return cell


def misses(cell: Cell) -> list[str]:
    """The ceilings that it is over."""
    # Where the server had less than half of a lag, others had the cores: only its own part counts.
    own = cell.lag if 2 * cell.busy >= cell.lag else cell.busy
    over = {
        "memory": cell.growth > GROWTH,
        "lag": own > LAG,
        "others": cell.echo - (cell.lag - own) > max(TIMES * cell.quiet, ECHO),
    }
    return [name for name, is_over in over.items() if is_over]


def text(name: str, label: str, cell: Cell | str, width: Callable[[str, int], str]) -> str:
    if isinstance(cell, str):
        return f"| {width(label, 34)} | {cell} |"
    verdict = f"over: {', '.join(cell.misses)}" if cell.misses else "within"
    return (
        f"| {width(label, 34)} | {cell.growth:+7.1f} | {cell.lag:7.1f} | {cell.busy:6.1f} | {cell.quiet:6.1f} | "
        f"{cell.echo:7.1f} | {cell.worst:7.1f} | {width(cell.outcome, 52)} | {verdict} |"
    )


HEAD = (
    "| server | memory MB | lag ms | busy ms | quiet ms | echo p99 ms | worst ms | outcome | verdict |\n"
    "|---|---:|---:|---:|---:|---:|---:|---|---|"
)


ABOUT = """\
Each server runs in a process of its own with the defaults of its library. Memory is the peak of what is resident over
what was before. Lag is how late a watcher wakes that sleeps for 5 ms over and over: on the event loop, or in a thread
where the server has threads; busy is the most CPU time that the server itself had meanwhile. On a machine that is used
for other things too, of a lag of which the server had less than half only that counts, and the clients' wait is shorter
by the rest. They are two, in another process, that each echo 64 octets every 5 ms; quiet is the 99th percentile in the
second before the attack, p99 the one during it.""".splitlines()


def markdown(found: dict[str, dict[str, Cell | str]], contenders: Sequence[Contender]) -> str:
    """The whole table."""
    labels = {each.name: each.label for each in contenders}
    day = datetime.datetime.now(datetime.UTC).date().isoformat()
    lines = [
        "# Floods",
        "",
        f"- date: {day}",
        f"- machine: {os.cpu_count()} cores, {platform.system()} {platform.release()}",
        f"- Python: {platform.python_implementation()} {platform.python_version()}",
        f"- versions: {', '.join(f'{name} {one}' for name, one in versions().items())}",
        f"- ceilings: memory {GROWTH:.0f} MB; lag {LAG:.0f} ms; others {ECHO:.0f} ms or {TIMES:.0f} times quiet",
        "",
        *ABOUT,
    ]
    for attack, cells in found.items():
        about = (ATTACKS[attack].__doc__ or "").rstrip(".")
        lines += ["", f"## {attack}: {about}", "", HEAD]
        lines += [text(name, labels[name], cell, lambda one, _: one) for name, cell in cells.items()]
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="What floods do to a server, and to its other clients.")
    parser.add_argument("--only", action="append", default=[], metavar="ATTACK", help="some attacks (* matches)")
    parser.add_argument("--servers", action="append", default=[], metavar="NAME", help="some servers (* matches)")
    parser.add_argument("--scale", type=float, default=1.0, help="how much of each attack (1.0: all)")
    parser.add_argument("--json", metavar="FILE", help="write what was measured")
    parser.add_argument("--output", metavar="FILE", help="write the table, as benchmarks/floods.md has it")
    parser.add_argument("--list", action="store_true", help="show attacks and servers")
    options = parser.parse_args(arguments)
    try:
        attacks = select(options.only, list(ATTACKS), "attack")
        names = select(options.servers, SERVERS, "server") if options.servers else list(BY_DEFAULT)
    except ValueError as error:
        parser.error(str(error))
    if options.list:
        for name in attacks:
            print(f"{name:24}{ATTACKS[name].__doc__}")
        for name in names:
            print(name)
        return 0
    if not 0 < options.scale <= 1:
        parser.error("--scale is more than 0, and 1 at most")
    if sys.platform != "linux":
        parser.error("memory is read as Linux tells it")
    there = {each.name: each for each in all_contenders()}
    contenders = [there[name] for name in names if name in there]
    found: dict[str, dict[str, Cell | str]] = {}
    over = False
    for attack in attacks:
        print(f"\n{attack}: {ATTACKS[attack].__doc__}\n{HEAD}")
        for contender in contenders:
            cell: Cell | str
            try:
                cell = measure(attack, contender, options.scale)
            except (Trouble, OSError, ValueError) as error:
                cell = f"error: {error}"
            found.setdefault(attack, {})[contender.name] = cell
            over |= contender.kind == OURS and (isinstance(cell, str) or bool(cell.misses))
            print(text(contender.name, contender.label, cell, str.ljust), flush=True)
    if options.json:
        Path(options.json).write_text(
            json.dumps(
                {
                    attack: {
                        name: cell if isinstance(cell, str) else dataclasses.asdict(cell)
                        for name, cell in cells.items()
                    }
                    for attack, cells in found.items()
                },
                indent=1,
            )
        )
    if options.output:
        Path(options.output).write_text(markdown(found, contenders))
    return 1 if over else 0


if __name__ == "__main__":
    sys.exit(main())
