"""Filters and their URLs."""

from __future__ import annotations

import datetime
from typing import Any
from urllib.parse import parse_qsl
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.console.reporting.filters import (
    HIDABLE,
    CallsFilter,
    Cursor,
    Dates,
    Grouping,
    Metric,
    Outcome,
    Range,
    UsageFilter,
    plain_dollars,
)

UTC, BERLIN = ZoneInfo("UTC"), ZoneInfo("Europe/Berlin")
NOW_S = datetime.datetime(2026, 11, 28, 23, 30, tzinfo=datetime.UTC).timestamp()

dates = st.dates(datetime.date(1972, 1, 2), datetime.date(9998, 12, 31))
words = st.text(st.characters(categories=("L", "N", "P", "S", "Zs")), max_size=50).filter(
    str.isprintable
)
some_dates = st.one_of(
    st.builds(
        Dates,
        range=st.sampled_from([each for each in Range if each is not Range.CUSTOM]),
        zone=st.sampled_from([UTC, BERLIN]),
    ),
    st.builds(Dates, range=st.just(Range.CUSTOM), zone=st.just(BERLIN), since=dates, until=dates),
)
outcomes = st.one_of(st.none(), st.sampled_from(Outcome))


@given(
    st.builds(
        UsageFilter, dates=some_dates, group=st.sampled_from(Grouping),
        metric=st.sampled_from(Metric), key=words, model=words, endpoint=words, outcome=outcomes,
    )
)  # fmt: skip
def test_usage_filter_comes_back_from_its_url(wanted: UsageFilter) -> None:
    """Every combination."""
    assert UsageFilter.read(dict(parse_qsl(wanted.query()))) == wanted


@given(
    st.builds(
        CallsFilter, dates=some_dates, key=words, model=words, endpoint=words, outcome=outcomes,
        status=st.sampled_from(["", "200", "4xx", "529"]),
        min_cost_nanousd=st.integers(0, 10**15), request_id=st.from_regex(r"\A[a-z0-9_]{0,20}\Z"),
        before=st.sampled_from(["", "1779019200000-req_1"]),
        hidden=st.frozensets(st.sampled_from(HIDABLE)),
    )
)  # fmt: skip
def test_calls_filter_comes_back_from_its_url(wanted: CallsFilter) -> None:
    """Every combination."""
    assert CallsFilter.read(dict(parse_qsl(wanted.query()))) == wanted


def test_url_has_only_what_differs_from_the_defaults() -> None:
    """Equal filters have equal URLs."""
    shown = UsageFilter.read({"group": "model", "metric": "spend", "range": "28d"})

    assert shown.query() == "zone=UTC"
    assert shown.query(model="a&b", group=Grouping.KEY) == "zone=UTC&group=key&model=a%26b"


@pytest.mark.parametrize(
    "query",
    [
        {"range": "forever", "zone": "Mars/Base", "group": "1", "metric": "x", "outcome": "good"},
        {"range": "custom", "since": "yesterday", "until": "2026-13-01"},
        {"key": "k" * 201, "model": "a\nb"},
        {},
    ],
)
def test_wrong_values_of_a_url_are_ignored(query: dict[str, str]) -> None:
    """An old or mistyped link opens the page with its defaults."""
    assert UsageFilter.read(query, BERLIN) == UsageFilter(
        dates=Dates(range=Range.FOUR_WEEKS, zone=BERLIN)
    )


@pytest.mark.parametrize(
    "query",
    [
        {"status": "600"}, {"status": "20"}, {"min_cost": "much"}, {"min_cost": "-5"},
        {"id": "a b"}, {"id": "x" * 101},
    ],
)  # fmt: skip
def test_wrong_values_of_a_list_are_ignored(query: dict[str, str]) -> None:
    """So that they never reach SQL."""
    assert not CallsFilter.read(query).is_narrowed


@pytest.mark.parametrize(
    ("query", "zone", "first", "last"),
    [
        ({"range": "today"}, UTC, "2026-11-28", "2026-11-28"),
        ({"range": "today"}, BERLIN, "2026-11-29", "2026-11-29"),
        ({"range": "7d"}, UTC, "2026-11-22", "2026-11-28"),
        ({"range": "month"}, UTC, "2026-11-01", "2026-11-28"),
        ({"range": "custom", "since": "2026-10-01", "until": "2026-10-31"}, UTC, "2026-10-01",
         "2026-10-31"),
        ({"range": "custom", "since": "2026-10-05", "until": "2026-10-01"}, UTC, "2026-10-01",
         "2026-10-01"),
        ({"range": "custom", "since": "1000-01-01", "until": "2026-10-01"}, UTC, "2025-08-31",
         "2026-10-01"),
        ({"range": "custom", "since": "9999-12-31"}, UTC, "2026-11-28", "2026-11-28"),
    ],
)  # fmt: skip
def test_dates_are_days_of_their_zone(
    query: dict[str, str], zone: ZoneInfo, first: str, last: str
) -> None:
    """At most 13 months, and never the wrong way round."""
    found = UsageFilter.read(query, zone).dates.period(NOW_S)

    assert (found.first.isoformat(), found.last.isoformat()) == (first, last)


def test_dates_of_a_list_are_its_last_days() -> None:
    """A list covers a month at most."""
    found = CallsFilter.read({"range": "90d"}).dates.period(NOW_S, 31)

    assert (found.days, found.last.isoformat()) == (31, "2026-11-28")


@pytest.mark.parametrize(
    ("text", "cursor"),
    [
        ("1779019200000-req_1-2", Cursor(1_779_019_200_000, "req_1-2")),
        ("", None), ("req_1", None), ("-5-req", None), ("1" * 16 + "-a", None), ("٣-a", None),
    ],
)  # fmt: skip
def test_cursor_is_a_time_and_an_id(text: str, cursor: Cursor | None) -> None:
    """What is neither starts at the top."""
    found = Cursor.read(text)

    assert found == cursor
    assert cursor is None or str(cursor) == text


@pytest.mark.parametrize(
    ("nanousd", "text"),
    [(50_000_000, "0.05"), (2 * 10**9, "2"), (20 * 10**9, "20"), (1, "0.000000001")],
)
def test_plain_dollars_have_no_sign_and_no_needless_zeros(nanousd: int, text: str) -> None:
    """As people write them into a field."""
    assert plain_dollars(nanousd) == text


def test_changes_apply_to_the_url_alone() -> None:
    """Links differ from the shown filter in what they name."""
    shown: Any = CallsFilter.read({"model": "m", "before": "5-a", "outcome": "failures"})

    assert shown.query(before="", model="") == "zone=UTC&outcome=failures"
    assert shown.model == "m"
