"""The files of examples/deploy in the programs that they are for, in front of ``python -m websock serve``."""

from __future__ import annotations

import contextlib
import functools
import http.client
import os
import signal
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest

from websock.exceptions import ConnectionClosed, InvalidStatus

from ..programs import PATIENCE, PEM
from ..serving.conftest import Serve, Start, ended, until
from .proxies import CLIENT, HANDLER, Proxy, caddy, checked, fresh, haproxy, nginx, order, same, who

OPTIONS = ("--workers", "2", "--trusted-proxy", "127.0.0.1", "--health", "/healthz")
FORGED = {"X-Forwarded-For": "6.6.6.6", "Forwarded": "for=6.6.6.6;proto=http", "X-Forwarded-Proto": "gopher"}

# By name: the proxy in front of a server of this port, in this folder.
Front = Callable[..., AbstractContextManager[Proxy]]


def _nginx(port: int, folder: str, **how: Any) -> AbstractContextManager[Proxy]:
    return nginx(f"127.0.0.1:{port}", fresh(folder), **how)


def _haproxy(port: int, folder: str, **how: Any) -> AbstractContextManager[Proxy]:
    return haproxy([f"127.0.0.1:{port}"], fresh(folder), **how)


FRONTS = {"nginx": _nginx, "haproxy": _haproxy}
RELOADS = {"nginx": signal.SIGHUP, "haproxy": signal.SIGUSR2}
SILENCE = {"nginx": ("proxy_read_timeout", "proxy_send_timeout"), "haproxy": ("tunnel",)}
ABSENT = {"nginx": "502 Bad Gateway", "haproxy": "503 Service Unavailable"}
names = pytest.mark.parametrize("name", FRONTS)


def converse(proxy: Proxy, *, tls: bool) -> dict[str, Any]:
    """What every proxy must let pass: text, binary, what is long, compression, control frames, a page's origin."""
    origin = f"{'https' if tls else 'http'}://localhost:{proxy.port if tls else proxy.plain}"
    with proxy.connect(tls=tls, origin=origin, additional_headers=FORGED) as ws:
        assert ws.response.headers["Sec-WebSocket-Extensions"].startswith("permessage-deflate")
        for message in ("ä", b"\0\xff", "long " * 200_000, os.urandom(1_000_000), ""):
            same(ws, message)
        assert ws.ping().wait(PATIENCE)
        found = who(ws)
        ws.close(4000, "done")
        assert (ws.close_code, ws.close_reason) == (4000, "done")
    with pytest.raises(InvalidStatus) as raised:
        proxy.connect(tls=tls, origin="https://evil.example")
    assert raised.value.response.status_code == 403
    return found


def page(proxy: Proxy) -> http.client.HTTPResponse:
    """The answer to a browser that asks without TLS."""
    connection = http.client.HTTPConnection("127.0.0.1", proxy.plain, timeout=PATIENCE)
    with contextlib.closing(connection):
        connection.request("GET", "/room?a=b", headers={"Host": "chat.example"})
        answer = connection.getresponse()
        answer.read()
        return answer


@names
def test_a_conversation_through_a_proxy_that_ends_tls(name: str, served: Serve, short_path: str) -> None:
    server = served(HANDLER, *OPTIONS)
    with FRONTS[name](server.port, short_path, plain=True) as proxy:
        for tls in (True, False):
            found = converse(proxy, tls=tls)
            assert (found["client"], found["proxy"][0]) == (CLIENT, "127.0.0.1")
            assert found["proto"] == ("https" if tls else "http")
    server.stop()


def test_caddy(served: Serve, short_path: str) -> None:
    path = f"{short_path}/socket"
    server = served(HANDLER, "--workers", "2", "--unix", path, "--trusted-proxy", "unix")
    with caddy(f"unix/{path}", fresh(short_path)) as proxy:
        found = converse(proxy, tls=True)
        assert (found["client"], found["proto"]) == (CLIENT, "https")
    server.stop()


def test_tls_that_goes_through_with_both_versions_of_the_proxy_protocol(served: Serve, short_path: str) -> None:
    server = served(HANDLER, *OPTIONS, "--proxy-protocol", "--certfile", PEM)
    for v1 in (False, True):
        with haproxy([], fresh(short_path), through=[f"127.0.0.1:{server.port}"], v1=v1) as proxy:
            found = converse(proxy, tls=True)
            assert (found["client"], found["proxy"][0]) == (CLIENT, "127.0.0.1")
    server.stop()


def test_a_connection_that_is_idle_for_longer_than_the_proxies_wait(served: Serve, short_path: str) -> None:
    """Ours stays open, since it is pinged; the other shows that it would not. A machine that stands still for longer
    than a proxy waits proves nothing, so that there is a second try, with more time."""
    pinged = served(HANDLER, *OPTIONS, "--ping-interval", "0.2")
    silent = served(HANDLER, *OPTIONS, "--ping-interval", "0")
    for seconds in (2, 8):
        with contextlib.ExitStack() as stack:
            crowds: list[list[Any]] = []
            for server in (pinged, silent):
                crowds.append([])
                for name, front in FRONTS.items():
                    times = dict.fromkeys(SILENCE[name], f"{seconds}s")
                    proxy = stack.enter_context(front(server.port, short_path, **times))
                    crowds[-1].append(stack.enter_context(proxy.connect()))
                    same(crowds[-1][-1], "at the beginning")
            stay, go = crowds
            assert [ended(ws).code for ws in go] == [1006, 1006]
            try:
                for ws in stay:
                    same(ws, "later")
            except ConnectionClosed:
                assert seconds == 2
            else:
                break
    pinged.stop()
    silent.stop()


@names
def test_a_worker_that_is_killed(name: str, served: Serve, short_path: str) -> None:
    server = served(HANDLER, *OPTIONS)
    with FRONTS[name](server.port, short_path) as proxy, contextlib.ExitStack() as stack:
        crowd = [stack.enter_context(proxy.connect()) for _ in range(8)]
        pids = [who(ws)["pid"] for ws in crowd]
        crowd[0].send("die")
        assert ended(crowd[0]).code == 1006
        for ws, pid in zip(crowd[1:], pids[1:], strict=True):
            if pid == pids[0]:
                assert ended(ws).code == 1006
            else:
                same(ws, "nothing to me")
        for _ in range(4):  # some of them wait for the worker that takes its place
            with proxy.connect() as ws:
                assert who(ws)["pid"] != pids[0]
        until(lambda: len(server.workers()) == 2)
    server.stop()


@names
def test_a_reload_of_the_server(name: str, served: Serve, short_path: str) -> None:
    """Nobody is refused, and who is connected is told to come again."""
    server = served(HANDLER, *OPTIONS)
    server.says("server has 2 workers")
    with FRONTS[name](server.port, short_path) as proxy, contextlib.ExitStack() as stack:
        crowd = [stack.enter_context(proxy.connect()) for _ in range(4)]
        before = {who(ws)["pid"] for ws in crowd}
        server.tell(signal.SIGHUP)
        while set(server.workers()) & before or len(server.workers()) != 2:
            with proxy.connect() as ws, contextlib.suppress(ConnectionClosed):  # by a worker that goes
                same(ws, "meanwhile")
        for ws in crowd:
            assert ended(ws).code == 1012
        with proxy.connect() as ws:
            assert who(ws)["pid"] not in before
    assert not [line for line in server.stop() if "WARNING" in line or "ERROR" in line]


@names
def test_a_reload_of_the_proxy(name: str, served: Serve, short_path: str) -> None:
    server = served(HANDLER, *OPTIONS)
    with FRONTS[name](server.port, short_path) as proxy:
        answer = page(proxy)
        assert (answer.status, answer.headers["Location"]) == (answer.status, "https://chat.example/room?a=b")
        assert answer.status in (301, 302)
        with proxy.connect() as stays:
            same(stays, "before")
            proxy.reload(RELOADS[name])
            same(stays, "after")
            with proxy.connect() as ws:
                same(ws, "new")
            same(stays, "still")
    server.stop()


@names
def test_no_server(name: str, served: Serve, start: Start, short_path: str) -> None:
    server = served(HANDLER, *OPTIONS)
    how = {"fall": 2} if name == "haproxy" else {}
    with FRONTS[name](server.port, short_path, **how) as proxy:
        with proxy.connect() as ws:
            same(ws, "here")
            server.stop()
            assert ended(ws).code == 1001
        with pytest.raises(InvalidStatus, match=f"HTTP {ABSENT[name][:3]}$"):
            proxy.connect()
        uri = f"wss://localhost:{proxy.port}/"
        code, _, err = start("-m", "websock", "connect", uri, "--ca", PEM).run()
        assert code == 1
        said = "server rejected WebSocket connection: HTTP " + ABSENT[name]
        assert err == [f"websock connect: can't connect to localhost:{proxy.port}: {said}"]
        again = served(HANDLER, *OPTIONS, "--port", str(server.port))

        def back() -> bool:
            with contextlib.suppress(InvalidStatus), proxy.connect() as ws:
                same(ws, "here again")
                return True
            return False

        until(back, "a connection to the server that is back")
        again.stop()


def _down(proxy: Proxy, backend: str, server: str) -> bool:
    return not checked(proxy, backend, server)


def test_health_checks_make_no_noise(served: Serve, short_path: str) -> None:
    plain = served(HANDLER, *OPTIONS, "--log-level", "debug")
    through = served(HANDLER, *OPTIONS, "--log-level", "debug", "--proxy-protocol", "--certfile", PEM)
    with haproxy(
        [f"127.0.0.1:{plain.port}"], fresh(short_path), through=[f"127.0.0.1:{through.port}"]
    ) as proxy:  # the last words of an answer may be read or not: some checks end in a reset
        for server, backend in ((plain, "websock"), (through, "tls-through")):
            for _ in range(5):
                server.says(r"answered \(200\)")
            assert checked(proxy, backend, "a")
            until(functools.partial(_down, proxy, backend, "b"), "a bad health check")
    for server in (plain, through):
        lines = [*server.err, *server.stop()]
        checks = [line for line in lines if "127.0.0.1'" in line and "listening" not in line]
        assert checks
        assert not [line for line in checks if " DEBUG " not in line]


def test_several_hosts(served: Serve, short_path: str) -> None:
    """Whoever has the fewest gets the next; when one is gone, its clients go to the other."""
    hosts = [served(HANDLER, *OPTIONS) for _ in range(2)]
    with (
        haproxy([f"127.0.0.1:{one.port}" for one in hosts], fresh(short_path), fall=2) as proxy,
        contextlib.ExitStack() as s,
    ):
        crowd = [s.enter_context(proxy.connect()) for _ in range(8)]
        workers = [set(host.workers()) for host in hosts]
        there = [next(n for n in range(2) if who(ws)["pid"] in workers[n]) for ws in crowd]
        assert sorted(there) == [0] * 4 + [1] * 4
        hosts[1].stop()
        until(functools.partial(_down, proxy, "websock", "b"), "a bad health check")
        for ws, n in zip(crowd, there, strict=True):
            if n:
                assert ended(ws).code == 1001
                ws = s.enter_context(proxy.connect())
                assert who(ws)["pid"] in workers[0]
            else:
                same(ws, "nothing to me")
        order(proxy, "set server websock/a state drain")  # and now the other one, as in planned work
        same(next(ws for ws, n in zip(crowd, there, strict=True) if not n), "stays")
        with pytest.raises(InvalidStatus, match=r"HTTP 503$"):
            proxy.connect()
    hosts[0].stop()
