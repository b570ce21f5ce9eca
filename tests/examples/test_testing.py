"""The example of tests, run as their users run them."""

from __future__ import annotations

import re

from tests.programs import LIBRARY, Program


def test_by_itself() -> None:
    with Program(str(LIBRARY / "examples" / "test_reconnect.py"), "--seeds", "5") as program:
        status, out, err = program.end()
    assert (status, err) == (0, [])
    assert len(out) == 6 and all(re.fullmatch(r"test_\w+: \d+ ms", line) for line in out)


def test_by_pytest() -> None:
    path = str(LIBRARY / "examples" / "test_reconnect.py")
    with Program("-m", "pytest", "-q", "-p", "no:cacheprovider", path) as program:
        status, out, err = program.end()
    assert (status, err) == (0, []), out
    assert "6 passed" in out[-1]
