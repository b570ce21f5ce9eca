"""What a run found out: it is kept as JSON, from which the table and the chart are made."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class Cell:
    """One contender at one workload.

    Attributes:
        values: one for each round.
        cpu: microseconds of CPU time for each message, in each round.
        error: why there is no number; what came before it is kept, and not shown.
    """

    values: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    error: str | None = None

    @property
    def good(self) -> bool:
        return self.error is None and bool(self.values)

    @property
    def median(self) -> float:
        return statistics.median(self.values)


@dataclass
class Result:
    """One workload: the cells by contender."""

    name: str
    title: str
    unit: str
    chart: bool
    lower_is_better: bool
    cells: dict[str, Cell] = field(default_factory=dict)

    def ranking(self) -> list[str]:
        """The contenders, the best first; those with an error last."""
        sign = 1 if self.lower_is_better else -1
        good = [name for name, cell in self.cells.items() if cell.good]
        return sorted(good, key=lambda name: sign * self.cells[name].median) + [
            name for name, cell in self.cells.items() if not cell.good
        ]

    def ratios(self, name: str, base: str) -> list[float]:
        """How many times the base's value it has, in each round; the least first."""
        if base not in self.cells or not (self.cells[base].good and self.cells[name].good):
            return []
        return sorted(one / other for one, other in zip(self.cells[name].values, self.cells[base].values, strict=False))


@dataclass
class Label:
    """How a contender is shown."""

    label: str
    kind: str
    chart: bool


@dataclass
class Record:
    """A whole run.

    Attributes:
        about: what there is to say of it: title and text.
        base: the contender that the ratios refer to.
    """

    about: dict[str, str]
    base: str
    contenders: dict[str, Label] = field(default_factory=dict)
    results: list[Result] = field(default_factory=list)

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self), indent=1) + "\n")


def read(path: Path) -> Record:
    """The record in a file; ValueError if there is none in it."""
    try:
        found: dict[str, Any] = json.loads(path.read_text())
        return Record(
            found["about"],
            found["base"],
            {name: Label(**label) for name, label in found["contenders"].items()},
            [
                Result(**{**result, "cells": {name: Cell(**cell) for name, cell in result["cells"].items()}})
                for result in found["results"]
            ],
        )
    except (OSError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} has no results: {error}") from None


def number(value: float) -> str:
    """Three digits that count, or all of a large number."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def spread(ratios: Sequence[float]) -> str:
    """The median and the extremes of ratios that are sorted."""
    if not ratios:
        return "-"
    middle = f"{statistics.median(ratios):.2f}"
    return middle if len(ratios) == 1 else f"{middle} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
