"""The pool in every order of events: never more than allowed, in order, nothing lost, nothing left.

A state machine over the asyncio pool, whose clock, connector, checks and closing stand still until a rule moves them.
"""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from websock.net.address import Address
from websock.net.asyncio.pool import Pool
from websock.net.errors import ClosedError
from websock.net.pooling import Step, Ticket

from .pooled import Slow, World

ADDRESSES = [Address.parse(f"tcp://127.0.0.1:{port}") for port in (1, 2, 3)]
TURNS = 8  # of the loop, until nothing moves by itself


class Gated(Slow):
    """It closes when it may."""

    machine: PoolMachine
    slow = False

    async def close(self) -> None:
        if self.slow:
            await self.machine.gate("closing")
        self._end("closed")


class User:
    def __init__(self, address: Address, task: asyncio.Task[None]) -> None:
        self.address = address
        self.task = task


class PoolMachine(RuleBasedStateMachine):
    loop: asyncio.AbstractEventLoop

    @initialize(size=st.integers(1, 3), total=st.integers(1, 4), age=st.sampled_from([None, 25.0]))
    def begin(self, size: int, total: int, age: float | None) -> None:
        self.loop = asyncio.new_event_loop()
        self.world = World()
        self.now = 0.0
        self.size, self.total = size, total
        self.gates: dict[str, list[asyncio.Future[Any]]] = {"connecting": [], "closing": [], "checking": []}
        self.slow = dict.fromkeys(self.gates, False)
        self.users: list[User] = []
        self.inside: dict[int, tuple[Gated, asyncio.Future[str]]] = {}
        self.closed = False
        self.pool: Pool[Gated] = Pool(
            size=size, total=total, idle=10.0, age=age, connect=self.connect, check=self.check, clock=lambda: self.now
        )
        self.state = cast("Any", self.pool._rules)
        rules = self.state
        grant = rules._grant

        def watched(ticket: Ticket[Gated]) -> None:
            # Only those may be overtaken that wait for their own address.
            for key, line in rules._lines.items():
                if line[0].number < ticket.number:
                    assert key != ticket.key
                    assert rules._places.get(key, 0) >= size and key not in rules._idle
            grant(ticket)

        rules._grant = watched

    async def gate(self, name: str) -> Any:
        future = self.loop.create_future()
        self.gates[name].append(future)
        try:
            return await future
        finally:
            self.gates[name].remove(future)

    async def connect(self, address: Address) -> Gated:
        self.world.count((address, None), 1)
        try:
            if self.slow["connecting"]:
                await self.gate("connecting")
        except BaseException:
            self.world.count((address, None), -1)
            raise
        made = Gated(self.world, (address, None))
        made.machine = self
        made.slow = self.slow["closing"]
        return made

    async def check(self, connection: Gated) -> bool:
        assert connection.how == ""
        return await self.gate("checking") if self.slow["checking"] else True

    async def use(self, address: Address, timeout: float | None) -> None:  # noqa: ASYNC109
        async with self.pool.connection(address, timeout=timeout) as connection:
            assert connection.how == ""
            assert connection.where == (address, None)
            assert all(other is not connection for other, _ in self.inside.values()), "two have the same"
            future = self.loop.create_future()
            task = asyncio.current_task()
            self.inside[id(task)] = connection, future
            try:
                how = await future
            finally:
                del self.inside[id(task)]
            if how == "discard":
                self.pool.discard(connection)
            elif how == "close":
                connection._end("closed")
            elif how == "raise":
                raise ZeroDivisionError

    def settle(self) -> None:
        async def turns() -> None:
            for _ in range(TURNS):
                await asyncio.sleep(0)

        self.loop.run_until_complete(turns())
        for user in [one for one in self.users if one.task.done()]:
            self.users.remove(user)
            if not user.task.cancelled():
                error = user.task.exception()
                expected = (ZeroDivisionError, ConnectionRefusedError, TimeoutError, *[ClosedError] * self.closed)
                assert error is None or isinstance(error, expected), error

    @rule(address=st.sampled_from(ADDRESSES), timeout=st.sampled_from([None, None, 0]))
    def ask(self, address: Address, timeout: float | None) -> None:
        self.users.append(User(address, self.loop.create_task(self.use(address, timeout))))
        self.settle()

    @precondition(lambda self: self.users)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        user = data.draw(st.sampled_from(self.users))
        user.task.cancel()
        self.settle()

    @precondition(lambda self: self.gates["connecting"])
    @rule(data=st.data(), fine=st.sampled_from([True, True, False]), cancelled=st.sampled_from([None, None, 0, 1]))
    def connected(self, data: st.DataObject, fine: bool, cancelled: int | None) -> None:
        """And in the same turn of the loop somebody may be cancelled."""
        future = data.draw(st.sampled_from(self.gates["connecting"]))
        if fine:
            future.set_result(None)
        else:
            future.set_exception(ConnectionRefusedError())
        if cancelled is not None and self.users:
            self.users[cancelled % len(self.users)].task.cancel()
        self.settle()

    @precondition(lambda self: self.gates["checking"])
    @rule(data=st.data(), outcome=st.sampled_from([True, False, EOFError(), ZeroDivisionError()]))
    def checked(self, data: st.DataObject, outcome: bool | Exception) -> None:
        future = data.draw(st.sampled_from(self.gates["checking"]))
        if isinstance(outcome, Exception):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)
        self.settle()

    @precondition(lambda self: self.gates["closing"])
    @rule(data=st.data())
    def closes(self, data: st.DataObject) -> None:
        data.draw(st.sampled_from(self.gates["closing"])).set_result(None)
        self.settle()

    @precondition(lambda self: self.inside)
    @rule(
        data=st.data(),
        how=st.sampled_from(["back", "back", "back", "discard", "raise", "close"]),
        cancelled=st.sampled_from([None, None, 0, 1, -1]),
    )
    def done(self, data: st.DataObject, how: str, cancelled: int | None) -> None:
        """And in the same turn of the loop somebody may be cancelled: who is about to be served, for one."""
        which = data.draw(st.sampled_from(sorted(self.inside, key=lambda one: self.inside[one][0].fileno())))
        self.inside[which][1].set_result(how)
        if cancelled is not None and self.users:
            self.loop.run_until_complete(asyncio.sleep(0))
            self.users[cancelled % len(self.users)].task.cancel()
        self.settle()

    @rule(data=st.data(), sends=st.booleans())
    def peer(self, data: st.DataObject, sends: bool) -> None:
        alive = [one for one in self.world.left() if one.peer.fileno() >= 0]
        if alive:
            one = data.draw(st.sampled_from(alive))
            if sends:
                one.peer.send(b"?")
            else:
                one.peer.close()

    @rule(seconds=st.sampled_from([1.0, 9.0, 11.0, 30.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(what=st.sampled_from(["connecting", "closing", "checking"]))
    def turn(self, what: str) -> None:
        self.slow[what] = not self.slow[what]

    @rule()
    def expire(self) -> None:
        async def run() -> None:
            await self.pool.expire()

        self.users.append(User(ADDRESSES[0], self.loop.create_task(run())))
        self.settle()

    @precondition(lambda self: not self.closed)
    @rule(really=st.sampled_from([False, False, False, True]))
    def close(self, really: bool) -> None:
        if really:
            self.closed = True
            self.users.append(User(ADDRESSES[0], self.loop.create_task(self.pool.close())))
            self.settle()

    @invariant()
    def never_too_many(self) -> None:
        if hasattr(self, "world"):
            assert all(count <= self.size for count in self.world.most.values()), self.world.most
            assert self.world.most_in_all <= self.total

    @invariant()
    def nobody_waits_for_nothing(self) -> None:
        if not hasattr(self, "state"):
            return
        rules = self.state
        assert not any(rules._can_serve(key) for key in rules._lines)
        # Whoever waits is behind all of the same address that do not.
        for line in rules._lines.values():
            numbers = [ticket.number for ticket in line]
            assert numbers == sorted(numbers)
        stats = self.pool.stats
        assert stats.out == len(self.inside)
        assert stats.waiting == sum(len(line) for line in rules._lines.values())
        assert stats.idle == sum(len(idle) for idle in rules._idle.values())
        assert stats.waiting <= len(self.users)
        assert rules._taken <= self.total

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        self.slow = dict.fromkeys(self.gates, False)
        for _ in range(100):
            for user in self.users:
                user.task.cancel()
            for futures in self.gates.values():
                for future in futures:
                    if not future.done():
                        future.set_result(True)
            self.settle()
            if not self.users:
                break
        assert not self.users
        for one in self.world.left():
            one.slow = False  # type: ignore[attr-defined]
        self.closed = True
        self.loop.run_until_complete(asyncio.wait_for(self.pool.close(), 5))
        assert self.world.left() == []
        assert (self.state._places, self.state._taken, self.state._lines) == ({}, 0, {})
        gauges = {step: count for step, count in self.state._gauges.items() if count}
        assert set(gauges) <= {Step.DONE, Step.REFUSED}
        self.loop.close()
        self.never_too_many()


@pytest.mark.filterwarnings("ignore::hypothesis.errors.HypothesisWarning")
def test_every_order_of_events() -> None:
    run_state_machine_as_test(
        PoolMachine, settings=settings(max_examples=3 * settings().max_examples, stateful_step_count=50)
    )
