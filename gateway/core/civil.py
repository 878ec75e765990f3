"""
Days, months and instants of UTC as integers, without a clock.

Source: the proleptic Gregorian calendar; days are counted in eras of 400 years that begin in March.
"""

from __future__ import annotations

DAY_MS = 86_400_000
_ERA_DAYS = 146_097
_EPOCH = 719_468
"""Days from 0000-03-01 to 1970-01-01."""


def date_of(day: int) -> tuple[int, int, int]:
    """Return year, month and day of the month of a day counted from 1970-01-01."""
    era, of_era = divmod(day + _EPOCH, _ERA_DAYS)
    year = (of_era - of_era // 1460 + of_era // 36_524 - of_era // 146_096) // 365
    of_year = of_era - (365 * year + year // 4 - year // 100)
    march_month = (5 * of_year + 2) // 153
    day_of_month = of_year - (153 * march_month + 2) // 5 + 1
    month = march_month + 3 if march_month < 10 else march_month - 9
    return year + era * 400 + (month <= 2), month, day_of_month


def day_of(year: int, month: int, day_of_month: int) -> int:
    """Return the day counted from 1970-01-01 of a date."""
    year -= month <= 2
    era, of_era = divmod(year, 400)
    of_year = (153 * (month + (-3 if month > 2 else 9)) + 2) // 5 + day_of_month - 1
    return era * _ERA_DAYS + of_era * 365 + of_era // 4 - of_era // 100 + of_year - _EPOCH


def month_of(day: int) -> int:
    """Return the month of a day, counted from January of the year 0: year * 12 + month - 1."""
    year, month, _ = date_of(day)
    return year * 12 + month - 1


def first_day_of(month: int) -> int:
    """Return the first day of a month as `month_of` counts them."""
    year, month_before = divmod(month, 12)
    return day_of(year, month_before + 1, 1)


def rfc3339(unix_s: int) -> str:
    """Return an instant as `2026-05-17T12:00:00Z`."""
    day, second = divmod(unix_s, 86_400)
    year, month, day_of_month = date_of(day)
    hour, second = divmod(second, 3600)
    minute, second = divmod(second, 60)
    return f"{year:04}-{month:02}-{day_of_month:02}T{hour:02}:{minute:02}:{second:02}Z"
