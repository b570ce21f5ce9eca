"""A process of a load, started by ``crowd.py``: ``python -m websock.cli.load.worker``.

It talks in lines of JSON. It hears its plan first, then "go" and "stop"; it says {"phase", "ready", "done", "tally"}.
The end of its input is the end of who started it, and means "stop" too.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import threading
from typing import IO

from .driving import Load
from .loop import run
from .plan import Plan

__all__ = ["main"]

_INTERVAL = 0.5  # seconds between two lines


async def _work(plan: Plan, orders: IO[bytes]) -> None:
    loop = asyncio.get_running_loop()
    ready, go = False, asyncio.Event()

    async def wait_for_others() -> None:
        nonlocal ready
        ready = True
        say(False)
        await go.wait()

    load = Load(plan, ready=wait_for_others)

    def stop() -> None:
        go.set()
        load.stop()

    def listen() -> None:
        for line in orders:
            try:
                loop.call_soon_threadsafe(go.set if line == b"go\n" else stop)
            except RuntimeError:  # the loop is closed
                return
        try:
            loop.call_soon_threadsafe(stop)
        except RuntimeError:
            pass

    def say(done: bool) -> None:
        news = {"phase": load.phase.value, "ready": ready, "done": done, "tally": load.snapshot().to_json()}
        sys.stdout.write(json.dumps(news) + "\n")
        sys.stdout.flush()

    threading.Thread(target=listen, name="input", daemon=True).start()
    work = asyncio.create_task(load.run())
    while not (await asyncio.wait([work], timeout=_INTERVAL))[0]:
        say(False)
    await work
    say(True)


def main() -> None:
    """Read a plan, do it, tell of it."""
    for number in (signal.SIGINT, signal.SIGTERM):  # who started us is told, and tells us
        signal.signal(number, signal.SIG_IGN)
    try:
        # Without a buffer, since that has a lock, and at the end Python would wait for a thread that still reads.
        with open(sys.stdin.fileno(), "rb", buffering=0, closefd=False) as orders:
            run(_work(Plan.from_json(json.loads(orders.readline())), orders))
    except BrokenPipeError:  # nobody is interested any more
        pass


if __name__ == "__main__":
    main()
