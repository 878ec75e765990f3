"""`/admin-ui/requests` and the page of one request."""

from __future__ import annotations

import pytest

from gateway.store.accounts.credits import Credits
from gateway.store.sql.database import Database
from tests.support.activity import EVIL
from tests.support.booking import book_calls
from tests.support.operators import Operator, operator
from tests.support.reports import statements
from tests.support.usage import usage_event

LIST = "/admin-ui/requests"


@pytest.fixture
async def page(database: Database) -> Operator:
    """Three calls of one account, one of another, and one with a known cost."""
    found = await operator(database)
    await book_calls(
        database,
        usage_event("req_known", account_id=found.acme.account_id, key_id=found.acme.key_id,
                    at_ms=found.acme.calls[0].at_ms, cost_nanousd=400, upstream_cost_nanousd=100,
                    upstream_request_id="up-77", provider="other"),
    )  # fmt: skip
    return found


async def test_calls_of_all_accounts_are_listed(database: Database, page: Operator) -> None:
    """Two statements; what clients chose is escaped."""
    with statements(database) as ran:
        text = await page.get(f"{LIST}?range=7d")

    assert len(ran) == 2
    assert "req_strange" in text
    assert "req_0" in text
    assert EVIL not in text


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("account={account}", {"req_0", "req_1", "req_2", "req_known"}),
        ("provider=other", {"req_known"}),
        ("outcome=failures", {"req_1"}),
        ("id=req_strange", {"req_strange"}),
        ("model=nothing", set()),
    ],
)
async def test_calls_are_filtered(page: Operator, query: str, found: set[str]) -> None:
    """By account and provider, too."""
    text = await page.get(f"{LIST}?range=7d&{query.format(account=page.acme.account_id)}")

    known = {"req_0", "req_1", "req_2", "req_known", "req_strange"}
    assert {each for each in known if f"/admin-ui/requests/{each}?" in text} == found
    assert ("No requests match" in text) is not bool(found)


async def test_request_shows_what_operators_need(database: Database, page: Operator) -> None:
    """Upstream, its id and cost, the margin and the address; within six statements."""
    with statements(database) as ran:
        text = await page.get(f"{LIST}/req_known")

    assert len(ran) <= 5
    for shown in ("up-77", "$0.0000001", "$0.0000003", "192.0.2.7", "other/"):
        assert shown in text, shown


async def test_call_is_refunded_once(database: Database, page: Operator) -> None:
    """With a reason; afterwards the page says so."""
    path = f"{LIST}/req_known"
    form = {"reason": "sorry", "idem": await page.idem(path)}

    without = await page.post(f"{path}/refund", reason=" ", idem="x")
    done = await page.post(f"{path}/refund", **form)
    again = await page.post(f"{path}/refund", **form)
    text = await page.get(path)
    third = await page.post(f"{path}/refund", reason="again", idem="y" * len(form["idem"]))

    entries = await Credits(database).entries(page.acme.account_id, limit=50)
    refunds = [each for each in entries if each.kind.value == "refund"]
    assert "Say why" in without.text
    assert (done.status_code, again.status_code) == (303, 303)
    assert [(each.amount_nanousd, each.reason, each.actor) for each in refunds] == [
        (400, "sorry", "operator:user_1")
    ]
    assert "has been refunded" in text
    assert third.status_code in (200, 303)
