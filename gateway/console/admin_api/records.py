"""`/admin/codes`, and the records: `/admin/{usage,calls,audit,reconcile}`."""

from __future__ import annotations

import msgspec

from gateway.console.admin_api.request import MAX_PAGE, PAGE, AdminRequest, Route
from gateway.operations.http_api import (
    Query,
    Response,
    csv_response,
    json_response,
    list_response,
)
from gateway.operations.objects import (
    MARGIN_COLUMNS,
    call_object,
    code_object,
    margin_fields,
    usage_columns,
    usage_fields,
)
from gateway.operations.records import CodeOperations, RecordOperations
from gateway.operations.values import read_amount, read_text, read_time, require_amount
from gateway.store.accounts.audit import AuditFilter
from gateway.store.accounts.codes import CodeDetails
from gateway.store.sql.database import Database
from gateway.store.usage.reports import CallFilter, GroupBy

MAX_LINES = 5000  # of a report: encoding it blocks the event loop


class CodesBody(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The body that creates codes; `amount` is what each is worth."""

    amount: str | None = None  # dollars
    amount_nanousd: int | None = None
    count: int = 1
    note: str | None = None
    expires_at: str | int | None = None  # an ISO date or time, or Unix seconds


class AdminRecords:
    """
    Handlers for codes and records.

    Args:
        database: The SQL database.
    """

    def __init__(self, database: Database) -> None:
        self._codes = CodeOperations(database)
        self._records = RecordOperations(database)

    def routes(self) -> list[Route]:
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

    async def _list_codes(self, request: AdminRequest) -> Response:
        query = Query(request.query, ("after", "limit"))
        limit = query.number("limit", PAGE, MAX_PAGE)
        found = await self._codes.list(after=query.text("after") or "", limit=limit)
        rows = [code_object(code) for code in found]
        return list_response(rows, limit, found[-1].id if found else None)

    async def _create_codes(self, request: AdminRequest) -> Response:
        body = await request.json(CodesBody)
        expires_at = body.expires_at
        details = CodeDetails(
            amount_nanousd=require_amount(read_amount(body.amount, body.amount_nanousd, "amount")),
            note=None if body.note is None else read_text(body.note, "note"),
            expires_at=None if expires_at is None else read_time(str(expires_at), "expires_at"),
        )
        created = await self._codes.create(details, body.count, request.by)
        rows = [{**code_object(each.code), "code": each.raw} for each in created]
        return json_response({"object": "list", "data": rows}, 201)

    async def _revoke_code(self, request: AdminRequest) -> Response:
        return json_response(code_object(await self._codes.revoke(request.names[0], request.by)))

    async def _usage(self, request: AdminRequest) -> Response:
        query = Query(request.query, ("from", "to", "group_by", "format", "account_id", "key_id"))
        (form,) = query.words("format", ("json", "csv"), ("json",))
        names = [group.value for group in GroupBy]
        groups = [GroupBy(name) for name in query.words("group_by", names, ("day",))]
        report = await self._records.usage(groups, _filter(query), max_lines=MAX_LINES)
        rows = [{**usage_fields(groups, line), **margin_fields(line)} for line in report.lines]
        if form == "csv":
            return csv_response(rows, [*usage_columns(groups), *MARGIN_COLUMNS], "usage.csv")
        return json_response({"object": "list", "data": rows, "has_more": report.is_cut})

    async def _list_calls(self, request: AdminRequest) -> Response:
        query = Query(request.query, ("from", "to", "limit", "account_id", "key_id"))
        limit = query.number("limit", PAGE, MAX_PAGE)
        found = await self._records.calls(limit, _filter(query))
        return json_response({"object": "list", "data": [call_object(event) for event in found]})

    async def _show_call(self, request: AdminRequest) -> Response:
        return json_response(call_object(await self._records.call(request.names[0])))

    async def _list_audit(self, request: AdminRequest) -> Response:
        query = Query(request.query, ("object", "actor", "action", "before", "limit"))
        limit = query.number("limit", PAGE, MAX_PAGE)
        which = AuditFilter(actor=query.text("actor") or "", action=query.text("action") or "")
        found = await self._records.audit(
            object_id=query.text("object"),
            which=which,
            before_id=query.optional_number("before"),
            limit=limit,
        )
        return list_response(found, limit, found[-1].id if found else None)

    async def _reconcile(self, request: AdminRequest) -> Response:
        Query(request.query, ())
        found = await self._records.reconcile()
        return json_response({"object": "reconciliation", **msgspec.structs.asdict(found)})


def _filter(query: Query) -> CallFilter:
    return CallFilter(
        account_id=query.text("account_id"),
        key_id=query.text("key_id"),
        since_ms=query.time_ms("from"),
        until_ms=query.time_ms("to"),
    )
