"""The operator's API for codes, and for what is on record: usage, calls, audit, the books."""

from __future__ import annotations

import time

import msgspec

from gateway.core.calendar import rfc3339
from gateway.core.model import UsageEvent
from gateway.core.money import amount_fields
from gateway.edge.account_pages import MAX_LINES, usage_columns, usage_fields, usage_record
from gateway.edge.admin import AdminRequest, Route
from gateway.edge.parameters import Query, bad, read_amount, read_json, read_text, read_time
from gateway.edge.replies import Reply, csv_reply, json_reply, list_reply
from gateway.errors import ErrorKind, GatewayError
from gateway.store.accounts.audit import AuditLog
from gateway.store.accounts.codes import MAX_CODES, Code, CodeDetails, Codes
from gateway.store.accounts.reconcile import reconcile
from gateway.store.sql.database import Database
from gateway.store.usage.reports import CallFilter, GroupBy, UsageLine, UsageQueries, UsageReports

PAGE = 100
MAX_PAGE = 1000
_MARGIN = ("upstream_cost", "upstream_cost_nanousd", "margin", "margin_nanousd")


class CodesBody(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The body that makes codes."""

    amount: str | None = None
    """What each is worth, dollars."""
    amount_nanousd: int | None = None
    count: int = 1
    note: str | None = None
    expires_at: str | int | None = None


class AdminRecords:
    """
    Handlers for codes and records.

    Args:
        database: Where they are.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._codes = Codes(database)
        self._audit = AuditLog(database)
        self._calls = UsageQueries(database)
        self._reports = UsageReports(database)

    def routes(self) -> list[Route]:
        """Return the paths."""
        return [
            Route("GET", "codes", self._list_codes),
            Route("POST", "codes", self._create_codes),
            Route("POST", "codes/*/revoke", self._revoke_code),
            Route("GET", "usage", self._usage),
            Route("GET", "calls", self._list_calls),
            Route("GET", "calls/*", self._show_call),
            Route("GET", "audit", self._list_audit),
            Route("GET", "reconcile", self._reconcile),
        ]

    async def _list_codes(self, request: AdminRequest) -> Reply:
        query = Query(request.channel, ("after", "limit"))
        limit = query.number("limit", PAGE, MAX_PAGE)
        found = await self._codes.list(after=query.text("after") or "", limit=limit)
        rows = [code_object(code) for code in found]
        return list_reply(rows, limit, found[-1].id if found else None)

    async def _create_codes(self, request: AdminRequest) -> Reply:
        body = await read_json(request.channel, CodesBody)
        amount = read_amount(body.amount, body.amount_nanousd, "amount")
        if amount is None:
            raise bad("amount", "'amount' is missing.")
        if not 1 <= body.count <= MAX_CODES:
            raise bad("count", f"'count' must be from 1 to {MAX_CODES}.")
        expires_at = None
        if body.expires_at is not None:
            expires_at = read_time(str(body.expires_at), "expires_at")
            if expires_at <= time.time():
                raise bad("expires_at", "'expires_at' has passed already.")
        note = None if body.note is None else read_text(body.note, "note")
        details = CodeDetails(amount_nanousd=amount, note=note, expires_at=expires_at)
        made = await self._codes.create(details, request.by, body.count)
        rows = [{**code_object(each.code), "code": each.raw} for each in made]
        return json_reply({"object": "list", "data": rows}, 201)

    async def _revoke_code(self, request: AdminRequest) -> Reply:
        return json_reply(code_object(await self._codes.revoke(request.names[0], request.by)))

    async def _usage(self, request: AdminRequest) -> Reply:
        query = Query(request.channel, ("from", "to", "group_by", "format", "account_id", "key_id"))
        (form,) = query.words("format", ("json", "csv"), ("json",))
        names = [group.value for group in GroupBy]
        groups = [GroupBy(name) for name in query.words("group_by", names, ("day",))]
        report = await self._reports.report(groups, _filter(query), max_lines=MAX_LINES)
        rows = [{**usage_fields(groups, line), **_margin(line)} for line in report.lines]
        if form == "csv":
            columns = [*usage_columns(groups), *_MARGIN, "calls_without_cost"]
            return csv_reply(rows, columns, "usage.csv")
        return json_reply({"object": "list", "data": rows, "has_more": report.is_cut})

    async def _list_calls(self, request: AdminRequest) -> Reply:
        query = Query(request.channel, ("from", "to", "limit", "account_id", "key_id"))
        limit = query.number("limit", PAGE, MAX_PAGE)
        found = await self._calls.last_calls(limit, _filter(query))
        return json_reply({"object": "list", "data": [call_object(event) for event in found]})

    async def _show_call(self, request: AdminRequest) -> Reply:
        event = await self._calls.call(request.names[0])
        if event is None:
            raise GatewayError(
                ErrorKind.UNKNOWN_PATH,
                f"No call '{request.names[0]}' is on record (yet, or any more).",
                code="call_not_found",
            )
        return json_reply(call_object(event))

    async def _list_audit(self, request: AdminRequest) -> Reply:
        query = Query(request.channel, ("object", "before", "limit"))
        limit = query.number("limit", PAGE, MAX_PAGE)
        found = await self._audit.list(
            object_id=query.text("object"), before_id=query.optional_number("before"), limit=limit
        )
        return list_reply(found, limit, found[-1].id if found else None)

    async def _reconcile(self, request: AdminRequest) -> Reply:
        Query(request.channel, ())
        found = await reconcile(self._database)
        return json_reply({"object": "reconciliation", **msgspec.structs.asdict(found)})


def code_object(code: Code) -> dict[str, object]:
    """Return a code as the operator sees it: never the code itself."""
    return {
        "object": "code",
        "id": code.id,
        "ends_in": code.last_four,
        **amount_fields("amount", code.amount_nanousd),
        "state": code.state(time.time()),
        "note": code.note,
        "created_at": rfc3339(code.created_at),
        "created_by": code.created_by,
        "expires_at": None if code.expires_at is None else rfc3339(code.expires_at),
        "redeemed_at": None if code.redeemed_at is None else rfc3339(code.redeemed_at),
        "redeemed_by": code.redeemed_by,
    }


def call_object(event: UsageEvent) -> dict[str, object]:
    """Return a call as the operator sees it: all that is on record."""
    fields = msgspec.structs.asdict(event)
    del fields["usage"], fields["cost_nanousd"], fields["upstream_cost_nanousd"]
    return {
        "object": "call",
        **fields,
        **usage_record(event.usage),
        **amount_fields("cost", event.cost_nanousd),
        **amount_fields("upstream_cost", event.upstream_cost_nanousd),
    }


def _margin(line: UsageLine) -> dict[str, object]:
    return {
        **amount_fields("upstream_cost", line.upstream_cost_nanousd),
        **amount_fields("margin", line.margin_nanousd),
        "calls_without_cost": line.calls_without_cost,
    }


def _filter(query: Query) -> CallFilter:
    return CallFilter(
        account_id=query.text("account_id"),
        key_id=query.text("key_id"),
        since_ms=query.time_ms("from"),
        until_ms=query.time_ms("to"),
    )
