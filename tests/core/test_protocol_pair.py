"""A client and a server joined by two lists of bytes, in every schedule: nothing lost, doubled or out of order."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from websock.core.broadcast import Broadcast
from websock.core.codec import Fragment
from websock.core.deflate import Deflate
from websock.core.extensions import Pipeline
from websock.core.options import Options
from websock.core.protocol import Protocol, State
from websock.exceptions import ConnectionClosed, ConnectionClosedOK
from websock.frames import Close
from websock.typing import Data

from .deflated import agreed, settings_of_deflate
from .frames import binaries, texts


class End:
    """One end of the connection, with what it should have received and what it did."""

    def __init__(self, server: bool, options: Options | None = None, pipeline: Pipeline | None = None) -> None:
        self.protocol = Protocol(server=server, options=options, pipeline=pipeline)
        self.wire = bytearray()  # what it has written and the other has not read
        self.to_come: list[Data] = []  # the messages that the other end must receive, in order
        self.held: list[Data] = []  # accepted behind a message in parts
        self.parts: list[Any] = []
        self.received: list[Data] = []
        self.streamed: list[Any] = []
        self.pings: dict[bytes, bool] = {}  # whether each has been answered
        self.shut = False  # it will write nothing more
        self.eof_seen = False
        self.now = 0.0

    def flush(self) -> None:
        for buffer in self.protocol.outgoing():
            assert not self.shut
            self.wire += buffer
        if self.protocol.wants_eof or self.protocol.wants_close:
            self.shut = True

    def take(self, entries: list[Any]) -> None:
        for entry in entries:
            if isinstance(entry, Fragment):
                self.streamed.append(entry.data)
                if entry.last:
                    empty: Any = type(entry.data)()
                    self.received.append(empty.join(self.streamed))
                    self.streamed = []
            else:
                assert not self.streamed
                self.received.append(entry)

    @property
    def open(self) -> bool:
        return self.protocol.state is State.OPEN


ends = st.sampled_from(["client", "server"])
counts = st.one_of(st.integers(1, 12), st.just(10**9))


class Conversation(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.client, self.server = End(False), End(True)
        self.number = 0

    def pair(self, name: str) -> tuple[End, End]:
        return (self.client, self.server) if name == "client" else (self.server, self.client)

    @initialize(eager=st.booleans(), deflate=st.none() | st.tuples(settings_of_deflate, settings_of_deflate))
    def start(self, eager: bool, deflate: tuple[Deflate, Deflate] | None) -> None:
        self.eager = eager  # whether applications settle at once
        if deflate is not None:
            client, server, _, _ = agreed([deflate[0]], [deflate[1]])
            self.client, self.server = End(False, pipeline=client), End(True, pipeline=server)

    # What an application does.

    @rule(name=ends, message=st.one_of(texts, binaries), compress=st.sampled_from([None, True, False]))
    def send(self, name: str, message: Data, compress: bool | None) -> None:
        me, _ = self.pair(name)
        if not me.open:
            with pytest.raises(ConnectionClosed):
                me.protocol.send(message)
            return
        me.protocol.send(message, compress=compress)
        (me.held if me.parts else me.to_come).append(message)

    @rule(name=ends, message=st.one_of(texts, binaries), last=st.booleans())
    def send_part(self, name: str, message: Data, last: bool) -> None:
        me, _ = self.pair(name)
        if not me.open:
            return
        if me.parts and type(me.parts[0]) is not type(message):
            with pytest.raises(TypeError):
                me.protocol.send_part(message, last=last)
            return
        me.protocol.send_part(message, last=last)
        me.parts.append(message)
        if last:
            me.to_come += [type(message)().join(me.parts), *me.held]
            me.parts, me.held = [], []

    @rule(name=ends, message=st.one_of(texts, binaries))
    def broadcast(self, name: str, message: Data) -> None:
        me, _ = self.pair(name)
        Broadcast(message).queue(me.protocol)
        if me.open:
            (me.held if me.parts else me.to_come).append(message)

    @rule(name=ends)
    def ping(self, name: str) -> None:
        me, _ = self.pair(name)
        if not me.open:
            return
        self.number += 1
        payload = b"%d" % self.number

        def answered() -> None:
            assert not me.pings[payload], "answered twice"
            me.pings[payload] = True

        me.pings[payload] = False
        me.protocol.ping(payload, answered)

    @rule(name=ends)
    def unsolicited_pong(self, name: str) -> None:
        me, _ = self.pair(name)
        if me.open:
            me.protocol.pong(b"nobody asked")

    @rule(name=ends)
    def stream(self, name: str) -> None:
        me, _ = self.pair(name)
        if not me.streamed:
            part = me.protocol.stream(True)
            me.take([] if part is None else [part])

    @precondition(lambda self: self.number > 3)
    @rule(name=ends, code=st.sampled_from([1000, 1001, 1005, 3000]))
    def close(self, name: str, code: int) -> None:
        me, _ = self.pair(name)
        me.protocol.close(code, "" if code == 1005 else "bye")

    # What the world does.

    @rule(name=ends)
    def write(self, name: str) -> None:
        self.pair(name)[0].flush()

    @rule(name=ends, count=counts)
    def deliver(self, name: str, count: int) -> None:
        """To `name`, as much as a read brings."""
        me, other = self.pair(name)
        data = bytes(other.wire[:count])
        del other.wire[:count]
        me.take(me.protocol.receive(data))
        if self.eager:
            me.protocol.settle()

    @rule(name=ends)
    def settle(self, name: str) -> None:
        self.pair(name)[0].protocol.settle()

    @rule(name=ends, seconds=st.floats(0.0, 0.4))
    def tick(self, name: str, seconds: float) -> None:
        me, _ = self.pair(name)
        me.now += seconds
        me.protocol.tick(me.now)

    @rule(name=ends)
    def pass_eof(self, name: str) -> None:
        me, other = self.pair(name)
        if other.shut and not other.wire and not me.eof_seen:
            me.eof_seen = True
            me.protocol.receive_eof()
        if me.shut and me.protocol.wants_close:
            me.protocol.lost()  # the adapter has closed the transport, as it was told

    # What must hold.

    @invariant()
    def in_order(self) -> None:
        for me, other in ((self.client, self.server), (self.server, self.client)):
            assert me.received == other.to_come[: len(me.received)]
            assert me.protocol.unsettled is None or isinstance(me.protocol.unsettled, Close)

    def teardown(self) -> None:
        """Let all arrive: then each has what the other sent."""
        names = ("client", "server")
        for _ in range(12):  # more turns than any of it needs: a ping, its Pong, and both Closes
            for name in names:
                self.write(name)
                self.deliver(name, 10**9)
                self.settle(name)
                self.pass_eof(name)
        self.in_order()
        states = {self.client.protocol.state, self.server.protocol.state}
        for me, other in ((self.client, self.server), (self.server, self.client)):
            assert me.received == other.to_come
        if states == {State.OPEN}:
            for me in (self.client, self.server):
                assert all(me.pings.values())
            return
        assert states == {State.CLOSED}
        for me, other in ((self.client, self.server), (self.server, self.client)):
            assert me.protocol.close_received == other.protocol.close_sent is not None
            error = me.protocol.closed()
            codes = {me.protocol.close_sent.code, other.protocol.close_sent.code}  # type: ignore[union-attr]
            assert (type(error) is ConnectionClosedOK) == codes.issubset({1000, 1001, 1005})
            assert error.__cause__ is None
        first = {self.client.protocol.closed().rcvd_then_sent, self.server.protocol.closed().rcvd_then_sent}
        assert first in ({True, False}, {False})  # False twice: both closed at the same time


Conversation.TestCase.settings = settings(max_examples=200, stateful_step_count=60, deadline=None)
if settings.default is not None and settings.default.max_examples > 1000:  # the heavy profile
    Conversation.TestCase.settings = settings(max_examples=3000, stateful_step_count=150, deadline=None)
TestConversation = Conversation.TestCase


# Closing from both sides, in all schedules.

STEPS = ("close A", "close B", "A to B", "A to B", "B to A", "B to A")


@pytest.mark.parametrize("lazy", [(False, False), (True, False), (False, True), (True, True)])
@pytest.mark.parametrize("sends", [False, True])
def test_simultaneous_close_in_all_schedules(lazy: tuple[bool, bool], sends: bool) -> None:
    """Each Close travels in two pieces; every order of closing, moving and settling ends the same way."""
    schedules = sorted(set(itertools.permutations(STEPS)))
    assert len(schedules) == 180
    for schedule in schedules:
        a, b = End(False), End(True)
        for end, name in ((a, "A"), (b, "B")):
            if sends:
                end.protocol.send(name)
        for step in schedule:
            if step.startswith("close"):
                end, code = (a, 1000) if step[-1] == "A" else (b, 1001)
                end.protocol.close(code, step)
            else:
                source, target = (a, b) if step[0] == "A" else (b, a)
                source.flush()
                data, source.wire[:3] = bytes(source.wire[:3]), b""
                target.take(target.protocol.receive(data))
                if not lazy[target is b]:
                    target.protocol.settle()
        for _ in range(6):
            for source, target in ((a, b), (b, a)):
                source.flush()
                data = bytes(source.wire)
                source.wire.clear()
                target.take(target.protocol.receive(data))
                target.protocol.settle()
                if source.shut and not source.wire:
                    target.protocol.receive_eof()
        for me, other, name in ((a, b, "A"), (b, a, "B")):
            assert me.protocol.state is State.CLOSED, schedule
            assert other.received == ([name] if sends else []), schedule
            assert me.protocol.close_received == other.protocol.close_sent, schedule
            assert type(me.protocol.closed()) is ConnectionClosedOK, schedule
            assert me.protocol.closed().__cause__ is None, schedule
        first = (a.protocol.closed().rcvd_then_sent, b.protocol.closed().rcvd_then_sent)
        assert first in ((True, False), (False, True), (False, False)), schedule
        if first == (False, False):
            assert (a.protocol.close_sent, b.protocol.close_sent) == (Close(1000, "close A"), Close(1001, "close B"))
        else:
            assert a.protocol.close_sent == b.protocol.close_sent


def test_the_peer_that_fails_us_is_heard() -> None:
    """One side fails the connection: the other hears why, answers, and both end."""
    client, server = Protocol(server=False), Protocol(server=True)
    client.receive(b"\x81\x81abcde")  # a server must not mask
    client.settle()
    for buffer in client.outgoing():
        assert server.receive(buffer) == []
    server.settle()
    assert server.close_received is not None and server.close_received.code == 1002
    for buffer in server.outgoing():
        client.receive(buffer)
    assert server.wants_close
    server.receive_eof()
    client.receive_eof()
    assert client.state is server.state is State.CLOSED


@pytest.mark.parametrize("size", [10, 10_000, 1_000_000])
def test_both_send_much_before_both_read(size: int) -> None:
    """Nothing in the protocol waits for the peer to read."""
    client, server = Protocol(server=False), Protocol(server=True)
    for protocol in (client, server):
        protocol.send(b"a" * size)
        protocol.send("b" * size)
    for source, target in ((client, server), (server, client)):
        got: list[Data] = []
        for buffer in source.outgoing():
            got += target.receive(buffer)
        assert got == [b"a" * size, "b" * size]
