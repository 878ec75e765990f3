"""Ids of rows: a kind, 48 bits of time and 80 random bits, so that they sort by creation time."""

from __future__ import annotations

import secrets
import time

_DIGITS = "0123456789abcdefghjkmnpqrstvwxyz"
"""Crockford's base 32: without i, l, o and u; in ASCII order."""
_LENGTH = 26


def new_id(kind: str) -> str:
    """Return `kind`, an underscore and 26 base-32 digits; unordered within a millisecond."""
    number = time.time_ns() // 1_000_000 << 80 | secrets.randbits(80)
    digits = [_DIGITS[number >> place & 31] for place in range((_LENGTH - 1) * 5, -1, -5)]
    return f"{kind}_{''.join(digits)}"
