"""Servers of both adapters behind proxies: forwarded addresses, and the PROXY protocol, with TLS behind it too."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from websock import Limits

from .drivers import BOUND, Where, until
from .raw import REQUEST, TEXT, Raw, frame

V1 = b"PROXY TCP4 192.0.2.1 10.0.0.1 4000 80\r\n"
V2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x11" + bytes([192, 0, 2, 1, 10, 0, 0, 1]) + b"\x0f\xa0\0\x50" + b"\x04\0\x02no"
CLIENT = ("192.0.2.1", 4000)


def told(end: Any) -> None:
    """Tells what the server knows of its client."""
    ws = end.ws
    end.send(repr((ws.remote_address, ws.proxy_address, ws.forwarded_proto)))
    end.recv(60)


def opened(where: Where, preface: list[bytes] | None = None, more: bytes = b"") -> tuple[Raw, int]:
    """A raw client that sends a preface, then makes TLS and the handshake; and its status, 0 for none."""
    sock = where.reach()
    try:
        for part in preface or []:
            sock.sendall(part)
        if where.kind == "tls":
            sock = where.client_ssl.wrap_socket(sock, server_hostname="127.0.0.1", suppress_ragged_eofs=True)
        raw = Raw(sock, client=True)
        head = raw.ask(REQUEST[:-2] + more + b"\r\n")
        return raw, int(head.split()[1])
    except BaseException:
        sock.close()
        raise


def answer(raw: Raw) -> Any:
    opcode, payload = raw.recv()
    assert opcode == TEXT
    raw.send(TEXT, b"thanks")
    return eval(payload)  # noqa: S307 - our own repr


def peer(raw: Raw, kind: str) -> Any:
    return "" if kind == "unix" else raw.sock.getsockname()


@pytest.mark.parametrize("kind", ["tcp4", "tcp6", "tls", "unix"])
@pytest.mark.parametrize(
    ("more", "address", "proto"),
    [
        (b"X-Forwarded-For: 203.0.113.5, 192.0.2.1\r\nX-Forwarded-Proto: https\r\n", ("192.0.2.1", 0), "https"),
        (b'Forwarded: for="192.0.2.1:4000";proto=https\r\n', CLIENT, "https"),
        (b'Forwarded: for="[2001:db8::7]:4000", for=127.0.0.1\r\n', ("2001:db8::7", 4000), None),
    ],
)
def test_forwarded(bench: Any, name: str, kind: str, more: bytes, address: Any, proto: Any, logs: Any) -> None:
    where = bench.where(kind)
    bench.serve(name, where, told, trusted_proxies=["127.0.0.0/8", "::1", "unix"])
    raw, status = opened(where, more=more)
    with raw:
        assert status == 101
        assert answer(raw) == (address, peer(raw, kind), proto)
    until(lambda: [r for r in logs.records if r.getMessage() == f"connection from {address} open"])


@pytest.mark.parametrize("trusted", [None, ["10.0.0.0/8"]])
def test_nobody_is_believed_unasked(bench: Any, name: str, trusted: Any) -> None:
    where = bench.where("tcp4")
    bench.serve(name, where, told, trusted_proxies=trusted)
    raw, status = opened(where, more=b"X-Forwarded-For: 192.0.2.1\r\nForwarded: for=nonsense; ;=\r\n")
    with raw:
        assert status == 101 and answer(raw) == (raw.sock.getsockname(), None, None)


def test_a_proxy_that_says_nothing_speaks_for_itself(bench: Any, name: str) -> None:
    where = bench.where("tcp4")
    bench.serve(name, where, told, trusted_proxies=["127.0.0.1"])
    raw, status = opened(where)
    with raw:
        assert status == 101 and answer(raw) == (raw.sock.getsockname(), None, None)


def test_headers_that_contradict_each_other(bench: Any, name: str) -> None:
    where = bench.where("tcp4")
    bench.serve(name, where, told, trusted_proxies=["127.0.0.1"])
    for more in (b"X-Forwarded-For: 192.0.2.1\r\nForwarded: for=192.0.2.2\r\n", b'Forwarded: for="\r\n'):
        raw, status = opened(where, more=more)
        with raw:
            assert status == 400


def test_clients_behind_a_proxy_are_counted_one_by_one(bench: Any, name: str) -> None:
    where = bench.where("tcp4")
    bench.serve(name, where, told, trusted_proxies=["127.0.0.1"], limits=Limits(per_client=1))
    first, status = opened(where, more=b"X-Forwarded-For: 192.0.2.1\r\n")
    assert status == 101
    second, status = opened(where, more=b"X-Forwarded-For: 192.0.2.1\r\n")
    with second:
        assert status == 429 and b"\r\nRetry-After: 10\r\n" in second.head
    other, status = opened(where, more=b"X-Forwarded-For: 192.0.2.2\r\n")
    with first, other:
        assert status == 101


# The PROXY protocol.


@pytest.mark.parametrize("kind", ["tcp4", "tls", "unix"])
@pytest.mark.parametrize("header", [V1, V2], ids=["v1", "v2"])
@pytest.mark.parametrize("step", [1000, 7], ids=["whole", "in-parts"])
@pytest.mark.parametrize("name", ["asyncio", "sync", "uvloop"])
def test_proxy_header(bench: Any, name: str, kind: str, header: bytes, step: int) -> None:
    where = bench.where(kind)
    bench.serve(name, where, told, trusted_proxies=["127.0.0.1", "unix"], proxy_protocol=True)
    raw, status = opened(where, [header[at : at + step] for at in range(0, len(header), step)])
    with raw:
        assert status == 101
        assert answer(raw) == (CLIENT, peer(raw, kind), None)


def test_what_comes_with_the_header_is_http(bench: Any, name: str) -> None:
    where = bench.where("tcp4")
    bench.serve(name, where, told, proxy_protocol=True)
    for header in (V1, V2):
        with Raw(where.reach(), client=True) as raw:
            head = raw.ask(header + REQUEST + frame(TEXT, b"early"))
            assert head.startswith(b"HTTP/1.1 101 ")
            assert answer(raw)[0] == CLIENT


@pytest.mark.parametrize("header", [b"PROXY UNKNOWN\r\n", b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"], ids=["UNKNOWN", "LOCAL"])
def test_a_proxy_header_that_names_nobody(bench: Any, name: str, header: bytes) -> None:
    where = bench.where("tcp4")
    bench.serve(name, where, told, proxy_protocol=True)
    raw, status = opened(where, [header])
    with raw:
        assert status == 101 and answer(raw) == (raw.sock.getsockname(), None, None)


def test_a_chain_of_proxies(bench: Any, name: str) -> None:
    """A load balancer with the PROXY protocol, before it one that speaks HTTP."""
    where = bench.where("tcp4")
    bench.serve(name, where, told, trusted_proxies=["127.0.0.1", "192.0.2.0/24"], proxy_protocol=True)
    raw, status = opened(where, [V1], b"X-Forwarded-For: 198.51.100.9, 192.0.2.77\r\n")
    with raw:
        assert status == 101 and answer(raw) == (("198.51.100.9", 0), raw.sock.getsockname(), None)


@pytest.mark.parametrize("kind", ["tcp4", "tls"])
def test_no_good_header(bench: Any, name: str, kind: str, logs: Any) -> None:
    """Closed without an answer and with one line for all; the server goes on."""
    where = bench.where(kind)
    bench.serve(name, where, told, proxy_protocol=True)
    for data in (REQUEST, b"PROXY TCP9 1 2 3 4\r\n" + REQUEST, V2.replace(b"\x21\x11", b"\x55\x11")):
        with where.reach() as sock:
            sock.sendall(data)
            try:
                assert sock.recv(100) == b""
            except ConnectionResetError:
                pass
    with where.reach() as sock:
        sock.sendall(V1[:20])
    raw, status = opened(where, [V1])
    with raw:
        assert status == 101
    lines = [r.getMessage() for r in logs.records if r.levelname == "WARNING"]
    assert len(lines) == 1 and lines[0].startswith("refused, a bad PROXY header: 127.0.0.1, ")


def test_a_header_from_a_stranger(bench: Any, name: str, logs: Any) -> None:
    where = bench.where("tcp4")
    bench.serve(name, where, told, trusted_proxies=["10.0.0.0/8"], proxy_protocol=True)
    for _ in range(3):
        with where.reach() as sock:
            try:
                sock.sendall(V1 + REQUEST)
                assert sock.recv(100) == b""
            except (ConnectionResetError, BrokenPipeError):
                pass
    lines = [r.getMessage() for r in logs.records if r.levelname == "WARNING"]
    assert len(lines) == 1 and "no trusted proxy: 127.0.0.1" in lines[0]


def test_a_header_that_does_not_come(bench: Any, name: str) -> None:
    """It is part of the time that opening may take, and of what is half-open."""
    where = bench.where("tcp4")
    server = bench.serve(name, where, told, proxy_protocol=True, open_timeout=0.3, limits=Limits(half_open=2))
    with where.reach() as first, where.reach() as second:
        second.sendall(V1[:10])
        for sock in (first, second):
            sock.settimeout(BOUND)
            assert sock.recv(100) == b""
    crowd = [where.reach() for _ in range(6)]
    raw, status = opened(where, [V1])
    with raw:
        assert status == 101
    for sock in crowd:
        sock.close()
    until(lambda: not len(server.server._gate))


def test_clients_of_a_header_are_counted_before_tls(bench: Any, name: str) -> None:
    where = bench.where("tls")
    bench.serve(name, where, told, proxy_protocol=True, limits=Limits(per_client=1))
    first, status = opened(where, [V1])
    with first:
        assert status == 101
        with where.reach() as sock:
            sock.sendall(V2)
            assert sock.recv(1) == b""
        with where.reach() as sock:
            sock.sendall(V2.replace(b"\xc0\0\x02\1", b"\xc0\0\x02\2"))
            other = where.client_ssl.wrap_socket(sock, server_hostname="127.0.0.1")
            with Raw(other, client=True) as raw:
                assert raw.ask().startswith(b"HTTP/1.1 101 ")


def test_a_server_that_stops_while_headers_are_awaited(bench: Any, name: str) -> None:
    where = bench.where("tcp4")
    server = bench.serve(name, where, told, proxy_protocol=True)
    with where.reach() as first, where.reach() as second:
        second.sendall(V1[:10])
        until(lambda: len(server.server._gate) == 2)
        server.close()
        for sock in (first, second):
            try:
                assert sock.recv(1, socket.MSG_PEEK) in (b"", b"H")
            except ConnectionResetError:
                pass


def test_a_loop_that_cannot_watch_gives_a_silent_peer_no_more_time(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in Windows' proactor loop, where a task reads the header."""
    monkeypatch.setattr("websock.asyncio.server.can_watch", lambda loop: False)
    where = bench.where("tcp4")
    server = bench.serve("asyncio", where, told, proxy_protocol=True, open_timeout=0.3)
    with Raw(where.reach(), client=True) as raw:
        raw.send_bytes(b"PROXY ")
        assert raw.all() == b""
    until(lambda: not server.server._connecting)
