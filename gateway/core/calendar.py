"""Converts UTC days, months and times between integers and text, without reading a clock."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Final

DAY_MS: Final = 86_400_000
LAST_SECOND: Final = 253_402_300_799  # 9999-12-31T23:59:59Z, the last with a four-digit year

_EPOCH: Final = date(1970, 1, 1).toordinal()


def date_of(day: int) -> date:
    """Return the date of a day counted from 1970-01-01."""
    return date.fromordinal(day + _EPOCH)


def day_of(year: int, month: int, day_of_month: int) -> int:
    """Return the day of a date, counted from 1970-01-01."""
    return date(year, month, day_of_month).toordinal() - _EPOCH


def month_of(day: int) -> int:
    """Return the month of a day, counted from January of the year 0: `year * 12 + month - 1`."""
    found = date_of(day)
    return found.year * 12 + found.month - 1


def first_day_of(month: int) -> int:
    """Return the first day of a month; both are counted as by `day_of` and `month_of`."""
    year, month_before = divmod(month, 12)
    return day_of(year, month_before + 1, 1)


def rfc3339(unix_s: int) -> str:
    """Return a time as `2026-05-17T12:00:00Z`."""
    return datetime.fromtimestamp(unix_s, UTC).replace(tzinfo=None).isoformat() + "Z"


def read_time(text: str) -> int:
    """
    Return the Unix seconds of an ISO date or time, in UTC unless it has an offset.

    Raises:
        ValueError: The text is invalid or before 1970.
    """
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    seconds = int(moment.timestamp())
    if seconds < 0:
        raise ValueError(f"{text} is before 1970")
    return seconds
