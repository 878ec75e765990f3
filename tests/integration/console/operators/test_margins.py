"""`/admin-ui/margins`."""

from __future__ import annotations

import csv
import io
import re

import pytest

from gateway.core.money import dollars
from gateway.store.sql.database import Database
from tests.support.activity import Acme, acme
from tests.support.booking import book_calls
from tests.support.console import viewer
from tests.support.reports import statements
from tests.support.usage import usage_event


@pytest.fixture
async def page(database: Database) -> Acme:
    """An operator, and calls of two accounts, two of them with known upstream costs."""
    found = await acme(database)
    at_ms = found.calls[0].at_ms
    await book_calls(
        database,
        usage_event("req_gain", account_id=found.account_id, at_ms=at_ms, model="gain",
                    cost_nanousd=400, upstream_cost_nanousd=100),
        usage_event("req_loss", account_id=found.account_id, at_ms=at_ms, model="loss",
                    cost_nanousd=100, upstream_cost_nanousd=150, upstream_model="other"),
    )  # fmt: skip
    found.console.viewers.viewer = viewer(found.account_id, is_operator=True)
    return found


async def rows(page: Acme, query: str) -> dict[str, dict[str, str]]:
    """Return a download by the names of its groups."""
    text = await page.get(f"/admin-ui/margins?{query}&format=csv")
    return {next(iter(row.values())): row for row in csv.DictReader(io.StringIO(text[1:]))}


async def test_margins_are_those_of_calls_with_a_known_cost(database: Database, page: Acme) -> None:
    """The others are counted; a loss has a minus sign."""
    with statements(database) as ran:
        text = await page.get("/admin-ui/margins")
    found = await rows(page, "group=model")

    charged = sum(call.cost_nanousd for call in page.calls) + 500
    assert len(ran) <= 2
    assert f"${dollars(charged)}" in text
    assert "Show as table" in text
    assert "\N{MINUS SIGN}50\N{NARROW NO-BREAK SPACE}%" in text
    gain, loss = found["gain"], found["loss"]
    assert (gain["margin_usd"], gain["margin_share"]) == ("0.0000003", "0.75")
    assert (loss["margin_usd"], loss["margin_share"]) == ("-0.00000005", "-0.5")
    assert (found["kimi"]["calls_without_cost"], found["kimi"]["margin_share"]) == ("2", "")


async def test_margins_are_grouped(page: Acme) -> None:
    """All groups add up to the same; accounts have names."""
    totals = set()
    for group in ("model", "deployment", "account", "day"):
        found = await rows(page, f"group={group}&range=today")
        totals.add(sum(int(row["calls"]) for row in found.values()))
        if group == "account":
            assert set(found) == {"Acme", "Other"}

    assert len(totals) == 1


@pytest.mark.parametrize("group", ["model", "deployment", "account", "day"])
async def test_numbers_link_to_their_calls(page: Acme, group: str) -> None:
    """Each list has as many calls as the number says."""
    text = await page.get(f"/admin-ui/margins?group={group}&range=7d")
    links = re.findall(r'<a href="(/admin-ui/requests\?[^"]+)">(\d+)</a>', text)

    assert links
    for path, calls in links:
        listed = await page.get(path.replace("&amp;", "&"))
        assert listed.count("data-call=") == int(calls), path


async def test_margins_are_for_operators_only(page: Acme) -> None:
    """An owner does not learn that the page exists."""
    page.console.viewers.viewer = viewer(page.account_id)

    await page.get("/admin-ui/margins", 404)
