"""`/admin-ui/requests` and the page of one request."""

from __future__ import annotations

import csv
import io
import json
import re

import pytest

from gateway.store.accounts.credits import Credits
from gateway.store.sql.database import Database
from tests.support.activity import EVIL
from tests.support.booking import book_calls
from tests.support.operators import Operator, operator
from tests.support.reports import statements
from tests.support.usage import usage_event

LIST = "/admin-ui/requests"
HIDDEN = (" cached</span>", " tokens/s</span>")


@pytest.fixture
async def page(database: Database) -> Operator:
    """Three calls of one account, one of another, and one with a known cost."""
    found = await operator(database)
    await book_calls(
        database,
        usage_event("req_known", account_id=found.acme.account_id, key_id=found.acme.key_id,
                    at_ms=found.acme.calls[0].at_ms, cost_nanousd=400, upstream_cost_nanousd=100,
                    upstream_request_id="up-77", provider="other", upstream_model="up"),
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
        ("provider=other/up", {"req_known"}),
        ("provider=other/another", set()),
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


async def test_columns_can_be_hidden(page: Operator) -> None:
    """The choice stays in the URL of what is downloaded; a name that is none is ignored."""
    whole = await page.get(f"{LIST}?range=7d")
    some = await page.get(f"{LIST}?range=7d&hide-cached=1&hide-rate=1&hide-cost=1")

    assert [each in whole for each in HIDDEN] == [True] * 2
    assert [each in some for each in HIDDEN] == [False] * 2
    assert "Charged</th>" in some
    assert "hide-cached=1&amp;hide-rate=1" in some


async def test_what_is_shown_is_downloaded(page: Operator) -> None:
    """With what only operators see, and the cells of clients made harmless."""
    text = await page.get(f"{LIST}?range=7d&account={page.acme.account_id}&format=csv")
    rows = {row["request_id"]: row for row in csv.DictReader(io.StringIO(text[1:], newline=""))}

    known = rows["req_known"]
    assert set(rows) == {"req_0", "req_1", "req_2", "req_known"}
    assert (known["charged_usd"], known["upstream_cost_usd"], known["margin_usd"]) == (
        "0.0000004", "0.0000001", "0.0000003",
    )  # fmt: skip
    assert (known["provider"], known["upstream_request_id"]) == ("other", "up-77")
    assert (known["address"], known["account_id"]) == ("192.0.2.7", page.acme.account_id)
    rest = await page.get(f"{LIST}?range=7d&before=req_known&format=json")
    assert {each["request_id"] for each in json.loads(rest)} >= {"req_1", "req_2"}
    assert "req_known" not in rest
    await page.get(f"{LIST}?range=7d&before=req_unknown&format=json", 404)
    assert (rows["req_0"]["upstream_cost_usd"], rows["req_0"]["margin_usd"]) == ("", "")


async def test_button_says_how_many_calls_are_new(database: Database, page: Operator) -> None:
    """Of those that the filters select; the URL of the list follows the filters."""
    text = await page.get(f"{LIST}?provider=other")
    poll = re.search(r'hx-get="(/admin-ui/requests/new\?[^"]+)"', text)
    assert poll is not None
    path = poll[1].replace("&amp;", "&")
    before = await page.get(path)
    at_ms = page.acme.calls[0].at_ms + 5
    await book_calls(
        database,
        usage_event("req_new", account_id=page.acme.account_id, at_ms=at_ms, provider="other"),
        usage_event("req_else", account_id=page.acme.account_id, at_ms=at_ms, provider="p"),
    )
    after = await page.get(path)
    part = await page.acme.console.client.get(
        f"{LIST}?provider=other", headers={"hx-request": "true"}
    )

    assert "new request" not in before
    assert "1 new request<" in after
    assert 'href="/admin-ui/requests?range=today' in after
    assert "provider=other" in after
    assert part.headers["hx-push-url"].startswith("/admin-ui/requests?range=today")
    assert part.headers["hx-push-url"].endswith("&provider=other")


async def test_request_shows_what_operators_need(database: Database, page: Operator) -> None:
    """Upstream, its id and cost, the margin and the address; within six statements."""
    with statements(database) as ran:
        text = await page.get(f"{LIST}/req_known")

    assert len(ran) <= 5
    record = json.loads(await page.get(f"{LIST}/req_known?format=json"))
    assert (record["upstream_cost"], record["margin"]) == ("0.0000001", "0.0000003")
    assert (record["upstream_request_id"], record["address"]) == ("up-77", "192.0.2.7")
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
