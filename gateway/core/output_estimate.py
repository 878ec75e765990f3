"""
How much output to expect of a call: learned per key and model, so that holds are not too fat.

Agents ask for 32,000 tokens and use 400. Holding what they ask for would block small balances
falsely; holding nothing would let them run dry unseen. What is expected is the 95th percentile of
what this key got from this model lately, and no more than was asked for.

Holds are estimates. What bounds the debt of an account whose estimates were wrong, or were taught
wrong on purpose, is the sum of worst cases that `lua/reserve.lua` keeps.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TypeVar

_Name = TypeVar("_Name", str, tuple[str, str])

QUANTILE = 0.95
ENOUGH = 20
"""Calls after which a percentile is believed."""
_FADE_AT = 512
"""Calls after which all counts are halved, so that the last few hundred weigh most."""
_RENEW = 16
_STEPS = 4
_BUCKETS = 20 * _STEPS


class OutputQuantile:
    """
    A running percentile of token counts, in buckets a fourth of an octave wide.

    What it returns is never below the percentile, and less than a quarter above it. Finding it
    costs 2 us, so it is found anew only after every _RENEW calls.
    """

    __slots__ = ("_age", "_counts", "_value", "count")

    def __init__(self) -> None:
        self._counts = [0] * _BUCKETS
        self._value = 0
        self._age = _RENEW
        self.count = 0

    def observe(self, tokens: int) -> None:
        """Take one call's output."""
        self._counts[_bucket(tokens)] += 1
        self.count += 1
        self._age += 1
        if self.count >= _FADE_AT:
            self._counts = [count // 2 for count in self._counts]
            self.count = sum(self._counts)

    def value(self) -> int:
        """Return the percentile's upper bound in tokens; 0 when nothing was observed."""
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
    The percentiles of many keys and models; those not used for longest are forgotten.

    Args:
        default_tokens: Expected of a model of which nothing is known.
        entries: Pairs of key and model remembered at most.
    """

    def __init__(self, default_tokens: int, entries: int = 20_000) -> None:
        self._default = default_tokens
        self._entries = entries
        self._pairs: OrderedDict[tuple[str, str], OutputQuantile] = OrderedDict()
        self._models: OrderedDict[str, OutputQuantile] = OrderedDict()

    def observe(self, key_id: str, model: str, tokens: int) -> None:
        """Learn the output of one choice, reasoning included, of a call answered in full."""
        self._learn(self._pairs, (key_id, model), tokens)
        self._learn(self._models, model, tokens)

    def expected(self, key_id: str, model: str, at_most: int) -> int:
        """
        Return the output to hold for, in tokens.

        The percentile of key and model. Until enough is known of the pair, the default, or the
        model's percentile over all keys where that is lower. Never more than `at_most`.
        """
        known = self._pairs.get((key_id, model))
        if known is not None and known.count >= ENOUGH:
            return min(known.value(), at_most)
        # Other tenants' calls may lower the hold of a new key, never raise it.
        others = self._models.get(model)
        if others is not None and others.count >= ENOUGH:
            return min(others.value(), self._default, at_most)
        return min(self._default, at_most)

    def _learn(self, table: OrderedDict[_Name, OutputQuantile], name: _Name, tokens: int) -> None:
        known = table.get(name)
        if known is None:
            if len(table) >= self._entries:
                table.popitem(last=False)
            known = table[name] = OutputQuantile()
        else:
            table.move_to_end(name)
        known.observe(tokens)


def _bucket(tokens: int) -> int:
    """Return the bucket: exact up to 8 tokens, then four to each doubling."""
    if tokens < 2 * _STEPS:
        return max(0, tokens)
    octave = tokens.bit_length() - 3
    return min(_BUCKETS - 1, octave * _STEPS + (tokens >> octave))


def _highest(bucket: int) -> int:
    """Return the largest count that falls into a bucket."""
    if bucket < 2 * _STEPS:
        return bucket
    octave, step = divmod(bucket - _STEPS, _STEPS)
    return ((step + _STEPS + 1) << octave) - 1
