"""
Converts between decimal dollars and nano-dollars, exactly.
"""

from __future__ import annotations

import re

NANOUSD_PER_USD = 1_000_000_000
_DECIMALS = 9

MAX_AMOUNT_NANOUSD = 1_000_000 * NANOUSD_PER_USD
"""A million dollars, the most that one ledger entry may move, to limit the damage of typos."""
MAX_BALANCE_NANOUSD = 9_000_000 * NANOUSD_PER_USD
"""Nine million dollars, the highest balance: below 2 ** 53, so that JSON readers and scripts
represent it exactly."""
MIN_BALANCE_NANOUSD = -1_000_000_000 * NANOUSD_PER_USD
"""Minus a billion dollars, the lowest balance of an account without a credit limit."""

_DOLLARS = re.compile(r"(-?)\$?([0-9]{1,10}(?:\.[0-9]{1,9})?)\Z")


def nanousd(price: str) -> int:
    """
    Return a decimal string of dollars as nano-dollars, exactly.

    Raises:
        ValueError: The string is not a decimal number with at most nine decimals.
    """
    whole, point, fraction = price.partition(".")
    digits = whole + fraction
    if not (digits.isascii() and digits.isdigit() and whole) or bool(point) != bool(fraction):
        raise ValueError(f"{price!r} is not a decimal")
    if len(fraction) > _DECIMALS:
        raise ValueError(f"{price!r} has more than {_DECIMALS} decimals")
    return int(whole) * NANOUSD_PER_USD + int(fraction.ljust(_DECIMALS, "0"))


def decimal_text(units: int, decimals: int, at_least: int = 2) -> str:
    """Return `units` / 10^`decimals` exactly, with at least `at_least` decimals: `0.00000014`."""
    sign = "-" if units < 0 else ""
    whole, fraction = divmod(abs(units), 10**decimals)
    digits = f"{fraction:0{decimals}}".rstrip("0").ljust(at_least, "0")
    return f"{sign}{whole}.{digits}" if digits else f"{sign}{whole}"


def dollars(amount_nanousd: int) -> str:
    """Return an amount as exact decimal dollars with at least two decimals: `-0.0000001`."""
    return decimal_text(amount_nanousd, _DECIMALS)


def usd(amount_nanousd: int) -> str:
    """Return an amount as text: `$12.34`, with more decimals if it needs them."""
    return f"-${dollars(-amount_nanousd)}" if amount_nanousd < 0 else f"${dollars(amount_nanousd)}"


def read_dollars(text: str) -> int:
    """
    Return decimal dollars as nano-dollars: `12`, `12.50`, `-0.000000001`, `$5`.

    Raises:
        ValueError: The text is not a decimal number with at most nine decimals.
    """
    match = _DOLLARS.match(text)
    if match is None:
        raise ValueError(
            f"{text!r} is not an amount in dollars such as 12.50, with at most nine decimals"
        )
    amount = nanousd(match[2])
    return -amount if match[1] else amount


def amount_fields(name: str, amount_nanousd: int | None) -> dict[str, str | int | None]:
    """Return an amount under two names: `x` in decimal dollars, `x_nanousd` as an integer."""
    shown = None if amount_nanousd is None else dollars(amount_nanousd)
    return {name: shown, f"{name}_nanousd": amount_nanousd}
