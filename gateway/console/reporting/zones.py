"""
Days, hours and months of a time zone, as ranges of quarters of an hour.

Every zone's offset has been a multiple of a quarter of an hour since 1972, so these ranges are
exact, also on days of 23 and 25 hours.
"""

from __future__ import annotations

import datetime
import enum
import re
from collections.abc import Sequence
from typing import NamedTuple
from zoneinfo import ZoneInfo

QUARTER_S = 900
MAX_DAYS = 397
"""As long as usage sums are kept."""
_HOURS_UP_TO_DAYS = 2
_DAYS_UP_TO_DAYS = 92
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_+-]*(?:/[A-Za-z0-9_+-]+){0,2}\Z")
_EARLIEST = datetime.date(1972, 1, 2)
_LATEST = datetime.date(9998, 12, 31)


class Step(enum.Enum):
    """The time that one bar of a plot covers."""

    HOUR = "hour"
    DAY = "day"
    MONTH = "month"


class Bucket(NamedTuple):
    """One bar of a plot: quarters from `start` to before `end`, counted from 1970-01-01 UTC."""

    start: int
    end: int
    at: datetime.datetime
    """Its start in the zone."""


class Segment(NamedTuple):
    """
    Consecutive buckets of one width.

    The bucket of a quarter from `start` to before `end` is `first + (quarter - start) // width`.
    """

    start: int
    end: int
    first: int
    width: int


class Period(NamedTuple):
    """Whole days of a zone, `first` to `last`."""

    first: datetime.date
    last: datetime.date
    zone: ZoneInfo

    @property
    def start(self) -> int:
        """The first quarter."""
        return day_start(self.first, self.zone)

    @property
    def end(self) -> int:
        """The quarter after the last."""
        return day_start(self.last + datetime.timedelta(days=1), self.zone)

    @property
    def days(self) -> int:
        """The number of days."""
        return (self.last - self.first).days + 1

    @property
    def step(self) -> Step:
        """The time that one bar of a plot of this period covers."""
        if self.days <= _HOURS_UP_TO_DAYS:
            return Step.HOUR
        return Step.DAY if self.days <= _DAYS_UP_TO_DAYS else Step.MONTH

    def before(self) -> Period:
        """Return the period of the same length that ends where this one begins."""
        days = datetime.timedelta(days=self.days)
        return Period(self.first - days, self.last - days, self.zone)


def read_zone(name: str) -> ZoneInfo | None:
    """Return the zone of an IANA name; None if there is none."""
    if not _NAME.match(name):
        return None
    try:
        return ZoneInfo(name)
    except (OSError, ValueError):  # ZoneInfoNotFoundError is a KeyError, a folder an OSError
        return None
    except KeyError:
        return None


def today(now_s: float, zone: ZoneInfo) -> datetime.date:
    """Return the date in a zone."""
    return datetime.datetime.fromtimestamp(now_s, zone).date()


def clamp(day: datetime.date) -> datetime.date:
    """Return the closest date whose neighbours can be computed."""
    return min(max(day, _EARLIEST), _LATEST)


def day_start(day: datetime.date, zone: ZoneInfo) -> int:
    """Return the quarter in which a day begins; where midnight is skipped, at the first moment."""
    midnight = datetime.datetime(day.year, day.month, day.day, tzinfo=zone)
    return int(midnight.timestamp()) // QUARTER_S


def buckets(period: Period, step: Step | None = None) -> list[Bucket]:
    """Return the bars of a period in their order, without gaps."""
    step = step or period.step
    if step is Step.HOUR:
        starts = list(range(period.start, period.end, 4))
    else:
        starts = [
            day_start(day, period.zone)
            for day in _days(period)
            if step is Step.DAY or day.day == 1 or day == period.first
        ]
    ends = [*starts[1:], period.end]
    return [
        Bucket(start, end, datetime.datetime.fromtimestamp(start * QUARTER_S, period.zone))
        for start, end in zip(starts, ends, strict=True)
    ]


def segments(bars: Sequence[Bucket]) -> list[Segment]:
    """Return runs of buckets of one width, so that SQL can compute the bucket of a quarter."""
    found: list[Segment] = []
    for index, bar in enumerate(bars):
        width = bar.end - bar.start
        if found and found[-1].width == width:
            found[-1] = found[-1]._replace(end=bar.end)
        else:
            found.append(Segment(bar.start, bar.end, index, width))
    return found


def _days(period: Period) -> list[datetime.date]:
    return [period.first + datetime.timedelta(days=n) for n in range(period.days)]
