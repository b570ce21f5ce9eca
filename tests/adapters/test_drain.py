"""``Server.drain``: nothing that was accepted is lost, and every connection is told how it ended."""

from __future__ import annotations

import contextlib
import random
import threading
import time
from typing import Any

import pytest

import websock.sync
from websock import Drained, DrainOutcome
from websock.exceptions import CloseCause, ConnectionClosed, ConnectionClosedError, InvalidState
from websock.net.channel import Channel

from .drivers import Background, until
from .raw import REQUEST


@pytest.fixture(params=["asyncio", "sync"])
def name(request: pytest.FixtureRequest) -> Any:
    return request.param


def echo(end: Any) -> None:
    while True:
        end.send(end.recv(None))


def drain(server: Any, *args: Any, **how: Any) -> Drained:
    if not hasattr(server, "adapter"):
        return server.server.drain(*args, **how)  # type: ignore[no-any-return]
    return server.adapter.run(server.server.drain(*args, **how))  # type: ignore[no-any-return]


def test_idle_connections_are_closed_at_once(bench: Any, name: str) -> None:
    where = bench.where("tcp4")
    server = bench.serve(name, where, echo)
    clients = [bench.connect("sync", where) for _ in range(5)]
    for client in clients:
        client.send("hello")
        assert client.recv() == "hello"
    waiting = [Background(client.recv) for client in clients]
    report = drain(server, 20, reason="new version")
    for one in waiting:
        with pytest.raises(ConnectionClosedError) as caught:
            one.result()
        assert caught.value.rcvd == websock.Close(1012, "new version")
        assert caught.value.sent == websock.Close(1012, "new version")
    assert report.count(DrainOutcome.CLOSED) == 5
    assert set(report.outcomes.values()) == {DrainOutcome.CLOSED}
    assert report.refused == 0
    assert report.seconds < 10, "half of the deadline is for handlers that are busy"
    assert "5 connections" in str(report)
    assert server.server.draining
    with pytest.raises(InvalidState):
        drain(server, 1)
    with pytest.raises(OSError):
        where.reach()


def test_what_was_accepted_is_answered(bench: Any, name: str) -> None:
    """The handler is busy with a message, and more of them have come: all are answered before the Close."""
    go = threading.Event()
    taken = threading.Event()

    def slow_echo(end: Any) -> None:
        while True:
            message = end.recv(None)
            taken.set()
            go.wait(30)
            end.send(message)

    where = bench.where("tcp4")
    server = bench.serve(name, where, slow_echo)
    client = bench.connect("sync", where)
    for number in range(5):
        client.send(str(number))
    taken.wait(30)
    draining = Background(drain, server, 30)
    (connection,) = server.server.connections
    until(lambda: connection._protocol.leaving)  # it was asked to leave, and does not while the handler is busy
    assert not draining.done
    assert connection.state is websock.State.OPEN
    go.set()
    assert [client.recv() for _ in range(5)] == list("01234")
    with pytest.raises(ConnectionClosedError) as caught:
        client.recv()
    assert caught.value.rcvd is not None
    assert caught.value.rcvd.code == 1012
    assert list(draining.result().outcomes.values()) == [DrainOutcome.CLOSED]


def test_what_is_just_being_read_is_answered(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server looks whether it may close, when a message is not in the system any more and not in the inbox yet."""
    receive = Channel.receive
    looked: list[websock.State] = []

    def receive_and_look(channel: Any, *limit: int) -> Any:
        data = receive(channel, *limit)
        for connection in server.server.connections:
            if connection._stream is channel and data:
                looking = threading.Thread(target=connection._leave, args=(1012, "", 30.0))
                looking.start()
                looking.join()
                looked.append(connection.state)
        return data

    where = bench.where("tcp4")
    server = bench.serve("sync", where, echo)
    client = bench.connect("sync", where)
    client.send("first")
    assert client.recv() == "first"
    with monkeypatch.context() as patch:
        patch.setattr(Channel, "receive", receive_and_look)
        client.send("second")
        assert client.recv() == "second"
    assert looked == [websock.State.OPEN]
    drain(server, 1)
    with pytest.raises(ConnectionClosedError):
        client.recv()


def test_under_load(bench: Any, name: str) -> None:
    """Every message that a handler took was answered, and every client sees the Close and no reset."""
    taken: set[str] = set()

    def handler(end: Any) -> None:
        while True:
            message = end.recv(None)
            taken.add(message)
            end.send(message)

    where = bench.where("tcp4")
    server = bench.serve(name, where, handler)
    answered: set[str] = set()

    def talk(number: int, client: Any) -> Any:
        wait = random.Random(number).random
        count = 0
        try:
            while True:
                message = f"{number}.{count}"
                client.send(message)
                assert client.recv() == message
                answered.add(message)
                count += 1
                if number % 3 == 0:
                    time.sleep(wait() * 0.005)
        except ConnectionClosed as closed:
            return closed

    clients = [bench.connect("sync", where) for _ in range(12)]
    talking = [Background(talk, number, client) for number, client in enumerate(clients)]
    until(lambda: len(answered) > 200)
    report = drain(server, 20, spread=0.1)
    for one in talking:
        closed = one.result()
        assert closed.rcvd is not None
        assert closed.rcvd.code in (1001, 1012)
    assert taken == answered
    assert report.count(DrainOutcome.CLOSED) == 12


def test_a_peer_that_sends_without_end_is_closed_after_a_while(bench: Any, name: str) -> None:
    where = bench.where("tcp4")
    server = bench.serve(name, where, echo)
    peer = where.raw_client()
    peer.ask()
    over = threading.Event()

    def flood() -> None:
        while not over.is_set():
            try:
                peer.send(1, b"more")
                time.sleep(0.0005)
            except OSError:
                return

    flooding = Background(flood)
    try:
        report = drain(server, 2)
    finally:
        over.set()
        peer.drop()
        flooding.result()
    (outcome,) = report.outcomes.values()
    assert outcome in (DrainOutcome.UNANSWERED, DrainOutcome.CUT)
    assert report.seconds < 4


def test_a_handler_that_does_not_come_back_is_cut(bench: Any, name: str) -> None:
    where = bench.where("tcp4")
    over = threading.Event()

    def stuck(end: Any) -> None:
        end.recv(None)
        over.wait(30)

    server = bench.serve(name, where, stuck)
    client = bench.connect("sync", where)
    client.send("x")
    receiving = Background(client.recv)
    try:
        report = drain(server, 0.4)
    finally:
        over.set()
    assert len(report.outcomes) == 1
    with pytest.raises(ConnectionClosed) as caught:
        receiving.result()
    assert caught.value.rcvd is not None, "half of the time is over: it gets a Close"
    assert caught.value.rcvd.code == 1012


def test_a_peer_that_never_answers_is_cut(bench: Any, name: str) -> None:
    where = bench.where("tcp4")
    server = bench.serve(name, where, echo, close_timeout=None)
    peer = where.raw_client()
    peer.ask()
    until(lambda: len(server.server.connections) == 1)
    report = drain(server, 0.3)
    assert list(report.outcomes.values()) == [DrainOutcome.CUT]
    (ws,) = report.outcomes
    assert ws.close_exc.cause is CloseCause.WE_CLOSED, "no error of the system's"
    assert ws.close_exc.os_error is None
    assert peer.recv_close() == 1012
    peer.drop()


def test_connections_that_only_push(bench: Any, name: str) -> None:
    """A handler that never receives has nothing under way that could be lost; it may look at ``draining``."""
    where = bench.where("tcp4")

    def push(end: Any) -> None:
        while not end.server.draining:
            end.send("tick")
            time.sleep(0.001)

    server = bench.serve(name, where, push)
    client = bench.connect("sync", where)
    assert client.recv() == "tick"
    closing = Background(lambda: list(client.ws))
    report = drain(server, 20)
    with contextlib.suppress(ConnectionClosedError):  # by which of the two it ended
        closing.result()
    assert client.ws.close_code in (1000, 1012)
    assert set(report.outcomes.values()) <= {DrainOutcome.CLOSED, DrainOutcome.ENDED}
    assert report.seconds < 10


def test_openings_are_refused(bench: Any, name: str) -> None:
    where = bench.where("tcp4")
    server = bench.serve(name, where, echo)
    peer = where.raw_client()
    peer.send_bytes(b"GET / HTTP/1.1\r\n")
    good = bench.connect("sync", where)
    good.send("x")
    good.recv()
    if name == "asyncio":
        until(lambda: len(server.server._openings) == 1)
    receiving = Background(good.recv)
    report = drain(server, 20)
    with pytest.raises(ConnectionClosedError):
        receiving.result()
    assert report.refused == 1
    assert peer.all().startswith(b"HTTP/1.1 503 ")
    peer.drop()
    assert len(report.outcomes) == 1


def test_on_message_alone(bench: Any) -> None:
    where = bench.where("tcp4")
    server = bench.serve("asyncio", where, None, on_message=lambda ws, message: ws.send(message))
    client = bench.connect("sync", where)
    client.send("x")
    assert client.recv() == "x"
    receiving = Background(client.recv)
    report = drain(server, 20)
    with pytest.raises(ConnectionClosedError) as caught:
        receiving.result()
    assert caught.value.rcvd is not None
    assert caught.value.rcvd.code == 1012
    assert list(report.outcomes.values()) == [DrainOutcome.CLOSED]


def test_a_wrong_wish_is_refused_and_nothing_is_stopped(bench: Any, name: str) -> None:
    where = bench.where("tcp4")
    server = bench.serve(name, where, echo)
    with pytest.raises(ValueError, match="deadline"):
        drain(server, -1)
    with pytest.raises(ValueError, match="1005"):
        drain(server, 1, code=1005, reason="x")
    with pytest.raises(TypeError):
        drain(server, "soon")
    client = bench.connect("sync", where)
    client.send("x")
    assert client.recv() == "x"
    assert not server.server.draining


def test_openings_that_are_not_refused_end_with_the_deadline(bench: Any, name: str) -> None:
    """Neither a request that never ends nor one that was answered after the beginning may take longer."""
    where = bench.where("tcp4")
    server = bench.serve(name, where, echo, open_timeout=None, close_timeout=None)
    half, late = where.raw_client(), where.raw_client()
    half.send_bytes(b"GET / HTTP/1.1\r\n")
    late.send_bytes(b"GET / HTTP/1.1\r\n")
    until(lambda: len(server.server._gate) == 2)
    draining = Background(drain, server, 1, refuse=False)
    until(lambda: server.server.draining)
    late.ask(REQUEST.partition(b"\r\n")[2])
    report = draining.result(6)
    assert report.seconds < 5
    until(lambda: not server.server._gate._open and not len(server.server._gate))
    half.drop()
    late.drop()


def test_a_hook_that_waits_ends_with_the_deadline(bench: Any) -> None:
    import asyncio

    async def wait(ws: Any, request: Any) -> None:
        await asyncio.get_running_loop().create_future()

    where = bench.where("tcp4")
    server = bench.serve("asyncio", where, echo, open_timeout=None, process_request=wait)
    with where.raw_client() as raw:
        raw.send_bytes(REQUEST)
        until(lambda: server.server._sessions)
        report = Background(drain, server, 0.3, refuse=False).result(6)
        assert report.seconds < 5
