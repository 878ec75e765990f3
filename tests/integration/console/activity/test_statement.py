"""`/app/billing/statement`."""

from __future__ import annotations

import time

import pytest

from gateway.console.activity.statement import month_name, read_month, statement_months
from gateway.core.calendar import DAY_MS, month_of
from gateway.core.money import dollars
from gateway.store.accounts.accounts import Account
from gateway.store.sql.database import Database
from tests.support.activity import Acme, acme
from tests.support.reports import statements

MINUS = "\N{MINUS SIGN}"


@pytest.fixture
async def page(database: Database) -> Acme:
    """An account with a top-up and three charges."""
    return await acme(database)


async def test_page_shows_the_month(database: Database, page: Acme) -> None:
    """In at most five statements, to which the session's is added."""
    spent = sum(call.cost_nanousd for call in page.calls)
    first = min(month_of(call.at_ms // DAY_MS) for call in page.calls)
    now = month_of(int(time.time() * 1000) // DAY_MS)
    if first != now:
        pytest.skip("the month began within the last minutes")

    with statements(database) as ran:
        text = await page.get("/app/billing/statement")

    assert len(ran) <= 5
    for part in ("Opening balance", "+$10.00", f"{MINUS}${dollars(spent)}", "invoice 7", "kimi"):
        assert part in text
    assert f"${dollars(10 * 10**9 - spent)}" in text
    assert "The month has not ended" in text


async def test_earlier_month_has_ended(page: Acme) -> None:
    """It is empty for a young account, and says so by its sums."""
    text = await page.get("/app/billing/statement?month=2026-01")

    assert "2026-01-01 to 2026-01-31" in text
    assert "The month has not ended" not in text


@pytest.mark.parametrize("month", ["2027-13", "x", "9999-01", "1969-12", "2027-1", "\u0662027-01"])
async def test_other_texts_are_no_months(page: Acme, month: str) -> None:
    """Nor is a month of the future."""
    await page.get(f"/app/billing/statement?month={month}", 404)


def test_months_of_an_account() -> None:
    """From the newest back to its first, and three years at most."""
    account = Account("acct_1", "acme", 1_798_761_600)  # 2027-01-01

    assert statement_months(account, 1_798_761_600.0) == [("2027-01", "2027-01")]
    assert [name for name, _ in statement_months(account, 1_804_118_400.0)] == [
        "2027-03", "2027-02", "2027-01",
    ]  # fmt: skip
    assert len(statement_months(account, 2_000_000_000.0)) == 36
    assert month_name(read_month("2027-02") or 0) == "2027-02"
