"""What an account may ask of itself with its own keys."""

from __future__ import annotations

import asyncio
import csv
import io
import time
from collections.abc import AsyncIterator

import pytest

from gateway.core.calendar import rfc3339
from gateway.edge.account_api import READS_A_MINUTE, WRONG_CODES_A_MINUTE
from gateway.store.accounts.accounts import Account, Accounts, Billing, Terms
from gateway.store.accounts.audit import Actor, AuditLog
from gateway.store.accounts.codes import CodeDetails, Codes
from gateway.store.accounts.credits import Credits
from gateway.store.sql.database import Database
from tests.support.admin_app import AdminApp
from tests.support.usage import NOON_MS, usage_event

BY = Actor("cli:tester")
DOLLAR = 1_000_000_000
DAY_MS = 86_400_000


@pytest.fixture
async def app(database: Database) -> AsyncIterator[AdminApp]:
    app = AdminApp(database)
    yield app
    await app.client.aclose()


@pytest.fixture
async def account(app: AdminApp) -> Account:
    return await app.account()


@pytest.fixture
async def key(app: AdminApp, account: Account) -> str:
    return await app.key(account)


async def test_credits_show_the_balance_of_the_keys_account(
    app: AdminApp, account: Account, key: str
) -> None:
    """In dollars and nano-dollars, with the amount available."""
    await Credits(app.database).topup(account.id, 12 * DOLLAR + 5, BY)

    response = await app.call(key, "/v1/credits")

    assert response.json() == {
        "object": "credits", "account_id": account.id, "billing": "prepaid",
        "balance": "12.000000005", "balance_nanousd": 12_000_000_005,
        "credit_limit": "0.00", "credit_limit_nanousd": 0,
        "available": "12.000000005", "available_nanousd": 12_000_000_005,
    }  # fmt: skip
    assert response.headers["x-request-id"]


async def test_credits_of_a_postpaid_account_show_its_limit(
    app: AdminApp, account: Account, key: str
) -> None:
    """A debt is a negative balance."""
    await Accounts(app.database).change(account.id, BY, terms=Terms(Billing.POSTPAID, 10 * DOLLAR))
    await app.record(usage_event(account_id=account.id, cost_nanousd=3 * DOLLAR))

    shown = (await app.call(key, "/v1/credits")).json()

    assert (shown["balance"], shown["credit_limit"], shown["available"]) == (
        "-3.00", "10.00", "7.00",
    )  # fmt: skip


@pytest.mark.parametrize("path", ["/v1/credits", "/v1/usage", "/v1/generation?id=req_1"])
async def test_pages_need_an_active_key(app: AdminApp, key: str, path: str) -> None:
    """Without one, or with a revoked one: 401 `invalid_key`."""
    missing = await app.client.get(path)
    (row,) = await app.keys.list()
    await app.keys.revoke(row.id)
    revoked = await app.call(key, path)
    posted = await app.call(key, path, body={})

    assert (missing.status_code, revoked.status_code, posted.status_code) == (401, 401, 405)
    assert revoked.json()["error"]["code"] == "invalid_key"


async def test_redeem_adds_a_code_to_the_keys_account_once(
    app: AdminApp, account: Account, key: str
) -> None:
    """The response has the amount and the new balance; a second attempt is an error."""
    (made,) = await Codes(app.database).create(CodeDetails(amount_nanousd=5 * DOLLAR), BY)

    first = await app.call(key, "/v1/credits/redeem", {"code": made.raw.lower()})
    again = await app.call(key, "/v1/credits/redeem", {"code": made.raw})

    assert (first.status_code, first.json()["amount"], first.json()["balance"]) == (
        200, "5.00", "5.00",
    )  # fmt: skip
    assert app.published.accounts == [account.id]
    assert (again.status_code, again.json()["error"]["code"]) == (400, "code_redeemed")
    entry = (await AuditLog(app.database).list(limit=1))[0]
    assert (entry.action, entry.actor[:8], entry.address) == ("code.redeem", "key:key_", None)


async def test_code_redeemed_by_many_requests_at_once_pays_once(
    app: AdminApp, account: Account, key: str
) -> None:
    """Of many simultaneous requests with one code, one adds its amount."""
    (made,) = await Codes(app.database).create(CodeDetails(amount_nanousd=5 * DOLLAR), BY)

    responses = await asyncio.gather(
        *[app.call(key, "/v1/credits/redeem", {"code": made.raw}) for _ in range(8)]
    )

    assert sorted(response.status_code for response in responses) == [200, *[400] * 7]
    assert (await Accounts(app.database).get(account.id)).balance_nanousd == 5 * DOLLAR


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        ({"code": "7H3KQ-0XWEP-M4T9A-Z2C8R"}, "invalid_code", "code"),
        ({"code": "hello"}, "invalid_code", "code"),
        ({"code": 7}, None, "code"),
        ({}, None, "code"),
        ({"code": "x", "account_id": "acct_2"}, None, "account_id"),
    ],
)
async def test_redeem_of_a_wrong_code_reports_it(
    app: AdminApp, key: str, body: dict[str, object], code: str | None, param: str
) -> None:
    """Status 400, without details of the code."""
    response = await app.call(key, "/v1/credits/redeem", body)

    error = response.json()["error"]
    assert (response.status_code, error["code"], error["param"]) == (400, code, param)


async def test_wrong_codes_are_throttled_for_the_account(app: AdminApp, key: str) -> None:
    """After ten wrong codes in a minute, a right one has to wait as well."""
    (made,) = await Codes(app.database).create(CodeDetails(amount_nanousd=DOLLAR), BY)
    for _ in range(WRONG_CODES_A_MINUTE):
        assert (await app.call(key, "/v1/credits/redeem", {"code": "x"})).status_code == 400

    response = await app.call(key, "/v1/credits/redeem", {"code": made.raw})
    other = await app.call(
        await app.key(await app.account("b")), "/v1/credits/redeem", {"code": "x"}
    )

    assert response.status_code == 429
    assert int(response.headers["retry-after"]) > 0
    assert other.status_code == 400


async def test_pages_are_throttled_for_the_account(app: AdminApp, key: str) -> None:
    """Reads are limited, to protect the database."""
    for _ in range(READS_A_MINUTE):
        assert (await app.call(key, "/v1/credits")).status_code == 200

    assert (await app.call(key, "/v1/credits")).status_code == 429


async def test_usage_groups_the_accounts_calls_and_nobody_elses(
    app: AdminApp, account: Account, key: str
) -> None:
    """By day, model and key, with tokens and cost, without the upstream cost."""
    await app.record(
        usage_event("req_1", account_id=account.id, cost_nanousd=7, upstream_cost_nanousd=3),
        usage_event("req_2", account_id=account.id, at_ms=NOON_MS + DAY_MS, key_id="key_2"),
        usage_event("req_3", account_id=(await app.account("other")).id, cost_nanousd=100),
    )

    response = await app.call(key, "/v1/usage?from=2026-05-17&to=2026-05-19&group_by=day,model,key")
    narrow = await app.call(key, "/v1/usage?from=2026-05-17&key=key_2&group_by=key")

    assert response.json() == {
        "object": "list",
        "from": "2026-05-17T00:00:00Z",
        "to": "2026-05-19T00:00:00Z",
        "group_by": ["day", "model", "key"],
        "data": [
            {
                "day": "2026-05-17", "model": "deepseek-v4-flash", "key": "key_1",
                "calls": 1, "failed": 0, "input_tokens": 10, "cache_read_tokens": 20,
                "cache_write_tokens": 0, "output_tokens": 5, "reasoning_tokens": 0,
                "cost": "0.000000007", "cost_nanousd": 7,
            },
            {
                "day": "2026-05-18", "model": "deepseek-v4-flash", "key": "key_2",
                "calls": 1, "failed": 0, "input_tokens": 10, "cache_read_tokens": 20,
                "cache_write_tokens": 0, "output_tokens": 5, "reasoning_tokens": 0,
                "cost": "0.00", "cost_nanousd": 0,
            },
        ],
        "has_more": False,
    }  # fmt: skip
    assert [line["key"] for line in narrow.json()["data"]] == ["key_2"]


async def test_usage_as_csv_can_be_saved(app: AdminApp, account: Account, key: str) -> None:
    """The header line is present even without data."""
    await app.record(usage_event("req_1", account_id=account.id, cost_nanousd=7))

    response = await app.call(key, "/v1/usage?from=2026-05-17&group_by=model&format=csv")
    empty = await app.call(key, "/v1/usage?from=2027-01-01&format=csv")

    (line,) = csv.DictReader(io.StringIO(response.text))
    assert (line["model"], line["cost"], line["cost_nanousd"]) == (
        "deepseek-v4-flash", "0.000000007", "7",
    )  # fmt: skip
    assert response.headers["content-type"] == "text/csv; charset=utf-8"
    assert "usage.csv" in response.headers["content-disposition"]
    assert empty.text.startswith("day,calls,failed,")
    assert len(empty.text.splitlines()) == 1


async def test_usage_without_a_time_is_of_the_last_thirty_days(
    app: AdminApp, account: Account, key: str
) -> None:
    """The default period is the last thirty days, grouped by day."""
    await app.record(
        usage_event("req_1", account_id=account.id, at_ms=int(time.time() * 1000)),
        usage_event("req_2", account_id=account.id, at_ms=NOON_MS - 365 * DAY_MS),
    )

    response = await app.call(key, "/v1/usage")

    (line,) = response.json()["data"]
    assert line["day"] == rfc3339(int(time.time()))[:10]


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("group_by=account", "group_by"),
        ("group_by=deployment", "group_by"),
        ("format=xml", "format"),
        ("from=yesterday", "from"),
        ("to=-1", "to"),
        ("account_id=acct_2", "account_id"),
        ("from=1&from=2", "from"),
    ],
)
async def test_usage_with_a_wrong_parameter_names_it(
    app: AdminApp, key: str, query: str, param: str
) -> None:
    """Including groups that only operators may use."""
    response = await app.call(key, f"/v1/usage?{query}")

    assert (response.status_code, response.json()["error"]["param"]) == (400, param)


async def test_generation_shows_a_call_to_its_account_only(
    app: AdminApp, account: Account, key: str
) -> None:
    """The outcome and cost of a call; other accounts' calls are not found."""
    await app.record(
        usage_event(
            "req_1", account_id=account.id, outcome="drained", cost_nanousd=7,
            upstream_cost_nanousd=3, estimated=True,
        )
    )  # fmt: skip
    stranger = await app.key(await app.account("other"))

    response = await app.call(key, "/v1/generation?id=req_1")
    theirs = await app.call(stranger, "/v1/generation?id=req_1")
    unknown = await app.call(key, "/v1/generation?id=req_2")

    shown = response.json()
    assert (shown["id"], shown["outcome"], shown["estimated"]) == ("req_1", "drained", True)
    assert (shown["cost"], shown["usage"]["cache_read_tokens"]) == ("0.000000007", 20)
    assert "deepseek-chat" not in response.text
    assert "upstream" not in response.text
    assert (theirs.status_code, unknown.status_code) == (404, 404)
    assert theirs.json()["error"]["code"] == "generation_not_found"
    assert theirs.json()["error"]["message"] == unknown.json()["error"]["message"].replace(
        "req_2", "req_1"
    )


@pytest.mark.parametrize("query", ["", "?id=", "?id=" + "x" * 201, "?id=%00"])
async def test_generation_without_an_id_is_refused(app: AdminApp, key: str, query: str) -> None:
    """Status 400 names the parameter."""
    response = await app.call(key, f"/v1/generation{query}")

    assert (response.status_code, response.json()["error"]["param"]) == (400, "id")
