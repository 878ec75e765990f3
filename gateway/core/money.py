"""
Money as people write it, and as it is kept: nano-dollars, integers, exact both ways.
"""

from __future__ import annotations

import re

from gateway.core.catalogue import NANOUSD_PER_USD, nanousd

MAX_AMOUNT_NANOUSD = 1_000_000 * NANOUSD_PER_USD
"""A million dollars: what one booking may move at most, so that no typing mistake moves more."""
MAX_BALANCE_NANOUSD = 9_000_000 * NANOUSD_PER_USD
"""Nine million dollars: what a balance may grow to. Below 2 ** 53, so every reader of JSON and
every script counts it exactly."""
MIN_BALANCE_NANOUSD = -1_000_000_000 * NANOUSD_PER_USD
"""Minus a billion dollars, far within 64 bits: what an account without a credit limit may owe."""

_DOLLARS = re.compile(r"(-?)\$?([0-9]{1,10}(?:\.[0-9]{1,9})?)\Z")


def dollars(amount_nanousd: int) -> str:
    """Return an amount as decimal dollars, exactly, with two decimals at least: `-0.0000001`."""
    sign = "-" if amount_nanousd < 0 else ""
    whole, fraction = divmod(abs(amount_nanousd), NANOUSD_PER_USD)
    return f"{sign}{whole}.{f'{fraction:09}'.rstrip('0'):0<2}"


def read_dollars(text: str) -> int:
    """
    Return decimal dollars as nano-dollars: `12`, `12.50`, `-0.000000001`, `$5`.

    Raises:
        ValueError: It is no decimal with at most nine digits behind the point.
    """
    matched = _DOLLARS.match(text)
    if matched is None:
        raise ValueError(f"{text!r} is no amount in dollars like 12.50, with nine decimals at most")
    amount = nanousd(matched[2])
    return -amount if matched[1] else amount


def amount_fields(name: str, amount_nanousd: int | None) -> dict[str, str | int | None]:
    """Return an amount under two names: `x` in decimal dollars, `x_nanousd` as an integer."""
    shown = None if amount_nanousd is None else dollars(amount_nanousd)
    return {name: shown, f"{name}_nanousd": amount_nanousd}
