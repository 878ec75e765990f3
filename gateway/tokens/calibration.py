"""
Corrects estimated token counts by the usage of completed calls.

No public tokenizer fits every model, and providers add a constant to a request, above all if it
has tools: between 240 and 540 tokens (DeepSeek, xAI, Anthropic, November 2026). For each upstream
model a line `reported = offset + ratio * counted` is fitted to the calls; recent ones have more
weight.
"""

from __future__ import annotations

import math
from typing import Final

import msgspec

WEIGHT: Final = 0.05
"""Weight of the newest observation; about the last twenty calls matter."""
LOWEST: Final = 0.5
HIGHEST: Final = 2.5
MOST_OFFSET: Final = 1024
"""Limits of the line: beyond them an observation is an upstream's error, or an attack."""

_SPREAD: Final = 1000.0**2
"""In tokens squared: calls whose sizes vary less cannot determine the ratio, which stays near 1."""


class Calibration(msgspec.Struct, frozen=True):
    """A line from counted to reported tokens, and the weighted means it was fitted to."""

    ratio: float = 1.0
    offset: float = 0.0
    counted: float = 0.0
    reported: float = 0.0
    variance: float = 0.0
    """Of the counted tokens."""
    covariance: float = 0.0
    calls: int = 0

    def apply(self, counted_tokens: int) -> int:
        """Return the tokens that the upstream is expected to report, rounded up."""
        return math.ceil(round(self.offset + self.ratio * counted_tokens, 6))

    def counted_tokens(self, estimated_tokens: int) -> int:
        """Return the count that `apply` turned into an estimate."""
        return max(round((estimated_tokens - self.offset) / self.ratio), 0)

    def observed(self, actual_tokens: int, counted_tokens: int) -> Calibration:
        """
        Return the calibration after one more completed call.

        Args:
            actual_tokens: Input tokens that the upstream reported, including cached ones.
            counted_tokens: The count before calibration. If either is 0, nothing changes.
        """
        if actual_tokens <= 0 or counted_tokens <= 0:
            return self
        most = MOST_OFFSET + HIGHEST * counted_tokens
        actual = min(max(float(actual_tokens), LOWEST * counted_tokens), most)
        calls = self.calls + 1
        weight = max(WEIGHT, 1 / calls)
        from_counted = counted_tokens - self.counted
        from_reported = actual - self.reported
        counted = self.counted + weight * from_counted
        reported = self.reported + weight * from_reported
        kept = 1 - weight
        variance = kept * (self.variance + weight * from_counted**2)
        covariance = kept * (self.covariance + weight * from_counted * from_reported)
        slope = (covariance + _SPREAD) / (variance + _SPREAD)
        offset = min(max(reported - slope * counted, 0.0), MOST_OFFSET)
        # The ratio accounts for what exceeds the offset's limits.
        ratio = min(max((reported - offset) / counted, LOWEST), HIGHEST)
        return Calibration(ratio, offset, counted, reported, variance, covariance, calls)
