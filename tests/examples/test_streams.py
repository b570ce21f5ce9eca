"""The examples of streams, run as their users run them."""

from __future__ import annotations

import os
import signal
import socket
import sys
from pathlib import Path

import pytest

from tests.programs import LIBRARY, PEM, Program

EXAMPLES = LIBRARY / "examples"

ADDRESSES = ["tcp://localhost:0", "tcp://[::1]:0", "tls://localhost:0", "unix:{}/echo", "unixpacket:{}/echo"]
if sys.platform == "linux":
    ADDRESSES.append("unix:@websock-echo-{}")


def example(name: str, *arguments: str) -> Program:
    return Program(str(EXAMPLES / name), *arguments)


def where(program: Program) -> str:
    return program.out().removeprefix("listening on ")


def stop(program: Program) -> None:
    program.interrupt(signal.SIGINT)
    assert program.end() == (0, [], [])


@pytest.mark.parametrize("address", ADDRESSES)
def test_echo_anywhere(address: str, tmp_path: Path) -> None:
    address = address.format(os.getpid() if "@" in address else tmp_path)
    trust = ["--certificate", str(PEM)] if address.startswith("tls") else []
    with example("echo_anywhere.py", "serve", address, *trust) as server:
        found = where(server).replace("127.0.0.1", "localhost")
        for text in ("Grüße!", "x" * 5000):
            with example("echo_anywhere.py", "ask", found, text, *trust) as client:
                assert client.end() == (0, [text], [])
        stop(server)


def test_echo_where_nobody_is() -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    with example("echo_anywhere.py", "ask", f"tcp://127.0.0.1:{port}") as client:
        status, out, err = client.end()
        assert (status, out) == (1, []) and len(err) == 1
        assert f"tcp://127.0.0.1:{port}" in err[0] and "nothing listens there" in err[0]
    with example("echo_anywhere.py", "ask", "tcp:/localhost") as client:
        status, out, err = client.end()
        assert (status, out) == (1, []) and "at character" in err[0]


@pytest.mark.parametrize("what", ["serve", "ask"])
def test_echo_with_a_certificate_that_is_none(what: str, tmp_path: Path) -> None:
    (tmp_path / "empty.pem").touch()
    for name in ("missing.pem", "empty.pem"):
        file = str(tmp_path / name)
        with example("echo_anywhere.py", what, "tls://localhost:0", "--certificate", file) as program:
            status, out, [err] = program.end()
            assert (status, out) == (1, []) and err.startswith(f"{file}: ") and "in PEM" in err


def test_files_are_sent(tmp_path: Path) -> None:
    files = {"large": [f"line {number}" for number in range(300_000)], "empty": []}
    for name, lines in files.items():
        (tmp_path / name).write_text("".join(f"{line}\n" for line in lines), "utf-8")
    with example("file_server.py", "tcp://localhost:0", str(tmp_path)) as server:
        address = where(server)
        for name, lines in files.items():
            with example("file_server.py", "--get", name, address) as client:
                assert client.end() == (0, lines, [])
        for name in ("missing", "../secret", "", ".", "x" * 400):
            with example("file_server.py", "--get", name, address) as client:
                status, out, err = client.end()
                assert (status, out) == (1, []) and "no file" in err[0]
        stop(server)


def test_a_folder_that_is_missing(tmp_path: Path) -> None:
    with example("file_server.py", "tcp://localhost:0", str(tmp_path / "no")) as server:
        assert server.end() == (1, [], [f"there is no folder {str(tmp_path / 'no')!r}"])


def test_a_listening_socket_is_handed_over(tmp_path: Path) -> None:
    door = str(tmp_path / "door")
    with example("hand_over.py", "tcp://localhost:0", door) as first:
        address = where(first)
        host, port = address.removeprefix("tcp://").rsplit(":", 1)

        def who() -> str:
            with socket.create_connection((host.strip("[]"), int(port)), timeout=10) as sock:
                return sock.recv(100).decode()

        before = who()
        with example("hand_over.py", address, door) as second:
            assert where(second) == address
            assert first.end() == (0, [], [])
            assert who() != before
            with example("hand_over.py", address, door) as third:
                assert where(third) == address
                assert second.end() == (0, [], [])
                assert who()
                assert Path(door).exists()
                stop(third)
    assert not Path(door).exists()
