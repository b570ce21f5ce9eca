"""``websock bench`` as people use it: a program, with servers in another one."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.programs import PEM, Program
from tests.terminal import Terminal
from websock.__main__ import main

Start = Callable[..., Program]
TOOL = "this tool"
PATIENT = ("--wait", "60", "--timeout", "60")  # on a busy machine
SHORT = ("--in-flight", "1", "--duration", "0.2", *PATIENT)  # in a closed loop nothing can be too late


@pytest.fixture
def start() -> Iterator[Start]:
    """Start ``python -m websock``."""
    with contextlib.ExitStack() as stack:
        yield lambda *arguments: stack.enter_context(Program("-m", "websock", *arguments))


@pytest.fixture(scope="module")
def echo() -> Iterator[str]:
    """The address of an echo server."""
    with Program("-m", "websock", "echo", "--port", "0") as program:
        yield program.out()


def figures(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return found


def test_an_echo_server(start: Start, echo: str, tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    status, out, err = start("bench", echo, "--duration", "1", "--json", str(file), *PATIENT).run()
    assert out[0] == f"{echo}: 10 connections, 100 messages/s in turn (open loop), 128 octets of text, for 1 s"
    assert out[2].endswith(", 10 opened")
    assert any(TOOL in line.lower() for line in out)
    found = figures(file)
    assert (found["opened"], found["due"]) == (10, 100)
    assert found["sent"] == found["answered"] == found["latency"]["count"] == 100 - found["behind"]
    assert (status, bool(err), bool(found["problems"])) == ((3, True, True) if found["behind"] else (0, False, False))
    assert 0 < found["latency"]["p50"] <= found["latency"]["p99.9"] <= found["latency"]["max"] < 60
    assert sum(count for _, _, count in found["latency"]["buckets"]) == found["sent"]


def test_several_processes(start: Start, echo: str) -> None:
    program = start("bench", echo, "--processes", "2", "--connections", "11", "--in-flight", "3", "--duration", "0.5",
                    "--binary", "--json", "-", *PATIENT)  # fmt: skip
    status, out, err = program.run()
    assert (status, err) == (0, [])
    found = json.loads("\n".join(out))
    assert (found["opened"], found["plan"]["processes"], found["handshakes"]["count"]) == (11, 2, 11)
    assert found["due"] == found["answered"] == found["latency"]["count"] >= 33


def test_a_process_that_dies_is_told(start: Start, echo: str) -> None:
    program = start("bench", echo, "--processes", "2", "--duration", "60", "--progress")
    while "sending" not in program.err():
        pass
    children = Path(f"/proc/{program.process.pid}/task/{program.process.pid}/children")
    if not children.exists():
        pytest.skip("this system does not tell the children of a process")
    workers = [int(child) for child in children.read_text().split()]
    os.kill(workers[0], signal.SIGKILL)
    status, out, err = program.end()
    assert (status, out) == (1, [])
    assert err[-1] == "websock bench: a process of this tool ended before its work was done, with status -9"
    for worker in workers:
        with pytest.raises(ProcessLookupError):
            os.kill(worker, 0)


def test_tls(start: Start) -> None:
    uri = start("echo", "--port", "0", "--host", "localhost", "--tls", PEM, PEM).out()
    uri = uri.replace("127.0.0.1", "localhost").replace("[::1]", "localhost")
    assert start("bench", uri, *SHORT, "--ca", PEM).run()[0] == 0
    assert start("bench", uri, *SHORT, "--insecure", "--processes", "2").run()[0] == 0
    status, out, err = start("bench", uri, *SHORT, "--connections", "2").run()
    assert status == 1
    assert len(err) == 1
    assert "certificate is not trusted" in err[0]
    assert out[2].endswith(", 0 opened")


def test_a_unix_socket(start: Start, tmp_path: Path) -> None:
    uri = start("echo", "--unix", str(tmp_path / "s")).out()
    status, out, err = start("bench", uri, *SHORT, "--size", "16,20000").run()
    assert (status, err) == (0, [])
    assert out[0].endswith("10 connections, 1 in flight on each (closed loop), 16/20000 octets of text, for 0.2 s")


def test_nobody_is_there(start: Start) -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))  # and does not listen
        port = sock.getsockname()[1]
        status, out, err = start("bench", f"ws://127.0.0.1:{port}/", "--connections", "2").run()
    assert status == 1
    assert out[2].endswith(", 0 opened")
    assert err == [
        f"websock bench: can't connect to tcp://127.0.0.1:{port}: Connection refused (nothing listens there)"
    ]
    assert not any(TOOL in line for line in out)


def test_a_server_that_ends(start: Start) -> None:
    server = start("echo", "--port", "0")
    program = start("bench", server.out(), "--duration", "60", "--progress", "--connections", "3", "--wait", "1")
    while "answered/s" not in program.err():
        pass
    server.interrupt()
    status, _, err = program.end()
    assert status == 3
    reason = "3 of 3 connections ended early: closed by the peer: 1001 (going away)"
    assert any(reason in line for line in err), err


@pytest.mark.parametrize(("processes", "number"), [("1", signal.SIGINT), ("2", signal.SIGTERM)])
def test_an_interrupt_ends_it_with_the_report_so_far(
    start: Start, echo: str, processes: str, number: signal.Signals
) -> None:
    program = start("bench", echo, "--duration", "600", "--progress", "--processes", processes)
    while "answered/s" not in program.err():
        pass
    program.interrupt(number)
    status, out, _ = program.end()
    assert status == 130
    assert out[3].startswith("messages ")


def test_an_interrupt_is_the_end_of_an_endless_load(start: Start, echo: str) -> None:
    program = start("bench", echo, "--duration", "inf", "--messages", "0", "--progress", *PATIENT)
    while "10 open" not in program.err():
        pass
    program.interrupt()
    assert program.end()[0] == 0


def test_an_interrupt_while_connections_open(start: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:  # which accepts, and says nothing
        uri = f"ws://127.0.0.1:{server.getsockname()[1]}/"
        program = start("bench", uri, "--timeout", "600", "--progress", "--connections", "2")
        program.err()
        program.interrupt()
        status, out, _ = program.end()
    assert status == 130
    assert out[2].startswith("connections  0 tried")


@pytest.mark.parametrize("processes", ["1", "2"])
def test_a_second_interrupt_ends_it_at_once(start: Start, processes: str) -> None:
    server = start("echo", "--port", "0")
    program = start("bench", server.out(), "--timeout", "600", "--wait", "600", "--progress", "--processes", processes)
    while "answered/s" not in program.err():
        pass
    server.interrupt(signal.SIGSTOP)
    program.interrupt()
    while "closing" not in program.err():
        pass
    program.interrupt()
    status, out, err = program.end()
    assert status == 130
    assert out[2].endswith("10 opened")
    assert not [line for line in err if "Traceback" in line or "Warning" in line]


def test_a_terminal_shows_progress(echo: str) -> None:
    with Terminal("-m", "websock", "bench", echo, "--duration", "600", "--messages", "0", "--json", "-") as terminal:
        terminal.until(re.compile(r" +\d+ s  sending   10 open"))
        terminal.write("\x03")
        assert terminal.end() == 130
    with Terminal(
        "-m", "websock", "bench", echo, "--duration", "1.1", "--messages", "0", "--quiet", "--json", os.devnull
    ) as terminal:
        assert terminal.end() == 0
        assert "sending" not in terminal.raw


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["http://x/"], "isn't a valid URI"),
        (["ws://x/", "--connections", "0"], "'0' isn't a number above 0"),
        (["ws://x/", "--connections", "99999999"], "connections are from 1 to 16,777,215"),
        (["ws://x/", "--rate", "0"], "nothing ever happens at a rate of 0"),
        (["ws://x/", "--messages", "-1"], "'-1' isn't a number of times per second"),
        (["ws://x/", "--messages", "inf"], "--in-flight sends as many as are answered"),
        (["ws://x/", "--messages", "5", "--in-flight", "1"], "not allowed with"),
        (["ws://x/", "--in-flight", "1", "--expect", "none"], "--in-flight goes by answers"),
        (["ws://x/", "--size", "15"], "16 octets at least"),
        (["ws://x/", "--size", "16,x"], "isn't a number of bytes"),
        (["ws://x/", "--duration", "0"], "a duration is more than 0 s"),
        (["ws://x/", "--insecure"], "go with wss://"),
        (["wss://x/", "--ca", "/nowhere"], "--ca /nowhere: No such file"),
        (["ws://x/", "--subprotocol", "a b"], "isn't a token"),
        (["ws://x/", "--json", "/nowhere/x"], "--json /nowhere/x: No such file or directory"),
        (["ws://x/", "--conections", "5"], "there is no option --conections; is it --connections?"),
        (["ws://x/", "--progress", "--quiet"], "not allowed with"),
    ],
)
def test_wrong_usage(capsys: pytest.CaptureFixture[str], arguments: list[str], problem: str) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["bench", *arguments])
    assert exit_.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert problem in err
    assert err.count("\n") == 1


def test_too_few_descriptors_are_told(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    resource = pytest.importorskip("resource")
    monkeypatch.setattr(resource, "getrlimit", lambda which: (100, 100))
    assert main(["bench", "ws://127.0.0.1:1/", "--connections", "120", "--processes", "2"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("websock bench: 60 connections in one process need 124 open files, and the limit is 100 (ul")


@pytest.mark.skipif(sys.platform == "win32", reason="it has no full device")
def test_a_report_that_cannot_be_written(start: Start, echo: str) -> None:
    if not os.path.exists("/dev/full"):
        pytest.skip("this system has no full device")
    status, _, err = start("bench", echo, "--duration", "0.1", "--json", "/dev/full").run()
    assert status == 1
    assert err == ["websock bench: can't write the report: No space left on device"]
