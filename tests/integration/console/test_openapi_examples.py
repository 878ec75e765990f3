"""What the account API and the operators' API respond has the shape that is documented."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from gateway.console.openapi.operation import Operation
from gateway.store.accounts.audit import Actor
from gateway.store.accounts.codes import CodeDetails, Codes
from gateway.store.sql.database import Database
from tests.support.admin_app import AdminApp
from tests.support.openapi import (
    CLIENT_DOCUMENT,
    CLIENT_SHAPES,
    CLIENTS,
    OPERATOR_DOCUMENT,
    OPERATOR_SHAPES,
    OPERATORS,
    response_schema,
)
from tests.support.usage import usage_event

BY = Actor("cli:tester")
CALL = "req_1"


@pytest.fixture
async def app(database: Database) -> AsyncIterator[AdminApp]:
    app = AdminApp(database)
    yield app
    await app.client.aclose()


def path_of(operation: Operation, ids: dict[str, str]) -> str:
    """The path with ids of things that exist, and the example's query."""
    path = operation.path
    for prefix, found in ids.items():
        if path.startswith(prefix):
            path = path.replace("{id}", found)
    for name, value in operation.example.path.items():
        path = path.replace(f"{{{name}}}", value)
    query = "&".join(f"{name}={value}" for name, value in operation.example.query.items())
    return f"{path}?{query}" if query else path


async def test_operators_examples_get_responses_of_the_documented_shape(app: AdminApp) -> None:
    """Every operation is sent as its example shows, in the order of the document."""
    account = await app.account()
    made = (await app.admin("POST", "keys", {"account_id": account.id, "name": "k"})).json()
    code = (await app.admin("POST", "codes", {"amount": "1"})).json()["data"][0]
    incident = (await app.admin("POST", "incidents", {"title": "t", "text": "t"})).json()
    notice = (await app.admin("POST", "notices", {"text": "t"})).json()
    await app.record(
        usage_event(CALL, account_id=account.id, key_id=made["id"], cost_nanousd=70),
        usage_event("req_2", account_id=account.id, key_id=made["id"], cost_nanousd=70),
    )
    ids = {
        "/admin/accounts/": account.id,
        "/admin/keys/": made["id"],
        "/admin/codes/": code["id"],
        "/admin/calls/": CALL,
        "/admin/dead-letters/": "1-0",
        "/admin/incidents/": incident["id"],
        "/admin/notices/": notice["id"],
    }

    for operation in OPERATORS.operations:
        body = operation.example.body
        if body and "account_id" in body:
            body = {**body, "account_id": account.id}
        path = path_of(operation, ids).removeprefix("/admin/")
        response = await app.admin(operation.method, path, body)

        assert response.status_code == operation.success.status, (operation.id, response.text)
        schema = response_schema(OPERATOR_DOCUMENT, operation)
        problems = OPERATOR_SHAPES.problems(response.json(), schema)
        assert problems == [], operation.id


async def test_clients_examples_get_responses_of_the_documented_shape(app: AdminApp) -> None:
    """Balance, code, usage and record of a call, by the account's own key."""
    account = await app.account()
    key = await app.key(account)
    details = CodeDetails(amount_nanousd=5_000_000_000)
    (code,) = await Codes(app.database).create(details, BY)
    await app.record(usage_event(CALL, account_id=account.id, cost_nanousd=70))
    sent = 0

    for operation in CLIENTS.operations:
        if operation.tag != "Account":
            continue
        body = None if operation.example.body is None else {"code": code.raw}
        path = path_of(operation, {}).replace(operation.example.query.get("id", "none"), CALL)
        response = await app.call(key, path, body)

        assert response.status_code == 200, (operation.id, response.text)
        schema = response_schema(CLIENT_DOCUMENT, operation)
        assert CLIENT_SHAPES.problems(response.json(), schema) == [], operation.id
        sent += 1

    assert sent == 4


async def test_errors_have_the_documented_shape(app: AdminApp) -> None:
    """Wrong keys, wrong tokens and wrong fields."""
    key = await app.key(await app.account())
    responses = [
        await app.call("sk-wrong", "/v1/credits"),
        await app.call(key, "/v1/usage?group_by=hour"),
        await app.call(key, "/v1/credits/redeem", {"code": "none"}),
        await app.admin("GET", "accounts", token="wrong"),
        await app.admin("POST", "accounts", {"nam": "x"}),
    ]

    assert [each.status_code for each in responses] == [401, 400, 400, 401, 400]
    for response in responses:
        schema = {"$ref": "#/components/schemas/OpenAIError"}
        assert CLIENT_SHAPES.problems(response.json(), schema) == []
