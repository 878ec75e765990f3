"""How fast an account spends, and how long its money lasts."""

from __future__ import annotations

import datetime
from zoneinfo import ZoneInfo

import pytest

from gateway.console.overview.fortnight import days_left, pace
from gateway.console.reporting.zones import Period, buckets
from gateway.store.reports.usage import SumRow, UsageSum

ZONE = ZoneInfo("Europe/Berlin")
BARS = buckets(Period(datetime.date(2026, 10, 19), datetime.date(2026, 11, 1), ZONE))
"""The clocks change on the seventh."""
NOON_S = datetime.datetime(2026, 11, 1, 12, tzinfo=ZONE).timestamp()
USD = 10**9


def spent(*days: tuple[int, int]) -> list[SumRow]:
    """Rows of (day, dollars)."""
    return [SumRow(day, "m", UsageSum(calls=1, cost_nanousd=usd * USD)) for day, usd in days]


@pytest.mark.parametrize(
    ("rows", "usd_a_day"),
    [
        ([], 0),
        (spent((6, 100)), 0),
        (spent((7, 6), (13, 7)), 2),
        (spent((6, 100), (11, 5)), 2),
        (spent((13, 3)), 3),
        (spent((8, 0), (12, 3)), 2),
    ],
    ids=["none", "before", "week", "began", "today", "free"],
)
def test_pace_is_of_the_week_or_of_what_there_is_of_it(
    rows: list[SumRow], usd_a_day: float
) -> None:
    """Half of the last day has passed; less than a day counts as one."""
    assert pace(rows, BARS, NOON_S) == usd_a_day * USD


@pytest.mark.parametrize(
    ("available", "pace_usd", "days"),
    [(10 * USD, 2, 5), (3 * USD, 2, 1), (USD, 2, 0), (0, 2, 0), (USD, 0, None), (None, 2, None)],
)
def test_money_lasts_for_whole_days(available: int | None, pace_usd: int, days: int | None) -> None:
    assert days_left(available, pace_usd * USD) == days
