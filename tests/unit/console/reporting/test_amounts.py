"""Rounded amounts with units."""

from __future__ import annotations

import pytest

from gateway.console.reporting.amounts import (
    compact,
    duration,
    percent,
    rounded_money,
    tokens_per_s,
)


def plain(text: str) -> str:
    """Return a text with ordinary spaces."""
    return text.replace("\N{NARROW NO-BREAK SPACE}", " ")


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0, "0"), (7, "7"), (0.25, "0.25"), (999, "999"), (1000, "1 k"), (1236, "1.24 k"),
        (41_208, "41.2 k"), (999_600, "1 M"), (812_345_678, "812 M"), (3 * 10**9, "3 G"),
        (2.5 * 10**12, "2.5 T"),
    ],
)  # fmt: skip
def test_compact_has_three_digits(value: float, shown: str) -> None:
    """What would be 1,000 of a unit is 1 of the next."""
    assert plain(compact(value)) == shown


@pytest.mark.parametrize(
    ("nanousd", "shown"),
    [
        (0, "$0"), (1, "$0.000000001"), (18_308_000, "$0.0183"), (500_000_000, "$0.50"),
        (486_213_455_123, "$486.21"), (12_400_600_000_000, "$12,401"),
        (-2_500_000_000, "\N{MINUS SIGN}$2.50"), (999_999_999, "$1.00"),
    ],
)  # fmt: skip
def test_rounded_money_keeps_what_matters(nanousd: int, shown: str) -> None:
    """Small amounts keep three digits, large ones lose their cents."""
    assert rounded_money(nanousd) == shown


@pytest.mark.parametrize(
    ("ms", "shown"),
    [
        (None, "–"), (0, "0.00 s"), (864, "0.86 s"), (9_994, "9.99 s"), (9_996, "10.0 s"),
        (40_900, "40.9 s"), (59_960, "1 min 0 s"), (200_000, "3 min 20 s"),
        (7_500_000, "2 h 5 min"),
    ],
)  # fmt: skip
def test_duration_has_the_unit_that_fits(ms: int | None, shown: str) -> None:
    """No duration is `60.0 s`."""
    assert plain(duration(ms)) == shown


@pytest.mark.parametrize(
    ("part", "whole", "shown"),
    [
        (0, 0, "–"), (0, 5, "0 %"), (1, 5000, "< 0.1 %"), (4, 1000, "0.4 %"), (71, 100, "71 %"),
        (9_994, 10_000, "99.9 %"), (5, 5, "100 %"),
    ],
)  # fmt: skip
def test_percent_is_neither_0_nor_100_by_rounding(part: int, whole: int, shown: str) -> None:
    """A few failures are not none."""
    assert plain(percent(part, whole)) == shown


def test_tokens_per_second_count_from_the_first_token() -> None:
    """Without a first token, or with one token alone, there is no rate."""
    assert tokens_per_s(100, 500, 2_500) == 50
    assert tokens_per_s(100, None, 2_500) is None
    assert tokens_per_s(100, 500, 500) is None
    assert tokens_per_s(1, 500, 900) is None
