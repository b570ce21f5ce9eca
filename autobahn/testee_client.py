"""The echo client that Autobahn examines, in either adapter.

It asks the fuzzing server how many cases there are, echoes through each of them, and asks for the report.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any
from urllib.parse import quote

from testee_options import parser, settings

from websock.asyncio import client as asyncio_client
from websock.sync import client as sync_client


async def echo(url: str, options: dict[str, Any]) -> None:
    """Send every message back until the server closes, on asyncio."""
    async with asyncio_client.connect(url, **options) as ws:
        async for message in ws:
            await ws.send(message)


async def run(url: str, agent: str, options: dict[str, Any]) -> None:
    """Go through all cases on asyncio."""
    async with asyncio_client.connect(f"{url}/getCaseCount", **options) as ws:
        count = int(await ws.recv())
    for case in range(1, count + 1):
        try:
            await echo(f"{url}/runCase?case={case}&agent={agent}", options)
        except Exception as error:  # many cases end so, and none may keep us from the next
            tell(case, error)
    await echo(f"{url}/updateReports?agent={agent}", options)


def echo_sync(url: str, options: dict[str, Any]) -> None:
    """Send every message back until the server closes, in this thread."""
    with sync_client.connect(url, **options) as ws:
        for message in ws:
            ws.send(message)


def run_sync(url: str, agent: str, options: dict[str, Any]) -> None:
    """Go through all cases in this thread."""
    with sync_client.connect(f"{url}/getCaseCount", **options) as ws:
        count = int(ws.recv())
    for case in range(1, count + 1):
        try:
            echo_sync(f"{url}/runCase?case={case}&agent={agent}", options)
        except Exception as error:  # as above
            tell(case, error)
    echo_sync(f"{url}/updateReports?agent={agent}", options)


def tell(case: int, error: Exception) -> None:
    """Log how the connection of a case ended."""
    sys.stderr.write(f"case number {case}: {error!r}\n")


def main() -> None:
    """Run the command line."""
    commands = parser(__doc__)
    commands.add_argument("--url", required=True, help="where the fuzzing server listens")
    commands.add_argument("--agent", required=True, help="our name in its report")
    arguments = commands.parse_args()
    job = (arguments.url, quote(arguments.agent), settings())
    if arguments.adapter == "asyncio":
        asyncio.run(run(*job))
    else:
        run_sync(*job)


if __name__ == "__main__":
    main()
