"""Counts of durations in fixed buckets, so that an hour of load takes no more memory than a second.

Strategy: log-linear buckets, as HDR histograms have: each power of two is cut into 128 parts, so that a value is known
to 0.8 %; those below 256 ns are exact. Least, greatest and sum are kept as they are.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterator, Mapping
from typing import Any, Final, Self

__all__ = ["Histogram"]

_BITS: Final = 7  # each power of two has 2**7 buckets
_TOP: Final = 2**42 - 1  # ns, 73 minutes: what takes longer counts there
_SIZE: Final = ((_TOP.bit_length() - _BITS - 1) << _BITS) + (2 << _BITS)


class Histogram:
    """Durations in nanoseconds.

    Attributes:
        count: how many.
        total: their sum, ns.
        least: ns; 0 without any.
        most: ns.
    """

    __slots__ = ("_buckets", "count", "least", "most", "total")

    def __init__(self) -> None:
        self._buckets = array("Q", bytes(8 * _SIZE))
        self.count = self.total = self.least = self.most = 0

    def add(self, value: int, many: int = 1) -> None:
        """Count one, or as many. Less than nothing, which a clock may give, is nothing."""
        if value < 0:
            value = 0
        if value > self.most:
            self.most = value
        if value < self.least or not self.count:
            self.least = value
        self.count += many
        self.total += value * many
        if value > _TOP:
            value = _TOP
        shift = value.bit_length() - _BITS - 1
        self._buckets[value if shift <= 0 else (shift << _BITS) + (value >> shift)] += many

    def quantile(self, share: float) -> int:
        """The value, ns, that `share` of all (0 to 1) do not go over, or up to 0.8 % more; 0 without any.

        Raises:
            ValueError: no share.
        """
        if not 0 <= share <= 1:
            raise ValueError(f"a share is from 0 to 1, not {share!r}")
        wanted = max(1, math.ceil(share * self.count))
        if wanted >= self.count:
            return self.most
        seen = 0
        for _, end, count in self.buckets():
            seen += count
            if seen >= wanted:
                return max(self.least, min(end - 1, self.most))
        return self.most

    @property
    def mean(self) -> float:
        """ns; 0.0 without any."""
        return self.total / self.count if self.count else 0.0

    def buckets(self) -> Iterator[tuple[int, int, int]]:
        """Those that are not empty, in order: from (included), to (excluded), ns, and how many."""
        for index, count in enumerate(self._buckets):
            if count:
                yield *_bounds(index), count

    def merge(self, other: Histogram) -> None:
        """Add what another one has counted."""
        if not other.count:
            return
        self.least = min(self.least, other.least) if self.count else other.least
        self.most = max(self.most, other.most)
        self.count += other.count
        self.total += other.total
        for index, count in enumerate(other._buckets):
            if count:
                self._buckets[index] += count

    def since(self, earlier: Histogram) -> Histogram:
        """What was counted since `earlier`, a copy of this one; least and greatest only to a bucket."""
        found = Histogram()
        found.count, found.total = self.count - earlier.count, self.total - earlier.total
        found._buckets = array("Q", (now - then for now, then in zip(self._buckets, earlier._buckets, strict=True)))
        bounds = list(found.buckets())
        if bounds:
            end = bounds[-1][1]
            found.least, found.most = bounds[0][0], self.most if end > _TOP else min(end - 1, self.most)
        return found

    def to_json(self) -> dict[str, Any]:
        """Plain data that `from_json` takes."""
        buckets = {str(index): count for index, count in enumerate(self._buckets) if count}
        return {"total": self.total, "least": self.least, "most": self.most, "buckets": buckets}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        found = cls()
        found.total, found.least, found.most = data["total"], data["least"], data["most"]
        for index, count in data["buckets"].items():
            found._buckets[int(index)] = count
            found.count += count
        return found


def _bounds(index: int) -> tuple[int, int]:
    """From and to of a bucket, ns."""
    shift = (index >> _BITS) - 1
    if shift <= 0:
        return index, index + 1
    part = index - (shift << _BITS)
    return part << shift, (part + 1) << shift
