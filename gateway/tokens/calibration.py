"""
Corrects estimated token counts by the usage of completed calls.

No public tokenizer fits every model. For each upstream model, an exponentially weighted mean of the
ratio of reported to counted prompt tokens is multiplied with later estimates.
"""

from __future__ import annotations

from typing import Final

import msgspec

WEIGHT: Final = 0.05
"""Weight of the newest observation; about the last twenty calls matter."""
LOWEST: Final = 0.5
HIGHEST: Final = 2.5


class Calibration(msgspec.Struct, frozen=True):
    """The ratio of reported to counted tokens, between 0.5 and 2.5."""

    ratio: float = 1.0

    def observed(self, actual_tokens: int, counted_tokens: int) -> Calibration:
        """
        Return the calibration after one more completed call.

        Args:
            actual_tokens: Input tokens that the upstream reported, including cached ones.
            counted_tokens: The estimate before calibration. If either is 0, nothing changes.
        """
        if actual_tokens <= 0 or counted_tokens <= 0:
            return self
        seen = min(max(actual_tokens / counted_tokens, LOWEST), HIGHEST)
        return Calibration(self.ratio + WEIGHT * (seen - self.ratio))
