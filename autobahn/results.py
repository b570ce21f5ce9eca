"""What wstest found out about a testee, and how that differs from what is expected."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import filter as matching
from pathlib import Path

EXPECTED = Path(__file__).resolve().with_name("expected.json")

BEHAVIORS = ("OK", "NON-STRICT", "INFORMATIONAL", "UNIMPLEMENTED", "FAILED")
"""All that wstest says of a case."""

GOOD_CLOSES = ("OK", "INFORMATIONAL")
"""What wstest says of the closing handshake if there is nothing wrong with it."""


def select(cases: Mapping[str, str], include: Sequence[str], exclude: Sequence[str]) -> dict[str, str]:
    """Return the cases that match `include` but not `exclude`; `ValueError` if a pattern matches none."""
    for pattern in (*include, *exclude):
        if not matching(cases, pattern):
            raise ValueError(f"no case matches {pattern!r}; cases are named like 1.1.1, patterns like '1.*'")
    left_out = {case for pattern in exclude for case in matching(cases, pattern)}
    chosen = {case for pattern in include for case in matching(cases, pattern)} - left_out
    if not chosen:
        raise ValueError("every chosen case is excluded")
    return {case: description for case, description in cases.items() if case in chosen}


@dataclass(frozen=True)
class Result:
    """wstest's judgement of one case."""

    behavior: str
    close: str
    page: str
    """wstest's own page about it, in its folder."""


def read_results(folder: Path, agent: str) -> dict[str, Result]:
    """Read wstest's report; no results if it did not come to write one, or not to its end."""
    try:
        index = json.loads((folder / "index.json").read_bytes())
    except (FileNotFoundError, json.JSONDecodeError):
        return {}
    return {
        case: Result(
            behavior=found["behavior"],
            close=found["behaviorClose"],
            page=found["reportfile"].removesuffix("json") + "html",
        )
        for case, found in index.get(agent, {}).items()
    }


class Expected:
    """The pinned results: one for all cases but those that are named."""

    def __init__(self, path: Path = EXPECTED) -> None:
        pinned = json.loads(path.read_bytes())
        self._default: str = pinned["default"]
        self._cases: dict[str, str] = pinned["cases"]

    def __getitem__(self, case: str) -> str:
        return self._cases.get(case, self._default)


@dataclass(frozen=True)
class Difference:
    """A case that did not end as expected."""

    case: str
    description: str
    found: str
    page: str | None
    """wstest's own page about it, if it ran at all."""


@dataclass(frozen=True)
class Examination:
    """The results of one testee."""

    testee: str
    cases: Mapping[str, str]
    """Every case that should have run, with its description."""
    results: Mapping[str, Result]
    problem: str | None
    """Why it did not come to its end, if it did not."""
    seconds: float

    def count(self) -> Counter[str]:
        """How many cases there are of each behavior, and how many `missing` and with a `bad close`."""
        counts = Counter(result.behavior for result in self.results.values())
        counts["missing"] = len(self.cases.keys() - self.results.keys())
        counts["bad close"] = sum(result.close not in GOOD_CLOSES for result in self.results.values())
        return counts

    def differences(self, expected: Expected) -> list[Difference]:
        """Every case with another result than the expected one, or a bad close, or none at all."""
        found = []
        for case, description in self.cases.items():
            result = self.results.get(case)
            if result is None:
                found.append(Difference(case, description, "missing", None))
                continue
            wrong = []
            if result.behavior != expected[case]:
                wrong.append(f"{result.behavior}, not {expected[case]}")
            if result.close not in GOOD_CLOSES:
                wrong.append(f"close {result.close}")
            if wrong:
                found.append(Difference(case, description, "; ".join(wrong), result.page))
        return found
