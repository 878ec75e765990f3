"""All places that show usage agree to the nano-dollar, on every day of every zone."""

from __future__ import annotations

import csv
import datetime
import io
import random
from collections import defaultdict
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest

from gateway.core.calendar import DAY_MS
from gateway.core.model import CallRecord, Usage
from gateway.store.accounts.credits import EntryKind
from gateway.store.sql.database import Database
from gateway.store.usage.reports import CallFilter, GroupBy
from gateway.store.usage.retention import purge_usage
from tests.support.activity import Acme, acme
from tests.support.booking import book_calls
from tests.support.usage import usage_event

# Berlin puts its clocks back on October 26th, New York on November 2nd.
ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu")
FIRST, LAST = datetime.date(2025, 10, 20), datetime.date(2025, 11, 8)
PERIOD = f"range=custom&since={FIRST}&until={LAST}"
CALLS = 150

Days = dict[datetime.date, tuple[int, int]]
"""Calls and nano-dollars of each day with any."""


def calls(account_id: str, key_id: str) -> list[CallRecord]:
    """Return calls at random times, a third of them in the hours around the changes."""
    chance = random.Random(7)
    start = datetime.datetime(2025, 10, 21, tzinfo=datetime.UTC)
    changes = [datetime.datetime(2025, 10, 26, tzinfo=datetime.UTC)]
    changes.append(datetime.datetime(2025, 11, 2, 4, tzinfo=datetime.UTC))
    found = []
    for n in range(CALLS):
        at = start + datetime.timedelta(milliseconds=chance.randrange(17 * DAY_MS))
        if n % 3 == 0:
            hours = chance.uniform(-3, 3)
            at = chance.choice(changes) + datetime.timedelta(hours=hours)
        outcome = chance.choice(("completed", "completed", "cancelled", "failed"))
        event = usage_event(
            f"req_agree_{n}",
            account_id=account_id,
            key_id=key_id,
            model=chance.choice(("kimi", "deepseek-v4-flash")),
            at_ms=int(at.timestamp() * 1000),
            outcome=outcome,
            usage=Usage(input=chance.randrange(9999), output=chance.randrange(999)),
            cost_nanousd=0 if outcome == "failed" else chance.randrange(1, 10**9),
        )
        found.append(event)
    return found


def days_of(events: list[CallRecord], zone: ZoneInfo) -> Days:
    """Sum the events by the days of a zone."""
    found: dict[datetime.date, list[int]] = defaultdict(lambda: [0, 0])
    for event in events:
        day = datetime.datetime.fromtimestamp(event.at_ms / 1000, zone).date()
        found[day][0] += 1
        found[day][1] += event.cost_nanousd
    return {day: (count, cost) for day, (count, cost) in found.items()}


def nanousd(dollars: str) -> int:
    """Return an amount of a file."""
    return int(Decimal(dollars) * 10**9)


@pytest.fixture
async def page(database: Database) -> Acme:
    return await acme(database)


async def rows(page: Acme, path: str) -> list[dict[str, str]]:
    """Return the rows of a CSV."""
    return list(csv.DictReader(io.StringIO((await page.get(f"{path}&format=csv"))[1:])))


async def shown_days(page: Acme, zone: str) -> Days:
    """Return the days of the usage page."""
    found = await rows(page, f"/app/usage?{PERIOD}&group=day&zone={zone}")
    return {day_of(row["time"]): (int(row["calls"]), nanousd(row["cost_usd"])) for row in found}


def day_of(text: str) -> datetime.date:
    """Return the day of a row, `Sun, Oct 26, 2025`."""
    return datetime.datetime.strptime(text, "%a, %b %d, %Y").replace(tzinfo=datetime.UTC).date()


async def charged(page: Acme) -> int:
    """Return what the ledger charged for these calls."""
    entries = await page.console.services.accounts.entries(page.account_id, limit=1000)
    return -sum(
        entry.amount_nanousd
        for entry in entries
        if entry.kind is EntryKind.CHARGE and (entry.request_id or "").startswith("req_agree")
    )


async def test_pages_files_reports_and_ledger_agree(database: Database, page: Acme) -> None:
    """Also the usage page and the ledger after the events were purged."""
    events = calls(page.account_id, page.key_id)
    await book_calls(database, *events)
    total = sum(event.cost_nanousd for event in events)
    records = page.console.services.records
    until_ms = int(datetime.datetime(2025, 11, 9, tzinfo=datetime.UTC).timestamp() * 1000)
    which = CallFilter(account_id=page.account_id, until_ms=until_ms)

    by_zone = {zone: days_of(events, ZoneInfo(zone)) for zone in ZONES}
    for zone, expected in by_zone.items():
        assert await shown_days(page, zone) == expected
        listed = await rows(page, f"/app/requests?{PERIOD}&zone={zone}")
        assert len(listed) == CALLS
        assert sum(nanousd(row["cost_usd"]) for row in listed) == total
    # `/v1/usage` and `capio usage` return this report.
    report = await records.usage((GroupBy.DAY,), which, max_lines=100)
    assert {
        datetime.date.fromisoformat(line.groups[0]): (line.calls, line.cost_nanousd)
        for line in report.lines
    } == by_zone["UTC"]
    assert await charged(page) == total

    await purge_usage(database, until_ms)
    for zone, expected in by_zone.items():
        assert await shown_days(page, zone) == expected
    assert await charged(page) == total
    assert await rows(page, f"/app/requests?{PERIOD}&zone=UTC") == []
