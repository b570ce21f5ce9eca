"""``websock bench``: a load for a server of yours, and what it took."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import math
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, Final, TextIO

from ..asyncio.client import connect
from . import Exit, complain, explain, forget_output
from .arguments import (
    URI_HELP,
    above_zero,
    add_request_options,
    add_tls_options,
    checked_tls,
    not_negative,
    seconds,
    uri,
)
from .load.crowd import Crowd, WorkerLost
from .load.driving import Load
from .load.limits import Files, raise_files
from .load.loop import run
from .load.plan import Plan
from .load.report import Progress, as_json, problems, report
from .load.tally import Tally

__all__ = ["ABOUT", "EXIT", "add_options", "bench"]

ABOUT: Final = """\
Load a server of yours: open connections at a rate, send messages, check the answers, and tell how long all that took
and what went wrong. Messages are sent at a rate, whether or not the server keeps up, and the latency counts from when
a message was due; with --in-flight each answer sends the next one instead. Progress goes to standard error, a line a
second in a terminal; the report to standard output. Ctrl-C ends it with the report so far; twice: at once.
"""
EXIT: Final = f"""\
exit status:
  {Exit.OK:<4} all connections were opened, and all messages answered as they should be
  {Exit.FAILED:<4} no connection could be opened, or the load could not be made
  {Exit.USAGE:<4} wrong usage
  {Exit.ABNORMAL:<4} some connections were not opened or ended early, or messages not answered as they should be
  {Exit.INTERRUPTED:<4} interrupted before its time

examples:
  websock bench ws://localhost:8765/
  websock bench ws://localhost:8765/ --connections 1000 --rate 200 --messages 5000 --size 64,64,64,4096 --duration 60
  websock bench wss://example.com/ --in-flight 8 --processes 2 --json figures.json
  websock bench ws+unix:///run/app.sock --connections 10000 --rate 500 --messages 0 --duration inf   (only holds them)
"""
_EVERY: Final = 1.0  # seconds between two lines of progress


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of the subcommand."""
    parser.add_argument("uri", metavar="URI", type=uri, help=URI_HELP)
    add = parser.add_argument
    add("--connections", metavar="N", type=_count, default=10, help="default: 10")
    add("--rate", metavar="R", type=_rate, default=100.0, help="new connections per second; default: 100; inf: all at "
        "once")  # fmt: skip
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--messages", metavar="R", type=_amount, help="per second, over all connections in turn; default: "
        "100; 0: none")  # fmt: skip
    how.add_argument("--in-flight", metavar="N", type=_count, help="instead: on each connection so many messages wait "
        "for their answers, as fast as the server answers")  # fmt: skip
    add("--size", metavar="BYTES[,...]", type=_sizes, default=(128,), help="of messages, in turn; default: 128, and 16 "
        "at least")  # fmt: skip
    add("--binary", action="store_true", help="send binary messages; default: text")
    add("--expect", choices=["echo", "none"], default="echo", help="each message comes back, and is checked; or "
        "nothing is expected, and what comes is only counted; default: echo")  # fmt: skip
    add("--duration", metavar="SECONDS", type=seconds, default=10.0, help="of sending, which begins when no connection "
        "is opening any more; default: 10; inf: until Ctrl-C")  # fmt: skip
    add("--wait", metavar="SECONDS", type=seconds, default=5.0, help="for answers that are missing then; default: 5")
    add("--timeout", metavar="SECONDS", type=seconds, default=10.0, help="for opening, and for closing; default: 10")
    add("--compression", choices=["deflate", "none"], default="none", help="default: none")
    add("--processes", metavar="N", type=_count, default=1, help="share the load among so many; default: 1")
    add_request_options(add)
    add_tls_options(parser)
    add("--json", metavar="FILE", help="write the report there for programs, too; '-': to standard output, instead")
    talk = parser.add_mutually_exclusive_group()
    talk.add_argument("--progress", action="store_true", help="show it even if standard error is no terminal")
    talk.add_argument("--quiet", action="store_true", help="don't show it")


def _count(text: str) -> int:
    return above_zero(text, "a number above 0")


def _rate(text: str) -> float:
    found = _amount(text)
    if not found:
        raise argparse.ArgumentTypeError("nothing ever happens at a rate of 0")
    return found


def _amount(text: str) -> float:
    return not_negative(text, "a number of times per second")


def _sizes(text: str) -> tuple[int, ...]:
    parts = text.split(",")
    if not all(part.isascii() and part.isdigit() and len(part) < 10 for part in parts):
        raise argparse.ArgumentTypeError(f"{text!r} isn't a number of bytes, or several with commas between them")
    return tuple(map(int, parts))


def bench(parser: argparse.ArgumentParser, args: argparse.Namespace) -> Exit:
    """Do what the options say."""
    in_flight = args.in_flight or 0
    messages = args.messages if args.messages is not None else 0.0 if in_flight else 100.0
    context = checked_tls(parser, args)
    try:
        plan = Plan(
            args.uri,
            connections=args.connections, rate=args.rate, messages=messages, in_flight=in_flight, sizes=args.size,
            binary=args.binary, answers=args.expect == "echo", duration=args.duration, wait=args.wait,
            timeout=args.timeout, compression=None if args.compression == "none" else "deflate",
            headers=tuple(args.header or ()), origin=args.origin, subprotocols=tuple(args.subprotocol or ()),
            ca=args.ca, insecure=args.insecure,
        )  # fmt: skip
        connect(plan.uri, **plan.options(context))  # which checks headers and names
    except ValueError as error:
        parser.error(str(error))
    processes = min(args.processes, plan.connections)
    try:
        raise_files(math.ceil(plan.connections / processes))
        file = None if args.json in (None, "-") else open(args.json, "w", encoding="utf-8")  # noqa: SIM115 - below
    except Files as error:
        complain("bench", str(error))
        return Exit.FAILED
    except OSError as error:
        parser.error(f"--json {args.json}: {explain(error)}")
    with file or contextlib.nullcontext():
        return _Bench(plan, processes).run(file, plain=args.json != "-", progress=_shown(args))


def _shown(args: argparse.Namespace) -> bool:
    return not args.quiet and (args.progress or (sys.stderr is not None and sys.stderr.isatty()))


class _Bench:
    def __init__(self, plan: Plan, processes: int) -> None:
        self._plan = plan
        self._processes = processes
        self._interrupted = False
        self._tally = Tally()

    def run(self, file: TextIO | None, *, plain: bool, progress: bool) -> Exit:
        try:
            run(self._load(progress))
        except (OSError, WorkerLost) as error:
            complain("bench", explain(error))
            return Exit.FAILED
        except KeyboardInterrupt:  # before the signal was ours
            return Exit.INTERRUPTED
        plan, tally, cores = self._plan, self._tally, os.cpu_count() or 1
        figures = json.dumps(as_json(plan, tally, self._processes, cores), indent=2) + "\n" if file or not plain else ""
        try:
            if file is not None:
                file.write(figures)
                file.flush()
            sys.stdout.write(report(plan, tally, self._processes, cores) if plain else figures)
            sys.stdout.flush()
        except BrokenPipeError:  # nobody reads on
            forget_output()
        except OSError as error:
            complain("bench", f"can't write the report: {explain(error)}")
            return Exit.FAILED
        found = problems(plan, tally)
        for problem in found:
            complain("bench", problem)
        if self._interrupted and not math.isinf(plan.duration):
            return Exit.INTERRUPTED
        return Exit.OK if not found else Exit.ABNORMAL if tally.opened else Exit.FAILED

    async def _load(self, progress: bool) -> None:
        load = Crowd(self._plan, self._processes) if self._processes > 1 else Load(self._plan)
        work = asyncio.create_task(load.run())

        def interrupt() -> None:
            if self._interrupted:
                work.cancel()
            self._interrupted = True
            load.stop()

        with _signals(interrupt):
            begun, shown = time.monotonic(), Progress()
            while not (await asyncio.wait([work], timeout=_EVERY if progress else None))[0]:
                line = shown.line(time.monotonic() - begun, load.phase.value, load.snapshot())
                with contextlib.suppress(OSError):
                    sys.stderr.write(line + "\n")
                    sys.stderr.flush()
        try:
            await work
        except asyncio.CancelledError:
            pass  # a second Ctrl-C
        self._tally = load.snapshot()


@contextlib.contextmanager
def _signals(interrupt: Callable[[], None]) -> Iterator[None]:
    """Ctrl-C and SIGTERM are ours."""
    loop = asyncio.get_running_loop()
    before: dict[signal.Signals, Any] = {}
    for number in (signal.SIGINT, signal.SIGTERM):
        before[number] = signal.signal(number, lambda *_: loop.call_soon_threadsafe(interrupt))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
