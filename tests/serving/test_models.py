"""Every model serves the same: real processes, real signals."""

from __future__ import annotations

import signal
import socket
import sys
import threading
from typing import Any

import pytest

from websock.exceptions import ConnectionClosed
from websock.serving.processes import _orders

from ..programs import PATIENCE
from .conftest import Serve, Start, ended, processes_in, until

if sys.platform == "win32":
    pytest.skip("signals of POSIX", allow_module_level=True)

MODELS = {"asyncio": "tasks", "uvloop": "tasks", "threads": "plain", "pool": "plain", "processes": "plain"}
FORMS = [
    pytest.param((f"tests.serving.apps:{app}", "--model", model, *workers), id=f"{model}{'-workers' * bool(workers)}")
    for model, app in MODELS.items()
    for workers in ((), ("--workers", "2"))
]


@pytest.mark.parametrize("form", FORMS)
def test_many_clients_and_a_stop_under_load(served: Serve, form: tuple[str, ...]) -> None:
    server = served(*form, "--log-level", "warning")
    clients = [server.connect() for _ in range(12)]
    ends: list[ConnectionClosed] = []
    echoed = [0] * len(clients)

    def talk(number: int, ws: Any) -> None:
        try:
            while True:
                ws.send(f"{number} {echoed[number]}")
                assert ws.recv(timeout=PATIENCE) == f"{number} {echoed[number]}"
                echoed[number] += 1
        except ConnectionClosed:
            ends.append(ended(ws))

    talking = [threading.Thread(target=talk, args=(number, ws)) for number, ws in enumerate(clients)]
    for thread in talking:
        thread.start()
    until(lambda: min(echoed) >= 20, "20 echoes each")
    assert server.stop() == []
    for thread in talking:
        thread.join()
    assert [one.code for one in ends] == [1001] * len(clients)


@pytest.mark.parametrize("form", FORMS)
def test_a_handler_that_raises_ends_its_connection_alone(served: Serve, form: tuple[str, ...]) -> None:
    server = served(*form)
    with server.connect() as other:
        with server.connect() as ws:
            ws.send("raise")
            assert ended(ws).code == 1011
        server.says("RuntimeError: a fault of the handler's")
        other.send("still")
        assert other.recv(timeout=PATIENCE) == "still"
        with server.connect() as ws:
            ws.send("new")
            assert ws.recv(timeout=PATIENCE) == "new"
    assert "Traceback" not in "\n".join(server.stop())


BUSY = [form for form in FORMS if str(form.id).split("-")[0] not in ("asyncio", "uvloop")]


@pytest.mark.parametrize("form", BUSY)
def test_what_does_not_end_is_cut_at_the_grace(served: Serve, form: tuple[str, ...]) -> None:
    server = served(*form, "--grace", "1")
    with server.connect() as idle, server.connect() as ws:
        ws.send("busy")
        server.tell(signal.SIGTERM)
        assert ended(idle).code == ended(ws).code == 1001
        server.says("1 connections that were left|1 cut|1 of them cut")
        assert server.program.end()[0] == 0


# Only another process can end one whose only thread does not look up.
@pytest.mark.parametrize("form", [*BUSY, *(one for one in FORMS if one.id in ("asyncio-workers", "uvloop-workers"))])
def test_sigquit_does_not_wait(served: Serve, form: tuple[str, ...]) -> None:
    """Not even for a handler that holds the event loop."""
    server = served(*form, "--grace", "600")
    with server.connect() as ws:
        ws.send("busy")
        server.tell(signal.SIGQUIT)
        server.program.end()
        ended(ws)


def test_a_handler_that_does_not_end_is_not_told_to_be_a_connection(served: Serve) -> None:
    server = served("tests.serving.apps:stubborn", "--grace", "600")
    with server.connect() as ws:
        server.tell(signal.SIGINT)
        server.says("server draining")
        server.tell(signal.SIGINT)
        assert ended(ws).code == 1001
        server.says("server waits no longer: ")
        assert server.program.end()[0] == 0


def test_a_process_that_we_cut_is_no_error(served: Serve) -> None:
    server = served("tests.serving.apps:plain", "--model", "processes", "--grace", "0.3")
    with server.connect() as ws:
        ws.send("busy")
        server.tell(signal.SIGTERM)
        ended(ws)
        server.says(r"process \d+, which served .*, was cut")
        status, _, err = server.program.end()
        assert status == 0
        assert not [line for line in err if "ERROR" in line]


def test_a_second_interrupt_does_not_wait(served: Serve) -> None:
    server = served("tests.serving.apps:plain", "--grace", "600")
    with server.connect() as ws:
        ws.send("busy")
        server.tell(signal.SIGINT)
        server.says("server draining")  # which waits for the handler
        server.tell(signal.SIGINT)
        assert ended(ws).code == 1001
        server.says("server cut 1 connections")
        assert server.program.end()[0] == 0


@pytest.mark.parametrize(
    ("handler", "model", "words"),
    [
        ("tasks", "threads", ["handler tasks is a coroutine function", "'threads'"]),
        ("plain", "asyncio", ["handler plain is an ordinary function", "'asyncio'"]),
    ],
)
@pytest.mark.parametrize("workers", [(), ("--workers", "2")], ids=["alone", "workers"])
def test_the_wrong_kind_is_refused_at_once(
    start: Start, handler: str, model: str, words: list[str], workers: tuple[str, ...]
) -> None:
    program = start(
        "-m", "websock", "serve", f"tests.serving.apps:{handler}", "--port", "0", "--model", model, *workers
    )
    status, out, err = program.end()
    assert (status, out) == (2, [])
    assert err[-1].startswith("websock serve: ")
    assert [word for word in words if word not in err[-1]] == []


def test_a_process_for_each_connection(served: Serve) -> None:
    server = served("tests.serving.apps:plain", "--model", "processes")
    with server.connect() as one, server.connect() as other:
        pids = []
        for ws in (one, other):
            ws.send("pid")
            pids.append(int(ws.recv(timeout=PATIENCE)))
        assert len({*pids, server.pid}) == 3
        one.send("die")
        assert ended(one).code == 1006
        assert server.says(r"process (\d+), which served .*, was killed by SIGKILL")[1] == str(pids[0])
        other.send("unhurt")
        assert other.recv(timeout=PATIENCE) == "unhurt"
    until(lambda: [*processes_in(server.pid)] == [server.pid], "the end of the children, and of their zombies")
    server.stop()


def test_processes_end_with_their_parent(served: Serve) -> None:
    server = served("tests.serving.apps:plain", "--model", "processes")
    with server.connect() as ws:
        ws.send("x")
        assert ws.recv(timeout=PATIENCE) == "x"
        server.tell(signal.SIGKILL)
        assert ended(ws).code == 1001


def test_what_a_child_is_told_at_once_is_read_apart() -> None:
    """A drain and the shutdown that does not wait for it may come in one read, or in parts."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(b'[true, 1012, "", true, 5.0, 0.0]\n[true, 1001, "", true]\n[tr')
        orders = _orders(theirs)
        assert next(orders) == [True, 1012, "", True, 5.0, 0.0]
        assert next(orders) == [True, 1001, "", True]
        ours.sendall(b"ue]\n")
        assert next(orders) == [True]
        ours.close()
        assert list(orders) == []
