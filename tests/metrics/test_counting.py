"""What is counted, in both adapters and over both twins, beside what a raw peer has sent and received."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Any

import pytest

import websock
from websock import CloseCause, Limits, SlowConsumers
from websock.core.codec import FRAMES_AT_ONCE
from websock.metrics import Metrics

from ..adapters.drivers import BOUND, until
from ..adapters.raw import BINARY, CLOSE, CONT, PING, PONG, REQUEST, TEXT
from ..sockets import nothing_left_behind  # noqa: F401 - pytest looks for fixtures here

LARGE = bytes(range(256)) * 400


def broadcast(bench: Any, name: str, end: Any, message: Any) -> None:
    if name == "sync":
        websock.sync.broadcast([end.ws], message)
        return

    async def go() -> None:
        websock.asyncio.broadcast([end.ws], message)

    bench.adapter(name).run(go())


def results(metrics: Metrics, result: str) -> int:
    return metrics.snapshot().handshakes.get(result, 0)


def totals(metrics: Metrics) -> tuple[int, int, int, int]:
    now = metrics.snapshot()
    return now.messages_in, now.messages_out, now.octets_in, now.octets_out


# What the peer sends, and how many messages that is.
CAME: dict[str, tuple[list[tuple[int, bytes, bool]], int]] = {
    "text": ([(TEXT, b"hello", True)], 1),
    "empty": ([(BINARY, b"", True)], 1),
    "several": ([(TEXT, b"x", True)] * 20, 20),
    "large": ([(BINARY, LARGE, True)], 1),
    "fragments": ([(TEXT, b"a", False), (PING, b"!", True), (CONT, b"b", False), (CONT, b"c", True)], 1),
    "control": ([(PING, b"", True), (PONG, b"unasked", True)], 0),
}

# What the server sends, and what the peer must read for it: data frames, octets of their payloads.
WENT: dict[str, tuple[Callable[[Any, str, Any], object], int]] = {
    "text": (lambda bench, name, end: end.send("hello"), 1),
    "wide text": (lambda bench, name, end: end.send("h\xe4llo \u20ac"), 1),
    "large": (lambda bench, name, end: end.send(LARGE), 1),
    "not bytes": (lambda bench, name, end: end.send(bytearray(b"12345")), 1),
    "as binary": (lambda bench, name, end: end.send("hello", text=False), 1),
    "parts": (lambda bench, name, end: end.send(["a", "b", "c"]), 3),
    "broadcast": (lambda bench, name, end: broadcast(bench, name, end, "news"), 1),
    "large broadcast": (lambda bench, name, end: broadcast(bench, name, end, LARGE), 1),
}


@pytest.mark.parametrize("kind", ["tcp4", "tls"])
@pytest.mark.parametrize("name", ["asyncio", "uvloop", "sync"])
def test_each_way_of_sending_is_counted_once(bench: Any, name: str, kind: str) -> None:
    metrics = Metrics()
    end, peer = bench.raw(name, "server", kind, metrics=metrics)
    came = went = octets_in = octets_out = 0
    for frames, messages in CAME.values():
        data = b"".join(peer.frame(opcode, payload, fin=fin) for opcode, payload, fin in frames)
        peer.send_bytes(data)
        came, octets_in = came + messages, octets_in + len(data)
        for _ in range(messages):
            end.recv()
        for payload in [payload for opcode, payload, _ in frames if opcode == PING]:
            if name == "sync":  # it answers in a call
                with pytest.raises(TimeoutError):
                    end.recv(timeout=0.05)
            assert peer.recv() == (PONG, payload)
            octets_out += 2 + len(payload)
    for send, parts in WENT.values():
        send(bench, name, end)
        went += 1
        for _ in range(parts):
            _, payload = peer.recv()
            octets_out += len(peer.frame(BINARY, payload, mask=False))
    assert until(lambda: totals(metrics) == (came, went, octets_in, octets_out)), totals(metrics)
    now = metrics.snapshot()
    assert (now.open, now.opened, now.closing, now.opening, now.closed) == (1, 1, 0, 0, {})
    peer.close()
    with pytest.raises(websock.ConnectionClosed):
        end.recv()
    assert peer.recv()[0] == CLOSE
    end.wait_closed()
    until(lambda: metrics.snapshot().open == 0)
    now = until(lambda: metrics.snapshot().closed and metrics.snapshot())
    assert (now.messages_in, now.messages_out) == (came, went)
    assert (now.octets_in, now.octets_out) == (octets_in + 8, octets_out + 4)
    assert now.closed == {CloseCause.PEER_CLOSED: 1}
    assert now.lifetime.count == 1 and metrics.peers() == []


def test_a_message_that_is_taken_in_parts_is_one(bench: Any, name: str) -> None:
    metrics = Metrics()
    end, peer = bench.raw(name, "server", "tcp4", metrics=metrics)
    peer.send(TEXT, b"one", fin=False)
    parts = end.stream()
    assert next(parts) == "one"
    assert metrics.snapshot().messages_in == 0
    peer.send(CONT, b"two", fin=False)
    assert next(parts) == "two"
    peer.send_bytes(peer.frame(CONT, b"three") + peer.frame(TEXT, b"next"))
    assert list(parts) == ["three"]
    assert end.recv() == "next"
    assert metrics.snapshot().messages_in == 2


def test_messages_behind_one_in_parts_are_counted_when_it_is_their_turn(bench: Any) -> None:
    metrics = Metrics()
    end, peer = bench.raw("asyncio", "server", "tcp4", metrics=metrics)

    async def parts() -> Any:
        yield "a"
        yield "b"  # one part is kept back: "a" is on its way now
        broadcast_now()
        end.ws.send("whole")
        assert metrics.snapshot().messages_out == 0
        yield "c"

    def broadcast_now() -> None:
        websock.asyncio.broadcast([end.ws], "to all")

    end.send(parts())
    assert [peer.recv()[1] for _ in range(5)] == [b"a", b"b", b"c", b"to all", b"whole"]
    assert metrics.snapshot().messages_out == 3


def test_compressed_messages_count_with_the_octets_that_travel(bench: Any, name: str) -> None:
    metrics = Metrics()
    where = bench.where("tcp4")
    _, ends = bench.serve_parked(name, where, metrics=metrics, ping_interval=None)
    client = bench.connect(name, where, ping_interval=None)
    server = ends.get(timeout=BOUND)
    for _ in range(3):
        client.send("x" * 10_000)
        server.send(server.recv())
        broadcast(bench, name, server, "y" * 10_000)
        assert (client.recv(), client.recv()) == ("x" * 10_000, "y" * 10_000)
    came, went, octets_in, octets_out = totals(metrics)
    assert (came, went) == (3, 6)
    assert 0 < octets_in < 1000 and 0 < octets_out < 2000


def test_callbacks_are_counted_and_their_failures(bench: Any, logs: Any) -> None:
    metrics = Metrics()

    def on_message(ws: Any, message: Any) -> None:
        if message == "fail":
            raise RuntimeError("as asked")
        ws.send(message)

    where = bench.where("tcp4")
    bench.serve("asyncio", where, None, on_message=on_message, metrics=metrics)
    with where.raw_client() as peer:
        peer.ask()
        peer.send_bytes(peer.frame(TEXT, b"a") * 50)
        for _ in range(50):
            assert peer.recv() == (TEXT, b"a")
        assert totals(metrics)[:2] == (50, 50)
        assert [one.messages_out for one in metrics.peers()] == [50]
        peer.send(TEXT, b"fail")
        assert peer.recv_close() == 1011
        peer.close(1011)
    now = until(lambda: metrics.snapshot().closed and metrics.snapshot())
    assert now.handler_errors == 1
    assert now.closed == {CloseCause.HANDLER_FAILED: 1}
    logs.expected = 1


# How connections end.


def by_peer(end: Any, peer: Any) -> None:
    peer.close()


def by_us(end: Any, peer: Any) -> None:
    threading.Thread(target=end.close).start()
    peer.recv_close()
    peer.close()


def by_a_wrong_frame(end: Any, peer: Any) -> None:
    peer.send(TEXT, b"\xff")


def by_size(end: Any, peer: Any) -> None:
    peer.send_bytes(b"\x82\xff" + (2**30).to_bytes(8, "big") + b"1234")


def without_a_close(end: Any, peer: Any) -> None:
    peer.drop()


ENDS: dict[Callable[[Any, Any], None], CloseCause] = {
    by_peer: CloseCause.PEER_CLOSED,
    by_us: CloseCause.WE_CLOSED,
    by_a_wrong_frame: CloseCause.PEER_BROKE_RULE,
    by_size: CloseCause.OVER_LIMIT,
    without_a_close: CloseCause.ENDED_WITHOUT_CLOSE,
}


@pytest.mark.parametrize("how", ENDS, ids=[how.__name__ for how in ENDS])
def test_connections_are_counted_by_how_they_ended(
    bench: Any, name: str, how: Callable[[Any, Any], None], logs: Any
) -> None:
    metrics = Metrics()
    end, peer = bench.raw(name, "server", "tcp4", metrics=metrics)
    how(end, peer)
    peer.drop()
    with pytest.raises(websock.ConnectionClosed):
        end.recv()
    now = until(lambda: metrics.snapshot().closed and metrics.snapshot())
    assert (now.closed, now.open, now.closing) == ({ENDS[how]: 1}, 0, 0)


def test_an_end_that_is_not_read_yet_counts_when_it_is(bench: Any) -> None:
    metrics = Metrics()
    end, peer = bench.raw("asyncio", "server", "tcp4", metrics=metrics, max_queue=16)
    peer.send_bytes(peer.frame(TEXT, b"") * (FRAMES_AT_ONCE + 100) + peer.frame(CLOSE, b"\x03\xe8"))
    peer.drop()
    until(lambda: end.ws._inbox.full)
    for _ in range(FRAMES_AT_ONCE + 100):
        assert end.recv() == ""
    with pytest.raises(websock.ConnectionClosed):
        end.recv()
    now = until(lambda: metrics.snapshot().closed and metrics.snapshot())
    assert now.messages_in == FRAMES_AT_ONCE + 100
    assert (now.open, now.closing, sum(now.closed.values())) == (0, 0, 1)


def test_what_handlers_raise_is_counted(bench: Any, name: str, logs: Any) -> None:
    metrics = Metrics()

    def handler(end: Any) -> None:
        end.recv()
        raise RuntimeError("as asked")

    where = bench.where("tcp4")
    bench.serve(name, where, handler, metrics=metrics)
    with where.raw_client() as peer:
        peer.ask()
        peer.send(TEXT, b"x")
        assert peer.recv_close() == 1011
        peer.close(1011)
        now = until(lambda: metrics.snapshot().closed and metrics.snapshot())
    assert (now.handler_errors, now.closed) == (1, {CloseCause.HANDLER_FAILED: 1})
    logs.expected = 1


# Opening handshakes.


def test_handshakes_are_counted_by_result(bench: Any, name: str, logs: Any) -> None:
    metrics = Metrics()

    def process_request(ws: Any, request: Any) -> Any:
        if request.path == "/raises":
            raise RuntimeError("as asked")
        return {"/health": ws.respond(200, "OK"), "/no": ws.respond(403, "no")}.get(request.path)

    where = bench.where("tcp4")
    bench.serve_parked(name, where, metrics=metrics, limits=Limits(connections=1), process_request=process_request)
    for path, status in (("/health", 200), ("/no", 403), ("/no", 403), ("/raises", 500)):
        with where.raw_client() as peer:
            assert f" {status} ".encode() in peer.ask(REQUEST.replace(b" / ", f" {path} ".encode()))
            until(functools.partial(results, metrics, str(status)))
    where.raw_client().drop()  # it says nothing
    until(lambda: metrics.snapshot().handshakes.get("ended"))
    with where.raw_client() as peer:
        assert b" 400 " in peer.ask(b"nonsense\r\n\r\n")
    with where.raw_client() as first, where.raw_client() as second:
        assert b" 101 " in first.ask()
        until(lambda: metrics.snapshot().open == 1)
        until(lambda: b" 503 " in second.ask())
        now = metrics.snapshot()
        assert dict(now.handshakes) == {"200": 1, "403": 2, "500": 1, "400": 1, "101": 1, "ended": 1, "limit": 1}
        assert (now.opened, now.handler_errors) == (1, 1)
    logs.expected = 1


# Queues, drops, pings.


def test_what_waits_for_the_program(bench: Any) -> None:
    metrics = Metrics()
    end, peer = bench.raw("asyncio", "server", "tcp4", metrics=metrics)
    peer.send_bytes(peer.frame(TEXT, b"x") * 5)
    queue = until(lambda: (found := metrics.snapshot().receive_queue).sum == 5 and found)
    assert (queue.count, queue.most) == (1, 5)
    assert [one.receive_queue for one in metrics.peers(order="behind")] == [5]
    for _ in range(5):
        end.recv()
    assert metrics.snapshot().receive_queue.most == 0


def test_what_waits_for_the_peer_and_what_is_dropped(bench: Any, name: str, logs: Any) -> None:
    metrics = Metrics()
    slow = SlowConsumers("drop_newest", 2**20)
    where = bench.where("unix")
    _, ends = bench.serve_parked(name, where, metrics=metrics, compression=None, slow_consumers=slow)
    peers = [where.raw_client() for _ in range(2)]
    for peer in peers:
        peer.ask()
    both = [ends.get(timeout=BOUND) for _ in peers]
    for _ in range(60):
        broadcast(bench, name, both[0], bytes(2**16))
    now = metrics.snapshot()
    assert now.dropped == both[0].dropped > 0
    assert 0 < now.write_queue.most == now.write_queue.sum
    assert now.write_queue.count == 2
    slowest, other = metrics.peers()
    assert (slowest.id, slowest.write_queue) == (str(both[0].ws.id), now.write_queue.most)
    assert (slowest.dropped, other.dropped) == (now.dropped, 0)
    assert [one.id for one in metrics.peers(1, "busiest")] == [slowest.id]
    for peer in peers:
        peer.drop()
    for end in both:
        end.kill()
    until(lambda: metrics.snapshot().open == 0)
    assert metrics.snapshot().dropped == now.dropped


def test_answered_pings_are_observed(bench: Any, name: str) -> None:
    metrics = Metrics()
    where = bench.where("tcp4")
    _, ends = bench.serve_parked(name, where, metrics=metrics, ping_interval=None)
    bench.connect("asyncio", where, ping_interval=None)
    end = ends.get(timeout=BOUND)
    assert metrics.peers()[0].latency is None
    latency = end.latency_of()
    now = metrics.snapshot()
    assert (now.latency.count, now.latency.sum) == (1, latency)
    assert metrics.peers()[0].latency == latency


def test_keepalive_pings_too(bench: Any, name: str) -> None:
    metrics = Metrics()
    where = bench.where("tcp4")
    bench.serve_parked(name, where, metrics=metrics, ping_interval=0.05, ping_timeout=None)
    bench.connect("asyncio", where, ping_interval=None)
    until(lambda: metrics.snapshot().latency.count >= 2)


# Who is connected.


def test_what_strangers_say_is_cut_and_has_no_control_characters(bench: Any, name: str) -> None:
    metrics = Metrics()
    where = bench.where("tcp4")
    bench.serve_parked(name, where, metrics=metrics)
    head = b"GET /<script>" + b"x" * 400 + b" HTTP/1.1\r\nUser-Agent: \xad\x9f<b>\r\n"
    with where.raw_client() as peer:
        peer.ask(REQUEST.replace(b"GET / HTTP/1.1\r\n", head))
        one = until(lambda: metrics.peers())[0]
        assert one.path == "/<script>" + "x" * 190 + "\u2026" and len(one.path) == 200
        assert one.agent == "\ufffd\ufffd<b>"
        assert one.address == "{}:{}".format(*peer.sock.getsockname())


def test_orders_have_names(bench: Any) -> None:
    metrics = Metrics()
    with pytest.raises(ValueError, match="an order is one of slowest, behind, busiest, newest, not 'best'"):
        metrics.peers(order="best")


def test_closing_one(bench: Any, name: str) -> None:
    metrics = Metrics()
    where = bench.where("tcp4")
    _, ends = bench.serve_parked(name, where, metrics=metrics)
    clients = [bench.connect("sync", where) for _ in range(2)]
    server = [ends.get(timeout=BOUND) for _ in clients]
    assert not metrics.close_connection("")
    assert len(metrics.peers()) == 2
    assert metrics.close_connection(str(server[0].ws.id))
    left = [client for client in clients if client.ws.local_address != server[0].remote_address]
    gone = next(client for client in clients if client not in left)
    with pytest.raises(websock.ConnectionClosed) as closed:
        gone.recv()
    assert closed.value.rcvd is not None
    assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1008, "closed by an operator")
    now = until(lambda: metrics.snapshot().closed and metrics.snapshot())
    assert (now.open, now.closed) == (1, {CloseCause.WE_CLOSED: 1})


def test_clients_and_servers_without_metrics_are_not_counted(bench: Any, name: str) -> None:
    metrics = Metrics()
    where, other = bench.where("tcp4"), bench.where("tcp4")
    bench.serve_parked(name, where, metrics=metrics)
    bench.serve_parked(name, other)
    bench.connect(name, where)
    bench.connect(name, other)
    until(lambda: metrics.snapshot().opened == 1)
    assert len(metrics.peers()) == 1


@pytest.mark.parametrize("value", [True, "127.0.0.1:9100", object()])
def test_metrics_are_an_object(name: str, value: Any) -> None:
    package: Any = websock.sync if name == "sync" else websock.asyncio

    def handler(ws: Any) -> None: ...

    async def task(ws: Any) -> None: ...

    with pytest.raises(TypeError, match=r"metrics must be a websock\.metrics\.Metrics or None"):
        package.serve(handler if name == "sync" else task, "127.0.0.1", 0, metrics=value)


def test_processes_cannot_be_counted() -> None:
    from websock.serving import Processes

    def handler(ws: Any) -> None: ...

    with pytest.raises(ValueError, match="metrics count in one process, and the model 'processes' has one for each"):
        websock.sync.serve(handler, "127.0.0.1", 0, metrics=Metrics(), model=Processes())
