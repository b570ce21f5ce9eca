"""Each example, run as its users run it: a process of its own, its documented command line, a signal at the end."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.programs import LIBRARY, PATIENCE, PEM, Program
from websock.exceptions import ConnectionClosed
from websock.sync import Connection, connect, unix_connect

EXAMPLES = LIBRARY / "examples"
TCP_SERVERS = ["echo_server_asyncio.py", "echo_server_sync.py", "counter.py"]
ECHO_SERVERS = TCP_SERVERS[:2]
CLIENTS = ["echo_client_asyncio.py", "echo_client_sync.py", "sansio_client.py"]


def example(name: str, *arguments: str) -> Program:
    return Program(str(EXAMPLES / name), *arguments)


@pytest.fixture
def start() -> Iterator[Callable[..., tuple[Program, str]]]:
    """Start a server; give it and where it says that it listens."""
    programs = []

    def start(name: str, *arguments: str) -> tuple[Program, str]:
        program = example(name, *arguments)
        programs.append(program)
        found = re.fullmatch(r"listening on (\S+)", program.out())
        assert found
        return program, found[1]

    yield start
    for program in programs:
        program.__exit__(None, None, None)


Start = Callable[..., tuple[Program, str]]


def says_goodbye(program: Program, ws: Connection, number: signal.Signals) -> None:
    """Stop a server by a signal: its client is told, and it ends without a complaint."""
    program.interrupt(number)
    with pytest.raises(ConnectionClosed) as closed:
        ws.recv(timeout=PATIENCE)
    assert closed.value.code == 1001
    assert ws.wait_closed(PATIENCE)
    assert program.end() == (0, [], [])


def test_every_example_is_tested() -> None:
    tested = {*TCP_SERVERS, *CLIENTS, "extension.py", "tls_echo.py", "unix_echo.py"}
    tested |= {"announced_chat.py", "icmp_ping.py", "multicast_pubsub.py", "udp_peers.py"}  # in test_datagrams.py
    tested |= {"echo_anywhere.py", "file_server.py", "hand_over.py"}  # in test_streams.py
    tested |= {"test_reconnect.py"}  # in test_testing.py
    assert {path.name for path in EXAMPLES.glob("*.py")} == tested


@pytest.mark.parametrize("name", ECHO_SERVERS)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_echo_server(start: Start, name: str, number: signal.Signals) -> None:
    program, uri = start(name, "--port", "0")
    with connect(uri) as first:
        with connect(uri) as second:
            first.send("text")
            second.send(b"\x00binary")
            assert second.recv(timeout=PATIENCE) == b"\x00binary"
        assert first.recv(timeout=PATIENCE) == "text"
        says_goodbye(program, first, number)


@pytest.mark.parametrize("name", ECHO_SERVERS)
def test_a_client_that_vanishes_makes_no_noise(start: Start, name: str) -> None:
    program, uri = start(name, "--port", "0")
    with connect(uri) as ws:
        host, port = ws.remote_address
        with socket.create_connection((host, port)) as sock:
            sock.sendall(
                b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\nSec-WebSocket-Version: 13\r\n\r\n"
            )
            assert sock.recv(1000).startswith(b"HTTP/1.1 101 ")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # close() resets the connection
        ws.send("still there?")
        assert ws.recv(timeout=PATIENCE) == "still there?"
        says_goodbye(program, ws, signal.SIGINT)


@pytest.mark.parametrize("name", CLIENTS)
@pytest.mark.parametrize("server", ECHO_SERVERS)
def test_client(start: Start, name: str, server: str) -> None:
    uri = start(server, "--port", "0")[1]
    with example(name, uri, "Grüße!") as client:
        status, out, err = client.end()
    assert (status, out[0], err) == (0, "Grüße!", [])
    assert out[1:] == (["sent 1000 (OK); then received 1000 (OK)"] if name == "sansio_client.py" else [])


@pytest.mark.parametrize("name", CLIENTS)
def test_a_client_has_a_default_message(start: Start, name: str) -> None:
    uri = start("echo_server_sync.py", "--port", "0")[1]
    with example(name, uri) as client:
        assert client.end()[1][0] == "Hello!"


def test_the_sansio_client_reports_a_refusal() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = example("sansio_client.py", f"ws://127.0.0.1:{listener.getsockname()[1]}/")
        with client:
            with listener.accept()[0] as sock:
                assert sock.recv(10000).startswith(b"GET / HTTP/1.1\r\n")
                sock.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
            status, out, err = client.end()
    assert (status, out) == (1, [])
    assert err[-1] == "websock.exceptions.InvalidStatus: server rejected WebSocket connection: HTTP 403"


def test_tls_echo(start: Start) -> None:
    program, uri = start("tls_echo.py", "server", PEM, PEM, "--port", "0")
    assert uri.startswith("wss://127.0.0.1:")
    with example("tls_echo.py", "client", PEM, uri, "secret") as client:
        assert client.end() == (0, ["secret"], [])
    with pytest.raises(ssl.SSLCertVerificationError):
        connect(uri)
    with connect(uri, ssl=ssl.create_default_context(cafile=PEM)) as ws:
        ws.send("open?")
        assert ws.recv(timeout=PATIENCE) == "open?"
        says_goodbye(program, ws, signal.SIGINT)


def test_the_tls_client_wants_the_name_in_the_certificate(start: Start) -> None:
    port = start("tls_echo.py", "server", PEM, PEM, "--host", "", "--port", "0")[1].rpartition(":")[2]
    with example("tls_echo.py", "client", PEM, f"wss://127.0.0.2:{port}") as client:
        status, out, err = client.end()
    assert (status, out) == (1, [])
    assert "IP address mismatch" in err[-1]


def test_unix_echo(start: Start, tmp_path: Path) -> None:
    path = str(tmp_path / "echo.sock")
    program, where = start("unix_echo.py", "server", path)
    assert where == path
    with example("unix_echo.py", "client", path, "hello") as client:
        assert client.end() == (0, ["hello"], [])
    with connect(f"ws+unix://{path}") as ws:
        ws.send("again")
        assert ws.recv(timeout=PATIENCE) == "again"
    with unix_connect(path) as ws:
        ws.send("open?")
        assert ws.recv(timeout=PATIENCE) == "open?"
        says_goodbye(program, ws, signal.SIGINT)
    assert not os.path.exists(path)


def test_extension(start: Start) -> None:
    program, uri = start("extension.py", "server", "--port", "0")
    with example("extension.py", "client", uri, "checked") as client:
        assert client.end() == (0, ["checked", "checked by: Checked DeflateTransform"], [])
    with connect(uri) as ws:  # one that does not know it
        ws.send("not checked")
        assert ws.recv(timeout=PATIENCE) == "not checked"
        says_goodbye(program, ws, signal.SIGINT)


def test_counter(start: Start) -> None:
    def news(ws: Connection) -> Any:
        return json.loads(ws.recv(timeout=PATIENCE, decode=True))

    program, uri = start("counter.py", "--port", "0")
    with connect(uri) as ada:
        assert [news(ada), news(ada)] == [{"users": 1}, {"value": 0}]
        ada.send("plus")
        ada.send("plus")
        assert [news(ada), news(ada)] == [{"value": 1}, {"value": 2}]
        with connect(uri) as bob:
            assert [news(bob), news(bob)] == [{"users": 2}, {"value": 2}]
            assert news(ada) == {"users": 2}
            bob.send("minus")
            assert news(ada) == news(bob) == {"value": 1}
        assert news(ada) == {"users": 1}
        with connect(uri) as eve:
            assert [news(eve), news(eve), news(ada)] == [{"users": 2}, {"value": 1}, {"users": 2}]
            eve.send("times")
            with pytest.raises(ConnectionClosed) as closed:
                eve.recv(timeout=PATIENCE)
            assert (closed.value.code, closed.value.reason) == (1008, "say plus or minus")
        assert news(ada) == {"users": 1}
        says_goodbye(program, ada, signal.SIGINT)


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_help_shows_how_to_run_it(path: Path) -> None:
    with Program(str(path), "--help") as program:
        status, out, err = program.end()
    assert (status, err) == (0, [])
    assert f"python examples/{path.name}" in "\n".join(out)
