"""benchmarks/metrics.py runs; what it measures is nothing for a test."""

from __future__ import annotations

import importlib
import shutil
from typing import Any

import pytest

cost = importlib.import_module("metrics")


@pytest.mark.parametrize("kind", cost.KINDS)
def test_all_servers_have_their_turns(kind: str, tmp_path: Any, capsys: pytest.CaptureFixture[str]) -> None:
    if shutil.which("cc") is None:
        pytest.skip("no C compiler")
    trees = [("without metrics", cost.ROOT, False), ("with metrics", cost.ROOT, True)]
    cost.compare(kind, trees, cost.Tools(str(tmp_path)).program("load"), 1, 0.05, False)
    assert capsys.readouterr().out.count("of the CPU time") == 2
