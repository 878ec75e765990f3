"""`/app/billing`."""

from __future__ import annotations

import csv
import io

import pytest

from gateway.core.limits import Limits
from gateway.core.money import dollars
from gateway.store.accounts.accounts import Accounts
from gateway.store.accounts.codes import CodeDetails, Codes
from gateway.store.accounts.credits import Credits
from gateway.store.sql.database import Database
from tests.support.activity import BY, Acme, acme
from tests.support.reports import statements


@pytest.fixture
async def page(database: Database) -> Acme:
    """An account with a top-up and three charges."""
    return await acme(database)


async def test_page_shows_balance_budgets_and_the_folded_ledger(
    database: Database, page: Acme
) -> None:
    """In at most five statements, to which the session's is added."""
    limits = Limits(budget_month_nanousd=5 * 10**9)
    await Accounts(database).change(page.account_id, BY, limits=limits)
    spent = sum(call.cost_nanousd for call in page.calls)

    with statements(database) as ran:
        text = await page.get("/app/billing")

    assert len(ran) <= 5
    assert f"${dollars(10 * 10**9 - spent)}" in text
    assert "of $5.00" in text
    assert "invoice 7" in text
    assert "+$10.00" in text
    assert f"\N{MINUS SIGN}${dollars(spent)}" in text
    assert "3 requests" in text


async def test_every_entry_leads_from_balance_to_balance(page: Acme) -> None:
    """Each charge links to its call."""
    text = await page.get("/app/billing?view=all")
    rows = list(
        csv.DictReader(io.StringIO((await page.get("/app/billing?view=all&format=csv"))[1:]))
    )

    assert text.count('href="/app/requests/req_') == 3
    assert [row["kind"] for row in rows] == ["charge"] * 3 + ["topup"]
    assert rows[-1]["balance_after_usd"] == "10.00"
    charged = {row["request_id"]: row["amount_usd"] for row in rows[:-1]}
    assert charged == {call.request_id: dollars(-call.cost_nanousd) for call in page.calls}


async def test_download_of_a_period_has_its_entries_only(page: Acme) -> None:
    """As many as the folded statement stands for."""
    path = "/app/billing?range=custom&since=2020-01-01&until=2020-01-02&format=csv"

    assert len((await page.get(path)).splitlines()) == 1
    assert len((await page.get("/app/billing?format=csv")).splitlines()) == 5


async def test_code_is_redeemed_once(database: Database, page: Acme) -> None:
    """The page confirms it; a second attempt says why it fails, and keeps what was typed."""
    [new] = await Codes(database).create(CodeDetails(amount_nanousd=25 * 10**9), BY)

    good = await page.console.client.post("/app/billing/redeem", data={"code": f" {new.raw} "})
    confirmed = await page.get(good.headers["location"])
    again = await page.console.client.post("/app/billing/redeem", data={"code": new.raw})
    unknown = await page.console.client.post("/app/billing/redeem", data={"code": "nonsense"})
    entries = await Credits(database).entries(page.account_id)

    assert (good.status_code, again.status_code, unknown.status_code) == (303, 422, 422)
    assert "$25.00 was added" in confirmed
    assert "redeemed already" in again.text
    assert 'value="nonsense"' in unknown.text
    assert "There is no such code" in unknown.text
    assert [entry.kind.value for entry in entries].count("code") == 1
    assert entries[0].actor == "user:user_1"


async def test_account_without_credit_is_told_what_clients_get(
    database: Database, page: Acme
) -> None:
    """And how to go on."""
    balance = (await Accounts(database).get(page.account_id)).balance_nanousd
    await Credits(database).adjust(page.account_id, -balance, BY, reason="end")

    text = await page.get("/app/billing")

    assert "429 (OpenAI) or 402 (Anthropic)" in text
