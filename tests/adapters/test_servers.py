"""Servers of both adapters: their hooks, their end, and what comes to a port that the whole world can reach."""

from __future__ import annotations

import os
import random
import re
import socket
import threading
import time
from typing import Any

import pytest

import websock
import websock.asyncio
import websock.sync
from websock.exceptions import (
    ConnectionClosedError,
    ConnectionClosedOK,
    InvalidHandshake,
    InvalidStatus,
    NegotiationError,
)

from .drivers import Background, Where, until
from .raw import REQUEST, Raw


def echo(end: Any) -> None:
    while True:
        end.send(end.recv(60))


def check_serves(bench: Any, name: str, where: Where) -> None:
    """The server is alive: a client gets its echo."""
    end = bench.adapter(name).connect(where)
    end.send("alive?")
    assert end.recv() == "alive?"
    end.close()


# Handlers.


def test_handler_that_returns_closes_with_1000(bench: Any, name: str) -> None:
    where = bench.where("tcp4")
    bench.serve(name, where, lambda end: end.send("hello"))
    end = bench.connect(name, where)
    assert end.recv() == "hello"
    with pytest.raises(ConnectionClosedOK) as caught:
        end.recv()
    assert caught.value.rcvd == websock.Close(1000, "")


@pytest.mark.parametrize("kind", ["tcp4", "tls", "unix"])
def test_handler_that_raises(bench: Any, name: str, kind: str, logs: Any) -> None:
    """1011 for its client, one traceback, and the server serves the next."""
    where = bench.where(kind)

    def handler(end: Any) -> None:
        message = end.recv()
        if message == "raise":
            raise ZeroDivisionError
        end.send(message)

    bench.serve(name, where, handler)
    end = bench.connect(name, where)
    end.send("raise")
    with pytest.raises(ConnectionClosedError) as caught:
        end.recv()
    assert caught.value.rcvd is not None
    assert caught.value.rcvd.code == 1011
    logs.expected = 1
    check_serves(bench, name, where)
    assert sum(r.name.startswith("websock") for r in logs.tracebacks()) == 1


def test_handler_need_not_catch_the_end(bench: Any, name: str, logs: Any) -> None:
    where = bench.where("tcp4")
    bench.serve(name, where, echo)
    for _ in range(3):
        check_serves(bench, name, where)
    with where.raw_client() as raw:
        raw.ask()
    check_serves(bench, name, where)
    assert logs.tracebacks() == []


# The end of a server.


@pytest.mark.parametrize("kind", ["tcp4", "tls", "unix"])
def test_server_close_says_1001_to_all(bench: Any, name: str, kind: str) -> None:
    where = bench.where(kind)
    server, ends = bench.serve_parked(name, where)
    clients = [bench.connect(one, where) for one in ("asyncio", "sync", "asyncio", "sync")]
    for _ in clients:
        ends.get(timeout=30)
    until(lambda: len(server.server.connections) == 4)
    receiving = [Background(client.recv) for client in clients]
    server.release()
    closing = Background(server.close)
    for each in receiving:
        with pytest.raises((ConnectionClosedOK, ConnectionClosedError)) as caught:
            each.result()
        assert caught.value.rcvd is not None
        assert caught.value.rcvd.code in (1000, 1001)  # a handler that was let go may be faster
    for client in clients:
        client.close()
    closing.result()


def test_server_close_wakes_handlers(bench: Any, name: str) -> None:
    where = bench.where("tcp4")
    server = bench.serve(name, where, echo)
    clients = [bench.connect(name, where) for _ in range(3)]
    until(lambda: len(server.server.connections) == 3)
    receiving = [Background(client.recv) for client in clients]
    closing = Background(server.close)
    for each in receiving:
        with pytest.raises(ConnectionClosedOK) as caught:
            each.result()
        assert caught.value.rcvd == websock.Close(1001, "")
    for client in clients:
        client.close()
    closing.result()
    with pytest.raises(OSError, match="can't connect"):
        bench.connect(name, where)
    server.close()


def test_server_close_with_code_and_reason(bench: Any, name: str) -> None:
    where = bench.where("tcp4")
    server = bench.serve(name, where, echo)
    client = bench.connect(name, where)
    until(lambda: server.server.connections)
    receiving = Background(client.recv)
    closing = Background(server.close, code=1012, reason="restart")
    with pytest.raises(ConnectionClosedError) as caught:
        receiving.result()
    assert caught.value.rcvd == websock.Close(1012, "restart")
    client.close()
    closing.result()


def test_server_close_leaves_connections(bench: Any, name: str) -> None:
    where = bench.where("tcp4")
    server = bench.serve(name, where, echo)
    client = bench.connect(name, where)
    until(lambda: server.server.connections)
    closing = Background(server.close, close_connections=False)
    client.send("still here")
    assert client.recv() == "still here"
    client.close()
    closing.result()


def test_server_close_during_handshakes(bench: Any, name: str, logs: Any) -> None:
    """Half a request, nothing at all, half a TLS handshake: none of them delays the end."""
    for kind in ("tcp4", "tls"):
        where = bench.where(kind)
        server = bench.serve(name, where, echo, open_timeout=30)
        half = [where.reach(), where.reach()]
        half[1].sendall(b"GET / HTTP" if kind == "tcp4" else b"\x16\x03\x01\x02\x00\x01")
        time.sleep(0)
        check_serves(bench, name, where)  # so both have been accepted
        started = time.monotonic()
        server.close()
        assert time.monotonic() - started < 3
        for sock in half:
            sock.settimeout(30)
            try:
                while sock.recv(1000):
                    pass
            except ConnectionError:
                pass
            sock.close()


def test_close_of_a_server_in_process_request(bench: Any, name: str) -> None:
    where = bench.where("tcp4")
    inside, go = threading.Event(), threading.Event()

    async def wait_async(connection: Any, request: Any) -> None:
        import asyncio

        inside.set()
        await asyncio.get_running_loop().create_future()

    def wait_sync(connection: Any, request: Any) -> None:
        inside.set()
        go.wait(30)

    server = bench.serve(
        name, where, echo, close_timeout=0.3, process_request=wait_async if name == "asyncio" else wait_sync
    )
    with where.raw_client() as raw:
        raw.send_bytes(REQUEST)
        assert inside.wait(30)
        closing = Background(server.close)
        if name == "sync":
            until(lambda: all(job._told is not None for job in server.server.model.jobs()))
        go.set()
        assert raw.all().startswith(b"HTTP/1.1 503 ")
        closing.result()


# Hooks.


def test_process_request(bench: Any, name: str) -> None:
    where = bench.where("tcp4")

    def hook(connection: Any, request: Any) -> Any:
        if request.path == "/healthz":
            return connection.respond(200, "OK\n")
        if request.path == "/refuse":
            return connection.respond(403, "no\n")
        assert connection.request is request
        return None

    async def slow(connection: Any, request: Any) -> Any:
        import asyncio

        await asyncio.sleep(0)
        return hook(connection, request)

    for number, one in enumerate([hook, slow] if name == "asyncio" else [hook]):
        where = bench.where("tcp4", str(number))
        bench.serve(name, where, echo, process_request=one)
        with where.raw_client() as raw:
            raw.send_bytes(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            answer = raw.all()
            assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
            assert answer.endswith(b"\r\n\r\nOK\n")
        for client in ("asyncio", "sync"):
            with pytest.raises(InvalidStatus) as caught:
                bench.connect(client, where, where.uri + "refuse")
            assert caught.value.response.status_code == 403
            assert caught.value.response.body == b"no\n"
        check_serves(bench, name, where)


@pytest.mark.parametrize("hook", ["process_request", "process_response", "select_subprotocol"])
def test_hook_that_raises(bench: Any, name: str, hook: str, logs: Any) -> None:
    bad = [True]

    def raises(*args: Any) -> None:
        if bad[0]:
            raise ZeroDivisionError

    where = bench.where("tcp4")
    bench.serve(name, where, echo, **{hook: raises})
    with pytest.raises(InvalidStatus) as caught:
        bench.connect(name, where)
    assert caught.value.response.status_code == 500
    bad[0] = False
    check_serves(bench, name, where)
    assert len(logs.tracebacks()) == 1
    logs.expected = 1


def test_process_request_that_returns_nonsense(bench: Any, name: str, logs: Any) -> None:
    where = bench.where("tcp4")
    bench.serve(name, where, echo, process_request=lambda connection, request: "OK")
    with pytest.raises(InvalidStatus) as caught:
        bench.connect(name, where)
    assert caught.value.response.status_code == 500
    logs.expected = 1


def test_process_response(bench: Any, name: str) -> None:
    def hook(connection: Any, request: Any, response: Any) -> Any:
        response.headers["X-Path"] = request.path
        if request.path == "/other":
            return connection.respond(418, "teapot")
        return None

    where = bench.where("tcp4")
    bench.serve(name, where, echo, process_response=hook)
    end = bench.connect(name, where, where.uri + "path?query=1")
    assert end.response.headers["x-path"] == "/path?query=1"
    with pytest.raises(InvalidStatus) as caught:
        bench.connect(name, where, where.uri + "other")
    assert caught.value.response.status_code == 418


def test_headers(bench: Any, name: str) -> None:
    where = bench.where("tcp4")
    _, ends = bench.serve_parked(name, where, server_header="mine")
    end = bench.connect(name, where, additional_headers={"X-One": "1"}, user_agent_header="me")
    assert end.response.headers["Server"] == "mine"
    other = ends.get(timeout=30)
    assert other.request.headers["X-One"] == "1"
    assert other.request.headers["User-Agent"] == "me"
    bench.connect(name, where, extra_headers=[("X-Two", "a"), ("X-Two", "b")], user_agent_header=None)
    other = ends.get(timeout=30)
    assert other.request.headers.get_all("X-Two") == ["a", "b"]
    assert "User-Agent" not in other.request.headers
    for bad in ({"X": "a\r\nb: c"}, {"X\n": "a"}, {"X": "\0"}, {"Sec-WebSocket-Key": "x"}):
        with pytest.raises(ValueError):
            bench.connect(name, where, additional_headers=bad)


def test_subprotocols(bench: Any, name: str) -> None:
    where = bench.where("tcp4")
    bench.serve(name, where, echo, subprotocols=["chat", "superchat"])
    assert bench.connect(name, where, subprotocols=["superchat", "chat"]).subprotocol == "chat"
    assert bench.connect(name, where, subprotocols=["superchat"]).subprotocol == "superchat"
    assert bench.connect(name, where, subprotocols=["other"]).subprotocol is None
    assert bench.connect(name, where).subprotocol is None


def test_select_subprotocol(bench: Any, name: str) -> None:
    def select(connection: Any, offered: Any) -> str | None:
        if "bad" in offered:
            raise NegotiationError("not that one")
        return offered[-1] if offered else None

    where = bench.where("tcp4")
    bench.serve(name, where, echo, select_subprotocol=select)
    assert bench.connect(name, where, subprotocols=["a", "b"]).subprotocol == "b"
    with pytest.raises(InvalidStatus) as caught:
        bench.connect(name, where, subprotocols=["bad"])
    assert caught.value.response.status_code == 400
    check_serves(bench, name, where)


def test_origins(bench: Any, name: str) -> None:
    where = bench.where("tcp4")
    bench.serve(name, where, echo)
    bench.connect(name, where, origin=f"http://127.0.0.1:{where.port}")
    with pytest.raises(InvalidStatus) as caught:
        bench.connect(name, where, origin="http://evil.example")
    assert caught.value.response.status_code == 403
    other = bench.where("tcp4", "t")
    bench.serve(name, other, echo, origins=["https://good.example", re.compile(r"https://.*\.good\.example"), None])
    for good in ("https://good.example", "https://a.good.example", None):
        bench.connect(name, other, origin=good)
    with pytest.raises(InvalidStatus):
        bench.connect(name, other, origin="https://evil.example")


def test_connection_class_and_attributes(bench: Any, name: str) -> None:
    module = websock.asyncio if name == "asyncio" else websock.sync

    class Mine(module.ServerConnection):  # type: ignore[name-defined, misc, unused-ignore]
        extra = "mine"

    where = bench.where("tcp4")
    server, ends = bench.serve_parked(name, where, create_connection=Mine)
    end = bench.connect(name, where)
    other = ends.get(timeout=30)
    assert other.extra == "mine"
    other.ws.anything = 1  # programs store their own things there
    end.ws.anything = 2
    assert other.server is server.server


# Where a server listens.


def test_dual_stack_port_zero_and_keywords(bench: Any, name: str) -> None:
    if name == "sync":
        with websock.sync.serve(lambda ws: None, host="localhost", port=0) as server:
            ports = {sock.getsockname()[1] for sock in server.sockets}
            families = {sock.family for sock in server.sockets}
    else:
        import asyncio

        async def handler(ws: Any) -> None:
            pass

        async def main() -> tuple[set[int], set[Any]]:
            async with websock.asyncio.serve(handler, host=None, port=0) as server:
                port = server.sockets[0].getsockname()[1]
                for host in ("127.0.0.1", "[::1]"):
                    async with websock.asyncio.connect(uri=f"ws://{host}:{port}") as ws:
                        assert [m async for m in ws] == []
                return {s.getsockname()[1] for s in server.sockets}, {s.family for s in server.sockets}

        ports, families = asyncio.run(main())
        assert families == {socket.AF_INET, socket.AF_INET6}
    assert len(ports) == 1


def test_unix_files(bench: Any, name: str, short_path: str) -> None:
    where = bench.where("unix")
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(f"{short_path}/s")
    stale.close()  # a file that nobody listens on
    server = bench.serve(name, where, echo)
    check_serves(bench, name, where)
    with pytest.raises(OSError, match="a server is listening there"):
        bench.serve(name, bench.where("unix"), echo)
    check_serves(bench, name, where)
    server.close()
    assert not os.path.exists(where.path)
    with open(where.path, "w"):
        pass
    with pytest.raises(OSError, match="isn't a socket"):
        bench.serve(name, bench.where("unix"), echo)
    assert os.path.exists(where.path)


def test_unix_file_of_a_successor_stays(bench: Any, name: str) -> None:
    where = bench.where("unix")
    server = bench.serve(name, where, echo)
    os.unlink(where.path)
    bench.serve(name, bench.where("unix"), echo)
    server.close()
    assert os.path.exists(where.path)
    check_serves(bench, name, where)


def test_port_in_use(bench: Any, name: str) -> None:
    where = bench.where("tcp4")
    bench.serve(name, where, echo)
    other = bench.where("tcp4")
    with pytest.raises(OSError, match=str(where.port)):
        if name == "sync":
            websock.sync.serve(lambda ws: None, "127.0.0.1", where.port)
        else:

            async def serve() -> None:
                await websock.serve(lambda ws: None, "127.0.0.1", where.port)  # type: ignore[arg-type,return-value]

            bench.adapter(name).run(serve())
    assert other.port == 0


@pytest.mark.parametrize(
    ("wrong", "right"), [("ping_intervall", "ping_interval"), ("maxsize", "max_size"), ("subprotocol", "subprotocols")]
)
def test_unknown_keywords_name_the_nearest(bench: Any, name: str, wrong: str, right: str) -> None:
    where = bench.where("tcp4")
    where.port = 9
    for make in (
        lambda: bench.adapter(name).serve(echo, where, **{wrong: 1}),
        lambda: bench.adapter(name).connect(where, **{wrong: 1}),
    ):
        with pytest.raises(TypeError, match=f"did you mean '{right}'"):
            make()  # type: ignore[no-untyped-call]


def test_accepted_sockets_do_not_wait_for_acknowledgements(bench: Any, name: str) -> None:
    """TCP_NODELAY on both ends: two small messages in a row must not wait for a delayed ACK."""
    for kind in ("tcp4", "sock"):
        end, other = bench.pair(name, name, kind)
        for one in (end, other):
            sock = one.ws.transport.get_extra_info("socket") if name == "asyncio" else one.ws._stream.sock
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


# Bad input.

GOOD = (
    "GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
)


def request(path: str = "/", more: str = "", **replaced: str) -> bytes:
    text = GOOD.format(path=path)
    for name, value in replaced.items():
        name = name.replace("_", "-")
        text = re.sub(rf"{name}: .*\r\n", f"{name}: {value}\r\n" if value else "", text)
    return (text + more + "\r\n").encode("latin-1")


BAD: list[tuple[str, bytes, bytes]] = [
    ("2000 headers", request(more="".join(f"X-{i}: y\r\n" for i in range(2000))), b"431"),
    ("2000 short headers", b"GET / HTTP/1.1\r\nHost: x\r\n" + b"a:\r\n" * 2000 + b"\r\n", b"431"),
    ("1 MB line", b"GET /" + b"x" * 2**20 + b" HTTP/1.1\r\n\r\n", b"431"),
    ("1 MB header", request(more="X: " + "y" * 2**20 + "\r\n"), b"431"),
    ("body", request(more="Content-Length: 5\r\n") + b"hello", b"4.."),
    ("chunked", request(more="Transfer-Encoding: chunked\r\n") + b"5\r\nhello\r\n0\r\n\r\n", b"4.."),
    ("huge body", request(more="Content-Length: 1000000\r\n") + b"x" * 1000000, b"4.."),
    ("POST", request().replace(b"GET", b"POST"), b"405"),
    ("HEAD", request().replace(b"GET", b"HEAD"), b"405"),
    ("version 8", request(Sec_WebSocket_Version="8"), b"426"),
    ("no version", request(Sec_WebSocket_Version=""), b"426"),
    ("no upgrade", request(Upgrade=""), b"426"),
    ("no key", request(Sec_WebSocket_Key=""), b"400"),
    ("short key", request(Sec_WebSocket_Key="AAAA"), b"400"),
    ("two keys", request(more="Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"), b"400"),
    ("no host", request(Host=""), b"400"),
    ("two hosts", request(more="Host: other\r\n"), b"400"),
    ("bad host", request(Host="a b"), b"400"),
    ("control in path", request("/a\x01b"), b"400"),
    ("DEL in path", request("/a\x7fb"), b"400"),
    ("space in path", request("/a b"), b"400"),
    ("NUL in header", request(more="X: a\0b\r\n"), b"400"),
    ("obsolete folding", request(more="X: a\r\n b\r\n"), b"..."),
    ("HTTP/1.0", request().replace(b"HTTP/1.1", b"HTTP/1.0"), b"400"),
    ("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9), b"4.."),
    ("TLS", bytes.fromhex("16030100c8010000c40303") + os.urandom(190), b"400"),
    ("SSH", b"SSH-2.0-OpenSSH_9.6\r\n\r\n", b"400"),
    ("noise", bytes(range(128, 256)) * 10 + b"\r\n\r\n", b"400"),
    ("empty lines", b"\r\n" * 3 + b"\r\n\r\n\r\n", b"..."),
]


@pytest.mark.parametrize(("data", "status"), [one[1:] for one in BAD], ids=[one[0] for one in BAD])
def test_bad_requests(bench: Any, name: str, data: bytes, status: bytes, logs: Any) -> None:
    where = bench.where("tcp4")
    bench.serve(name, where, echo, open_timeout=2)
    with where.raw_client() as raw:

        def send() -> None:
            try:
                raw.send_bytes(data)
                if status == b"...":
                    raw.shutdown_write()
            except OSError:
                pass  # it has answered already

        sending = Background(send)
        answer = raw.all()
        if status != b"...":
            assert re.match(rb"HTTP/1.1 " + status, answer), answer[:200]
        if status == b"426":
            assert b"\r\nSec-WebSocket-Version: 13\r\n" in answer
        if status == b"405":
            assert b"\r\nAllow: GET\r\n" in answer
        sending.result()
    check_serves(bench, name, where)
    assert len(logs.loud()) <= 1, [logs.text(r) for r in logs.loud()]


def test_fuzzed_requests(bench: Any, name: str, logs: Any) -> None:
    generator = random.Random(7)
    where = bench.where("tcp4")
    bench.serve(name, where, echo, open_timeout=5)
    good = request(
        more="Origin: http://localhost\r\nSec-WebSocket-Protocol: a, b\r\nSec-WebSocket-Extensions: x; y=1\r\n"
    )
    for _ in range(150):
        data = bytearray(good)
        for _ in range(generator.choice((1, 1, 2, 5))):
            kind = generator.randrange(4)
            at = generator.randrange(len(data))
            if kind == 0:
                data[at] = generator.randrange(256)
            elif kind == 1:
                del data[at : at + generator.randrange(20)]
            elif kind == 2:
                data[at:at] = generator.randbytes(generator.randrange(8))
            else:
                data[at:at] = data[at : at + generator.randrange(50)]
        logs.clear()
        with where.raw_client() as raw:
            raw.send_bytes(bytes(data))
            raw.shutdown_write()
            try:
                answer = raw.all()
            except ConnectionError:
                answer = b"reset"
            assert re.match(rb"HTTP/1.1 (101|400|403|405|426|431)|$", answer), (bytes(data), answer)
        # One of this connection, and perhaps the end of the one before.
        assert len(logs.loud()) <= 2
        assert not logs.tracebacks()
    check_serves(bench, name, where)


@pytest.mark.parametrize("kind", ["tcp4", "tls"])
@pytest.mark.parametrize(
    "data", [b"", b"GET / HTTP/1.1\r\nHost: x\r\n", b"\x16\x03\x01\x02\x00\x01"], ids=["nothing", "half", "tls"]
)
def test_stalled_openings(bench: Any, name: str, kind: str, data: bytes, logs: Any) -> None:
    """Counted from the moment of acceptance, and TLS belongs to it."""
    where = bench.where(kind)
    bench.serve(name, where, echo, open_timeout=0.4)
    started = time.monotonic()
    with Raw(where.reach(), client=True) as raw:
        if data:
            raw.send_bytes(data)
        try:
            raw.all()
        except ConnectionError:
            pass
    assert time.monotonic() - started < 2
    check_serves(bench, name, where)
    assert len(logs.loud()) <= 1, [logs.text(r) for r in logs.loud()]


def test_request_of_one_octet_at_a_time_is_ended(bench: Any, name: str) -> None:
    """Bytes that trickle do not move the deadline."""
    where = bench.where("tcp4")
    bench.serve(name, where, echo, open_timeout=0.4)
    started = time.monotonic()
    with where.raw_client() as raw:
        raw.sock.settimeout(0.05)
        try:
            for octet in REQUEST * 3:
                raw.send_bytes(bytes([octet]))
                try:
                    if not raw.sock.recv(1000):
                        break
                except TimeoutError:
                    pass
        except ConnectionError:
            pass
    assert time.monotonic() - started < 3


def test_plain_octets_on_a_tls_port(bench: Any, name: str, logs: Any) -> None:
    where = bench.where("tls")
    bench.serve(name, where, echo, open_timeout=2)
    for data in (REQUEST, b"\0" * 100, os.urandom(1000)):
        with Raw(where.reach(), client=True) as raw:
            raw.send_bytes(data)
            try:
                raw.all()
            except ConnectionError:
                pass
    check_serves(bench, name, where)
    assert len(logs.loud()) <= 3


def test_tls_client_that_does_not_trust_us(bench: Any, name: str, logs: Any) -> None:
    import ssl

    where = bench.where("tls")
    bench.serve(name, where, echo)
    for client in ("asyncio", "sync"):
        with pytest.raises(ssl.SSLCertVerificationError):
            bench.connect(client, where, ssl=ssl.create_default_context())
    check_serves(bench, name, where)


def test_plain_client_against_tls_server(bench: Any, name: str) -> None:
    where = bench.where("tls")
    bench.serve(name, where, echo)
    for client in ("asyncio", "sync"):
        with pytest.raises((InvalidHandshake, OSError)):
            bench.connect(client, where, f"ws://127.0.0.1:{where.port}", ssl=None)


def test_client_open_timeout(bench: Any, name: str) -> None:
    for kind in ("tcp4", "tls", "unix"):
        where = bench.where(kind, kind)
        with where.listen(), pytest.raises(TimeoutError):
            bench.connect(name, where, open_timeout=0.2)


def test_client_and_what_is_no_websocket_server(bench: Any, name: str) -> None:
    for answer in (
        b"",
        b"HTTP/1.1 101 \r\n\r\n",
        b"garbage\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK",
        b"\r\n" * 20000,
    ):
        where = bench.where("tcp4")
        with where.listen() as listener:

            def serve(where: Any = where, listener: Any = listener, answer: bytes = answer) -> None:
                with where.raw_server(listener) as raw:
                    raw.until(b"\r\n\r\n")
                    raw.send_bytes(answer)

            serving = Background(serve)
            with pytest.raises((InvalidHandshake, OSError)):
                bench.connect(name, where)
            serving.result()


def test_refused_port(bench: Any, name: str) -> None:
    where = bench.where("tcp4")
    where.listen().close()
    with pytest.raises(ConnectionRefusedError, match=str(where.port)):
        bench.connect(name, where)


def test_unresolvable_name(bench: Any, name: str) -> None:
    where = bench.where("tcp4")
    with pytest.raises(OSError, match=r"name\.invalid"):
        bench.connect(name, where, "ws://name.invalid/")


# Broadcast.


@pytest.mark.parametrize("server_name", ["asyncio", "sync"])
def test_broadcast(bench: Any, server_name: str) -> None:
    """A peer that never reads delays nobody, and a closed connection is passed over."""
    where = bench.where("tcp4")
    _, ends = bench.serve_parked(server_name, where, ping_interval=None, close_timeout=0.2)
    silent = where.raw_client()
    silent.ask()
    clients = [bench.connect("sync", where) for _ in range(3)]
    gone = bench.connect("sync", where)
    connections = [ends.get(timeout=30) for _ in range(5)]
    gone_id = gone.local_address
    closing = Background(next(c for c in connections if c.remote_address == gone_id).recv)
    gone.close()
    with pytest.raises(ConnectionClosedOK):
        closing.result()
    big = "b" * 2**18
    started = time.monotonic()

    def send(message: str) -> None:
        if server_name == "sync":
            websock.sync.broadcast([c.ws for c in connections], message, raise_exceptions=True)
        else:

            async def go() -> None:
                websock.asyncio.broadcast([c.ws for c in connections], message, raise_exceptions=True)

            bench.adapter("asyncio").run(go())

    for i in range(20):
        send(f"{i}{big}")
        for client in clients:
            assert client.recv()[: len(str(i))] == str(i)
    assert time.monotonic() - started < 8
    with pytest.raises(TypeError):
        send(["a", "b"])  # type: ignore[arg-type]
    silent.drop()
    for one in connections:
        one.kill()


@pytest.mark.parametrize("name", ["asyncio", "sync"])
def test_a_server_that_ends_the_tls_handshake(bench: Any, name: str) -> None:
    """It is told as what the network does: the blocking client once raised EOFError."""
    where = bench.where("tls")
    with where.listen() as listener:

        def hang_up() -> None:
            sock, _ = listener.accept()
            with sock:
                sock.recv(4096)
                sock.shutdown(socket.SHUT_WR)

        hanging = Background(hang_up)
        with pytest.raises(OSError):
            bench.connect(name, where)
        hanging.result()


def test_a_close_that_cannot_be_sent_is_refused_at_once(bench: Any, name: str) -> None:
    where = bench.where("tcp4")
    server = bench.serve(name, where, echo)
    with bench.connect("sync", where).ws as client:
        client.send("x")
        assert client.recv(5) == "x"
        with pytest.raises(ValueError, match="1006"):
            server.close(True, 1006)
        client.send("y")
        assert client.recv(5) == "y"


def test_a_hook_that_is_cancelled_ends_its_connection(bench: Any) -> None:
    import asyncio

    async def cancelled(connection: Any, request: Any) -> None:
        raise asyncio.CancelledError

    where = bench.where("tcp4")
    server = bench.serve("asyncio", where, echo, open_timeout=None, process_request=cancelled)
    with where.raw_client() as raw:
        raw.send_bytes(REQUEST)
        assert b"101" not in raw.all()
    until(lambda: not server.server._openings and not server.server._gate._open)


@pytest.mark.parametrize("ends", ["time", "server"])
def test_no_http_into_a_tls_handshake(bench: Any, name: str, ends: str) -> None:
    """Who has not finished the TLS handshake could not read an answer."""
    where = bench.where("tls")
    server = bench.serve(name, where, echo, open_timeout=0.4 if ends == "time" else 20)
    with where.reach() as sock:
        sock.sendall(b"\x16\x03\x01\x02\x00\x01\x00")
        until(lambda: len(server.server._gate))
        time.sleep(0.1)  # it has read that
        closing = Background(server.close) if ends == "server" else None
        got = b""
        try:
            while data := sock.recv(1000):
                got += data
        except ConnectionResetError:
            pass
        assert b"HTTP" not in got
        if closing is not None:
            closing.result()
