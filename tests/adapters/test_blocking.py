"""What only the blocking adapter has: threads. Schedules that are rare in life are made here on purpose."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from typing import Any

import pytest

import websock
import websock.sync
import websock.sync.server
from websock.core.inbox import SIDE_BUDGET
from websock.exceptions import ConnectionClosed, ConnectionClosedError, ConnectionClosedOK, KeepaliveTimeout
from websock.net.channel import READ_SIZE, Channel

from .drivers import Background, until
from .raw import CLOSE, PING, PONG, TEXT

KINDS = ["tcp4", "tls", "unix"]


@pytest.mark.parametrize("kind", KINDS)
def test_both_sides_send_and_receive_in_threads(bench: Any, kind: str) -> None:
    one, other = bench.pair("sync", "sync", kind, max_size=2**21)
    message = b"m" * 2**20

    def send(end: Any) -> None:
        for _ in range(5):
            end.send(message)

    def receive(end: Any) -> None:
        for _ in range(5):
            assert len(end.recv()) == len(message)

    for each in [Background(do, end) for end in (one, other) for do in (send, receive)]:
        each.result()


@pytest.mark.parametrize("kind", KINDS)
def test_many_threads_send_to_a_peer_that_says_nothing(bench: Any, kind: str) -> None:
    """Each send returns when its message is written; none waits for something to read."""
    end, raw = bench.raw("sync", "server", kind)
    senders = [Background(lambda: [end.send(b"x" * 20000) for _ in range(40)]) for _ in range(8)]
    for _ in range(320):
        assert len(raw.recv()[1]) == 20000
    for sender in senders:
        sender.result(3)


def test_send_that_is_finished_by_another_thread(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The socket is full at the first attempt and takes all at the second: send must return, and not wait to read."""
    end, raw = bench.raw("sync", "server", "tcp4")
    original = Channel.send
    calls = []

    def send(self: Channel, buffers: list[Any]) -> list[Any]:
        calls.append(1)
        return buffers if len(calls) == 1 else original(self, buffers)

    monkeypatch.setattr(Channel, "send", send)
    sending = Background(end.send, "message")
    assert raw.recv() == (TEXT, b"message")
    sending.result(2)


def test_close_while_another_thread_is_about_to_wait(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The socket is closed between a sender's look and its wait: ConnectionClosed, and no ValueError of poll."""
    end, raw = bench.raw("sync", "server", "tcp4", close_timeout=0.1)
    original = Channel.wait
    once = threading.Event()

    def wait(self: Channel, *, read: bool, write: bool, timeout: float | None) -> tuple[bool, bool]:
        if write and not read and not once.is_set():
            once.set()
            Background(end.close).result()
        return original(self, read=read, write=write, timeout=timeout)

    monkeypatch.setattr(Channel, "wait", wait)
    receiving = Background(end.recv)
    raw.send(PING, b"x")
    assert raw.recv() == (PONG, b"x")
    sending = Background(end.send, b"x" * 2**24)
    with pytest.raises(ConnectionClosed):
        sending.result()
    with pytest.raises(ConnectionClosed):
        receiving.result()
    raw.drop()


@pytest.mark.parametrize("kind", ["tcp4", "tls"])
def test_close_frame_is_written_before_the_socket_is_closed(bench: Any, kind: str) -> None:
    """One thread has the Close in its hands and has not written it yet; another sees that the end is wanted."""
    taken, go = threading.Event(), threading.Event()

    class Slow(websock.sync.ServerConnection):
        def _outgoing(self) -> Any:
            buffers = super()._outgoing()
            if self.close_code is not None and not taken.is_set():
                taken.set()
                go.wait(30)
            return buffers

    end, raw = bench.raw("sync", "server", kind, create_connection=Slow)
    raw.close()
    receiving = Background(end.recv)
    assert taken.wait(30)
    # _outgoing is called with the lock held; let the other thread come as near as it can.
    other = Background(end.ws._flush)
    until(lambda: other.done or other.thread.is_alive())
    other.thread.join(0.1)
    go.set()
    assert raw.recv_close() == 1000
    with pytest.raises(ConnectionClosedOK):
        receiving.result()
    raw.drop()


def test_close_from_any_thread(bench: Any) -> None:
    for kind in KINDS:
        one, other = bench.pair("sync", "sync", kind)
        answering = Background(other.recv)
        receiving = Background(one.recv, None)
        closings = [Background(one.close) for _ in range(4)]
        for closing in closings:
            closing.result()
        for each in (receiving, answering):
            with pytest.raises(ConnectionClosedOK):
                each.result()
        other.close()


def test_empty_iterable_after_the_close_raises(bench: Any) -> None:
    one, other = bench.pair("sync", "sync", "tcp4")
    answering = Background(other.recv)
    one.close()
    with pytest.raises(ConnectionClosedOK):
        one.send([])
    with pytest.raises(ConnectionClosedOK):
        answering.result()


# Keepalive.


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("role", ["server", "client"])
def test_keepalive_of_a_silent_peer(bench: Any, role: str, kind: str) -> None:
    end, raw = bench.raw("sync", role, kind, ping_interval=0.05, ping_timeout=0.1)
    receiving = Background(end.recv, None)
    with pytest.raises(ConnectionClosedError) as caught:
        receiving.result(4)
    assert isinstance(caught.value.__cause__, KeepaliveTimeout)
    assert raw.recv()[0] == PING
    assert raw.recv_close() == 1011


def test_keepalive_of_a_peer_that_answers(bench: Any) -> None:
    one, other = bench.pair("sync", "sync", "tcp4", ping_interval=0.02, ping_timeout=0.3)
    receiving = [Background(end.recv, 0.4) for end in (one, other)]
    for each in receiving:
        with pytest.raises(TimeoutError):
            each.result()
    assert one.state is websock.State.OPEN
    assert one.latency > 0


def test_any_octet_counts_as_alive(bench: Any) -> None:
    end, raw = bench.raw("sync", "server", "tcp4", ping_interval=0.05, ping_timeout=0.2)
    receiving = Background(end.recv, None)
    started = time.monotonic()
    while time.monotonic() - started < 0.6:
        opcode, _ = raw.recv()
        assert opcode == PING
        raw.send(PONG, b"unsolicited")
    raw.send(TEXT, b"x")
    assert receiving.result() == "x"


def test_time_outside_of_calls_is_not_held_against_the_peer(bench: Any) -> None:
    end, raw = bench.raw("sync", "server", "tcp4", ping_interval=0.03, ping_timeout=0.1)
    with pytest.raises(TimeoutError):
        end.recv(0.05)
    assert raw.recv()[0] == PING
    threading.Event().wait(0.4)  # the program is busy
    answering = Background(lambda: [raw.send(PONG, raw.recv()[1] or b"x"), raw.send(TEXT, b"x")])
    raw.send(PONG, b"here I am")
    assert end.recv(2) == "x"
    answering.result()
    assert end.state is websock.State.OPEN


def test_pong_wait(bench: Any) -> None:
    end, raw = bench.raw("sync", "server", "tcp4")
    pong = end.ws.ping(b"p")
    assert not pong.wait(0.02)
    assert not pong.is_set()
    assert pong.latency is None
    assert raw.recv() == (PING, b"p")
    raw.send_bytes(raw.frame(TEXT, b"before") + raw.frame(PONG, b"p"))
    assert pong.wait(2)
    assert pong.latency is not None
    assert pong.latency > 0
    assert end.recv() == "before"
    pong = end.ws.ping()
    raw.drop()
    assert not pong.wait(2)


def test_pong_wait_while_another_thread_receives(bench: Any) -> None:
    end, raw = bench.raw("sync", "server", "tcp4")
    receiving = Background(end.recv)
    pong = end.ws.ping(b"p")
    waiting = Background(pong.wait, 5)
    assert raw.recv() == (PING, b"p")
    raw.send(PONG, b"p")
    assert waiting.result() is True
    raw.send(TEXT, b"x")
    assert receiving.result() == "x"


# Backpressure.


def test_reader_that_does_not_read_holds_the_peer(bench: Any) -> None:
    one, other = bench.pair("sync", "sync", "tcp4", max_queue=4, max_size=None)
    message = os.urandom(100_000)  # which cannot be compressed
    sent = []

    def send() -> None:
        for i in range(300):
            one.send(message)
            sent.append(i)

    sending = Background(send)
    until(lambda: len(sent) > 5)
    last = -1
    deadline = time.monotonic() + 5
    while last != len(sent) and time.monotonic() < deadline:
        last = len(sent)
        sending.thread.join(0.2)
    assert len(sent) < 250
    # On a busy machine this took so long that what a paused connection may read aside has come too.
    assert len(other.ws._inbox) <= 5 + SIDE_BUDGET // len(message) + 1
    assert one.ws._protocol.queued < 2**20
    for _ in range(300):
        assert len(other.recv()) == 100_000
    sending.result()


def test_senders_whose_peer_sends_too_are_bounded(bench: Any) -> None:
    """While send waits it reads, but no more than max_queue messages."""
    end, raw = bench.raw("sync", "server", "tcp4", max_queue=4)
    sending = Background(end.send, b"x" * 2**24)
    raw.sock.settimeout(0.5)
    data = raw.frame(TEXT, b"y" * 1000) * 100
    total = 0
    try:
        while total < 50 * 2**20:
            total += raw.sock.send(data)
    except TimeoutError:
        pass
    assert len(end.ws._inbox) < 2000
    raw.drop()
    with pytest.raises(ConnectionClosed):
        sending.result()


# Servers.


def test_shutdown_while_serve_forever_begins(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    server = websock.sync.serve(lambda ws: None, "127.0.0.1", 0)

    class Stopped(threading.Event):
        def clear(self) -> None:
            Background(server.shutdown).thread.join(0.2)  # at the worst moment
            super().clear()

    monkeypatch.setattr(server, "_stopped", Stopped())
    server._stopped.set()
    serving = Background(server.serve_forever)
    serving.result(3)


def test_connection_accepted_during_shutdown_is_waited_for(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """When shutdown returns no handler runs, whenever its connection was accepted."""
    entered, running, go = threading.Event(), [], threading.Event()

    def handler(ws: Any) -> None:
        running.append(1)
        try:
            ws.recv()
        except ConnectionClosed:
            pass
        go.wait(1)
        running.pop()

    server = websock.sync.serve(handler, "127.0.0.1", 0, close_timeout=0.2)
    begin = server._begin

    def slow(sock: Any, address: Any) -> None:
        entered.set()
        until(lambda: server._closing)
        threading.Event().wait(0.1)  # shutdown has taken its list of connections
        begin(sock, address)

    monkeypatch.setattr(server, "_begin", slow)
    serving = Background(server.serve_forever)
    client = Background(websock.sync.connect, f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}", open_timeout=3)
    assert entered.wait(30)
    server.shutdown()
    left = server.model.jobs()
    go.set()
    serving.result()
    try:
        client.result().close()
    except Exception:
        pass
    until(lambda: not server.model.jobs())
    assert not left


def echo(ws: Any) -> None:
    for message in ws:
        ws.send(message)


def test_shutdown_in_a_signal_handler(bench: Any) -> None:
    """The documented way: a handler of SIGTERM calls shutdown in the thread that is in serve_forever."""
    import signal

    server = websock.sync.serve(echo, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    previous = signal.signal(signal.SIGUSR1, lambda *_: server.shutdown())
    try:

        def client() -> Any:
            with websock.sync.connect(f"ws://127.0.0.1:{port}") as ws:
                ws.send("x")
                assert ws.recv() == "x"
                signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)
                with pytest.raises(ConnectionClosedOK) as caught:
                    ws.recv()
                return caught.value.rcvd

        talking = Background(client)
        server.serve_forever()
        assert talking.result() == websock.Close(1001, "")
    finally:
        signal.signal(signal.SIGUSR1, previous)


def test_shutdown_in_a_signal_handler_while_accepting(bench: Any) -> None:
    """The signal comes while serve_forever holds the server's own lock."""
    server = websock.sync.serve(lambda ws: None, "127.0.0.1", 0)

    def shut_down_inside() -> None:
        server._acceptor = threading.current_thread()
        with server._lock:
            server.shutdown()

    inside = Background(shut_down_inside)
    try:
        inside.result(2)
    finally:
        if not inside.done:
            server._lock.release()  # or the thread would stay
            inside.thread.join(2)


def test_listening_fails_without_leaving_sockets(bench: Any) -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        with pytest.raises(OSError, match="can't listen"):
            websock.sync.serve(lambda ws: None, "127.0.0.1", sock.getsockname()[1])


def test_close_of_client_needs_no_answer_in_its_own_thread(bench: Any) -> None:
    """close() pumps by itself: the peer's Close, its messages before that, and its end."""
    end, raw = bench.raw("sync", "client", "tcp4")
    raw.send(TEXT, b"unread")

    def peer() -> None:
        assert raw.recv()[0] == CLOSE
        raw.close()
        raw.drop()

    answering = Background(peer)
    end.close()
    answering.result()
    assert end.recv() == "unread"
    with pytest.raises(ConnectionClosedOK):
        end.recv()


def test_shutdown_in_a_signal_handler_while_a_connection_begins(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The signal comes while serve_forever holds the lock that every connection needs to end."""
    server = websock.sync.serve(echo, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    first = threading.Event()
    enter = server._gate.enter

    def interrupted(*args: Any) -> Any:
        ticket = enter(*args)
        if first.is_set():
            server.shutdown()
        first.set()
        return ticket

    monkeypatch.setattr(server._gate, "enter", interrupted)
    serving = Background(server.serve_forever)
    with websock.sync.connect(f"ws://127.0.0.1:{port}") as ws:
        receiving = Background(ws.recv)
        with socket.create_connection(("127.0.0.1", port)):
            with pytest.raises(ConnectionClosedOK) as caught:
                receiving.result(5)
            assert caught.value.rcvd == websock.Close(1001, "")
            serving.result(5)
    assert not server.model.jobs()


def test_channels_share_read_buffers() -> None:
    """Thousands of connections that wait have no buffer, and one that has just read has its own."""
    with contextlib.ExitStack() as stack:
        channels, peers = [], []
        for _ in range(3):
            ours, theirs = map(stack.enter_context, socket.socketpair())
            ours.setblocking(False)
            channels.append(Channel(ours))
            peers.append(theirs)
        assert channels[0].receive() is None  # nothing is here
        assert channels[0]._buffer is None
        for number, peer in enumerate(peers):
            peer.sendall(bytes([number]) * READ_SIZE)
        got = [channel.receive() for channel in channels]
        for number, data in enumerate(got):  # no one has read into another one's
            assert data is not None
            assert bytes(data) == bytes([number]) * len(data) and len(data) > 0
        used = [channel._buffer for channel in channels]
        for channel in channels * 2:
            channel.release()
        assert [channel._buffer for channel in channels] == [None] * 3
        peers[0].sendall(b"again")
        while (data := channels[0].receive()) is not None:  # what did not go into one read before
            assert channels[0]._buffer is used[2]
            if bytes(data).endswith(b"again"):
                break
        channels[0].release()


def test_what_was_read_is_used_up_when_its_buffer_is_released(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Others read into it then: nothing of the core may look at it any more."""

    def spoil(channel: Channel) -> None:
        if channel._buffer is not None:
            channel._buffer[:] = b"\xee" * READ_SIZE
        release(channel)

    release = Channel.release
    monkeypatch.setattr(Channel, "release", spoil)
    for kind in KINDS:
        one, other = bench.pair("sync", "sync", kind)
        for size in (0, 1, 125, 126, 4096, 65_535, 65_536, 300_000):
            message = bytes(range(256)) * (size // 256) + bytes(size % 256)
            sending = Background(one.send, message)
            assert other.recv() == message
            sending.result()
        sending = Background(lambda: [one.send(f"message {number}") for number in range(200)])  # noqa: B023
        assert [other.recv() for _ in range(200)] == [f"message {number}" for number in range(200)]
        sending.result()
