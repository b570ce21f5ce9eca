"""Who is examined."""

from __future__ import annotations

import os
import sys

import pytest
from testees import client_by, ours, server_at

from .conftest import RUNNER


def test_our_server() -> None:
    testee = ours("server-sync")
    script = str(RUNNER / "testee_server.py")
    assert testee.role == "server"
    assert testee.address(9001) == "ws://127.0.0.1:9001"
    assert testee.start(9001) == [sys.executable, script, "--adapter", "sync", "--port", "9001"]


def test_our_client() -> None:
    testee = ours("client-asyncio")
    script = str(RUNNER / "testee_client.py")
    assert testee.role == "client"
    assert testee.start(9001) == [
        *(sys.executable, script, "--adapter", "asyncio"),
        *("--url", "ws://127.0.0.1:9001", "--agent", "client-asyncio"),
    ]


@pytest.mark.parametrize(("inherited", "rest"), [(None, []), ("/elsewhere", ["/elsewhere"])])
def test_ours_are_those_of_this_checkout(
    monkeypatch: pytest.MonkeyPatch, inherited: str | None, rest: list[str]
) -> None:
    monkeypatch.delenv("PYTHONPATH", raising=False)
    if inherited:
        monkeypatch.setenv("PYTHONPATH", inherited)
    monkeypatch.setenv("WEBSOCK_PURE", "1")
    env = ours("server-sync").env
    assert env is not None
    assert env["PYTHONPATH"].split(os.pathsep) == [str(RUNNER.parent), *rest]
    assert env["WEBSOCK_PURE"] == "1"


def test_any_server() -> None:
    testee = server_at("wss://example.org/echo")
    assert testee.start(9001) == []
    assert testee.address(9001) == "wss://example.org/echo"


def test_not_a_url() -> None:
    with pytest.raises(ValueError, match=r"not a WebSocket URL: 'http://example\.org'"):
        server_at("http://example.org")


def test_any_client() -> None:
    assert client_by("node 'my echo.js' {url} --name={agent}").start(9001) == [
        *("node", "my echo.js", "ws://127.0.0.1:9001", "--name=client")
    ]


@pytest.mark.parametrize(("command", "lacks"), [("node {agent}", "{url}"), ("node {url}", "{agent}")])
def test_client_command_without_placeholder(command: str, lacks: str) -> None:
    with pytest.raises(ValueError, match=f"the client's command needs {lacks}"):
        client_by(command)
