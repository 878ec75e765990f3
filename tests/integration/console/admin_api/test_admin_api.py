"""The operator's REST API."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from gateway.console.admin_api.api import WRONG_TOKENS_A_MINUTE
from gateway.core import api_keys
from gateway.store.sql.database import Database
from tests.support.admin_app import PREFIX, TOKEN, AdminApp
from tests.support.usage import usage_event

POSTPAID = {"name": "a", "billing": "postpaid"}


@pytest.fixture
async def app(database: Database) -> AsyncIterator[AdminApp]:
    app = AdminApp(database)
    yield app
    await app.client.aclose()


def error_of(response: httpx2.Response) -> dict[str, Any]:
    """Return the error object, which always has the four fields of OpenAI's."""
    error: dict[str, Any] = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert response.headers["x-request-id"].startswith("req_")
    return error


async def make_account(app: AdminApp, **fields: object) -> dict[str, Any]:
    response = await app.admin("POST", "accounts", {"name": "acme", **fields})
    assert response.status_code == 201, response.text
    made: dict[str, Any] = response.json()
    return made


async def make_key(app: AdminApp, account_id: str, **fields: object) -> dict[str, Any]:
    response = await app.admin("POST", "keys", {"account_id": account_id, "name": "ci", **fields})
    assert response.status_code == 201, response.text
    made: dict[str, Any] = response.json()
    return made


async def test_admin_without_a_token_in_the_settings_is_not_there(database: Database) -> None:
    """The path looks like any that does not exist, whatever token is sent."""
    app = AdminApp(database, token=None)

    response = await app.admin("GET", "accounts")
    other = await app.client.get("/nowhere")

    assert (response.status_code, error_of(response)["message"]) == (
        404, "There is nothing at /admin/accounts.",
    )  # fmt: skip
    assert error_of(other)["code"] == error_of(response)["code"]


@pytest.mark.parametrize(
    ("token", "message"),
    [
        (None, "Missing operator token."),
        ("", "Invalid"),
        (TOKEN + "x", "Invalid"),
        ("é", "Invalid"),
    ],
)
async def test_admin_with_a_wrong_token_is_refused(
    app: AdminApp, token: str | None, message: str
) -> None:
    """401 before the path is examined."""
    response = await app.client.get(
        "/admin/accounts",
        headers=[] if token is None else [(b"authorization", f"Bearer {token}".encode())],
    )

    assert response.status_code == 401
    assert message in error_of(response)["message"]
    assert error_of(response)["code"] == "invalid_token"


async def test_admin_wrong_tokens_are_throttled_but_never_the_right_one(app: AdminApp) -> None:
    """Guesses are throttled by address; the right token is never locked out."""
    for _ in range(WRONG_TOKENS_A_MINUTE):
        assert (await app.admin("GET", "accounts", token="guess")).status_code == 401

    response = await app.admin("GET", "accounts", token="guess")
    right = await app.admin("GET", "accounts")

    assert response.status_code == 429
    assert 0 < int(response.headers["retry-after"]) <= 60
    assert right.status_code == 200


async def test_virtual_key_is_no_operator_token(app: AdminApp) -> None:
    """Clients cannot use the operator's API with their keys."""
    key = await app.key(await app.account())

    assert (await app.admin("GET", "accounts", token=key)).status_code == 401


async def test_accounts_are_made_listed_shown_and_changed(app: AdminApp) -> None:
    """Amounts are accepted in dollars or nano-dollars, and returned in both."""
    first = await make_account(app)
    second = await make_account(app, billing="postpaid", credit_limit="100.5")

    page = (await app.admin("GET", "accounts?limit=1")).json()
    rest = (await app.admin("GET", f"accounts?limit=1&after={page['next']}")).json()
    changed = await app.admin(
        "PATCH", f"accounts/{first['id']}", {"name": "new", "billing": "postpaid"}
    )

    assert page["has_more"]
    assert [each["data"][0]["id"] for each in (page, rest)] == sorted((first["id"], second["id"]))
    assert (first["billing"], first["balance"], first["available_nanousd"]) == (
        "prepaid",
        "0.00",
        0,
    )
    assert (second["credit_limit"], second["credit_limit_nanousd"]) == ("100.50", 100_500_000_000)
    shown = (await app.admin("GET", f"accounts/{first['id']}")).json()
    assert shown == changed.json()
    assert (shown["name"], shown["credit_limit"], shown["available"]) == ("new", None, None)
    assert app.published.accounts == [first["id"]]


async def test_account_is_trusted_by_a_change_that_is_audited(app: AdminApp) -> None:
    """Other changes keep it; the workers are notified."""
    account = await make_account(app)
    path = f"accounts/{account['id']}"

    trusted = (await app.admin("PATCH", path, {"trusted": True})).json()
    renamed = (await app.admin("PATCH", path, {"name": "new"})).json()
    audit = (await app.admin("GET", f"audit?object={account['id']}")).json()["data"]

    assert [each["trusted"] for each in (account, trusted, renamed)] == [False, True, True]
    (change,) = [each for each in audit if each["before"] and not each["before"]["trusted"]]
    assert change["after"]["trusted"] is True
    assert app.published.accounts[0] == account["id"]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "name"),
        ({"name": ""}, "name"),
        ({"name": "a\x00b"}, "name"),
        ({"name": "x" * 501}, "name"),
        ({"name": 7}, "name"),
        ({"nam": "acme"}, "nam"),
        ({"name": "a", "billing": "free"}, "billing"),
        ({"name": "a", "credit_limit": "5"}, "credit_limit"),
        ({"name": "a", "billing": "prepaid", "credit_limit": "5"}, "credit_limit"),
        ({"name": "a", "billing": "postpaid", "credit_limit": "-5"}, "credit_limit"),
        ({"name": "a", "billing": "postpaid", "credit_limit": "5 $"}, "credit_limit"),
        ({"name": "a", "billing": "postpaid", "credit_limit": 5.5}, "credit_limit"),
        (
            {"name": "a", "billing": "postpaid", "credit_limit": "5", "credit_limit_nanousd": 5},
            "credit_limit",
        ),
    ],
)
async def test_account_with_a_wrong_field_is_not_made(
    app: AdminApp, body: dict[str, object], param: str
) -> None:
    """Status 400 names the field."""
    response = await app.admin("POST", "accounts", body)

    assert response.status_code == 400
    assert error_of(response)["param"] == param
    assert (await app.admin("GET", "accounts")).json()["data"] == []


async def test_body_that_is_no_json_is_refused(app: AdminApp) -> None:
    """Invalid bodies get a client error."""
    bearer = {"authorization": f"Bearer {TOKEN}"}
    url = "/admin/accounts"

    broken = await app.client.post(url, headers=bearer, content=b'{"name": "')
    binary = await app.client.post(url, headers=bearer, content=b'{"name": "\xff"}')
    form = await app.client.post(url, headers=bearer, data={"name": "acme"})
    large = await app.client.post(url, headers=bearer, content=b" " * 70_000)

    assert [each.status_code for each in (broken, binary, form, large)] == [400, 400, 415, 413]


async def test_paths_and_methods_that_do_not_exist_are_reported(app: AdminApp) -> None:
    """404 for a path, 405 for a method; unknown parameters are rejected."""
    unknown = await app.admin("GET", "accounts/acct_1/nothing")
    empty = await app.admin("GET", "accounts/")
    method = await app.admin("DELETE", "accounts/acct_1")
    parameter = await app.admin("GET", "accounts?offset=1")
    number = await app.admin("GET", "accounts?limit=0")

    assert [each.status_code for each in (unknown, empty, method, parameter, number)] == [
        404, 404, 405, 400, 400,
    ]  # fmt: skip
    assert "takes GET or PATCH, not DELETE" in error_of(method)["message"]
    assert error_of(parameter)["param"] == "offset"
    assert error_of(number)["param"] == "limit"


async def test_credits_are_booked_with_an_idempotency_key_once(app: AdminApp) -> None:
    """A repeated request returns the first entry; a different one is rejected."""
    account = await make_account(app)
    path = f"accounts/{account['id']}/credits"
    body = {"amount": "12.50", "reason": "invoice 7"}

    first = await app.admin("POST", path, body, idempotency_key="inv-7")
    again = await app.admin("POST", path, {**body, "idempotency_key": "inv-7"})
    other = await app.admin("POST", path, {**body, "amount": "1"}, idempotency_key="inv-7")
    differ = await app.admin("POST", path, {**body, "idempotency_key": "a"}, idempotency_key="b")

    assert (first.status_code, again.status_code) == (201, 200)
    assert not first.json()["replayed"]
    assert again.json() == {**first.json(), "replayed": True}
    assert (first.json()["amount"], first.json()["balance_after"]) == ("12.50", "12.50")
    assert first.json()["actor"] == "admin"
    assert (other.status_code, differ.status_code) == (422, 400)
    assert error_of(other)["code"] == "idempotency_key_reused"
    assert (await app.admin("GET", f"accounts/{account['id']}")).json()["balance"] == "12.50"
    assert account["id"] in app.published.accounts


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"amount": "5"}, "reason"),
        ({"amount": "5", "reason": " "}, "reason"),
        ({"reason": "x"}, "amount"),
        ({"amount": "0", "reason": "x"}, "amount"),
        ({"amount": "-5", "reason": "x"}, "amount"),
        ({"amount": "1000001", "reason": "x"}, "amount"),
        ({"amount": 5, "reason": "x"}, "amount"),
        ({"amount_nanousd": 5.5, "reason": "x"}, "amount_nanousd"),
        ({"amount": "5", "kind": "charge", "reason": "x"}, "kind"),
    ],
)
async def test_credits_with_a_wrong_field_move_nothing(
    app: AdminApp, body: dict[str, object], param: str
) -> None:
    """Status 400 names the field, and the balance does not change."""
    account = await make_account(app)

    response = await app.admin("POST", f"accounts/{account['id']}/credits", body)

    assert response.status_code == 400
    assert error_of(response)["param"] == param
    assert (await app.admin("GET", f"accounts/{account['id']}/ledger")).json()["data"] == []


async def test_ledger_lists_every_movement_and_a_call_can_be_refunded(app: AdminApp) -> None:
    """Charges, negative adjustments and refunds; newest first, in pages."""
    account = await make_account(app)
    path = f"accounts/{account['id']}"
    await app.record(usage_event("req_1", account_id=account["id"], cost_nanousd=70))
    body = {"kind": "adjustment", "amount_nanousd": -5, "reason": "x"}
    await app.admin("POST", f"{path}/credits", body)

    refund = await app.admin("POST", "calls/req_1/refund", {"reason": "empty"})
    again = await app.admin("POST", "calls/req_1/refund", {"reason": "empty"})
    never = await app.admin("POST", "calls/req_2/refund", {"reason": "empty"})
    page = (await app.admin("GET", f"{path}/ledger?limit=2")).json()
    rest = (await app.admin("GET", f"{path}/ledger?limit=2&before={page['next']}")).json()

    assert (refund.status_code, again.status_code, never.status_code) == (201, 409, 404)
    assert error_of(again)["code"] == "already_refunded"
    found = [(e["kind"], e["amount_nanousd"], e["balance_after_nanousd"]) for e in page["data"]]
    assert found == [("refund", 70, -5), ("adjustment", -5, -75)]
    assert [(e["kind"], e["request_id"]) for e in rest["data"]] == [("charge", "req_1")]


async def test_key_is_shown_once_and_each_change_is_published(app: AdminApp) -> None:
    """Create shows the raw key; disable, enable and revoke reach the workers."""
    account = await make_account(app)

    made = await make_key(app, account["id"], models=["capio/flash"], expires_at="2100-01-31")
    states = [
        (await app.admin("POST", f"keys/{made['id']}/{change}")).json()["state"]
        for change in ("disable", "enable", "revoke")
    ]
    again = await app.admin("POST", f"keys/{made['id']}/enable")
    shown = await app.admin("GET", f"keys/{made['id']}")
    listed = await app.admin("GET", f"keys?account_id={account['id']}")

    assert api_keys.well_formed(made["key"], PREFIX)
    assert (made["models"], made["expires_at"]) == (["deepseek-v4-flash"], "2100-01-31T00:00:00Z")
    assert states == ["disabled", "active", "revoked"]
    assert [change.principal.state for change in app.published.changes] == states
    assert (again.status_code, error_of(again)["code"]) == (409, "key_revoked")
    assert made["key"] not in shown.text + listed.text
    assert made["key"][-4:] in shown.text
    assert (await app.admin("POST", "keys/key_none/revoke")).status_code == 404


async def test_key_change_while_redis_is_away_is_published_later(
    app: AdminApp,
) -> None:
    """The change is in SQL; `published` says that workers may not have received it."""
    made = await make_key(app, (await make_account(app))["id"])
    app.published.away = True

    response = await app.admin("POST", f"keys/{made['id']}/revoke")

    assert (response.status_code, response.json()["state"]) == (200, "revoked")
    assert response.json()["published"] is False


@pytest.mark.parametrize(
    ("fields", "status", "param"),
    [
        ({"account_id": "acct_none"}, 404, "account_id"),
        ({"models": ["flsh"]}, 400, "models[0]"),
        ({"models": []}, 400, "models"),
        ({"models": "flash"}, 400, "models"),
        ({"expires_at": "2020-01-01"}, 400, "expires_at"),
        ({"expires_at": "soon"}, 400, "expires_at"),
        ({"expires_at": 99999999999999}, 400, "expires_at"),
        ({"limits": {"rpm": 0}}, 400, "rpm"),
        ({"limits": {"budget_day": "1e3"}}, 400, "budget_day"),
        ({"limits": {"models": {"flsh": {"rpm": 1}}}}, 400, "models.flsh"),
        ({"limits": {"models": {"flash": {"tpm": -1}}}}, 400, "models.flash.tpm"),
        ({"limits": {"rps": 1}}, 400, "limits"),
    ],
)
async def test_key_with_a_wrong_field_is_not_made(
    app: AdminApp, fields: dict[str, object], status: int, param: str
) -> None:
    """The error names the field, and no key is created."""
    account = await make_account(app)

    response = await app.admin("POST", "keys", {"account_id": account["id"], "name": "k", **fields})

    assert response.status_code == status
    assert error_of(response)["param"] == param
    assert (await app.admin("GET", "keys")).json()["data"] == []


async def test_limits_are_replaced_whole_and_reach_the_workers(app: AdminApp) -> None:
    """For an account, and for a key and its models."""
    account = await make_account(app)
    key = await make_key(app, account["id"], limits={"rpm": 5})

    of_account = await app.admin(
        "PUT", f"accounts/{account['id']}/limits", {"tpm": 1000, "budget_month": "20"}
    )
    body = {"concurrency": 2, "models": {"flash": {"budget_total_nanousd": 7}}}
    of_key = await app.admin("PUT", f"keys/{key['id']}/limits", body)
    none = await app.admin("PUT", f"keys/{key['id']}/limits", {})

    assert key["limits"]["rpm"] == 5
    assert of_account.json()["budget_month_nanousd"] == 20_000_000_000
    assert of_account.json()["rpm"] is None
    assert (await app.admin("GET", f"accounts/{account['id']}/limits")).json() == of_account.json()
    limits = of_key.json()["limits"]
    assert (limits["rpm"], limits["concurrency"]) == (None, 2)
    assert limits["models"]["deepseek-v4-flash"]["budget_total"] == "0.000000007"
    published = app.published.changes[0].principal.limits
    assert published is not None
    assert published.models["deepseek-v4-flash"].budget_total_nanousd == 7
    assert none.json()["limits"]["models"] == {}
    assert app.published.changes[1].principal.limits is None
    assert (await app.admin("GET", f"keys/{key['id']}/limits")).json()["concurrency"] is None


async def test_codes_are_shown_once_listed_and_revoked(app: AdminApp) -> None:
    """Only the response to their creation contains them."""
    made = await app.admin(
        "POST", "codes", {"amount": "5", "count": 2, "note": "fair", "expires_at": "2100-01-01"}
    )
    raw = [each["code"] for each in made.json()["data"]]
    code_id = made.json()["data"][0]["id"]

    revoked = await app.admin("POST", f"codes/{code_id}/revoke")
    listed = await app.admin("GET", "codes")
    wrong = await app.admin("POST", "codes", {"amount": "5", "count": 0})
    free = await app.admin("POST", "codes", {"amount": "0"})

    assert made.status_code == 201
    assert len(set(raw)) == 2
    assert not any(code in listed.text for code in raw)
    assert sorted(each["state"] for each in listed.json()["data"]) == ["open", "revoked"]
    assert revoked.json()["state"] == "revoked"
    assert (wrong.status_code, error_of(wrong)["param"]) == (400, "count")
    assert (free.status_code, error_of(free)["param"]) == (400, "amount")
    assert (await app.admin("POST", "codes/code_none/revoke")).status_code == 404


async def test_usage_shows_margin_and_calls_show_everything(app: AdminApp) -> None:
    """By any group, as JSON or CSV; single calls with their upstream cost."""
    account = await make_account(app)
    await app.record(
        usage_event("req_1", account_id=account["id"], cost_nanousd=9, upstream_cost_nanousd=4)
    )

    report = await app.admin("GET", "usage?group_by=account,deployment&from=2026-01-01")
    as_csv = await app.admin("GET", "usage?group_by=model&format=csv")
    calls = await app.admin("GET", f"calls?account_id={account['id']}")
    call = await app.admin("GET", "calls/req_1")

    (line,) = report.json()["data"]
    assert (line["account"], line["deployment"]) == (account["id"], "deepseek/deepseek-chat")
    assert (line["margin_nanousd"], line["calls_without_cost"]) == (5, 0)
    head, row = as_csv.text.splitlines()
    assert head.startswith("model,calls,failed,input_tokens,")
    assert row.startswith("deepseek-v4-flash,1,0,10,20,0,5,0,0.000000009,9,")
    assert call.json()["upstream_cost_nanousd"] == 4
    assert call.json()["address"] == "192.0.2.7"
    assert calls.json()["data"] == [call.json()]
    assert (await app.admin("GET", "calls/req_2")).status_code == 404


async def test_audit_shows_who_changed_what_without_secrets(app: AdminApp, tmp_path: Path) -> None:
    """Actor, action, object, before and after, request and address; no key, code or token."""
    account = await make_account(app)
    key = await make_key(app, account["id"])
    codes = await app.admin("POST", "codes", {"amount": "5"})
    revoke = await app.admin("POST", f"keys/{key['id']}/revoke", x_actor="alice@ops")

    audit = await app.admin("GET", "audit")
    of_key = await app.admin("GET", f"audit?object={key['id']}&limit=1")

    newest = of_key.json()["data"][0]
    assert [entry["action"] for entry in audit.json()["data"]] == [
        "key.revoke", "code.create", "key.create", "account.create",
    ]  # fmt: skip
    assert (newest["actor"], newest["address"]) == ("admin:alice@ops", "127.0.0.1")
    assert newest["request_id"] == revoke.headers["x-request-id"]
    assert (newest["before"]["state"], newest["after"]["state"]) == ("active", "revoked")
    secrets = [key["key"], codes.json()["data"][0]["code"], TOKEN]
    assert not any(secret in audit.text for secret in secrets)


async def test_actor_that_is_no_name_is_refused(app: AdminApp) -> None:
    """Names for the audit log are validated."""
    response = await app.admin("GET", "audit", x_actor="a b")

    assert (response.status_code, error_of(response)["param"]) == (400, "x-actor")


async def test_reconcile_returns_the_differences(app: AdminApp) -> None:
    """The same values as `capio reconcile --json`."""
    await make_account(app)

    response = await app.admin("GET", "reconcile")

    assert response.json() == {
        "object": "reconciliation", "accounts": 1, "entries": 0, "differences": [],
    }  # fmt: skip


async def test_head_is_served_without_a_body(app: AdminApp) -> None:
    """The headers are those of GET."""
    response = await app.admin("HEAD", "accounts")

    assert (response.status_code, response.content) == (200, b"")
    assert int(response.headers["content-length"]) > 0
    assert response.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "accounts/%00", None, 404),
        ("GET", "keys/%C3%28", None, 404),
        ("GET", "accounts?name=%00", None, 400),
        ("GET", "accounts?name=%ff", None, 400),
        ("GET", "accounts?" + "&".join(["name=a"] * 101), None, 400),
        ("GET", "usage?by=" + "x" * 9000, None, 400),
        ("GET", "keys?account_id=%00", None, 400),
        ("GET", "audit?before=99999999999999999999", None, 400),
        ("GET", "usage?to=99999999999999999999", None, 400),
        ("POST", "keys", {"account_id": "a\x00", "name": "k"}, 400),
        ("POST", "accounts", {"name": "\ud800"}, 400),
        ("POST", "accounts", {**POSTPAID, "credit_limit_nanousd": 10**30}, 400),
        ("POST", "accounts", {**POSTPAID, "credit_limit": "9999999999"}, 400),
        ("POST", "codes", {"amount_nanousd": 10**30}, 400),
    ],
)
async def test_values_that_no_database_takes_are_refused(
    app: AdminApp, method: str, path: str, body: object, status: int
) -> None:
    """They are client errors, never server errors."""
    content = None if body is None else json.dumps(body)
    bearer = {"authorization": f"Bearer {TOKEN}"}

    response = await app.client.request(method, f"/admin/{path}", content=content, headers=bearer)

    assert response.status_code == status, response.text
