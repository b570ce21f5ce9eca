"""The benchmarks: options, and one short run. What is fast is for `make bench` to say, not for a test."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import compare
import pytest
import record
from contenders import LIMIT, Contender, all_contenders, environment_of
from turns import Process, Tools, Trouble, Turns, compiler
from workloads import BY_NAME, RUNNABLE, WORKLOADS, active

needs_compiler = pytest.mark.skipif(compiler() is None, reason="needs Linux and a C compiler")

WRONG = """
import socket
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
connection, _ = listener.accept()
connection.sendall(connection.recv(1000)[:-1] + b"?")
connection.recv(1000)
"""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--only", "nothing*"], "no workload matches 'nothing*'"),
        (["--contenders", "nobody"], "no contender matches 'nobody'"),
        (["--rounds", "0"], "must be more than nothing"),
        (["--seconds", "0"], "must be more than nothing"),
        (["--draw", "/nowhere/results.json"], "has no results"),
        (["--pin", "sideways"], "invalid choice"),
    ],
)
def test_wrong_options(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        compare.main(arguments)
    assert exit_.value.code == 2
    assert message in capsys.readouterr().err


def test_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert compare.main(["--list"]) == 0
    shown = [line.split()[0] for line in capsys.readouterr().out.splitlines() if line]
    assert shown == [*(each.name for each in RUNNABLE), *(each.name for each in all_contenders())]


def test_names_are_unique() -> None:
    contenders = all_contenders()
    assert len({each.name for each in contenders}) == len({each.label for each in contenders}) == len(contenders)
    assert len(BY_NAME) == len(WORKLOADS)
    assert all(active(each) for each in RUNNABLE if each.kind == "hold")
    for workload in RUNNABLE:  # each has somebody to compare with
        kinds = {each.kind for each in contenders if workload.fits(each)}
        assert {"ours", "peer"} <= kinds, workload.name


def test_quick_leaves_out_what_is_slow_unless_it_is_named() -> None:
    assert not any(each.slow for each in compare.parse(["--quick"]).workloads)
    assert [each.name for each in compare.parse(["--quick", "--only", "idle-10000"]).workloads] == ["idle-10000"]
    assert compare.parse([]).workloads == RUNNABLE


def test_a_twin_is_asked_for_by_its_own_contender_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEBSOCK_PURE", "1")
    native = Contender("a", "a", "websock")
    pure = Contender("b", "b", "websock", environment=(("WEBSOCK_PURE", "1"),))
    assert "WEBSOCK_PURE" not in environment_of(native, ".")
    assert environment_of(pure, ".")["WEBSOCK_PURE"] == "1"


@needs_compiler
def test_a_short_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--contenders", "websock", "--contenders", "c", "--rounds", "1", "--seconds", "0.1"]
    arguments += ["--only", "echo-256", "--only", "client-256", "--only", "handshakes-64", "--only", "broadcast"]
    assert compare.main([*arguments, "--output", str(tmp_path)]) == 0
    found = record.read(tmp_path / "results.json")
    assert [result.name for result in found.results] == ["echo-256", "client-256", "handshakes-64", "broadcast"]
    for result in found.results:
        for name in ("websock", "c"):
            cell = result.cells[name]
            assert cell.error is None
            assert len(cell.values) == len(cell.cpu) == 1
            assert cell.median > 0
    out = capsys.readouterr().out
    assert re.search(r"websock \((pure|native)\) +[\d,.]+ /s", out)
    before = (tmp_path / "results.md").read_text(), (tmp_path / "results.svg").read_text()
    assert compare.main(["--draw", str(tmp_path / "results.json"), "--output", str(tmp_path / "again")]) == 0
    assert before == ((tmp_path / "again/results.md").read_text(), (tmp_path / "again/results.svg").read_text())


@needs_compiler
def test_who_cannot_take_part_has_an_error_and_stops_nobody(tmp_path: Path) -> None:
    broken = Contender("broken", "broken", "no such library")
    good = Contender("c", "C", "", LIMIT, variants=("plain",))
    with Turns(Tools(str(tmp_path))) as turns:
        results = compare.measure(turns, BY_NAME["echo-256"], [broken, good], 2, 0.05, compare.Progress(4))
    (result,) = results
    assert not result.cells["broken"].good
    assert "no such library" in (result.cells["broken"].error or "")
    assert result.cells["c"].good
    assert len(result.cells["c"].values) == 2


@needs_compiler
def test_an_echo_that_is_wrong_is_noticed(tmp_path: Path) -> None:
    tools, cores = Tools(str(tmp_path)), os.sched_getaffinity(0)
    server = Process([sys.executable, "-c", WRONG], cores)
    load = None
    try:
        load = Process([tools.program("load"), "raw", server.line(10), "1", "1", "64", "0.05"], cores)
        with pytest.raises(Trouble, match="load: a wrong echo"):
            load.line(20)
    finally:
        server.close()
        if load is not None:
            load.close()
