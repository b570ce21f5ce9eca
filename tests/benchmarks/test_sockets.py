"""The comparison with bare sockets runs; what it measures is nothing for a test."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "sockets.py"


@pytest.mark.skipif(sys.platform != "linux", reason="it pins processes to cores")
def test_every_contender_has_its_turn() -> None:
    arguments = ["--rounds", "1", "--messages", "20", "--file-size", "100000"]
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *arguments], capture_output=True, text=True, timeout=60, check=True
    )
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines[:4]] == ["bare", "stream", "bare-asyncio", "stream-asyncio"]
    assert "times bare" in lines[1] and lines[-1].startswith("a file of 100,000 octets")
