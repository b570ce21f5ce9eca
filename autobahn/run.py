"""Run the Autobahn test suite on our server and client, or on anyone's, and compare with what is expected."""

from __future__ import annotations

import argparse
import asyncio
import fnmatch
import os
import platform
import shutil
import signal
import sys
import time
from collections.abc import Coroutine, Mapping, Sequence
from pathlib import Path

from processes import Problem
from progress import Progress
from report import as_expected, page, table
from results import Examination, Expected, select
from suite import HOME, Suite, find_or_make
from testees import OURS, Testee, client_by, ours, server_at
from wstest import Bounds, Run

LARGE = ("1[23].*.[789]", "1[23].*.1[02-8]")
"""The cases on permessage-deflate with more than 8 KiB in a message: two thirds of those, and most of the time."""

EPILOG = """\
The suite installs itself, but needs Python 2.7, on PATH or among the versions of pyenv; or else Docker.

exit status:
  0    every result is as expected
  1    some are not
  2    nothing was run: an option is wrong, or the suite is missing
  130  stopped by a signal

examples:
  run.py                                            our four, all but compressed messages of more than 8 KiB
  run.py --full --testee client-sync                one of ours, all cases
  run.py --cases '6.*,7.1.*' --exclude 7.1.6        some cases
  run.py --url ws://127.0.0.1:9001                  an echo server that is running
  run.py --client-command 'node echo.js {url} {agent}'
"""


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    result = argparse.ArgumentParser(
        prog="run.py",
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    who = result.add_argument_group("who is examined (default: all four of ours)")
    who.add_argument("--testee", action="append", default=[], choices=OURS, help="one of ours; may be repeated")
    who.add_argument("--url", help="an echo server that runs already")
    who.add_argument(
        "--client-command",
        metavar="COMMAND",
        help="an echo client; {url} becomes the URL of the fuzzing server, {agent} the client's name for it",
    )
    which = result.add_argument_group("which cases")
    chosen = which.add_mutually_exclusive_group()
    chosen.add_argument("--cases", metavar="PATTERNS", help="like '1.*,9.1.*' (default: see --full)")
    chosen.add_argument(
        "--full",
        action="store_true",
        help="all; without it, those with compressed messages of more than 8 KiB (in 12.* and 13.*) are left out",
    )
    which.add_argument("--exclude", metavar="PATTERNS", help="leave these out")
    how = result.add_argument_group("how")
    how.add_argument(
        "--jobs",
        type=int,
        default=min(2, os.cpu_count() or 1),
        metavar="N",
        help="testees at a time (default: %(default)s)",
    )
    how.add_argument(
        "--stall",
        type=float,
        default=120.0,  # a few cases have 100 s
        metavar="SECONDS",
        help="give up a testee when nothing happened for so long (default: %(default)g)",
    )
    how.add_argument(
        "--limit",
        type=float,
        default=3600.0,
        metavar="SECONDS",
        help="give up a testee after so long (default: %(default)g)",
    )
    how.add_argument(
        "--report-dir",
        type=Path,
        default=HOME / "reports",
        metavar="DIR",
        help="where index.html and a folder per testee are written anew (default: .autobahn/reports)",
    )
    return result


def others(options: argparse.Namespace) -> list[Testee]:
    """Return the testees that are not ours; `ValueError` if a URL or a command cannot be one."""
    found = []
    if options.url is not None:
        found.append(server_at(options.url))
    if options.client_command is not None:
        found.append(client_by(options.client_command))
    return found


def patterns(text: str | None) -> list[str]:
    """Split a list with commas."""
    return [] if text is None else [pattern.strip() for pattern in text.split(",")]


def choose(options: argparse.Namespace, cases: Mapping[str, str]) -> dict[str, str]:
    """Return the cases to run; `ValueError` if a pattern matches none."""
    exclude = patterns(options.exclude)
    if options.cases is not None or options.full:
        return select(cases, patterns(options.cases) or ["*"], exclude)
    return select(cases, ["*"], [*(pattern for pattern in LARGE if fnmatch.filter(cases, pattern)), *exclude])


async def examine_all(
    suite: Suite, chosen: Sequence[Testee], cases: Mapping[str, str], options: argparse.Namespace
) -> list[Examination]:
    """Examine each testee, some at a time."""
    progress = Progress(sys.stdout, len(cases), columns=shutil.get_terminal_size().columns)
    bounds = Bounds(options.stall, options.limit)
    slots = asyncio.Semaphore(options.jobs)
    folders = {testee.name: options.report_dir / testee.name for testee in chosen}
    for folder in folders.values():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()

    async def examine(testee: Testee) -> Examination:
        async with slots:
            run = Run(suite, testee, cases, folders[testee.name], bounds, lambda *at: progress.at(testee.name, *at))
            result = await run.examine()
            progress.end(testee.name, f"{result.seconds:.0f} s, {len(result.results)} results")
            return result

    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(examine(testee)) for testee in chosen]
    return [task.result() for task in running]


def say(text: str) -> None:
    """Print at once, also into a pipe."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


async def main(options: argparse.Namespace) -> int:
    """Do what the command line asks; return the exit status."""
    strangers = others(options)
    options.report_dir = options.report_dir.resolve()
    options.report_dir.mkdir(parents=True, exist_ok=True)
    suite = await find_or_make(options.report_dir, say)
    cases = choose(options, suite.cases)
    names = dict.fromkeys(options.testee) or (() if strangers else OURS)
    chosen = [*(ours(name) for name in names), *strangers]
    say(f"{len(cases)} cases for {', '.join(testee.name for testee in chosen)}; {suite.name}")
    examinations = await examine_all(suite, chosen, cases, options)
    expected = Expected()
    now = time.strftime("%Y-%m-%d %H:%M")
    about = f"{len(cases)} cases, {now}, Python {platform.python_version()}, {suite.name}"
    path = options.report_dir / "index.html"
    path.write_text(page(examinations, expected, about), encoding="utf-8")
    say(f"\n{table(examinations, expected)}\n\nreport: {path}")
    return 0 if all(as_expected(examination, expected) for examination in examinations) else 1


async def until_signalled(work: Coroutine[None, None, int]) -> int:
    """Do the work; a signal cancels it, so that it ends the processes that it started."""
    task = asyncio.create_task(work)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    return await task


def command_line(arguments: Sequence[str] | None = None) -> int:
    """Parse, run, and put what goes wrong into words."""
    commands = parser()
    options = commands.parse_args(arguments)
    for name in ("jobs", "stall", "limit"):
        if getattr(options, name) <= 0:
            commands.error(f"--{name} must be more than 0")
    try:
        return asyncio.run(until_signalled(main(options)))
    except asyncio.CancelledError:
        sys.stderr.write("\nstopped\n")
        return 130
    except (Problem, ValueError, OSError) as error:
        sys.stderr.write(f"run.py: {error}\n")
        return 2


if __name__ == "__main__":
    sys.exit(command_line())
