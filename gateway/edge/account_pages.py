"""
What an account may know of itself: `/v1/credits`, `/v1/usage`, `/v1/generation`, and redeeming.

Any active key of the account may ask. Everything comes from SQL, so it is as far as the ledger
writer has come, usually within a second. What the operator pays upstream is never told.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Protocol

import msgspec

from gateway.core.calendar import DAY_MS, rfc3339
from gateway.core.model import TOKEN_COLUMNS, USAGE_COLUMNS, Principal, Usage, UsageEvent
from gateway.core.money import amount_fields
from gateway.edge.parameters import Query, bad, read_json
from gateway.edge.replies import Reply, csv_reply, json_reply, send_reply
from gateway.edge.routes import Page
from gateway.edge.throttle import Throttle
from gateway.errors import ErrorKind, GatewayError
from gateway.pipeline.client.authenticator import Authenticator
from gateway.pipeline.client.channel import ClientChannel
from gateway.store.accounts.accounts import Account, Accounts, UnknownAccountError
from gateway.store.accounts.audit import Actor
from gateway.store.accounts.codes import Codes, CodeSpentError, UnknownCodeError
from gateway.store.accounts.credits import AmountError
from gateway.store.sql.database import Database
from gateway.store.usage.reports import (
    CLIENT_GROUPS,
    CallFilter,
    GroupBy,
    UsageLine,
    UsageQueries,
    UsageReports,
)

READS_A_MINUTE = 120
"""Of one account, per worker."""
WRONG_CODES_A_MINUTE = 10
"""Of one account, per worker."""
DEFAULT_DAYS = 30
MAX_LINES = 5000
"""Of a report: writing it holds the worker's loop."""
_WAIT_S = 5.0
_MAX_ID = 200


class AccountRefresh(Protocol):
    """Brings an account's change to the hot state."""

    async def refresh(self, account_id: str) -> bool:
        """Return whether it was possible at once."""


class RedeemRequest(msgspec.Struct, forbid_unknown_fields=True):
    """The body of `POST /v1/credits/redeem`."""

    code: str


class AccountPages:
    """
    Answers the pages of callers' accounts.

    Args:
        authenticator: Checks keys.
        database: Where everything is.
        refresh: Told when a code was redeemed.
        queries_at_once: SQL reads at the same time, so that keys can still be looked up.
    """

    def __init__(
        self,
        authenticator: Authenticator,
        database: Database,
        refresh: AccountRefresh,
        *,
        queries_at_once: int = 2,
    ) -> None:
        self._authenticator = authenticator
        self._refresh = refresh
        self._accounts = Accounts(database)
        self._codes = Codes(database)
        self._calls = UsageQueries(database)
        self._reports = UsageReports(database)
        self._room = asyncio.Semaphore(queries_at_once)
        self._reads = Throttle(READS_A_MINUTE, time.monotonic)
        self._wrong_codes = Throttle(WRONG_CODES_A_MINUTE, time.monotonic)

    async def answer(self, channel: ClientChannel, page: Page, request_id: str) -> None:
        """
        Answer one of the pages.

        Raises:
            GatewayError: Whatever is wrong with the key, the parameters or the stores.
        """
        principal = await self._authenticator.principal(channel)
        self._reads.check(principal.account_id)
        self._reads.count(principal.account_id)
        if page is Page.CREDITS:
            reply = await self._credits(channel, principal)
        elif page is Page.USAGE:
            reply = await self._usage(channel, principal)
        elif page is Page.GENERATION:
            reply = await self._generation(channel, principal)
        else:
            reply = await self._redeem(channel, principal, request_id)
        await send_reply(channel, reply, request_id)

    async def _credits(self, channel: ClientChannel, principal: Principal) -> Reply:
        Query(channel, ())
        return json_reply(credits_object(await self._account(principal)))

    async def _redeem(self, channel: ClientChannel, principal: Principal, request_id: str) -> Reply:
        self._wrong_codes.check(principal.account_id)
        Query(channel, ())
        asked = await read_json(channel, RedeemRequest)
        by = Actor(f"key:{principal.key_id}", request_id)  # addresses of callers are not kept
        try:
            async with self._one_of_few():
                entry = await self._codes.redeem(asked.code, principal.account_id, by)
        except (UnknownCodeError, CodeSpentError) as refusal:
            self._wrong_codes.count(principal.account_id)
            state = refusal.state if isinstance(refusal, CodeSpentError) else None
            raise GatewayError(
                ErrorKind.BAD_REQUEST,
                f"This code is {state}." if state else "There is no such code.",
                param="code",
                code=f"code_{state}" if state else "invalid_code",
            ) from refusal
        except AmountError as refusal:
            raise bad("code", f"The code cannot be redeemed: {refusal}.") from refusal
        await self._refresh.refresh(principal.account_id)
        account = await self._account(principal)
        amount = amount_fields("amount", entry.amount_nanousd)
        return json_reply({**credits_object(account), "object": "redemption", **amount})

    async def _usage(self, channel: ClientChannel, principal: Principal) -> Reply:
        query = Query(channel, ("from", "to", "group_by", "format", "key"))
        (form,) = query.words("format", ("json", "csv"), ("json",))
        names = [group.value for group in CLIENT_GROUPS]
        groups = [GroupBy(name) for name in query.words("group_by", names, ("day",))]
        since_ms, until_ms = query.time_ms("from"), query.time_ms("to")
        if since_ms is None:
            since_ms = (int(time.time() * 1000) // DAY_MS - DEFAULT_DAYS) * DAY_MS
        which = CallFilter(
            account_id=principal.account_id,
            key_id=query.text("key"),
            since_ms=since_ms,
            until_ms=until_ms,
        )
        async with self._one_of_few():
            report = await self._reports.report(groups, which, max_lines=MAX_LINES)
        rows = [usage_fields(groups, line) for line in report.lines]
        if form == "csv":
            return csv_reply(rows, usage_columns(groups), "usage.csv")
        return json_reply(
            {
                "object": "list",
                "from": rfc3339(since_ms // 1000),
                "to": None if until_ms is None else rfc3339(until_ms // 1000),
                "group_by": [group.value for group in groups],
                "data": rows,
                "has_more": report.is_cut,
            }
        )

    async def _generation(self, channel: ClientChannel, principal: Principal) -> Reply:
        wanted = Query(channel, ("id",)).text("id")
        if wanted is None or len(wanted) > _MAX_ID:
            raise bad("id", "'id' must be the x-request-id of a call.")
        async with self._one_of_few():
            event = await self._calls.call(wanted)
        if event is None or event.account_id != principal.account_id:
            raise GatewayError(
                ErrorKind.UNKNOWN_PATH,
                f"No call '{wanted}' of this account is on record. A call is recorded within "
                "seconds of its end, and kept for a limited time.",
                param="id",
                code="generation_not_found",
            )
        return json_reply(generation_object(event))

    async def _account(self, principal: Principal) -> Account:
        try:
            async with self._one_of_few():
                return await self._accounts.get(principal.account_id)
        except UnknownAccountError as error:
            raise GatewayError(ErrorKind.FORBIDDEN, "This key's account does not exist.") from error

    @asynccontextmanager
    async def _one_of_few(self) -> AsyncIterator[None]:
        """Hold one of the few places; raises OVERLOADED when none becomes free."""
        try:
            async with asyncio.timeout(_WAIT_S):
                await self._room.acquire()
        except TimeoutError as error:
            raise GatewayError(
                ErrorKind.OVERLOADED, "Too many reports are being made. Try again."
            ) from error
        try:
            yield
        finally:
            self._room.release()


def credits_object(account: Account) -> dict[str, object]:
    """Return what `/v1/credits` says of an account."""
    return {
        "object": "credits",
        "account_id": account.id,
        "billing": account.terms.billing.value,
        **amount_fields("balance", account.balance_nanousd),
        **amount_fields("credit_limit", account.terms.credit_nanousd),
        **amount_fields("available", account.available_nanousd),
    }


def generation_object(event: UsageEvent) -> dict[str, object]:
    """Return what `/v1/generation` says of a call: nothing of who served it upstream."""
    return {
        "object": "generation",
        "id": event.request_id,
        "created": (event.at_ms - event.duration_ms) // 1000,
        "ended_at_ms": event.at_ms,
        "model": event.model,
        "endpoint": event.endpoint,
        "stream": event.stream,
        "key_id": event.key_id,
        "status": event.status,
        "outcome": event.outcome,
        "error_kind": event.error_kind,
        "finish_reason": event.finish_reason,
        "usage": usage_record(event.usage),
        "estimated": event.estimated,
        **amount_fields("cost", event.cost_nanousd),
        "ttft_ms": event.ttft_ms,
        "duration_ms": event.duration_ms,
        "attempts": event.attempts,
    }


def usage_columns(groups: Sequence[GroupBy]) -> list[str]:
    """Return the names of `usage_fields` in their order."""
    head = [*[group.value for group in groups], "calls", "failed"]
    return [*head, *TOKEN_COLUMNS.values(), "cost", "cost_nanousd"]


def usage_fields(groups: Sequence[GroupBy], line: UsageLine) -> dict[str, object]:
    """Return a line of a usage report."""
    names = zip(groups, line.groups, strict=True)
    return {
        **{group.value: name for group, name in names},
        "calls": line.calls,
        "failed": line.failed,
        **token_fields(line.usage),
        **amount_fields("cost", line.cost_nanousd),
    }


def token_fields(usage: Usage) -> dict[str, int]:
    """Return the five disjoint token classes."""
    return {column: getattr(usage, name) for name, column in TOKEN_COLUMNS.items()}


def usage_record(usage: Usage) -> dict[str, int | str | None]:
    """Return all that one call's cost was made of."""
    return {column: getattr(usage, name) for name, column in USAGE_COLUMNS.items()}


def client_address(channel: ClientChannel) -> str | None:
    """Return the address of who is connected to us."""
    client = channel.scope.get("client")
    return client[0] if client else None
