"""Reads decimal numbers in headers."""

from __future__ import annotations

from typing import Final

MAX_DIGITS: Final = 18
"""Numbers of this length fit a signed 64-bit integer; `int` raises beyond 4,300 digits."""


def read_digits(text: bytes) -> int | None:
    """Return the number, or None unless `text` is 1 to `MAX_DIGITS` ASCII digits."""
    return int(text) if len(text) <= MAX_DIGITS and text.isdigit() else None
