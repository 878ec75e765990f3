"""Sums over the record of calls."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from gateway.core.model import Usage
from gateway.store.booking.rows import row_of
from gateway.store.sql.database import Database
from gateway.store.sql.tables import USAGE_EVENTS
from gateway.store.usage.reports import CallFilter, GroupBy, UsageLine, UsageReports
from tests.support.usage import NOON_MS, encoded, usage_event

DAY_MS = 86_400_000


@pytest.fixture
async def reports(database: Database) -> UsageReports:
    """Two accounts, three keys, two models, three days; of one call the cost is not known."""
    calls = [
        usage_event(
            "req_1", usage=Usage(input=1, output=2), cost_nanousd=100, upstream_cost_nanousd=60
        ),
        usage_event(
            "req_2", at_ms=NOON_MS + 1, key_id="key_2", usage=Usage(input=10, reasoning=7),
            cost_nanousd=50,
        ),
        usage_event(
            "req_3", at_ms=NOON_MS + DAY_MS, outcome="insured", status=502, usage=Usage(),
            model="m2", provider=None, upstream_model=None, upstream_cost_nanousd=5,
        ),
        usage_event(
            "req_4", at_ms=NOON_MS + 2 * DAY_MS, account_id="acct_2", key_id="key_3",
            usage=Usage(input=100, cache_read=5, cache_write=6), cost_nanousd=7,
            upstream_cost_nanousd=9,
        ),
    ]  # fmt: skip
    async with database.write() as connection:
        rows = [row_of(encoded(call)) for call in calls]
        await connection.execute(sa.insert(USAGE_EVENTS), rows)
    return UsageReports(database)


async def test_report_by_day_sums_tokens_costs_and_margin(reports: UsageReports) -> None:
    """Days are UTC; the margin is of the calls whose cost is known, the others are counted."""
    report = await reports.report([GroupBy.DAY], CallFilter())

    assert report.lines == [
        UsageLine(
            groups=("2026-05-17",), calls=2, failed=0, usage=Usage(input=11, output=2, reasoning=7),
            cost_nanousd=150, upstream_cost_nanousd=60, margin_nanousd=40, calls_without_cost=1,
        ),
        UsageLine(
            groups=("2026-05-18",), calls=1, failed=1, usage=Usage(),
            cost_nanousd=0, upstream_cost_nanousd=5, margin_nanousd=-5, calls_without_cost=0,
        ),
        UsageLine(
            groups=("2026-05-19",), calls=1, failed=0,
            usage=Usage(input=100, cache_read=5, cache_write=6),
            cost_nanousd=7, upstream_cost_nanousd=9, margin_nanousd=-2, calls_without_cost=0,
        ),
    ]  # fmt: skip
    assert not report.is_cut


async def test_report_by_several_groups_obeys_the_filter(reports: UsageReports) -> None:
    """An account's report holds nothing of another's, and `until` is not included."""
    mine = CallFilter(account_id="acct_1")
    first = CallFilter(since_ms=NOON_MS, until_ms=NOON_MS + 1)

    both = await reports.report([GroupBy.MODEL, GroupBy.KEY], mine)
    early = await reports.report([GroupBy.ACCOUNT, GroupBy.DEPLOYMENT], first)
    deployments = await reports.report([GroupBy.DEPLOYMENT], mine)

    assert [(line.groups, line.calls) for line in both.lines] == [
        (("deepseek-v4-flash", "key_1"), 1),
        (("deepseek-v4-flash", "key_2"), 1),
        (("m2", "key_1"), 1),
    ]
    assert [line.groups for line in early.lines] == [("acct_1", "deepseek/deepseek-chat")]
    assert [line.groups for line in deployments.lines] == [("",), ("deepseek/deepseek-chat",)]


async def test_report_without_groups_is_one_line_or_none(reports: UsageReports) -> None:
    """Everything in one sum; nothing when there were no calls."""
    whole = await reports.report([], CallFilter())
    nothing = await reports.report([], CallFilter(account_id="acct_none"))

    assert [(line.groups, line.calls, line.cost_nanousd) for line in whole.lines] == [((), 4, 157)]
    assert nothing.lines == []


async def test_report_that_is_too_long_is_cut_and_says_so(reports: UsageReports) -> None:
    """A report has at most its maximum number of lines, and shows that it is cut."""
    report = await reports.report([GroupBy.DAY], CallFilter(), max_lines=2)

    assert [line.groups for line in report.lines] == [("2026-05-17",), ("2026-05-18",)]
    assert report.is_cut
