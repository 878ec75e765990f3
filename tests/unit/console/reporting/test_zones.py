"""Days, hours and months of any zone, as quarters of an hour."""

from __future__ import annotations

import datetime
import itertools
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.console.reporting.zones import (
    QUARTER_S,
    Bucket,
    Period,
    Step,
    buckets,
    read_zone,
    segments,
)

ZONES = (
    "UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu", "Pacific/Marquesas",
    "Australia/Lord_Howe", "America/Santiago", "Pacific/Apia", "Africa/Cairo", "America/Havana",
)  # fmt: skip


def period(zone: str, first: str, last: str) -> Period:
    """Return a period of a known zone."""
    found = read_zone(zone)
    assert found is not None
    return Period(datetime.date.fromisoformat(first), datetime.date.fromisoformat(last), found)


def utc(quarter: int) -> str:
    """Return when a quarter begins."""
    when = datetime.datetime.fromtimestamp(quarter * QUARTER_S, datetime.UTC)
    return when.strftime("%m-%d %H:%M")


@pytest.mark.parametrize(
    ("zone", "day", "start", "hours"),
    [
        ("UTC", "2026-05-17", "05-17 00:00", 24),
        ("Europe/Berlin", "2026-03-29", "03-28 23:00", 23),
        ("Europe/Berlin", "2026-10-25", "10-24 22:00", 25),
        ("Asia/Kathmandu", "2026-05-17", "05-16 18:15", 24),  # +05:45
        ("Pacific/Marquesas", "2026-05-17", "05-17 09:30", 24),  # -09:30
        ("Australia/Lord_Howe", "2026-04-05", "04-04 13:00", 24.5),
        ("Africa/Cairo", "2026-04-24", "04-23 22:00", 23),  # midnight itself is skipped
        ("America/Havana", "2024-11-03", "11-03 04:00", 25),  # and here it comes twice
    ],
)
def test_day_has_the_hours_of_its_zone(zone: str, day: str, start: str, hours: float) -> None:
    """Also where clocks change by half an hour, or at midnight."""
    found = period(zone, day, day)

    assert utc(found.start) == start
    assert (found.end - found.start) / 4 == hours


@given(
    zone=st.sampled_from(ZONES),
    first=st.dates(datetime.date(2020, 1, 1), datetime.date(2030, 12, 31)),
    days=st.integers(1, 400),
    step=st.sampled_from([Step.HOUR, Step.DAY, Step.MONTH]),
    counts=st.lists(st.tuples(st.floats(0, 0.999), st.integers(1, 9)), max_size=30),
)
def test_buckets_of_any_zone_add_up_to_the_period(
    zone: str, first: datetime.date, days: int, step: Step, counts: list[tuple[float, int]]
) -> None:
    """Each quarter belongs to one bucket, which the segments find; so sums are totals."""
    whole = period(zone, first.isoformat(), (first + datetime.timedelta(days - 1)).isoformat())
    bars = buckets(whole, step)
    runs = segments(bars)
    calls = [(whole.start + int(at * (whole.end - whole.start)), n) for at, n in counts]

    sums: Counter[int] = Counter()
    for quarter, n in calls:
        for run in runs:
            if run.start <= quarter < run.end:
                sums[run.first + (quarter - run.start) // run.width] += n

    assert bars[0].start == whole.start
    assert bars[-1].end == whole.end
    assert all(left.end == right.start for left, right in itertools.pairwise(bars))
    assert sum(sums.values()) == sum(n for _, n in calls)
    for quarter, _ in calls:
        index = next(n for n, bar in enumerate(bars) if bar.start <= quarter < bar.end)
        assert sums[index] > 0


def test_segments_of_a_year_of_days_are_few() -> None:
    """A run of common days, a short or long one, and so on."""
    found = segments(buckets(period("Europe/Berlin", "2026-01-01", "2026-12-31"), Step.DAY))

    assert [(run.width, (run.end - run.start) // run.width) for run in found] == [
        (96, 87), (92, 1), (96, 209), (100, 1), (96, 67),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("first", "last", "step", "count"),
    [
        ("2026-10-25", "2026-10-25", Step.HOUR, 25),
        ("2026-05-01", "2026-05-03", Step.DAY, 3),
        ("2026-01-01", "2026-04-02", Step.DAY, 92),
        ("2026-01-15", "2026-05-02", Step.MONTH, 5),
    ],
)
def test_period_is_shown_in_steps_of_its_size(
    first: str, last: str, step: Step, count: int
) -> None:
    """Hours of two days, days of a quarter, and months beyond; the first may be a part."""
    found = period("Europe/Berlin", first, last)

    assert (found.step, len(buckets(found))) == (step, count)


def test_buckets_have_the_local_time_of_their_start() -> None:
    """Labels come from it."""
    found = buckets(period("Asia/Kathmandu", "2026-05-17", "2026-05-17"))

    assert isinstance(found[1], Bucket)
    assert found[1].at.strftime("%d %H:%M %z") == "17 01:00 +0545"


def test_period_before_has_the_same_length_and_ends_where_this_begins() -> None:
    """For comparisons."""
    found = period("UTC", "2026-05-08", "2026-05-14")

    assert found.before() == period("UTC", "2026-05-01", "2026-05-07")
    assert found.before().end == found.start


@pytest.mark.parametrize(
    "name", ["", "Mars/Base", "../../etc/passwd", "/etc/localtime", "Europe", "a" * 400, "UTC\x00"]
)
def test_name_that_is_no_zone_is_none(name: str) -> None:
    """Names come from URLs: no path leads out of the zones."""
    assert read_zone(name) is None
