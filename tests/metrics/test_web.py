"""Both addresses as programs see them: what is there, and who may ask."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import socket
import threading
from typing import Any

import pytest

import websock.sync
from websock.exceptions import InvalidStatus
from websock.metrics import Metrics, web
from websock.net.address import Address
from websock.net.sockets import listening

from ..adapters.drivers import BOUND, until
from ..sockets import nothing_left_behind  # noqa: F401 - pytest looks for fixtures here
from .conftest import ask
from .test_snapshots import Hub

try:
    import prometheus_client
    from prometheus_client.parser import text_string_to_metric_families
except ImportError:
    pytest.skip("not installed: prometheus-client", allow_module_level=True)


def samples(text: str) -> dict[str, float]:
    """All of an exposition, by name and labels."""
    found = {}
    for family in text_string_to_metric_families(text):
        for one in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in sorted(one.labels.items()))
            found[f"{one.name}{{{labels}}}" if labels else one.name] = one.value
    return found


def test_what_prometheus_reads(bench: Any, name: str) -> None:
    metrics = Metrics(prometheus=0, hub=Hub())
    where = bench.where("tcp4")
    _, ends = bench.serve_parked(name, where, metrics=metrics)
    client = bench.connect(name, where)
    end = ends.get(timeout=BOUND)
    for _ in range(3):
        client.send("hello")
        end.send(end.recv())
        client.recv()
    status, text, headers = ask(metrics.addresses["prometheus"])
    assert (status, headers["Content-Type"].partition(";")[0], headers["Cache-Control"]) == (
        200,
        "text/plain",
        "no-store",
    )
    found = samples(text)
    wanted = {
        "websock_connections{state=open}": 1,
        "websock_connections{state=opening}": 0,
        "websock_connections_opened_total": 1,
        "websock_connections_closed_total{cause=peer_closed}": 0,
        "websock_handshakes_total{result=101}": 1,
        "websock_messages_total{direction=in}": 3,
        "websock_messages_total{direction=out}": 3,
        "websock_receive_queue_messages_bucket{le=+Inf}": 1,
        "websock_write_queue_bytes_max": 0,
        "websock_ping_latency_seconds_count": 0,
        "websock_broadcasts_dropped_total": 0,
        "websock_handler_errors_total": 0,
        "websock_backplane_up": 0,
        "websock_backplane_pending": 3,
        "websock_backplane_not_spread_total": 1,
    }
    until(lambda: metrics.snapshot().write_queue.most == 0)
    found |= samples(ask(metrics.addresses["prometheus"])[1])
    assert {key: found.get(key) for key in wanted} == wanted
    assert found["websock_bytes_total{direction=in}"] > 15
    assert found["process_open_fds"] > 0
    assert ("websock_event_loop_lag_seconds_count" in found) is (name != "sync")
    accept = {"Accept": "application/openmetrics-text; version=1.0.0"}
    status, text, headers = ask(metrics.addresses["prometheus"], accept)
    assert headers["Content-Type"].startswith("application/openmetrics-text") and text.endswith("# EOF\n")
    url = metrics.addresses["prometheus"]
    assert ask(url + "?x=1")[0] == 200
    assert [ask(url + "x")[0], ask(url, method="POST")[0], ask(url, method="HEAD")[:2]] == [404, 405, (200, "")]


def test_the_registry_of_a_program(bench: Any) -> None:
    metrics = Metrics()
    registry = prometheus_client.CollectorRegistry()
    registry.register(metrics.collector())
    with pytest.raises(ValueError, match="Duplicated timeseries"):
        registry.register(metrics.collector())
    assert samples(prometheus_client.generate_latest(registry).decode())["websock_connections{state=open}"] == 0


def test_histograms_add_up() -> None:
    metrics = Metrics()
    for seconds in (0.0005, 0.001, 0.3, 60.0):
        metrics._answered(seconds)
    registry = prometheus_client.CollectorRegistry()
    registry.register(metrics.collector())
    found = samples(prometheus_client.generate_latest(registry).decode())
    bounds = {"0.001": 2, "0.25": 2, "0.5": 3, "10.0": 3, "+Inf": 4}
    assert {bound: found[f"websock_ping_latency_seconds_bucket{{le={bound}}}"] for bound in bounds} == bounds
    assert found["websock_ping_latency_seconds_sum"] == pytest.approx(60.3015)


def test_addresses_live_as_long_as_servers(bench: Any, name: str, logs: Any) -> None:
    metrics = Metrics(prometheus="127.0.0.1:0", page="[::1]:0")
    assert metrics.addresses == {}
    servers = [bench.adapter(name).serve(lambda end: None, bench.where("tcp4"), metrics=metrics) for _ in range(2)]
    addresses = metrics.addresses
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/metrics", addresses["prometheus"])
    assert re.fullmatch(r"http://\[::1\]:\d+/", addresses["page"])
    told = [record.getMessage() for record in logs.records if record.name == "websock.metrics"]
    assert told == [f"metrics at {addresses['prometheus']}", f"page at {addresses['page']}"]
    servers[0].close()
    assert ask(addresses["prometheus"])[0] == 200
    servers[1].close()
    assert metrics.addresses == {}
    with pytest.raises(OSError, match="refused"):
        ask(addresses["prometheus"])
    again = bench.adapter(name).serve(lambda end: None, bench.where("tcp4"), metrics=metrics)
    assert ask(metrics.addresses["page"])[0] == 200
    again.close()


def test_a_server_that_is_drained_is_over_too(bench: Any, name: str) -> None:
    metrics = Metrics(page=0)
    adapter = bench.adapter(name)
    where = bench.where("tcp4")
    server = adapter.serve(lambda end: end.recv(), where, metrics=metrics)
    client = bench.connect("asyncio", where, ping_interval=None)
    until(lambda: metrics.snapshot().opened == 1)
    drained = server.server.drain(10)
    if name == "asyncio":
        adapter.run(drained)
    assert metrics.addresses == {}
    assert sum(metrics.snapshot().closed.values()) == 1
    client.kill()


def test_a_port_in_use_is_an_error_of_the_server(bench: Any, name: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        metrics = Metrics(prometheus=0, page=port)
        with pytest.raises(OSError, match=f"can't listen on tcp://127.0.0.1:{port}"):
            bench.adapter(name).serve(lambda end: None, bench.where("tcp4"), metrics=metrics)
    assert metrics.addresses == {}


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"page": "nonsense"}, ValueError, "nonsense"),
        ({"page": "127.0.0.1:99999"}, ValueError, "port"),
        ({"prometheus": True}, TypeError, "an address of metrics is 'host:port' or a port, not True"),
        ({"page": b"127.0.0.1:0"}, TypeError, "an address of metrics"),
        ({"page": "0.0.0.0:9101"}, ValueError, "needs hosts="),
        ({"page": "*:9101"}, ValueError, "needs hosts="),
        ({"page": 0, "hosts": ["a b"]}, ValueError, "'a b'"),
        ({"pages": 0}, TypeError, "pages"),
    ],
)
def test_what_cannot_be(options: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=re.escape(words)):
        Metrics(**options)


def test_a_page_for_others_is_worth_a_warning(logs: Any) -> None:
    Metrics(page="192.0.2.1:9101")
    assert [record.levelname for record in logs.records] == ["WARNING"]
    Metrics(prometheus="0.0.0.0:9100", page="127.0.0.1:9101")
    assert len(logs.records) == 1


def test_taken_ports_are_passed_over_without_asking_who_has_them(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def listen(place: Address) -> list[socket.socket]:
        asked.append(place.port)
        return listening(place)

    monkeypatch.setattr(web, "listening", listen)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        first = taken.getsockname()[1]
        for sock in web._Endpoint("page", web.place_of(first), "", lambda *_: None, None, None).listen(True):
            sock.close()
    assert asked and min(asked) > first


def test_two_generations_of_many_workers_find_ports(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(web, "_is_taken", lambda place: place.port < 20_200)
    monkeypatch.setattr(web, "listening", lambda place: asked.append(place.port))
    for successive in (True, False):
        web._Endpoint("page", web.place_of(20_000), "", lambda *_: None, None, None).listen(successive)
    assert asked == [20_200, 20_000]


# The page.


@pytest.fixture
def shown(bench: Any) -> tuple[Metrics, str, Any]:
    """Metrics with a page, its address without the slash, and a server whose connections stay."""
    metrics = Metrics(page=0, prometheus=0, hosts=["ops.example"])
    where = bench.where("tcp4")
    bench.serve_parked("asyncio", where, metrics=metrics)
    return metrics, metrics.addresses["page"].rstrip("/"), where


def test_the_page_has_what_it_needs(shown: Any) -> None:
    _, url, _ = shown
    status, text, headers = ask(url + "/")
    assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy and "unsafe" not in policy
    assert (headers["X-Content-Type-Options"], headers["Cache-Control"]) == ("nosniff", "no-store")
    addresses = set(re.findall(r"(?:https?|wss?)://[^\"'`\s]*", text))
    assert addresses <= {"http://www.w3.org/2000/svg"}
    assert "{token}" not in text
    assert ask(url + "/favicon.svg")[0] == 200
    assert [ask(url + path)[0] for path in ("/nothing", "/page.html", "//", "/live")] == [404, 404, 404, 426]
    assert [ask(url + "/", method=method)[0] for method in ("POST", "PUT", "DELETE")] == [404, 405, 405]


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("path", ["//[", "//[x/close?id=1", "/?id=[", "//]"])
def test_a_path_that_is_none_is_no_error_of_ours(shown: Any, logs: Any, method: str, path: str) -> None:
    place = shown[1].partition("//")[2]
    with contextlib.closing(http.client.HTTPConnection(place, timeout=BOUND)) as client:
        client.request(method, path)
        assert client.getresponse().status in (200, 404)
    assert not logs.tracebacks()


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "0.0.0.0", ""])
@pytest.mark.parametrize("path", ["/", "/close", "/live", "metrics"])
def test_by_another_name_there_is_nothing(shown: Any, host: str, path: str) -> None:
    metrics, url, _ = shown
    whole = metrics.addresses["prometheus"] if path == "metrics" else url + path
    status, text, _ = ask(whole, {"Host": host}, "POST" if path == "/close" else "GET")
    assert 400 <= status < 500
    assert "token" not in text and "websock_" not in text


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:8000", "127.0.0.1", "[::1]:1", "ops.example", "OPS.example:80"]
)
def test_by_its_own_names_it_is_there(shown: Any, host: str) -> None:
    metrics, url, _ = shown
    assert ask(url + "/", {"Host": host})[0] == 200
    assert ask(metrics.addresses["prometheus"], {"Host": host})[0] == 200


def test_numbers_come_by_themselves(shown: Any) -> None:
    _, url, where = shown
    with websock.sync.connect(url.replace("http", "ws") + "/live", origin=url) as live:
        first = json.loads(live.recv(BOUND))
        assert (first["open"], first["peers"], first["order"], first["backplane"]) == (0, [], "slowest", None)
        assert first["servers"] == [where.uri.split("/")[2]]
        with where.raw_client() as peer:
            peer.ask()
            for _ in range(30):
                now = json.loads(live.recv(BOUND))
                if now["open"]:
                    break
            assert [one["address"] for one in now["peers"]] == ["{}:{}".format(*peer.sock.getsockname())]
        live.send("newest")
        live.send("__class__")
        live.send(b"\x00")
        until(lambda: json.loads(live.recv(BOUND))["order"] == "newest")


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "https://127.0.0.1"])
def test_pages_of_others_get_no_numbers(shown: Any, origin: str) -> None:
    _, url, _ = shown
    with pytest.raises(InvalidStatus) as refused:
        websock.sync.connect(url.replace("http", "ws") + "/live", origin=origin)
    assert refused.value.response.status_code == 403


def test_closing_needs_the_page(shown: Any) -> None:
    metrics, url, where = shown
    token = re.findall('<meta name="token" content="([^"]+)">', ask(url + "/")[1])[0]
    with where.raw_client() as peer:
        peer.ask()
        connection = until(metrics.peers)[0].id
        place = f"{url}/close?id={connection}"
        good = {"X-Token": token, "Origin": url}
        refused: list[tuple[str, dict[str, str]]] = [
            (place, {}),
            (place, {"Origin": url}),
            (place, {"X-Token": token}),
            (place, {**good, "X-Token": token[:-1]}),
            (place, {**good, "X-Token": token + "\xe4"}),
            (place, {**good, "Origin": "http://evil.example"}),
            (place, {**good, "Origin": "null"}),
            (place, {**good, "Sec-Fetch-Site": "cross-site"}),
            (f"{place}&token={token}", {"Origin": url}),
        ]
        for address, headers in refused:
            assert ask(address, headers, "POST")[0] == 403, headers
        assert ask(place, good)[0] == 404  # GET changes nothing
        assert ask(f"{url}/close?id=nobody", good, "POST")[0] == 404
        assert ask(f"{url}/close", good, "POST")[0] == 404
        assert metrics.snapshot().open == 1
        assert ask(place, good, "POST")[0] == 202
        assert peer.recv_close() == 1008
        peer.close(1008)
    until(lambda: metrics.snapshot().closed)


def test_the_page_answers_while_the_program_does_not(bench: Any) -> None:
    metrics = Metrics(page=0, prometheus=0)
    bench.serve_parked("asyncio", bench.where("tcp4"), metrics=metrics)
    going, over = threading.Event(), threading.Event()

    def stall() -> None:
        going.set()
        over.wait(60)

    bench.adapter("asyncio").loop.call_soon_threadsafe(stall)
    assert going.wait(BOUND)
    try:
        assert ask(metrics.addresses["page"])[0] == 200
        assert ask(metrics.addresses["prometheus"])[0] == 200
    finally:
        over.set()


def test_who_looks_does_not_keep_a_server_from_ending(bench: Any, name: str) -> None:
    metrics = Metrics(page=0)
    server = bench.adapter(name).serve(lambda end: None, bench.where("tcp4"), metrics=metrics)
    page = metrics.addresses["page"]
    live = websock.sync.connect(page.replace("http", "ws") + "live")
    with socket.create_connection(("127.0.0.1", int(page.rstrip("/").rpartition(":")[2]))) as silent:
        live.recv(BOUND)
        server.close()  # and neither of them has to do anything for that
        silent.settimeout(BOUND)
        with contextlib.suppress(ConnectionError):
            while silent.recv(1000):
                pass
    with pytest.raises(websock.ConnectionClosed):
        while True:
            live.recv(BOUND)
    live.close()
