"""The command line, from its arguments to its exit status."""

from __future__ import annotations

import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import run
from processes import Problem
from results import Examination
from suite import Suite
from testees import Testee

from .conftest import CASES, HERE, RUNNER
from .fake_testees import client

ALL_CASES = {**CASES, "12.1.7": "Compress", "13.1.12": "Compress more"}

CommandLine = Callable[..., int]


def client_command(*habits: str) -> str:
    """Return --client-command for a client with these habits."""
    return f"--client-command={shlex.join(client(*habits).command)}"


@pytest.fixture
def command_line(suite: Suite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    """The command line of a runner that has the stand-in for wstest."""

    async def find(reports: Path, say: Callable[[str], None]) -> Suite:
        return Suite(suite.name, suite.python, ALL_CASES)

    monkeypatch.setattr(run, "find_or_make", find)
    return lambda *arguments: run.command_line([f"--report-dir={tmp_path / 'reports'}", *arguments])


def test_as_expected(command_line: CommandLine, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line(client_command("ok", "ok", "ok")) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("3 cases for client; stand-in\n")
    assert "\nclient 3/3 10.1.1\n" in printed
    assert printed.endswith(f"as expected\n\nreport: {tmp_path}/reports/index.html\n")
    page = (tmp_path / "reports" / "index.html").read_text()
    assert "Autobahn: as expected" in page
    assert (tmp_path / "reports" / "client" / "index.json").exists()


def test_not_as_expected(command_line: CommandLine, capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line(client_command("ok", "ok")) == 1
    assert "  10.1.1   missing: Send a lot\n" in capsys.readouterr().out


def test_old_results_are_not_taken_for_new_ones(command_line: CommandLine, capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line(client_command("ok", "ok", "ok")) == 0
    assert command_line("--client-command=/nowhere/to/be/found {url} {agent}") == 1
    assert ", 0 results\n" in capsys.readouterr().out


class Chosen:
    """What would have been examined."""

    testees: list[Testee]
    cases: list[str]


@pytest.fixture
def chosen(monkeypatch: pytest.MonkeyPatch) -> Chosen:
    """Keep what is chosen, and examine nothing."""
    chosen = Chosen()

    async def examine_all(
        suite: Suite, testees: list[Testee], cases: dict[str, str], options: object
    ) -> list[Examination]:
        chosen.testees = testees
        chosen.cases = list(cases)
        return []

    monkeypatch.setattr(run, "examine_all", examine_all)
    return chosen


@pytest.mark.parametrize(
    ("options", "cases"),
    [
        ([], ["1.1.1", "2.1", "10.1.1"]),
        (["--full"], ["1.1.1", "2.1", "10.1.1", "12.1.7", "13.1.12"]),
        (["--full", "--exclude=2.*, 12.*"], ["1.1.1", "10.1.1", "13.1.12"]),
        (["--full", "--exclude=12.*,13.*"], ["1.1.1", "2.1", "10.1.1"]),
        (["--exclude=1.*"], ["2.1", "10.1.1"]),
        (["--cases=1*"], ["1.1.1", "10.1.1", "12.1.7", "13.1.12"]),
        (["--cases=2.1,10.1.1"], ["2.1", "10.1.1"]),
    ],
)
def test_cases(command_line: CommandLine, chosen: Chosen, options: list[str], cases: list[str]) -> None:
    command_line(*options)
    assert chosen.cases == cases


def test_what_is_left_out_without_full() -> None:
    """Cases 1 to 6 and 11 have messages of 16 octets to 8 KiB, the others larger ones; in every negotiation alike."""
    names = {f"{section}.{number}": "" for section in ("12.1", "12.5", "13.1", "13.7") for number in range(1, 19)}
    left = run.choose(run.parser().parse_args([]), names)
    assert list(left) == [name for name in names if int(name.split(".")[2]) in {1, 2, 3, 4, 5, 6, 11}]


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ([], ["server-asyncio", "server-sync", "client-asyncio", "client-sync"]),
        (["--testee=client-sync", "--testee=server-sync"], ["client-sync", "server-sync"]),
        (["--testee=client-sync", "--testee=client-sync"], ["client-sync"]),
        (["--url=ws://[::1]:9"], ["server"]),
        (["--url=ws://[::1]:9", "--client-command=x {url} {agent}"], ["server", "client"]),
        (["--url=ws://[::1]:9", "--testee=client-sync"], ["client-sync", "server"]),
    ],
)
def test_testees(command_line: CommandLine, chosen: Chosen, options: list[str], names: list[str]) -> None:
    command_line(*options)
    assert [testee.name for testee in chosen.testees] == names


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (
            "--cases=1.*,3.*",
            "run.py: no case matches '3.*'; cases are named like 1.1.1, patterns like '1.*'\n",
        ),
        ("--cases=", "run.py: no case matches ''; cases are named like 1.1.1, patterns like '1.*'\n"),
        ("--exclude=*", "run.py: every chosen case is excluded\n"),
        ("--url=localhost:9001", "run.py: not a WebSocket URL: 'localhost:9001'\n"),
        ("--client-command=x {url}", "run.py: the client's command needs {agent}: 'x {url}'\n"),
    ],
)
def test_what_cannot_be_run(
    command_line: CommandLine, capsys: pytest.CaptureFixture[str], option: str, message: str
) -> None:
    assert command_line(option) == 2
    assert capsys.readouterr().err == message


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--testees=server-sync"], "unrecognized arguments: --testees=server-sync"),
        (["--test=server-sync"], "unrecognized arguments: --test=server-sync"),  # an abbreviation is a typo
        (["--testee=server-trio"], "invalid choice: 'server-trio'"),
        (["--full", "--cases=1.*"], "--cases: not allowed with argument --full"),
        (["--jobs=0"], "--jobs must be more than 0"),
        (["--stall=-1"], "--stall must be more than 0"),
        (["--limit=soon"], "--limit: invalid float value: 'soon'"),
    ],
)
def test_wrong_options(
    command_line: CommandLine, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    with pytest.raises(SystemExit) as caught:
        command_line(*options)
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


def test_report_directory_that_cannot_be(
    command_line: CommandLine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert command_line(f"--report-dir={tmp_path / 'file'}") == 2
    assert f"'{tmp_path / 'file'}'" in capsys.readouterr().err


def test_no_suite(
    command_line: CommandLine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def find(reports: Path, say: Callable[[str], None]) -> Suite:
        raise Problem("install Python 2.7")

    monkeypatch.setattr(run, "find_or_make", find)
    assert command_line() == 2
    assert capsys.readouterr().err == "run.py: install Python 2.7\n"


RUNNER_WITH_STAND_IN = """
import sys
import run
from suite import Suite

async def find(reports, say):
    cases = dict.fromkeys(("1.1.1", "12.1.1", "13.1.1"), "Send")
    return Suite("stand-in", (sys.executable, sys.argv[1]), cases)

run.find_or_make = find
sys.exit(run.command_line(sys.argv[2:]))
"""

CLIENT_ON_THE_TELEPHONE = """
import signal, socket, sys
telephone = socket.create_connection(("127.0.0.1", int(sys.argv[3])))
telephone.sendall(sys.argv[1].encode())
signal.pause()
"""
"""Tells us the URL of wstest, and holds the line for as long as it lives."""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signal_ends_all(tmp_path: Path, number: signal.Signals) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(20)
        port = str(listener.getsockname()[1])
        client_words = (sys.executable, "-c", CLIENT_ON_THE_TELEPHONE, "{url}", "{agent}", port)
        command = [
            *(sys.executable, "-c", RUNNER_WITH_STAND_IN, str(HERE / "fake_wstest.py")),
            *("--client-command", shlex.join(client_words), "--report-dir", str(tmp_path)),
        ]
        with (
            subprocess.Popen(command, cwd=RUNNER, stderr=subprocess.PIPE, text=True) as runner,
            listener.accept()[0] as telephone,
        ):
            telephone.settimeout(20)
            wstest = urlsplit(telephone.recv(100).decode())
            runner.send_signal(number)
            _, errors = runner.communicate(timeout=20)
            assert telephone.recv(1) == b""
    assert errors == "\nstopped\n"
    assert runner.returncode == 130
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((wstest.hostname, wstest.port))
