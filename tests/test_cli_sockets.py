"""``websock sockets``: what people and programs see of it."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from tests.programs import LIBRARY, PATIENCE, Program
from websock.__main__ import main
from websock.cli import sockets as command
from websock.net.address import Address
from websock.net.info import SocketRow

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="it asks for another process")

Start = Callable[..., Program]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start ``python -m websock``."""
    with contextlib.ExitStack() as stack:
        yield lambda *arguments: stack.enter_context(Program("-m", "websock", *arguments))


def test_a_server(start: Start) -> None:
    echo = start("echo", "--port", "0")
    port = echo.out().rstrip("/").rpartition(":")[2]
    with socket.create_connection(("127.0.0.1", int(port))) as client:
        name = "{}:{}".format(*client.getsockname())
        while True:  # it has to accept it first
            status, out, err = start("sockets", "--pid", str(echo.process.pid)).run()
            assert (status, err) == (0, [])
            if name in "\n".join(out):
                break
    head, first, second = (line.split() for line in out[:3])
    assert head == ["FD", "KIND", "STATE", "RECV-Q", "SEND-Q", "LOCAL", "REMOTE"]
    assert first[1:] == ["tcp", "LISTEN", "0", "-", f"127.0.0.1:{port}", "-"]
    assert second[1:] == ["tcp", "ESTABLISHED", "0", "0", f"127.0.0.1:{port}", name]
    assert out[1].index("127.0.0.1") == out[0].index("LOCAL")


def test_json(start: Start) -> None:
    echo = start("echo", "--port", "0")
    port = echo.out().rstrip("/").rpartition(":")[2]
    status, out, err = start("sockets", "--json", "--pid", str(echo.process.pid)).run()
    assert (status, err) == (0, [])
    first = json.loads("\n".join(out))[0]
    assert first.pop("fd") > 2
    assert first.pop("inode") > 0
    assert first == {
        "kind": "tcp", "state": "LISTEN", "local": f"tcp://127.0.0.1:{port}", "remote": None, "receive_queue": 0,
        "send_queue": None,
    }  # fmt: skip


def test_none(start: Start) -> None:
    assert start("sockets").run() == (0, [], ["websock sockets: no sockets"])
    assert start("sockets", "--json").run() == (0, ["[]"], [])


def test_no_such_process(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sockets", "--pid", "4194305"]) == 1
    assert capsys.readouterr() == ("", "websock sockets: no process 4194305\n")


def test_not_permitted(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def listdir(path: str) -> list[str]:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(os, "listdir", listdir)
    assert main(["sockets", "--pid", "1"]) == 1
    assert capsys.readouterr() == ("", "websock sockets: not permitted to see the sockets of process 1\n")


@pytest.mark.parametrize("pid", ["x", "0", "-1", "1.5", "", "٣", "9" * 30])
def test_wrong_usage(pid: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["sockets", f"--pid={pid}"])
    assert ended.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert (
        err == f"websock sockets: argument --pid: {pid!r} isn't the number of a process (try websock sockets --help)\n"
    )


def test_help_tells_the_exit_status(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["sockets", "--help"])
    assert ended.value.code == 0
    out = capsys.readouterr().out
    assert "exit status:\n  0    listed" in out
    assert "\n  1    no such process" in out


def test_sorted_and_harmless(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    tcp = Address("tcp", "127.0.0.1", 80)
    rows = [
        SocketRow(9, "netlink", "UNCONNECTED"),
        SocketRow(8, "unix", "CONNECTED", Address("unix")),
        SocketRow(7, "unix", "LISTEN", Address("unix", path="/tmp/\x1b[31mred")),
        SocketRow(6, "udp", "UNCONNECTED", Address("udp", "::1", 53)),
        SocketRow(5, "tcp", "ESTABLISHED", tcp, tcp.replace(port=10000), 123456, 0),
        SocketRow(4, "tcp", "ESTABLISHED", tcp, tcp.replace(port=9999), 1, 2),
        SocketRow(30, "tcp", "LISTEN", Address("tcp", "", 80), None, 0),
    ]
    monkeypatch.setattr(command, "sockets_of", lambda pid: rows)
    assert main(["sockets"]) == 0
    assert capsys.readouterr().out == (
        "FD  KIND     STATE        RECV-Q  SEND-Q  LOCAL             REMOTE\n"
        "30  tcp      LISTEN            0       -  *:80              -\n"
        " 4  tcp      ESTABLISHED       1       2  127.0.0.1:80      127.0.0.1:9999\n"
        " 5  tcp      ESTABLISHED  123456       0  127.0.0.1:80      127.0.0.1:10000\n"
        " 6  udp      UNCONNECTED       -       -  [::1]:53          -\n"
        " 7  unix     LISTEN            -       -  /tmp/\\x1b[31mred  -\n"
        " 8  unix     CONNECTED         -       -  -                 -\n"
        " 9  netlink  UNCONNECTED       -       -  -                 -\n"
    )


def test_nobody_reads_on() -> None:
    """As with ``| head -1``."""
    read, write = os.pipe()
    os.close(read)
    with socket.socket(socket.AF_UNIX) as inherited:
        done = subprocess.run(
            [sys.executable, "-W", "error", "-m", "websock", "sockets"],
            stdin=inherited.fileno(),
            stdout=write,
            stderr=subprocess.PIPE,
            cwd=LIBRARY,
            timeout=PATIENCE,
            check=False,
        )
    os.close(write)
    assert (done.returncode, done.stderr) == (0, b"")
