"""Which cases are chosen, and what differs from the expected results."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from results import Difference, Examination, Expected, Result, read_results, select

from .conftest import CASES


def examination(**results: tuple[str, str]) -> Examination:
    """Make one whose cases 1.1.1, 2.1 and 10.1.1 have the results `first`, `second` and `third`, if any."""
    names = dict(zip(("first", "second", "third"), CASES, strict=True))
    found = {names[key]: Result(*result, page=f"{names[key]}.html") for key, result in results.items()}
    return Examination("server-sync", CASES, found, None, 1.0)


OK = ("OK", "OK")


@pytest.mark.parametrize(
    ("include", "exclude", "chosen"),
    [
        (["*"], [], ["1.1.1", "2.1", "10.1.1"]),
        (["1.*"], [], ["1.1.1"]),
        (["1*"], [], ["1.1.1", "10.1.1"]),
        (["10.1.1", "2.1", "2.*"], [], ["2.1", "10.1.1"]),
        (["*"], ["1.*", "2.1"], ["10.1.1"]),
    ],
)
def test_select(include: list[str], exclude: list[str], chosen: list[str]) -> None:
    assert select(CASES, include, exclude) == {case: CASES[case] for case in chosen}
    assert list(select(CASES, include, exclude)) == chosen  # in the order of the suite


@pytest.mark.parametrize(("include", "exclude"), [(["1.*", "3.*"], []), (["*"], ["3.*"]), (["3.*"], ["3.*"])])
def test_select_unknown_pattern(include: list[str], exclude: list[str]) -> None:
    with pytest.raises(ValueError, match=r"no case matches '3\.\*'"):
        select(CASES, include, exclude)


def test_select_nothing_left() -> None:
    with pytest.raises(ValueError, match="every chosen case is excluded"):
        select(CASES, ["1.*"], ["1.1.1"])


def test_read_results(tmp_path: Path) -> None:
    case = {"behavior": "NON-STRICT", "behaviorClose": "WRONG CODE", "reportfile": "a_case_1_1_1.json"}
    (tmp_path / "index.json").write_text(json.dumps({"a": {"1.1.1": case}}))
    assert read_results(tmp_path, "a") == {"1.1.1": Result("NON-STRICT", "WRONG CODE", "a_case_1_1_1.html")}
    assert read_results(tmp_path, "b") == {}


def test_read_results_without_report(tmp_path: Path) -> None:
    assert read_results(tmp_path, "a") == {}
    (tmp_path / "index.json").write_text('{"a": {"1.1.1": {"behav')
    assert read_results(tmp_path, "a") == {}


def test_pinned_results() -> None:
    expected = Expected()
    assert {case: expected[case] for case in ("1.1.1", "7.1.6", "7.13.1", "7.13.2", "13.7.18")} == {
        "1.1.1": "OK",
        "7.1.6": "INFORMATIONAL",
        "7.13.1": "INFORMATIONAL",
        "7.13.2": "INFORMATIONAL",
        "13.7.18": "OK",
    }


def test_no_difference(expected: Expected) -> None:
    assert examination(first=OK, second=("INFORMATIONAL", "INFORMATIONAL"), third=OK).differences(expected) == []


@pytest.mark.parametrize(
    ("results", "case", "found"),
    [
        ({"first": ("NON-STRICT", "OK")}, "1.1.1", "NON-STRICT, not OK"),
        ({"first": ("OK", "WRONG CODE")}, "1.1.1", "close WRONG CODE"),
        ({"third": ("FAILED", "UNCLEAN")}, "10.1.1", "FAILED, not OK; close UNCLEAN"),
        ({"third": ("UNIMPLEMENTED", "OK")}, "10.1.1", "UNIMPLEMENTED, not OK"),
        ({"second": OK}, "2.1", "OK, not INFORMATIONAL"),  # better than pinned: the pin is to be moved
    ],
)
def test_difference(expected: Expected, results: dict[str, tuple[str, str]], case: str, found: str) -> None:
    all_well = {"first": OK, "second": ("INFORMATIONAL", "INFORMATIONAL"), "third": OK}
    assert examination(**{**all_well, **results}).differences(expected) == [
        Difference(case, CASES[case], found, f"{case}.html")
    ]


def test_missing_case_is_a_difference(expected: Expected) -> None:
    assert examination(first=OK, third=OK).differences(expected) == [Difference("2.1", CASES["2.1"], "missing", None)]


def test_count() -> None:
    counts = examination(first=("NON-STRICT", "FAILED"), third=("NON-STRICT", "INFORMATIONAL")).count()
    assert counts == {"NON-STRICT": 2, "missing": 1, "bad close": 1}


@pytest.fixture
def expected(tmp_path: Path) -> Expected:
    """All cases OK but for 2.1."""
    path = tmp_path / "expected.json"
    path.write_text(json.dumps({"default": "OK", "cases": {"2.1": "INFORMATIONAL"}}))
    return Expected(path)
