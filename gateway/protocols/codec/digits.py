"""Numbers in headers of clients and upstreams."""

from __future__ import annotations

from typing import Final

MAX_DIGITS: Final = 18
"""Every such number fits a signed 64-bit integer. `int` raises beyond 4,300 digits."""


def read_digits(text: bytes) -> int | None:
    """Return the number; None for anything but 1 to `MAX_DIGITS` ASCII digits."""
    return int(text) if len(text) <= MAX_DIGITS and text.isdigit() else None
