"""Random blocking programs: the same plans, with threads."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from websock.exceptions import ConnectionClosed, InvalidHandshake
from websock.sync import Connection, connect, serve
from websock.testing import Simulation
from websock.typing import Data

from .plans import End, Ping, Planned, Run, Send, Sleep, options_of, plan_of


class Program:
    """Clients and a server that do what their plans say."""

    def __init__(self, sim: Simulation, seed: int) -> None:
        self.sim = sim
        self.draw = random.Random(f"program {seed}")
        self.runs: list[Run] = [Run() for _ in range(self.draw.choice((1, 1, 2, 4)))]
        self.plans = [(plan_of(self.draw), plan_of(self.draw)) for _ in self.runs]
        self.options = options_of(self.draw), options_of(self.draw)
        self.errors: list[BaseException] = []
        for options in self.options:
            del options["write_limit"]  # it is asyncio's

    def start(self, body: Callable[..., None], *arguments: Any) -> threading.Thread:
        """A thread whose errors are ours."""

        def run() -> None:
            try:
                body(*arguments)
            except Exception as error:
                self.errors.append(error)

        thread = threading.Thread(target=run, name=f"{body.__name__}{arguments[:1]}", daemon=True)
        thread.start()
        return thread

    def main(self) -> None:
        early = self.draw.choice((0.0, 0.05, 1.0, 7.0)) if self.draw.random() < 0.1 else None
        over = threading.Event()
        with serve(self._handle, "mem://here", **self.options[0]) as server:
            threads = [self.start(server.serve_forever)]
            if early is not None:
                for one in self.runs:
                    one.cut = True
                threads.append(self.start(lambda: server.shutdown() if not over.wait(early) else None))
            clients = [self.start(self._client, index) for index in range(len(self.runs))]
            for thread in clients:
                thread.join()
            over.set()
        for thread in threads:
            thread.join()

    def _client(self, index: int) -> None:
        time.sleep(random.choice((0.0, 0.0, 1.0)))
        try:
            ws = connect(f"mem://here/{index}", **self.options[1])
        except (OSError, InvalidHandshake):
            return
        end = self.runs[index].client = End(f"client {index}", self.plans[index][0], untended=True)
        try:
            with ws:
                self.play(ws, end)
        except Planned:
            pass
        self._over(ws, end)

    def _handle(self, ws: Any) -> None:
        index = int(ws.request.path[1:])
        end = self.runs[index].server = End(f"server {index}", self.plans[index][1], untended=True)
        watch = self.start(self._over, ws, end)
        try:
            self.play(ws, end)
        finally:
            ws.close(1011 if end.plan.ends == "raise" else 1000)
            watch.join()

    def _over(self, ws: Connection, end: End) -> None:
        assert ws.wait_closed()
        end.closed = ws.close_exc
        end.ended_at = self.sim.now

    def play(self, ws: Connection, end: End) -> None:
        """Send and receive, as the plan says."""
        plan = end.plan
        over = threading.Event()

        def close_later() -> None:
            if not over.wait(plan.close_at):
                ws.close(plan.code, plan.reason)

        closing = self.start(close_later)
        receiving = self.start(receive, ws, end, random.Random(plan.seed))
        try:
            send_all(ws, end)
            if plan.ends == "raise":
                raise Planned
            if plan.ends == "close":
                ws.close(plan.code, plan.reason)
            if plan.ends in ("close", "wait"):
                receiving.join()
        finally:
            if plan.ends == "return":
                ws.close()
            if plan.ends == "raise":
                ws.close(1011)
            over.set()
            closing.join()
            receiving.join()


def receive(ws: Connection, end: End, draw: random.Random) -> None:
    plan = end.plan
    try:
        while True:
            if draw.random() < plan.rest:
                time.sleep(plan.pace)
            try:
                if draw.random() < plan.streaming:
                    parts = list(ws.recv_streaming())
                    end.received.append(parts[0][:0].join(parts))  # type: ignore[arg-type]
                else:
                    end.received.append(ws.recv(plan.patience))
            except TimeoutError:
                time.sleep(0.1)
    except ConnectionClosed:
        end.complete = True


def send_all(ws: Connection, end: End) -> None:
    try:
        for step in end.plan.steps:
            if isinstance(step, Sleep):
                time.sleep(step.seconds)
            elif isinstance(step, Ping):
                pong = ws.ping()
                if step.wait is not None:
                    pong.wait(step.wait)
            else:
                send(ws, end, step)
    except ConnectionClosed:
        pass


def send(ws: Connection, end: End, step: Send) -> None:
    end.maybe = [step.message]
    if step.parts:
        ws.send(pieces(step.message, step.parts, step.pause), compress=step.compress)
    else:
        ws.send(step.message, compress=step.compress)
    end.sent += end.maybe
    end.maybe = []


def pieces(message: Data, count: int, pause: float) -> Iterator[Any]:
    size = len(message) // count + 1
    for index in range(count):
        if pause and index:
            time.sleep(pause)
        yield message[index * size : (index + 1) * size]


def run_program(sim: Simulation, seed: int) -> list[Run]:
    program = Program(sim, seed)
    program.main()
    if program.errors:
        raise program.errors[0]
    return program.runs
