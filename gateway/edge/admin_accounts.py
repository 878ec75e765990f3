"""The operator's API for accounts: their terms, limits, money and its ledger."""

from __future__ import annotations

from typing import Literal

import msgspec

from gateway.core.calendar import rfc3339
from gateway.core.money import MAX_BALANCE_NANOUSD, amount_fields, dollars
from gateway.edge.account_pages import AccountRefresh
from gateway.edge.admin import AdminRequest, Route
from gateway.edge.limit_shapes import LimitsBody, limits_object, read_limits
from gateway.edge.parameters import Query, bad, read_amount, read_json, read_text
from gateway.edge.replies import Reply, json_reply, list_reply
from gateway.pipeline.client.channel import ClientChannel
from gateway.store.accounts.accounts import Account, Accounts, Billing, Terms
from gateway.store.accounts.credits import Booked, Credits, LedgerEntry
from gateway.store.sql.database import Database

PAGE = 100
MAX_PAGE = 1000
_MAX_KEY = 200


class AccountBody(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The body that makes or changes an account; of a change, absent fields stay."""

    name: str | None = None
    billing: Billing | None = None
    credit_limit: str | None = None
    """Dollars. Postpaid without it: without end."""
    credit_limit_nanousd: int | None = None
    trusted: bool | None = None


class CreditBody(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The body that moves a balance."""

    reason: str
    kind: Literal["topup", "adjustment"] = "topup"
    amount: str | None = None
    """Dollars, exact."""
    amount_nanousd: int | None = None
    idempotency_key: str | None = None
    """Or the header `idempotency-key`."""


class RefundBody(msgspec.Struct, forbid_unknown_fields=True):
    """The body that refunds a call."""

    reason: str


class AdminAccounts:
    """
    Handlers for accounts.

    Args:
        database: Where they are.
        refresh: Told of each change.
    """

    def __init__(self, database: Database, refresh: AccountRefresh) -> None:
        self._accounts = Accounts(database)
        self._credits = Credits(database)
        self._refresh = refresh

    def routes(self) -> list[Route]:
        """Return the paths."""
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

    async def _list(self, request: AdminRequest) -> Reply:
        query = Query(request.channel, ("after", "limit", "name"))
        limit = query.number("limit", PAGE, MAX_PAGE)
        after, name = query.text("after") or "", query.text("name")
        found = await self._accounts.list(name=name, after=after, limit=limit)
        rows = [account_object(account) for account in found]
        return list_reply(rows, limit, found[-1].id if found else None)

    async def _create(self, request: AdminRequest) -> Reply:
        body = await read_json(request.channel, AccountBody)
        if body.name is None:
            raise bad("name", "'name' is missing.")
        terms = _terms(body) or Terms()
        account = await self._accounts.create(
            read_text(body.name, "name"), terms, trusted=body.trusted or False, by=request.by
        )
        return json_reply(account_object(account), 201)

    async def _show(self, request: AdminRequest) -> Reply:
        Query(request.channel, ())
        return json_reply(account_object(await self._accounts.get(request.names[0])))

    async def _change(self, request: AdminRequest) -> Reply:
        body = await read_json(request.channel, AccountBody)
        name = None if body.name is None else read_text(body.name, "name")
        account = await self._accounts.change(
            request.names[0], request.by, name=name, terms=_terms(body), trusted=body.trusted
        )
        await self._refresh.refresh(account.id)
        return json_reply(account_object(account))

    async def _show_limits(self, request: AdminRequest) -> Reply:
        account = await self._accounts.get(request.names[0])
        return json_reply({"object": "limits", **limits_object(account.limits)})

    async def _set_limits(self, request: AdminRequest) -> Reply:
        limits = read_limits(await read_json(request.channel, LimitsBody))
        account = await self._accounts.change(request.names[0], request.by, limits=limits)
        await self._refresh.refresh(account.id)
        return json_reply({"object": "limits", **limits_object(account.limits)})

    async def _ledger(self, request: AdminRequest) -> Reply:
        query = Query(request.channel, ("before", "limit"))
        limit, before = query.number("limit", PAGE, MAX_PAGE), query.optional_number("before")
        account = await self._accounts.get(request.names[0])
        found = await self._credits.entries(account.id, before_id=before, limit=limit)
        rows = [entry_object(entry) for entry in found]
        return list_reply(rows, limit, found[-1].id if found else None)

    async def _book(self, request: AdminRequest) -> Reply:
        body = await read_json(request.channel, CreditBody)
        amount = read_amount(body.amount, body.amount_nanousd, "amount")
        if amount is None:
            raise bad("amount", "'amount' is missing.")
        move = self._credits.topup if body.kind == "topup" else self._credits.adjust
        booked = await move(
            request.names[0],
            amount,
            request.by,
            reason=read_text(body.reason, "reason"),
            idempotency_key=_idempotency_key(request.channel, body.idempotency_key),
        )
        await self._refresh.refresh(booked.entry.account_id)
        return json_reply(_booked_object(booked), 200 if booked.replayed else 201)

    async def _refund(self, request: AdminRequest) -> Reply:
        body = await read_json(request.channel, RefundBody)
        reason = read_text(body.reason, "reason")
        entry = await self._credits.refund(request.names[0], request.by, reason=reason)
        await self._refresh.refresh(entry.account_id)
        return json_reply(entry_object(entry), 201)


def account_object(account: Account) -> dict[str, object]:
    """Return an account as the operator sees it."""
    return {
        "object": "account",
        "id": account.id,
        "name": account.name,
        "created_at": rfc3339(account.created_at),
        "billing": account.terms.billing.value,
        **amount_fields("balance", account.balance_nanousd),
        **amount_fields("credit_limit", account.terms.credit_nanousd),
        **amount_fields("available", account.available_nanousd),
        "trusted": account.trusted,
        "limits": limits_object(account.limits),
        "version": account.version,
    }


def entry_object(entry: LedgerEntry) -> dict[str, object]:
    """Return a movement of money."""
    return {
        "object": "ledger_entry",
        "id": entry.id,
        "account_id": entry.account_id,
        "at_ms": entry.at_ms,
        "kind": entry.kind.value,
        **amount_fields("amount", entry.amount_nanousd),
        **amount_fields("balance_after", entry.balance_after_nanousd),
        "request_id": entry.request_id,
        "idempotency_key": entry.idempotency_key,
        "reason": entry.reason,
        "actor": entry.actor,
    }


def _booked_object(booked: Booked) -> dict[str, object]:
    return {**entry_object(booked.entry), "replayed": booked.replayed}


def _terms(body: AccountBody) -> Terms | None:
    """Return the terms asked for; None when there is no word of them."""
    limit = read_amount(body.credit_limit, body.credit_limit_nanousd, "credit_limit")
    if limit is not None and not 0 <= limit <= MAX_BALANCE_NANOUSD:
        most = dollars(MAX_BALANCE_NANOUSD)
        raise bad("credit_limit", f"'credit_limit' must be from 0 to {most} dollars.")
    if body.billing is None:
        if limit is not None:
            raise bad("credit_limit", "'credit_limit' goes with 'billing': 'postpaid'.")
        return None
    if body.billing is Billing.PREPAID and limit is not None:
        raise bad("credit_limit", "'credit_limit' goes with 'billing': 'postpaid'.")
    return Terms(body.billing, limit)


def _idempotency_key(channel: ClientChannel, in_body: str | None) -> str | None:
    header = channel.header(b"idempotency-key")
    in_header = None if header is None else header.decode("latin-1")
    if in_header is not None and in_body is not None and in_header != in_body:
        raise bad("idempotency_key", "The idempotency keys of header and body differ.")
    key = in_body if in_header is None else in_header
    if key is None:
        return None
    if not 0 < len(key) <= _MAX_KEY or not key.isprintable():
        raise bad("idempotency_key", f"An idempotency key has 1 to {_MAX_KEY} characters.")
    return key
