"""`/admin-ui/codes`."""

from __future__ import annotations

import csv
import html
import io
import re

import pytest

from gateway.store.accounts.audit import Actor
from gateway.store.accounts.codes import Codes
from gateway.store.sql.database import Database
from tests.support.operators import Operator, operator
from tests.support.reports import statements

LIST = "/admin-ui/codes"
BY = Actor("cli:tester")
RAW = re.compile(r"[0-9A-Z]{5}(?:-[0-9A-Z]{5}){3}")


@pytest.fixture
async def page(database: Database) -> Operator:
    return await operator(database)


async def test_codes_are_created_and_shown_once(database: Database, page: Operator) -> None:
    """A double click makes them once; the list has the last four characters only."""
    assert "No code yet" in await page.get(LIST)
    form = {"amount": "2.50", "count": "3", "note": "spring", "expires": "2099-01-31",
            "idem": await page.idem(LIST)}  # fmt: skip

    made = await page.post(LIST, **form)
    again = await page.post(LIST, **form)
    with statements(database) as ran:
        text = await page.get(f"{LIST}?state=open")

    raws = RAW.findall(made.text)
    assert len(set(raws)) == 3
    assert again.status_code == 303
    assert len(ran) == 2  # the codes, and the names of who made them
    assert RAW.search(text) is None
    assert all(f"…{raw[-4:]}" in text for raw in raws)
    stored = await Codes(database).list()
    assert {(each.amount_nanousd, each.note, each.expires_at) for each in stored} == {
        (2_500_000_000, "spring", 4_073_587_199)
    }


async def test_codes_are_saved_as_csv(page: Operator) -> None:
    """New ones with the codes, in the page that shows them; the list without."""
    made = await page.post(LIST, amount="2.50", count="2", note='=1+1, "x"', expires="2099-01-31",
                           idem=await page.idem(LIST))  # fmt: skip
    await page.post(LIST, amount="1", count="1", idem=await page.idem(LIST))
    text = await page.get(f"{LIST}?q=1%2B1&state=open&format=csv")

    saved = re.search(r'<pre id="new-codes-csv" hidden>(.*?)</pre>', made.text, re.DOTALL)
    assert saved is not None
    rows = list(csv.DictReader(io.StringIO(html.unescape(saved[1]))))
    assert {row["code"] for row in rows} == set(RAW.findall(made.text))
    assert {(row["amount_usd"], row["expires"], row["note"]) for row in rows} == {
        ("2.50", "2099-01-31T23:59:59Z", '\'=1+1, "x"')
    }
    listed = list(csv.DictReader(io.StringIO(text[1:])))
    assert [(row["amount_usd"], row["state"]) for row in listed] == [("2.50", "open")] * 2
    assert RAW.search(text) is None


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"amount": "0"}, "Enter dollars above 0"),
        ({"amount": "x"}, "Enter dollars above 0"),
        ({"amount": "1", "count": "1001"}, "Enter a number from 1 to 1000."),
        ({"amount": "1", "expires": "2020-01-01"}, "Enter a day from today on"),
    ],
)
async def test_code_with_a_wrong_field_is_not_created(
    database: Database, page: Operator, fields: dict[str, str], message: str
) -> None:
    """The error stands at the field."""
    response = await page.post(LIST, **{"count": "1", **fields}, idem=await page.idem(LIST))

    assert response.status_code == 422
    assert message in response.text
    assert await Codes(database).list() == []


async def test_code_is_revoked_unless_redeemed(database: Database, page: Operator) -> None:
    """What was redeemed is taken back by an adjustment."""
    await page.post(LIST, amount="1", count="2", idem=await page.idem(LIST))
    first, second = await Codes(database).list()
    await page.acme.console.services.codes.revoke(first.id, BY)
    made = await page.post(LIST, amount="1", count="1", idem=await page.idem(LIST))
    raw = RAW.findall(made.text)[0]
    entry = await page.acme.console.services.accounts.redeem(page.acme.account_id, raw, BY)
    redeemed = next(each for each in await Codes(database).list() if each.redeemed_by)

    revoked = await page.post(f"{LIST}/{second.id}/revoke")
    refused = await page.post(f"{LIST}/{redeemed.id}/revoke")
    unknown = await page.post(f"{LIST}/code_unknown/revoke")

    assert entry.amount_nanousd == 10**9
    assert (revoked.status_code, refused.status_code, unknown.status_code) == (303, 409, 404)
    assert "has been redeemed" in refused.text
    assert f'href="/admin-ui/accounts/{page.acme.account_id}"' in await page.get(LIST)
