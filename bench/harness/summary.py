"""Medians, spreads and percentiles."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Summary:
    """The median of some rounds, and the lowest and highest of them."""

    median: float
    low: float
    high: float
    count: int

    def shown(self, digits: int = 1) -> str:
        """Return it for a table: `12.3 (11.9-13.0)`; one round has no range."""
        if self.count == 1:
            return f"{self.median:.{digits}f}"
        return f"{self.median:.{digits}f} ({self.low:.{digits}f}-{self.high:.{digits}f})"


def summarise(values: Iterable[float]) -> Summary | None:
    """Return the summary of the values; None if there are none."""
    found = sorted(values)
    if not found:
        return None
    return Summary(statistics.median(found), found[0], found[-1], len(found))


def percentile(ordered: Sequence[float], share: float) -> float:
    """Return the lowest value that `share` of the ordered values do not exceed; nan if none."""
    if not ordered:
        return math.nan
    return ordered[max(math.ceil(len(ordered) * share) - 1, 0)]


def quantiles_ms(seconds: Iterable[float]) -> dict[str, float]:
    """Return count, p50, p90, p99 and the maximum, in milliseconds."""
    ordered = sorted(seconds)
    shares = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "max": 1.0}
    found = {name: round(percentile(ordered, share) * 1000, 3) for name, share in shares.items()}
    return {"count": len(ordered), **found} if ordered else {}
