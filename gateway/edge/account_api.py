"""
The API of an account for its own keys: `/v1/credits`, `/v1/usage` and `/v1/generation`.

Any active key of the account may use it. All numbers come from SQL and lag behind by the ledger
writer's delay, usually less than a second. Upstream costs are never shown.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec

from gateway.core.calendar import DAY_MS, rfc3339
from gateway.core.model import AttemptRecord, CallRecord, Principal
from gateway.core.money import amount_fields
from gateway.edge.http import read_json, send_response
from gateway.edge.routes import Page
from gateway.errors import ErrorKind, GatewayError
from gateway.operations.accounts import AccountRefresh
from gateway.operations.http_api import Query, Response, csv_response, json_response
from gateway.operations.objects import (
    balance_fields,
    usage_columns,
    usage_fields,
    usage_record,
)
from gateway.operations.refusals import refusal
from gateway.operations.throttle import Throttle
from gateway.operations.values import InvalidValueError
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
    UsageQueries,
    UsageReports,
)

READS_A_MINUTE = 120  # of one account, per worker
WRONG_CODES_A_MINUTE = 10  # of one account, per worker
DEFAULT_DAYS = 30
MAX_LINES = 5000  # of a report: encoding it blocks the worker's event loop
_WAIT_S = 5.0
_MAX_ID = 200


class RedeemRequest(msgspec.Struct, forbid_unknown_fields=True):
    """The body of `POST /v1/credits/redeem`."""

    code: str


class AccountApi:
    """
    Handles the account API.

    Args:
        authenticator: Checks keys.
        database: The SQL database.
        refresh: Called after a code was redeemed.
        concurrent_queries: Bound on SQL queries in flight, which leaves connections for looking up
            keys.
        show_provider: Name the providers of a call's attempts.
    """

    def __init__(
        self,
        authenticator: Authenticator,
        database: Database,
        refresh: AccountRefresh,
        *,
        concurrent_queries: int = 2,
        show_provider: bool = True,
    ) -> None:
        self._show_provider = show_provider
        self._authenticator = authenticator
        self._refresh = refresh
        self._accounts = Accounts(database)
        self._codes = Codes(database)
        self._calls = UsageQueries(database)
        self._reports = UsageReports(database)
        self._query_slots = asyncio.Semaphore(concurrent_queries)
        self._reads = Throttle(READS_A_MINUTE, time.monotonic)
        self._wrong_codes = Throttle(WRONG_CODES_A_MINUTE, time.monotonic)

    async def handle(self, channel: ClientChannel, page: Page, request_id: str) -> None:
        """
        Respond to one request.

        Raises:
            GatewayError: The key or a parameter is invalid, or a store is unavailable.
        """
        principal = await self._authenticator.principal(channel)
        self._reads.check(principal.account_id)
        self._reads.count(principal.account_id)
        if page is Page.CREDITS:
            response = await self._credits(channel, principal)
        elif page is Page.USAGE:
            response = await self._usage(channel, principal)
        elif page is Page.GENERATION:
            response = await self._generation(channel, principal)
        else:
            response = await self._redeem(channel, principal, request_id)
        await send_response(channel, response, request_id)

    async def _credits(self, channel: ClientChannel, principal: Principal) -> Response:
        Query(channel.scope["query_string"], ())
        return json_response(credits_object(await self._account(principal)))

    async def _redeem(
        self, channel: ClientChannel, principal: Principal, request_id: str
    ) -> Response:
        self._wrong_codes.check(principal.account_id)
        Query(channel.scope["query_string"], ())
        body = await read_json(channel, RedeemRequest)
        by = Actor(f"key:{principal.key_id}", request_id)  # clients' addresses are not stored
        try:
            async with self._query_slot():
                entry = await self._codes.redeem(body.code, principal.account_id, by)
        except (UnknownCodeError, CodeSpentError) as error:
            self._wrong_codes.count(principal.account_id)
            state = error.state if isinstance(error, CodeSpentError) else None
            raise GatewayError(
                ErrorKind.BAD_REQUEST,
                refusal(error).message,
                param="code",
                code=f"code_{state}" if state else "invalid_code",
            ) from error
        except AmountError as error:
            raise InvalidValueError("code", f"cannot be redeemed: {error}") from error
        await self._refresh.refresh(principal.account_id)
        account = await self._account(principal)
        amount = amount_fields("amount", entry.amount_nanousd)
        return json_response({**credits_object(account), "object": "redemption", **amount})

    async def _usage(self, channel: ClientChannel, principal: Principal) -> Response:
        query = Query(channel.scope["query_string"], ("from", "to", "group_by", "format", "key"))
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
        async with self._query_slot():
            report = await self._reports.report(groups, which, max_lines=MAX_LINES)
        rows = [usage_fields(groups, line) for line in report.lines]
        if form == "csv":
            return csv_response(rows, usage_columns(groups), "usage.csv")
        return json_response(
            {
                "object": "list",
                "from": rfc3339(since_ms // 1000),
                "to": None if until_ms is None else rfc3339(until_ms // 1000),
                "group_by": [group.value for group in groups],
                "data": rows,
                "has_more": report.is_cut,
            }
        )

    async def _generation(self, channel: ClientChannel, principal: Principal) -> Response:
        wanted = Query(channel.scope["query_string"], ("id",)).text("id")
        if wanted is None or len(wanted) > _MAX_ID:
            raise InvalidValueError("id", "must be the x-request-id of a call")
        async with self._query_slot():
            event = await self._calls.call(wanted)
        if event is None or event.account_id != principal.account_id:
            raise GatewayError(
                ErrorKind.UNKNOWN_PATH,
                f"Call '{wanted}' was not found in this account: it is not recorded yet (calls are "
                "recorded within seconds of their end), or past its retention.",
                param="id",
                code="generation_not_found",
            )
        return json_response(generation_object(event, show_provider=self._show_provider))

    async def _account(self, principal: Principal) -> Account:
        try:
            async with self._query_slot():
                return await self._accounts.get(principal.account_id)
        except UnknownAccountError as error:
            raise GatewayError(ErrorKind.FORBIDDEN, "This key's account does not exist.") from error

    @asynccontextmanager
    async def _query_slot(self) -> AsyncIterator[None]:
        """Hold a query slot; raises GatewayError (OVERLOADED) if none becomes free in time."""
        try:
            async with asyncio.timeout(_WAIT_S):
                await self._query_slots.acquire()
        except TimeoutError as error:
            raise GatewayError(
                ErrorKind.OVERLOADED, "Too many reports are in progress. Try again later."
            ) from error
        try:
            yield
        finally:
            self._query_slots.release()


def credits_object(account: Account) -> dict[str, object]:
    """Return the response of `/v1/credits`."""
    return {"object": "credits", "account_id": account.id, **balance_fields(account)}


def generation_object(event: CallRecord, *, show_provider: bool) -> dict[str, object]:
    """Return the response of `/v1/generation`; it names no upstream model."""
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
        "chain": [_attempt_object(each, show_provider) for each in _chain_of(event)],
    }


def _chain_of(event: CallRecord) -> tuple[AttemptRecord, ...]:
    """Return the attempts of a call; a single successful one is derived from the call's record."""
    if event.chain or event.provider is None or not event.attempts:
        return event.chain
    label = f"{event.provider}/{event.upstream_model}"
    result = "ok" if event.error_kind is None else event.error_kind
    return (AttemptRecord(label, event.model, result, event.status, event.duration_ms),)


def _attempt_object(attempt: AttemptRecord, show_provider: bool) -> dict[str, object]:
    shown: dict[str, object] = {
        "model": attempt.model,
        "result": attempt.result,
        "status": attempt.status,
        "duration_ms": attempt.ms,
        "hedge": attempt.hedge,
    }
    if show_provider:
        shown["provider"] = attempt.deployment.partition("/")[0]
    return shown
