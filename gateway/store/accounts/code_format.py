"""
The form of redemption codes: twenty digits in four groups, `7H3KQ-0XWEP-M4T9A-Z2C8R`.

The alphabet has no letters that look like others, and what people type instead of them is
understood. A code is a hundred random bits, so its plain SHA-256 cannot be reversed by guessing.
"""

from __future__ import annotations

import hashlib

RANDOM_BITS = 100
LENGTH = 20
_GROUP = 5
_DIGITS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
"""Crockford's base 32: no I, L, O, U."""
_READ_AS = str.maketrans("OIL", "011", " -")


def show_code(number: int) -> str:
    """Return a random number below 2 ** RANDOM_BITS as a code."""
    digits = "".join(_DIGITS[number >> place & 31] for place in range(RANDOM_BITS - 5, -1, -5))
    return "-".join(digits[start : start + _GROUP] for start in range(0, LENGTH, _GROUP))


def read_code(text: str) -> str | None:
    """Return the twenty digits that somebody's typing means; None: it cannot be a code."""
    digits = text.strip().upper().translate(_READ_AS)
    if len(digits) != LENGTH or not set(digits) <= set(_DIGITS):
        return None
    return digits


def code_digest(digits: str) -> bytes:
    """Return the SHA-256 of `read_code`'s digits: all that is stored of a code."""
    return hashlib.sha256(digits.encode("ascii")).digest()
