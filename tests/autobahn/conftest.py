"""Makes the modules of the runner importable, as they are for run.py: it is a folder of scripts, not a package."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
RUNNER = HERE.parents[1] / "autobahn"

sys.path.insert(0, str(RUNNER))

from suite import Suite  # noqa: E402  the line above must come first

CASES = {"1.1.1": "Send a text", "2.1": "Send a <ping>", "10.1.1": "Send a lot"}


@pytest.fixture
def suite() -> Suite:
    """A suite with a stand-in for wstest that knows three cases."""
    return Suite("stand-in", (sys.executable, str(HERE / "fake_wstest.py")), CASES)
