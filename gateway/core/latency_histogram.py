"""
A histogram of times to first token in steps of half an octave, and quantiles read from it.

Counts are summed per step, so percentiles of any group and period are computed from stored sums.
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from typing import Final

BOUNDS_MS: Final = (
    25, 35, 50, 71, 100, 141, 200, 283, 400, 566, 800, 1131, 1600, 2263, 3200, 4525, 6400, 9051,
    12_800, 18_102, 25_600, 36_204, 51_200,
)  # fmt: skip
"""Upper bounds, exclusive, of all steps but the last: 25 ms times powers of the root of 2."""
STEPS: Final = len(BOUNDS_MS) + 1


def step_of(ms: int) -> int:
    """Return the step that counts this time."""
    return bisect.bisect_right(BOUNDS_MS, ms)


def quantile_ms(counts: Sequence[int], fraction: float) -> int | None:
    """
    Return the estimated quantile; None if nothing was counted.

    Within a step the logarithm is interpolated, so the estimate is at most 19 % off where a step's
    times are spread evenly. Times beyond the last bound count as that bound.

    Args:
        counts: One count per step; negative ones count as 0.
        fraction: From 0 to 1, such as 0.95.
    """
    total = sum(count for count in counts if count > 0)
    if total == 0:
        return None
    rank = fraction * total
    below = 0
    for step, count in enumerate(counts):
        if count > 0 and below + count >= rank:
            return _within(step, (rank - below) / count)
        below += max(count, 0)
    return BOUNDS_MS[-1]


def _within(step: int, share: float) -> int:
    """Return the time at `share` of a step."""
    if step == 0:
        return round(BOUNDS_MS[0] * share)
    low = BOUNDS_MS[step - 1]
    if step == len(BOUNDS_MS):
        return low
    growth: float = (BOUNDS_MS[step] / low) ** share
    return round(low * growth)
