"""The table and the page."""

from __future__ import annotations

import pytest
from report import as_expected, page, table
from results import Examination, Expected, Result

from .conftest import CASES

EXPECTED = Expected()
GOOD = Examination("server-sync", CASES, {case: Result("OK", "OK", f"{case}.html") for case in CASES}, None, 1.4)
BAD = Examination(
    "client-sync",
    CASES,
    {"1.1.1": Result("OK", "OK", "a.html"), "2.1": Result("NON-STRICT", "WRONG CODE", "b.html")},
    "stalled <here>",
    62.0,
)


@pytest.mark.parametrize(("testee", "verdict"), [(GOOD, True), (BAD, False)])
def test_as_expected(testee: Examination, verdict: bool) -> None:
    assert as_expected(testee, EXPECTED) is verdict


def test_all_results_but_not_finished_is_not_as_expected() -> None:
    broken = Examination(GOOD.testee, GOOD.cases, GOOD.results, "the server ended by itself", 1.0)
    assert not as_expected(broken, EXPECTED)
    assert "as expected, not finished" in table([broken], EXPECTED)
    assert "the server ended by itself" in table([broken], EXPECTED)


def test_table() -> None:
    head, good, bad, *rest = table([GOOD, BAD], EXPECTED).splitlines()
    # No name of a column has a blank in it but the last but two.
    assert head.replace("bad close", "bad_close").split() == [
        *("testee", "cases", "OK", "NON-STRICT", "INFORMATIONAL", "UNIMPLEMENTED", "FAILED"),
        *("missing", "bad_close", "time", "verdict"),
    ]
    assert good.split() == ["server-sync", "3", "3", "0", "0", "0", "0", "0", "0", "1", "s", "as", "expected"]
    assert bad.split()[:9] == ["client-sync", "3", "1", "1", "0", "0", "0", "1", "1"]
    assert bad.endswith("62 s  2 differences, not finished")
    assert rest == [
        "",
        "client-sync: 2 differences, not finished",
        "  stalled <here>",
        "  2.1      NON-STRICT, not OK; close WRONG CODE: Send a <ping>",
        "  10.1.1   missing: Send a lot",
    ]


def test_table_lines_up() -> None:
    head, good, bad, *_ = table([GOOD, BAD], EXPECTED).splitlines()
    assert good.index("  as expected") == bad.index("  2 differences") == head.index("  verdict")


def test_table_with_many_missing_cases() -> None:
    cases = {f"1.1.{number}": "Send" for number in range(1, 31)}
    lines = table([Examination("client-sync", cases, {}, "stalled", 1.0)], EXPECTED).splitlines()
    assert [line.split(" ")[2] for line in lines if "missing: " in line] == [f"1.1.{n}" for n in range(1, 11)]
    assert lines[-1] == "  and 20 more missing"


def test_page() -> None:
    html = page([GOOD, BAD], EXPECTED, "3 cases & more")
    assert "3 cases &amp; more" in html
    assert '<span class="bad">not as expected</span>' in html
    assert '<a href="server-sync/index.html">server-sync</a>' in html
    assert "stalled &lt;here&gt;" in html
    assert '<a href="client-sync/b.html">2.1</a>' in html
    assert "Send a &lt;ping&gt;" in html
    assert "<td>10.1.1</td><td>missing</td>" in html  # it has no page
    assert "<h2>server-sync</h2>" not in html  # there is nothing to say of it


def test_page_when_all_is_well() -> None:
    assert '<span class="good">as expected</span>' in page([GOOD], EXPECTED, "")


def test_page_is_self_contained() -> None:
    html = page([GOOD, BAD], EXPECTED, "")
    assert "://" not in html
    assert "src=" not in html
    assert "<link" not in html


def test_page_without_results_has_no_link() -> None:
    html = page([Examination("client-sync", CASES, {}, "stalled", 1.0)], EXPECTED, "")
    assert "<td>client-sync</td>" in html
