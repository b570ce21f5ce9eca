"""The fixtures for pytest, in a run of pytest of their own."""

from __future__ import annotations

from pathlib import Path

from ..programs import Program

CONFTEST = 'pytest_plugins = ["websock.testing.fixtures"]\n'
TESTS = """
import asyncio, socket, threading, time
import pytest
import websock.asyncio, websock.sync
from websock.testing import Faults, OutOfTime

async def echo(ws):
    async for message in ws:
        await ws.send(message)

def blocking_echo(ws):
    for message in ws:
        ws.send(message)

async def talk():
    async with websock.asyncio.serve(echo, "mem://x"), websock.asyncio.connect("mem://x") as ws:
        await ws.send("a")
        assert await ws.recv() == "a"

def test_simulation(simulation):
    simulation.run(talk())
    assert simulation.now == 0

@pytest.mark.simulation(seed=3, faults=Faults(latency=1))
def test_marked(simulation):
    simulation.run(talk())
    assert simulation.now >= 4

@pytest.mark.simulation(limit=5)
def test_limit(simulation):
    with pytest.raises(OutOfTime):
        time.sleep(6)

def test_leaves_a_thread(simulation):
    threading.Thread(target=threading.Event().wait).start()

@pytest.mark.parametrize("handler", [echo, blocking_echo])
def test_server(websock_server, handler):
    uris = [websock_server(handler), websock_server(handler, max_size=10)]
    for uri in uris:
        with websock.sync.connect(uri) as ws:
            ws.send("a")
            assert ws.recv() == "a"

def test_server_that_cannot_be(websock_server):
    with pytest.raises(TypeError):
        websock_server(echo, no_such_option=1)

def test_server_without_leaks(websock_server, websock_no_leaks):
    for handler in (echo, blocking_echo):
        with websock.sync.connect(websock_server(handler)):
            pass

def test_leak(websock_no_leaks):
    kept.append(socket.socket())

def test_no_leak(websock_no_leaks):
    socket.socket().close()

kept = []
def test_end():
    kept.pop().close()
"""


def run(tmp_path: Path, *arguments: str, **environment: str) -> str:
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_it.py").write_text(TESTS)
    with Program("-m", "pytest", "-q", "-p", "no:cacheprovider", "--strict-markers", "--rootdir", str(tmp_path),
                 str(tmp_path), *arguments, pass_fds=(), **environment) as program:  # fmt: skip
        _, out, err = program.end()
    return "\n".join([*out, *err])


def test_all_of_them(tmp_path: Path) -> None:
    told = run(tmp_path)
    assert "2 errors" in told and "11 passed" in told, told
    assert "left behind (seed 0): thread" in told
    assert "1 socket was opened here and never closed" in told


def test_the_seed_of_the_environment(tmp_path: Path) -> None:
    (tmp_path / "test_seed.py").write_text("def test_it(simulation):\n    assert simulation.seed == 5\n")
    told = run(tmp_path, "-k", "test_seed", WEBSOCK_SEED="5")
    assert "1 passed" in told, told
    told = run(tmp_path, "-k", "test_seed")
    assert "1 failed" in told and "again with WEBSOCK_SEED=0" in told, told


def test_they_are_not_loaded_by_themselves() -> None:
    code = "import sys, websock, websock.testing, websock.testing.simulation; print('pytest' in sys.modules)"
    with Program("-c", code) as program:
        assert program.end() == (0, ["False"], [])
