"""`/admin/accounts`: accounts, their limits, their balance and its ledger."""

from __future__ import annotations

from typing import Literal

import msgspec

from gateway.console.admin_api.request import MAX_PAGE, PAGE, AdminRequest, Route
from gateway.operations.accounts import AccountOperations, AccountRefresh, read_terms
from gateway.operations.http_api import Query, Response, json_response, list_response
from gateway.operations.limits import LimitsBody, read_limits
from gateway.operations.objects import account_object, entry_object, limits_object
from gateway.operations.values import InvalidValueError, read_amount, read_text, require_amount
from gateway.store.accounts.accounts import Account, Billing, Terms
from gateway.store.accounts.credits import EntryKind
from gateway.store.sql.database import Database

_MAX_KEY = 200


class AccountBody(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """
    The body that creates or changes an account; a change keeps what is absent.

    A postpaid account without a credit limit may owe any amount.
    """

    name: str | None = None
    billing: Billing | None = None
    credit_limit: str | None = None  # dollars
    credit_limit_nanousd: int | None = None
    trusted: bool | None = None


class CreditBody(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The body of a top-up or an adjustment."""

    reason: str
    kind: Literal["topup", "adjustment"] = "topup"
    amount: str | None = None  # dollars
    amount_nanousd: int | None = None
    idempotency_key: str | None = None  # or the header `idempotency-key`


class RefundBody(msgspec.Struct, forbid_unknown_fields=True):
    reason: str


class AdminAccounts:
    """
    Handlers for accounts.

    Args:
        database: The SQL database.
        refresh: Called after each change.
    """

    def __init__(self, database: Database, refresh: AccountRefresh) -> None:
        self._accounts = AccountOperations(database, refresh)

    def routes(self) -> list[Route]:
        return [
            Route("GET", "accounts", self._list),
            Route("POST", "accounts", self._create),
            Route("GET", "accounts/*", self._show),
            Route("PATCH", "accounts/*", self._change),
            Route("GET", "accounts/*/limits", self._show_limits),
            Route("PUT", "accounts/*/limits", self._set_limits),
            Route("GET", "accounts/*/ledger", self._ledger),
            Route("POST", "accounts/*/credits", self._book),
            Route("POST", "calls/*/refund", self._refund),
        ]

    async def _list(self, request: AdminRequest) -> Response:
        query = Query(request.query, ("after", "limit", "name"))
        limit = query.number("limit", PAGE, MAX_PAGE)
        after, name = query.text("after") or "", query.text("name")
        found = await self._accounts.list(name=name, after=after, limit=limit)
        rows = [account_object(account) for account in found]
        return list_response(rows, limit, found[-1].id if found else None)

    async def _create(self, request: AdminRequest) -> Response:
        body = await request.json(AccountBody)
        if body.name is None:
            raise InvalidValueError("name", "is required")
        account = await self._accounts.create(
            read_text(body.name, "name"), _terms(body), request.by, trusted=body.trusted or False
        )
        return json_response(account_object(account), 201)

    async def _show(self, request: AdminRequest) -> Response:
        Query(request.query, ())
        return json_response(account_object(await self._accounts.get(request.names[0])))

    async def _change(self, request: AdminRequest) -> Response:
        body = await request.json(AccountBody)
        name = None if body.name is None else read_text(body.name, "name")
        account = await self._accounts.change(
            request.names[0], request.by, name=name, terms=_terms(body), trusted=body.trusted
        )
        return json_response(account_object(account))

    async def _show_limits(self, request: AdminRequest) -> Response:
        return _limits(await self._accounts.get(request.names[0]))

    async def _set_limits(self, request: AdminRequest) -> Response:
        limits = read_limits(await request.json(LimitsBody))
        return _limits(await self._accounts.change(request.names[0], request.by, limits=limits))

    async def _ledger(self, request: AdminRequest) -> Response:
        query = Query(request.query, ("before", "limit"))
        limit, before = query.number("limit", PAGE, MAX_PAGE), query.optional_number("before")
        account = await self._accounts.get(request.names[0])
        found = await self._accounts.entries(account.id, before_id=before, limit=limit)
        rows = [entry_object(entry) for entry in found]
        return list_response(rows, limit, found[-1].id if found else None)

    async def _book(self, request: AdminRequest) -> Response:
        body = await request.json(CreditBody)
        booked = await self._accounts.book(
            request.names[0],
            EntryKind(body.kind),
            require_amount(read_amount(body.amount, body.amount_nanousd, "amount")),
            request.by,
            reason=read_text(body.reason, "reason"),
            idempotency_key=_idempotency_key(request, body.idempotency_key),
        )
        shown = {**entry_object(booked.entry), "replayed": booked.replayed}
        return json_response(shown, 200 if booked.replayed else 201)

    async def _refund(self, request: AdminRequest) -> Response:
        body = await request.json(RefundBody)
        reason = read_text(body.reason, "reason")
        entry = await self._accounts.refund(request.names[0], request.by, reason=reason)
        return json_response(entry_object(entry), 201)


def _limits(account: Account) -> Response:
    return json_response({"object": "limits", **limits_object(account.limits)})


def _terms(body: AccountBody) -> Terms | None:
    limit = read_amount(body.credit_limit, body.credit_limit_nanousd, "credit_limit")
    return read_terms(body.billing, limit)


def _idempotency_key(request: AdminRequest, in_body: str | None) -> str | None:
    header = request.header(b"idempotency-key")
    in_header = None if header is None else header.decode("latin-1")
    if in_header is not None and in_body is not None and in_header != in_body:
        raise InvalidValueError("idempotency_key", "differs from the header 'idempotency-key'")
    key = in_body if in_header is None else in_header
    if key is None:
        return None
    if not 0 < len(key) <= _MAX_KEY or not key.isprintable():
        raise InvalidValueError("idempotency_key", f"must be 1 to {_MAX_KEY} printable characters")
    return key
