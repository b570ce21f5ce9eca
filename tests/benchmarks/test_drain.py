"""benchmarks/drain.py, with few clients: it counts what is lost, and nothing is."""

from __future__ import annotations

import drain
import pytest


@pytest.mark.parametrize("model", ["asyncio", "thread"])
def test_nothing_is_lost(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert drain.run(model, 20, 0.2, 10.0, 0.1)
    told = capsys.readouterr().out
    assert "20 of 20 clients saw 1001 or 1012" in told
    assert " 0 lost, 0 made up" in told
    assert "20 closed; 0 refused" in told
