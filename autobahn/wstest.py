"""Run wstest on one testee, and watch it: wstest may wait for ever, and writes its report only at the end."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import time
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote

from processes import LOCALHOST, Problem, end, ended, free_port, how_ended, listening, running
from results import Examination, read_results
from suite import Suite
from testees import Testee

_CASE = re.compile(rb"Running test case ID ([\d.]+) ")
_NO_CONNECTION = re.compile(rb"Connection to .* failed .*")

# By hand, for the client that is examined may be too broken to do it.
_REPORT_REQUEST = """\
GET /updateReports?agent={agent}&shutdownOnComplete=true HTTP/1.1\r
Host: {host}:{port}\r
Upgrade: websocket\r
Connection: Upgrade\r
Sec-WebSocket-Version: 13\r
Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r
\r
"""


@dataclass
class Bounds:
    """When to give up, in seconds."""

    stall: float
    """Without a sign of life from wstest."""
    total: float
    """For all cases of a testee."""


class Run:
    """One testee in the hands of wstest."""

    def __init__(
        self,
        suite: Suite,
        testee: Testee,
        cases: Mapping[str, str],
        folder: Path,
        bounds: Bounds,
        on_case: Callable[[int, str], None],
    ) -> None:
        """Report and log to the empty `folder`; tell `on_case` number and name of each case that starts."""
        self._suite = suite
        self._testee = testee
        self._cases = cases
        self._folder = folder
        self._bounds = bounds
        self._on_case = on_case
        self._numbers = {case: number for number, case in enumerate(cases, 1)}
        self._last_case = "none"
        self._no_connection: str | None = None
        self._port = free_port()

    async def examine(self) -> Examination:
        """Run all cases; whatever the testee does, this comes to an end."""
        start = time.monotonic()
        try:
            problem = await (self._server() if self._testee.role == "server" else self._client())
        except Problem as error:
            problem = str(error)
        if problem:
            problem += f"; logs in {self._folder}"
        return Examination(
            testee=self._testee.name,
            cases=self._cases,
            results=read_results(self._folder, self._testee.name),
            problem=problem,
            seconds=time.monotonic() - start,
        )

    async def _server(self) -> str | None:
        """Let wstest be the client; return what went wrong."""
        address = {"agent": self._testee.name, "url": self._testee.address(self._port)}
        async with contextlib.AsyncExitStack() as stack:
            server = None
            if self._testee.command:
                server = await stack.enter_async_context(self._running_testee())
                await listening("the server", server, self._port)
            wstest = await stack.enter_async_context(self._wstest("fuzzingclient", {"servers": [address]}))
            problem = await self._follow(wstest, self._bounds.total)
            if server is not None:
                # When wstest finds no server any more, the news of its end may still be on the way to us.
                if await ended(server, within=5.0 if self._no_connection else 0.0):
                    return self._so_far(f"the server ended by itself: {await how_ended(server)}")
                if problem:
                    # The case that hangs ends with its connection; without a server wstest then reports.
                    await end(server)
                    await self._follow(wstest, self._bounds.stall)
        return problem or (self._so_far(self._no_connection) if self._no_connection else None)

    async def _client(self) -> str | None:
        """Let wstest be the server; return what went wrong."""
        url = self._testee.address(self._port)
        async with self._wstest("fuzzingserver", {"url": url}, "--webport", "0") as wstest:
            await listening("wstest", wstest, self._port)
            following = asyncio.create_task(self._follow(wstest, self._bounds.total))
            async with self._running_testee() as client:
                ending = asyncio.create_task(client.wait())
                await asyncio.wait((following, ending), return_when=asyncio.FIRST_COMPLETED)
                failure = self._so_far(f"the client failed: {await how_ended(client)}") if client.returncode else None
            # The client is gone, and so the case that hangs.
            async with self._report_asked_for():
                if problem := await following:
                    await self._follow(wstest, self._bounds.stall)
        return problem or failure

    def _running_testee(self) -> AbstractAsyncContextManager[Process]:
        return running(
            self._testee.start(self._port),
            log=self._folder / f"{self._testee.role}.log",
            env=self._testee.env,
        )

    def _wstest(self, mode: str, spec: dict[str, Any], *arguments: str) -> AbstractAsyncContextManager[Process]:
        path = self._folder / "spec.json"
        path.write_text(json.dumps({**spec, "outdir": str(self._folder), "cases": list(self._cases)}))
        command = self._suite.wstest("--mode", mode, "--spec", str(path), *arguments)
        # In its folder, because Python looks for modules first where it is started.
        return running(command, cwd=self._folder)

    @contextlib.asynccontextmanager
    async def _report_asked_for(self) -> AsyncIterator[None]:
        """Have wstest, if it still runs, write its report and end within the block."""
        try:
            _, writer = await asyncio.open_connection(LOCALHOST, self._port)
        except OSError:
            yield
            return
        with contextlib.closing(writer):
            agent = quote(self._testee.name)
            writer.write(_REPORT_REQUEST.format(agent=agent, host=LOCALHOST, port=self._port).encode())
            yield

    async def _follow(self, wstest: Process, limit: float) -> str | None:
        """Read what wstest prints until it ends, or for `limit` seconds; return what went wrong."""
        printed = cast("asyncio.StreamReader", wstest.stdout)  # a pipe, since there is no log in its place
        loop = asyncio.get_running_loop()
        deadline = loop.time() + limit
        rest = b""
        with (self._folder / "wstest.log").open("ab") as log:
            while True:
                left = deadline - loop.time()
                try:
                    async with asyncio.timeout(min(left, self._bounds.stall)):
                        output = await printed.read(1 << 16)
                except TimeoutError:
                    if left <= self._bounds.stall:
                        return self._so_far(f"not finished after {limit:g} s")
                    return self._so_far(f"stalled: no sign of life for {self._bounds.stall:g} s")
                if not output:
                    break
                log.write(output)
                *lines, rest = (rest + output).split(b"\n")
                for line in lines:
                    self._read(line)
        if await wstest.wait():
            return self._so_far(f"wstest failed: {await how_ended(wstest)}")
        return None

    def _so_far(self, problem: str) -> str:
        """Say how far it came; to be called as soon as the problem is there, for wstest may yet go on."""
        return f"{problem}; last case started: {self._last_case}"

    def _read(self, line: bytes) -> None:
        if match := _CASE.match(line):
            self._last_case = match[1].decode()
            self._on_case(self._numbers[self._last_case], self._last_case)
        elif _NO_CONNECTION.match(line):
            self._no_connection = line.decode(errors="replace")
