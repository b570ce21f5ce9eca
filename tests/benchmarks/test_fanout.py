"""The fan-out benchmark runs, and counts each delivery once. Its figures are no test."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "fanout.py"


def test_a_short_run(tmp_path: Path) -> None:
    found = tmp_path / "found.json"
    command = [sys.executable, str(SCRIPT), "--subscribers", "20", "--messages", "5", "--rounds", "2"]
    command += ["--only", "broadcast", "--only", "hub", "--json", str(found)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert [line.split("  ")[0] for line in done.stdout.splitlines()[1:]] == ["plain broadcast", "hub, as published"]
    figures = json.loads(found.read_text())
    assert all(len(rounds) == 2 and min(rate for rate, _ in rounds) > 0 for rounds in figures.values())


def test_what_cannot_be_run_is_refused() -> None:
    command = [sys.executable, str(SCRIPT), "--size", "3"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "--size is from 16" in done.stderr
