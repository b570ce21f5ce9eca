"""``websock serve --metrics ADDRESS --page ADDRESS``: alone, and with workers."""

from __future__ import annotations

import json
import re
import socket

import pytest

import websock.sync

from ..programs import PATIENCE
from ..serving.conftest import Serve, Start, served, start, until  # noqa: F401 - pytest looks for fixtures here
from .conftest import ask


# F811: parameters have the names of the fixtures above, which is how pytest finds them.
@pytest.mark.parametrize("model", ["asyncio", "threads"])
def test_a_server_with_both(served: Serve, model: str) -> None:  # noqa: F811
    handler = "tests.serving.apps:" + ("tasks" if model == "asyncio" else "plain")
    server = served(handler, "--metrics", "0", "--page", "127.0.0.1:0", "--page-host", "ops.example", "--model", model)
    metrics = server.says(r"metrics at (http://127\.0\.0\.1:\d+/metrics)")[1]
    page = server.says(r"page at (http://127\.0\.0\.1:\d+/)")[1]
    with server.connect() as ws:
        ws.send("hello")
        assert ws.recv(timeout=30) == "hello"
        status, text, _ = ask(metrics)
        assert status == 200
        assert 'websock_connections{state="open"} 1.0' in text
        assert 'websock_messages_total{direction="in"} 1.0' in text
    assert ask(page, {"Host": "ops.example"})[0] == 200
    server.stop()


def test_each_worker_has_ports_of_its_own(served: Serve) -> None:  # noqa: F811
    with socket.create_server(("127.0.0.1", 0)) as taken:
        first = taken.getsockname()[1]  # stays taken, as by something else
        server = served("tests.serving.apps:tasks", "--metrics", str(first), "--workers", "2")
        found = [server.says(r"\[(\d+)\] metrics at (http://127\.0\.0\.1:(\d+)/metrics)") for _ in range(2)]
        assert {int(one[1]) for one in found} <= set(server.workers())
        ports = {int(one[3]) for one in found}
        assert len(ports) == 2 and min(ports) > first and max(ports) <= first + 100
        connections = [server.connect() for _ in range(5)]

        def opened() -> float:
            return sum(
                float(re.findall(r"^websock_connections_opened_total (.*)$", ask(one[2])[1], re.M)[0]) for one in found
            )

        until(lambda: opened() == 5)
        for ws in connections:
            ws.close()
        server.stop()


@pytest.mark.parametrize("workers", [0, 2])
def test_a_page_tells_whose_it_is(served: Serve, workers: int) -> None:  # noqa: F811
    server = served("tests.serving.apps:tasks", "--page", "0", *(("--workers", str(workers)) if workers else ()))
    shown = set()
    for _ in range(workers or 1):
        line = server.says(r"\[(\d+)\] page at http(://127\.0\.0\.1:\d+)/(.*)")
        assert line[3] == (", of this worker alone" if workers else "")
        with websock.sync.connect(f"ws{line[2]}/live", origin=f"http{line[2]}") as live:
            now = json.loads(live.recv(PATIENCE))
        assert (now["pid"], now["worker"]) == (int(line[1]), bool(workers))
        shown.add(now["pid"])
    assert shown == (set(server.workers()) or {server.pid})
    server.stop()


WRONG = [
    (["--metrics", "nowhere"], 2, "invalid address 'tcp://nowhere'"),
    (["--page", "0.0.0.0:0"], 2, "needs hosts="),
    (["--page-host", "a"], 2, "--page-host goes with --page and --metrics"),
    (["--page", "0", "--model", "processes"], 2, "metrics count in one process"),
]


@pytest.mark.parametrize(("arguments", "expected", "words"), WRONG, ids=[" ".join(one[0]) for one in WRONG])
def test_what_cannot_be_served(start: Start, arguments: list[str], expected: int, words: str) -> None:  # noqa: F811
    command = ("-m", "websock", "serve", "tests.serving.apps:plain", "--port", "0", "--log-level", "error")
    status, out, err = start(*command, *arguments).end()
    assert (status, out, len(err)) == (expected, [], 1), err
    assert words in err[0]


def test_a_port_in_use(start: Start) -> None:  # noqa: F811
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        command = ("-m", "websock", "serve", "tests.serving.apps:plain", "--port", "0", "--log-level", "error")
        status, out, err = start(*command, "--page", port).end()
    assert (status, out, len(err)) == (1, [], 1), err
    assert f"can't listen on tcp://127.0.0.1:{port}" in err[0]
