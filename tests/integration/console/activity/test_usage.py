"""`/app/usage`."""

from __future__ import annotations

import csv
import io
import itertools
import json

import pytest

from gateway.console.reporting.filters import Grouping, Metric
from gateway.core.money import dollars
from gateway.store.sql.database import Database
from tests.support.activity import EVIL, Acme, acme
from tests.support.reports import statements


@pytest.fixture
async def page(database: Database) -> Acme:
    """An account with three calls."""
    return await acme(database)


async def test_page_shows_totals_plot_and_a_row_for_each_model(
    database: Database, page: Acme
) -> None:
    """In three statements, to which the session's is added; numbers lead to their calls."""
    with statements(database) as ran:
        text = await page.get("/app/usage?zone=Europe/Berlin")

    total = sum(call.cost_nanousd for call in page.calls)
    assert len(ran) <= 3
    assert f"${dollars(total)}" in text
    assert "days of Europe/Berlin" in text
    assert 'class="plot"' in text
    assert "33\N{NARROW NO-BREAK SPACE}% failed" in text
    assert "model=kimi&amp;outcome=failures" in text
    assert "secret" not in text


async def test_part_is_the_content_alone(page: Acme) -> None:
    """The same URL serves both, and says which URL the address bar shows."""
    part = await page.console.client.get(
        "/app/usage?group=key&metric=ttft-p95&range=today", headers={"hx-request": "true"}
    )

    assert part.text.lstrip().startswith('<div id="report"')
    assert part.headers["hx-push-url"] == (
        "/app/usage?range=today&zone=UTC&group=key&metric=ttft-p95"
    )
    assert "hx-request" in part.headers["vary"]
    assert "&lt;script&gt;" in part.text
    assert "<script>alert" not in part.text


async def test_every_group_has_every_metric(page: Acme) -> None:
    """Also for hours and for months."""
    dates = ("", "range=today", "range=custom&since=2026-01-01&until=2099-01-01")
    places = itertools.cycle(dates)
    for group, metric in itertools.product(Grouping, Metric):
        path = f"/app/usage?group={group.value}&metric={metric.value}&{next(places)}"
        text = await page.get(path)
        assert 'class="plot"' in text or "No requests in this period" in text, path


async def test_downloads_are_what_is_shown(page: Acme) -> None:
    """The rows of the table with exact dollars; cells that would run are quoted."""
    text = await page.get("/app/usage?group=model&model=kimi&format=csv")
    by_key = await page.get("/app/usage?group=key&format=csv")
    found = json.loads(await page.get("/app/usage?group=outcome&metric=ttft-p50&format=json"))

    rows = list(csv.reader(io.StringIO(text.lstrip("\ufeff"), newline="")))
    cost = page.calls[0].cost_nanousd + page.calls[1].cost_nanousd
    assert rows[0][:3] == ["model", "calls", "failed"]
    assert rows[1:] == [["kimi", "2", "1", "2000", "4000", "0", "600", "40", dollars(cost), "1.0"]]
    assert next(csv.reader(io.StringIO(by_key.splitlines()[1])))[0] == f"'{EVIL}"
    assert [(row["outcome"], row["calls"]) for row in found] == [("completed", 2), ("failed", 1)]
    assert found[0]["ttft_p50_ms"] > 0


async def test_period_without_calls_says_when_the_last_one_was(page: Acme) -> None:
    """And how to see it; an account without any call gets the next step."""
    empty = await page.get("/app/usage?range=custom&since=2020-01-01&until=2020-01-05")
    filtered = await page.get("/app/usage?model=unknown")

    assert "The last request of this account was on" in empty
    assert 'href="/app/usage">Clear filters' in filtered


async def test_totals_are_the_same_in_every_zone(page: Acme) -> None:
    """90 days hold all calls wherever the days begin."""
    totals = set()
    for zone in ("UTC", "Asia/Kathmandu", "Pacific/Marquesas", "Europe/Berlin"):
        rows = json.loads(await page.get(f"/app/usage?range=90d&zone={zone}&group=day&format=json"))
        totals.add((sum(row["calls"] for row in rows), len({row["cost_usd"] for row in rows}) > 0))

    assert totals == {(3, True)}
