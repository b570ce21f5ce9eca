"""The table and the chart of results that are made up."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import chart
import pytest
import record
import table
from record import Cell, Label, Record, Result


@pytest.fixture
def made_up() -> Record:
    cells = {
        "ours": Cell([100.0, 300.0, 200.0], [5.0, 7.0, 6.0]),
        "peer": Cell([200.0, 200.0, 100.0], [10.0, 10.0, 11.0]),
        "odd": Cell([1e9], [], "wrong | echo <&>"),
    }
    less = {"ours": Cell([7.5], [0.0]), "peer": Cell([15.0], [0.0])}
    labels = [("ours", "Ours", "ours"), ("peer", "Peer <1>", "peer"), ("odd", "Odd", "peer")]
    return Record(
        {"date": "2026-11-21", "Python": "CPython 3.11"},
        "ours",
        {name: Label(label, kind, True) for name, label, kind in labels},
        [
            Result("echo", "echo of something", "/s", True, False, cells),
            Result("idle", "memory", "KiB", False, True, less),
        ],
    )


def test_the_best_first_and_errors_last(made_up: Record) -> None:
    echo, idle = made_up.results
    assert echo.ranking() == ["ours", "peer", "odd"]
    assert idle.ranking() == ["ours", "peer"]
    assert echo.ratios("peer", "ours") == [0.5, 200 / 300, 2.0]
    assert echo.ratios("odd", "ours") == []
    assert echo.ratios("ours", "odd") == []


def test_table(made_up: Record) -> None:
    page = table.markdown(made_up, "results.svg")
    assert "![Rates of the contenders](results.svg)" in page
    assert "| **Ours** | 200/s | 6.00 µs | 1 |" in page
    assert "| Peer <1> | 200/s | 10.0 µs | 0.67 (0.50 to 2.00) |" in page
    assert "| Odd | error: wrong / echo <&> | | - |" in page
    assert "| Peer <1> | 15.0 KiB | 2.00 |" in page
    assert "| echo of something | 200/s Ours | 200/s Peer <1> | 1.50 (0.50 to 2.00) |" in page
    assert "| memory (less is better) | 7.50 KiB Ours | 15.0 KiB Peer <1> | 0.50 |" in page


def test_chart(made_up: Record) -> None:
    picture = chart.svg(made_up)
    page = ElementTree.fromstring(picture)  # noqa: S314 - our own
    texts = [element.text for element in page.iter("{http://www.w3.org/2000/svg}text")]
    assert "echo of something" in texts
    assert "memory" not in texts  # it is no key workload
    assert texts.index("Ours") < texts.index("Peer <1>") < texts.index("Odd") < texts.index("error")


def test_written_and_read(made_up: Record, tmp_path: Path) -> None:
    made_up.write(tmp_path / "results.json")
    assert record.read(tmp_path / "results.json") == made_up
    (tmp_path / "results.json").write_text("{}")
    with pytest.raises(ValueError, match="has no results: 'about'"):
        record.read(tmp_path / "results.json")


@pytest.mark.parametrize(
    ("value", "text"), [(1234567.8, "1,234,568"), (100.0, "100"), (12.34, "12.3"), (1.234, "1.23"), (0.0912, "0.09")]
)
def test_numbers(value: float, text: str) -> None:
    assert record.number(value) == text
