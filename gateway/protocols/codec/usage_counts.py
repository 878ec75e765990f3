"""
Token counts and charged extras, as both wires spell them in `usage`.

A count that cannot be true (negative, fractional, no number, beyond `MAX_COUNT`) makes its whole
usage unreadable: the call is then estimated, as if nothing had been reported.
"""

from __future__ import annotations

from typing import Final

import msgspec

Count = int | float | None
# Some upstreams write `10.0`.

MAX_COUNT: Final = 1_000_000_000
"""Largest plausible count, a thousand times the longest contexts."""


class NotACountError(ValueError):
    """An impossible count."""


UNREADABLE: Final = (
    msgspec.DecodeError,
    msgspec.ValidationError,
    UnicodeError,
    NotACountError,
)
"""The exceptions that reading a `usage` object may raise."""


def count(value: Count) -> int:
    """
    Return a count as an integer, 0 for None.

    Raises:
        NotACountError: It is impossible.
    """
    if value is None:
        return 0
    # The order matters: NaN and the infinities fail the comparison, and `int` would raise.
    if not 0 <= value <= MAX_COUNT or value != int(value):
        raise NotACountError
    return int(value)


def first_count(*values: Count) -> int:
    """Return the first count that is not zero, else 0; all of them are checked up to it."""
    for value in values:
        if value is not None and (found := count(value)):
            return found
    return 0


def count_or(value: Count, known: int) -> int:
    """Return the count, or `known` if it is absent or zero: some upstreams repeat counts as 0."""
    return count(value) or known
