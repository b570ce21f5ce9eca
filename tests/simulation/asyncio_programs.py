"""Random asyncio programs."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from typing import Any

from websock.asyncio import Connection, connect, serve
from websock.core.protocol import State
from websock.exceptions import ConnectionClosed, InvalidHandshake
from websock.testing import Simulation
from websock.typing import Data

from .plans import End, Ping, Planned, Run, Send, Sleep, options_of, plan_of


class Unknown(Exception):
    """A message in parts was cancelled: before it began, in the middle, or when all of it was queued."""


class Program:
    """Clients and a server that do what their plans say."""

    def __init__(self, sim: Simulation, seed: int) -> None:
        self.sim = sim
        self.draw = random.Random(f"program {seed}")
        self.runs: list[Run] = [Run() for _ in range(self.draw.choice((1, 1, 2, 4)))]
        self.plans = [(plan_of(self.draw), plan_of(self.draw)) for _ in self.runs]
        self.options = options_of(self.draw), options_of(self.draw)
        self.called_back = [self.draw.random() < 0.2 for _ in self.options]  # by on_message
        self.watches: list[asyncio.Task[None]] = []
        self.early = self.draw.random() < 0.1  # the server is closed at some time

    async def main(self) -> None:
        callback = self._heard_by_server if self.called_back[0] else None
        async with serve(self._handle, "mem://here", on_message=callback, **self.options[0]) as server:
            clients = [self._client(index, self.draw.choice((0.0, 0.0, 1.0))) for index in range(len(self.runs))]
            early = asyncio.get_running_loop().call_later(self.draw.choice((0.0, 0.05, 1.0, 7.0)), server.close)
            if not self.early:
                early.cancel()
            await asyncio.gather(*clients)
            early.cancel()

    async def _client(self, index: int, delay: float) -> None:
        await asyncio.sleep(delay)
        end = End(f"client {index}", self.plans[index][0])

        def heard(ws: Connection, message: Data) -> None:
            end.received.append(message)

        callback = heard if self.called_back[1] else None
        try:
            ws = await connect(f"mem://here/{index}", on_message=callback, **self.options[1])
        except (OSError, InvalidHandshake):
            return
        self.runs[index].client = end
        try:
            async with ws:
                await play(ws, end, self.called_back[1])
        except Planned:
            pass
        await self._over(ws, end)

    def _heard_by_server(self, ws: Any, message: Data) -> None:
        self._end_of(ws).received.append(message)

    def _end_of(self, ws: Any) -> End:
        index = int(ws.request.path[1:])
        run = self.runs[index]
        if run.server is None:
            run.server = End(f"server {index}", self.plans[index][1])
        return run.server

    async def _handle(self, ws: Any) -> None:
        end = self._end_of(ws)
        watch = asyncio.ensure_future(self._over(ws, end))
        self.watches.append(watch)
        await play(ws, end, self.called_back[0])

    async def _over(self, ws: Connection, end: End) -> None:
        await ws.wait_closed()
        end.closed = ws.close_exc
        end.ended_at = self.sim.now


async def play(ws: Connection, end: End, called_back: bool = False) -> None:
    """Send and receive, as the plan says."""
    plan = end.plan
    receiving = asyncio.ensure_future(be_called(ws, end) if called_back else receive(ws, end, random.Random(plan.seed)))
    closing = asyncio.get_running_loop().call_later(plan.close_at, ws._start_close, plan.code, plan.reason)
    try:
        await send_all(ws, end)
        if plan.ends == "raise":
            raise Planned
        if plan.ends == "close":
            await ws.close(plan.code, plan.reason)
        if plan.ends in ("close", "wait"):
            await receiving
    finally:
        if plan.ends == "return":
            await ws.close()
        closing.cancel()
        if plan.ends == "raise":
            receiving.cancel()
        await asyncio.gather(receiving, return_exceptions=plan.ends == "raise")


async def be_called(ws: Connection, end: End) -> None:
    await ws.wait_closed()
    end.complete = True


async def receive(ws: Connection, end: End, draw: random.Random) -> None:
    plan = end.plan
    try:
        while True:
            if draw.random() < plan.rest:
                await asyncio.sleep(plan.pace)
            try:
                async with asyncio.timeout(plan.patience):
                    if draw.random() < plan.streaming:
                        parts: list[Any] = []
                        stream = ws.recv_streaming()
                        async with asyncio.timeout(None):
                            async for part in stream:
                                parts.append(part)
                        if parts:
                            end.received.append(parts[0][:0].join(parts))
                    else:
                        end.received.append(await ws.recv())
            except TimeoutError:
                if parts_lost(end):
                    return
                await asyncio.sleep(0.1)
    except ConnectionClosed:
        end.complete = True


def parts_lost(end: End) -> bool:
    """A stream that was given up in the middle of a message has dropped that: the rest can't be compared."""
    return end.plan.streaming > 0


async def send_all(ws: Connection, end: End) -> None:
    try:
        for step in end.plan.steps:
            if isinstance(step, Sleep):
                await asyncio.sleep(step.seconds)
            elif isinstance(step, Ping):
                pong = await ws.ping()
                if step.wait is not None:
                    try:
                        async with asyncio.timeout(step.wait):
                            await pong
                    except TimeoutError:
                        pass
            else:
                await send(ws, end, step)
    except (ConnectionClosed, Unknown):
        pass


async def send(ws: Connection, end: End, step: Send) -> None:
    if step.parts:
        end.maybe = [step.message]
        sending: Any = ws.send(pieces(step.message, step.parts, step.pause), compress=step.compress)
    else:
        if ws.state is State.OPEN and not ws._lost:
            end.sent.append(step.message)
        sending = ws.send(step.message, compress=step.compress)
    if step.cancel is None:
        await sending
    else:
        task = asyncio.ensure_future(sending)
        await asyncio.wait([task], timeout=step.cancel)
        task.cancel()
        await asyncio.wait([task])
        if task.cancelled() and step.parts:
            raise Unknown
        if not task.cancelled():
            task.result()
    if step.parts:
        end.sent += end.maybe
        end.maybe = []


async def pieces(message: Data, count: int, pause: float) -> AsyncIterator[Any]:
    size = len(message) // count + 1
    for index in range(count):
        if pause and index:
            await asyncio.sleep(pause)
        yield message[index * size : (index + 1) * size]


def run_program(sim: Simulation, seed: int) -> list[Run]:
    program = Program(sim, seed)
    sim.run(program.main())
    return program.runs
