"""
How far an estimated token count is from the truth, learned from completed calls.

No public tokenizer fits every model. For each upstream model the ratio of real prompt tokens to
counted ones is kept as an exponentially weighted mean and multiplies later estimates.
"""

from __future__ import annotations

from typing import Final

import msgspec

WEIGHT: Final = 0.05
"""Share of the newest observation: about the last twenty calls count."""
LOWEST: Final = 0.5
HIGHEST: Final = 2.5


class Calibration(msgspec.Struct, frozen=True):
    """A ratio between 0.5 and 2.5: real tokens for each counted one."""

    ratio: float = 1.0

    def observed(self, actual_tokens: int, counted_tokens: int) -> Calibration:
        """
        Return the calibration after one more completed call.

        Args:
            actual_tokens: Input tokens that the upstream stated, cached ones included.
            counted_tokens: The estimate before calibration. Without either nothing is learned.
        """
        if actual_tokens <= 0 or counted_tokens <= 0:
            return self
        seen = min(max(actual_tokens / counted_tokens, LOWEST), HIGHEST)
        return Calibration(self.ratio + WEIGHT * (seen - self.ratio))
