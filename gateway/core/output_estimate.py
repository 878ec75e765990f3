"""
Estimates a call's output tokens so that reservations are not oversized.

Agents request 32,000 tokens and use 400. Reserving the full request would block small balances
needlessly; reserving nothing would overdraw them. The estimate is the 95th percentile of recent
outputs of this key and model, at most the requested number.

If estimates are wrong, or were manipulated on purpose, the sum of worst-case costs kept by
`lua/reserve.lua` bounds an account's debt.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TypeVar

_Name = TypeVar("_Name", str, tuple[str, str])

QUANTILE = 0.95
ENOUGH = 20
"""Calls after which a percentile is used."""
_FADE_AT = 512
"""Calls after which all counts are halved, so that recent calls weigh most."""
_RENEW = 16
_STEPS = 4
_BUCKETS = 20 * _STEPS


class OutputQuantile:
    """
    A running percentile of token counts, in buckets of a quarter octave.

    The value is never below the percentile, and less than a quarter above it. Computing it costs
    2 us, so it is refreshed only every _RENEW calls.
    """

    __slots__ = ("_age", "_counts", "_value", "count")

    def __init__(self) -> None:
        self._counts = [0] * _BUCKETS
        self._value = 0
        self._age = _RENEW
        self.count = 0

    def observe(self, tokens: int) -> None:
        """Add the output of one call."""
        self._counts[_bucket(tokens)] += 1
        self.count += 1
        self._age += 1
        if self.count >= _FADE_AT:
            self._counts = [count // 2 for count in self._counts]
            self.count = sum(self._counts)

    def value(self) -> int:
        """Return an upper bound of the percentile in tokens; 0 without observations."""
        if self._age >= _RENEW:
            self._age = 0
            self._value = self._find()
        return self._value

    def _find(self) -> int:
        above = self.count * (1 - QUANTILE)
        for bucket in range(_BUCKETS - 1, -1, -1):
            above -= self._counts[bucket]
            if above < 0:
                return _highest(bucket)
        return 0


class OutputEstimator:
    """
    The percentiles per key and model; the least recently used are evicted.

    Args:
        default_tokens: Estimate for a model without observations.
        entries: Most pairs of key and model kept.
    """

    def __init__(self, default_tokens: int, entries: int = 20_000) -> None:
        self._default = default_tokens
        self._entries = entries
        self._pairs: OrderedDict[tuple[str, str], OutputQuantile] = OrderedDict()
        self._models: OrderedDict[str, OutputQuantile] = OrderedDict()

    def observe(self, key_id: str, model: str, tokens: int) -> None:
        """Add the output of one choice, reasoning included, of a completed call."""
        self._add(self._pairs, (key_id, model), tokens)
        self._add(self._models, model, tokens)

    def expected(self, key_id: str, model: str, at_most: int) -> int:
        """
        Return the output tokens to reserve for, at most `at_most`.

        This is the percentile of key and model; until enough calls were observed, the default or
        the model's percentile over all keys, whichever is lower.
        """
        known = self._pairs.get((key_id, model))
        if known is not None and known.count >= ENOUGH:
            return min(known.value(), at_most)
        # Calls of other tenants may lower the estimate of a new key, never raise it.
        others = self._models.get(model)
        if others is not None and others.count >= ENOUGH:
            return min(others.value(), self._default, at_most)
        return min(self._default, at_most)

    def _add(self, table: OrderedDict[_Name, OutputQuantile], name: _Name, tokens: int) -> None:
        known = table.get(name)
        if known is None:
            if len(table) >= self._entries:
                table.popitem(last=False)
            known = table[name] = OutputQuantile()
        else:
            table.move_to_end(name)
        known.observe(tokens)


def _bucket(tokens: int) -> int:
    """Return the bucket of a count: exact up to 8 tokens, then four per octave."""
    if tokens < 2 * _STEPS:
        return max(0, tokens)
    octave = tokens.bit_length() - 3
    return min(_BUCKETS - 1, octave * _STEPS + (tokens >> octave))


def _highest(bucket: int) -> int:
    """Return the largest count in a bucket."""
    if bucket < 2 * _STEPS:
        return bucket
    octave, step = divmod(bucket - _STEPS, _STEPS)
    return ((step + _STEPS + 1) << octave) - 1
