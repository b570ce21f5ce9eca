"""benchmarks/limits.py runs; what it measures is nothing for a test."""

from __future__ import annotations

import importlib

import pytest

cost = importlib.import_module("limits")


@pytest.mark.parametrize("kind", cost.KINDS)
def test_both_servers_have_their_turns(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    cost.compare(kind, 1, 0.1)
    assert f"{kind}: " in capsys.readouterr().out
