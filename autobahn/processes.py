"""Child processes that cannot outlive the runner.

Each is started in a process group of its own, so that ending it ends its children too, and a Ctrl-C in the
terminal reaches the runner alone, which then ends them in order. No other process is ever signalled.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import signal
import socket
import textwrap
from asyncio.subprocess import DEVNULL, PIPE, STDOUT, Process
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path

LOCALHOST = "127.0.0.1"

_GRACE = 3.0
"""Seconds between the request to end and the kill."""

_START = 30.0
"""Seconds in which a server has to listen."""


class Problem(Exception):
    """Why something did not go to its end; the text is for the person who runs the runner."""


@contextlib.asynccontextmanager
async def running(
    command: Sequence[str],
    *,
    log: Path | None = None,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> AsyncIterator[Process]:
    """Run `command` for the length of the block.

    Its output goes to the file `log`, or without one to the pipe `process.stdout`.
    `Problem` if it cannot be started.
    """
    with contextlib.ExitStack() as files:
        output = files.enter_context(log.open("wb")) if log else PIPE
        try:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=DEVNULL,
                stdout=output,
                stderr=STDOUT,
                cwd=cwd,
                env=env,
                start_new_session=True,
            )
        except OSError as error:
            raise Problem(f"cannot start {command[0]}: {error.strerror}") from error
    try:
        yield process
    finally:
        await end(process)


async def end(process: Process) -> None:
    """End `process` and all that it started; if it has ended already, what it left behind."""
    try:
        _signal_group(process, signal.SIGTERM)
        await ended(process, within=_GRACE)
    finally:  # also when this is cancelled
        _signal_group(process, signal.SIGKILL)
        await process.wait()


async def ended(process: Process, *, within: float) -> bool:
    """Return whether `process` ends in so many seconds, or has ended already."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(within):
            await process.wait()
    return process.returncode is not None


def _signal_group(process: Process, number: signal.Signals) -> None:
    # ProcessLookupError: the group is gone. PermissionError: macOS says so of one with nothing but zombies.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)


async def output_of(command: Sequence[str], *, limit: float, cwd: Path | None = None) -> str:
    """Return what `command` prints; `Problem` if it does not start, fails, or takes more than `limit` s."""
    try:
        async with asyncio.timeout(limit), running(command, cwd=cwd) as process:
            output, _ = await process.communicate()
    except TimeoutError:
        raise Problem(f"not done after {limit:g} s: {_in_short(command)}") from None
    text = output.decode(errors="replace")
    if process.returncode:
        raise Problem(f"{await how_ended(process)}: {_in_short(command)}\n{text}")
    return text


def _in_short(command: Sequence[str]) -> str:
    return textwrap.shorten(shlex.join(command), 120)


def free_port() -> int:
    """Return a TCP port that nobody uses on the loopback address."""
    with socket.socket() as probe:
        probe.bind((LOCALHOST, 0))
        port: int = probe.getsockname()[1]
    return port


async def listening(name: str, process: Process, port: int) -> None:
    """Wait until `process`, called `name`, accepts connections; `Problem` if it does not."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_START):
            while process.returncode is None:
                try:
                    _, writer = await asyncio.open_connection(LOCALHOST, port)
                except OSError:
                    await asyncio.sleep(0.02)
                else:
                    writer.close()
                    return
            raise Problem(f"{name} ended before it listened: {await how_ended(process)}")
    raise Problem(f"{name} does not listen on port {port} after {_START:g} s")


async def how_ended(process: Process) -> str:
    """Wait for the end of the process and put it into words."""
    code = await process.wait()
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
