"""The table of floods: options, one cell, and what is within the ceilings. The figures are for `make floods`."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

import floods
import pytest
from attacks import ATTACKS, Outcome

linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--only", "nothing*"], "no attack matches 'nothing*'"),
        (["--servers", "nobody"], "no server matches 'nobody'"),
        (["--scale", "2"], "--scale is more than 0"),
    ],
)
def test_wrong_options(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        floods.main(arguments)
    assert exit_.value.code == 2
    assert message in capsys.readouterr().err


def test_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert floods.main(["--list"]) == 0
    shown = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert shown == [*ATTACKS, *floods.BY_DEFAULT]


@linux
def test_one_cell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table, numbers = tmp_path / "floods.md", tmp_path / "floods.json"
    what = ["--only", "many-headers", "--servers", "websock", "--scale", "0.1"]
    floods.main([*what, "--output", str(table), "--json", str(numbers)])
    assert "| websock (" in table.read_text() and "refused 431" in capsys.readouterr().out
    cell = json.loads(numbers.read_text())["many-headers"]["websock"]
    assert cell["outcome"] == "refused 431" and "outcome" not in cell["misses"] and cell["quiet"] > 0


@pytest.mark.parametrize(
    ("attack", "outcome", "good"),
    [
        ("bomb", Outcome("closed", 1009), True),
        ("bomb", Outcome("taken in"), False),
        ("many-headers", Outcome("refused", 431), True),
        ("many-headers", Outcome("refused", 500), False),
        ("many-headers", Outcome("taken in", 101), False),
        ("empty-fragments", Outcome("closed", 1008), True),
        ("empty-fragments", Outcome("closed", 1011), False),
        ("empty-fragments", Outcome("cut"), False),
        ("empty-fragments", Outcome("waits"), False),
        ("slow-reader", Outcome("waits"), True),
        ("half-open", Outcome("waits"), False),
        ("empty-frames", Outcome("failed"), False),
    ],
)
def test_what_is_within_the_limits(attack: str, outcome: Outcome, good: bool) -> None:
    assert floods.within(attack, outcome) is good


@pytest.mark.parametrize(
    ("changes", "over"),
    [
        ({}, []),
        ({"growth": 6.0}, ["memory"]),
        ({"lag": 60.0, "busy": 40.0}, ["lag"]),
        ({"lag": 60.0, "busy": 4.0}, []),  # others had the cores
        ({"lag": 400.0, "busy": 60.0}, ["lag"]),
        ({"echo": 60.0}, ["others"]),
        ({"echo": 60.0, "quiet": 21.0}, []),
        ({"echo": 60.0, "lag": 40.0, "busy": 4.0}, []),
        ({"echo": 160.0, "lag": 40.0, "busy": 4.0}, ["others"]),
        ({"echo": 160.0, "lag": 140.0, "busy": 130.0, "growth": 10.0}, ["memory", "lag", "others"]),
    ],
)
def test_ceilings(changes: dict[str, float], over: list[str]) -> None:
    quiet = floods.Cell("taken in", 1.0, 5.0, 4.0, 5.0, 10.0, 20.0, 1.0, [])
    assert floods.misses(dataclasses.replace(quiet, **changes)) == over  # type: ignore[arg-type]
