"""
Downloads of a user's and of an account's data, as JSON lines.

Rows are read in short transactions of a few hundred, and sent as they are read. A download ends
before workers would cut it; its last line says whether it is complete, and where the next begins.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import msgspec
from starlette.exceptions import HTTPException
from starlette.responses import Response, StreamingResponse

from gateway.console.web.page import Page, Route
from gateway.console.web.viewer import Access
from gateway.core.calendar import rfc3339
from gateway.core.model import CallRecord
from gateway.core.money import dollars
from gateway.operations.objects import account_object, key_object, limits_object
from gateway.store.accounts.audit import AuditEntry
from gateway.store.reports.calls import CallLists, CallPlace, CallsQuery
from gateway.store.reports.statements import Statements

BATCH = 500
TIME_S = 20.0
"""How long a download takes at most; workers relay 30 s."""
_CHUNK = 64 * 1024
_FOREVER_MS = 2**60
_PLACE = ","

Line = dict[str, object]
Section = Callable[[Page, str], AsyncIterator[tuple[Line, str]]]
"""Yields lines from a place on, each with the place after it; "": a download cannot end there."""


async def export_user(page: Page) -> Response:
    """Send what is kept about the viewer."""
    return _download(page, f"user-{page.viewer.user_id}", _USER, "/app/settings/export")


async def export_account(page: Page) -> Response:
    """Send what is kept about the account."""
    name = f"account-{page.account.account_id}"
    return _download(page, name, _ACCOUNT, "/app/settings/account/export")


def _download(page: Page, name: str, sections: Mapping[str, Section], path: str) -> Response:
    wanted, _, place = page.query("from").partition(".")
    if wanted and wanted not in sections:
        raise HTTPException(404)
    return StreamingResponse(
        _stream(page, sections, wanted or next(iter(sections)), place, path),
        media_type="application/jsonl",
        headers={
            "content-disposition": f'attachment; filename="{name}.jsonl"',
            "cache-control": "no-store",
        },
    )


async def _stream(
    page: Page, sections: Mapping[str, Section], wanted: str, place: str, path: str
) -> AsyncIterator[bytes]:
    until, buffer = time.monotonic() + TIME_S, bytearray()
    names = list(sections)
    for name in names[names.index(wanted) :]:
        async for line, after in sections[name](page, place if name == wanted else ""):
            buffer += msgspec.json.encode({"type": name, **line}) + b"\n"
            if len(buffer) >= _CHUNK:
                yield bytes(buffer)
                buffer.clear()
            if after and time.monotonic() > until:
                end = {"type": "end", "complete": False, "next": f"{path}?from={name}.{after}"}
                yield bytes(buffer) + msgspec.json.encode(end) + b"\n"
                return
    yield bytes(buffer) + msgspec.json.encode({"type": "end", "complete": True}) + b"\n"


async def _profile(page: Page, _place: str) -> AsyncIterator[tuple[Line, str]]:
    people = page.services.people
    user = await people.users.get(page.viewer.user_id)
    yield (
        {
            "id": user.id,
            "sign_in_name": user.login,
            "name": user.name,
            "created_at": rfc3339(user.created_at),
            "last_seen_at": _time(user.seen_at),
            "time_zone": user.time_zone,
            "language": user.language,
            "is_operator": user.is_operator,
            "has_password": user.password is not None,
            "has_authenticator": user.totp is not None,
        },
        "",
    )


async def _memberships(page: Page, _place: str) -> AsyncIterator[tuple[Line, str]]:
    for each in page.viewer.memberships:
        line: Line = {"account_id": each.account_id, "account_name": each.account_name}
        yield {**line, "role": each.role.value}, ""


async def _sign_ins(page: Page, _place: str) -> AsyncIterator[tuple[Line, str]]:
    for each in await page.services.people.sessions.list(page.viewer.user_id):
        made, seen = rfc3339(each.created_at), rfc3339(each.seen_at)
        yield {"browser": each.browser, "began_at": made, "last_used_at": seen}, ""


async def _passkeys(page: Page, _place: str) -> AsyncIterator[tuple[Line, str]]:
    for each in await page.services.people.factors.passkeys(page.viewer.user_id):
        times = {"created_at": rfc3339(each.created_at), "last_used_at": _time(each.used_at)}
        yield {"name": each.name, **times}, ""


async def _user_audit(page: Page, place: str) -> AsyncIterator[tuple[Line, str]]:
    async for line in _audit(page, page.viewer.user_id, place):
        yield line


async def _account(page: Page, _place: str) -> AsyncIterator[tuple[Line, str]]:
    account = await page.services.accounts.get(page.account.account_id)
    own = {"own_budgets": limits_object(account.own_budgets)}
    yield {**account_object(account), **own}, ""


async def _members(page: Page, _place: str) -> AsyncIterator[tuple[Line, str]]:
    for each in await page.services.people.users.members(page.account.account_id):
        yield {"user_id": each.user_id, "name": each.name, "role": each.role}, ""


async def _keys(page: Page, place: str) -> AsyncIterator[tuple[Line, str]]:
    account_id = page.account.account_id
    while True:
        rows = await page.services.keys.list(account_id, after=place, limit=BATCH)
        for row in rows:
            yield {**key_object(row), "origin": row.origin, "created_by": row.created_by}, row.id
        if len(rows) < BATCH:
            return
        place = rows[-1].id


async def _account_audit(page: Page, place: str) -> AsyncIterator[tuple[Line, str]]:
    async for line in _audit(page, page.account.account_id, place):
        yield line


async def _key_audit(page: Page, place: str) -> AsyncIterator[tuple[Line, str]]:
    """Yield the changes of each key; a download ends after the last change of one."""
    async for _, key_id in _keys(page, place):
        last: Line | None = None
        async for line, _ in _audit(page, key_id, ""):
            if last is not None:
                yield last, ""
            last = line
        if last is not None:
            yield last, key_id


async def _ledger(page: Page, place: str) -> AsyncIterator[tuple[Line, str]]:
    before = _number(place)
    entries = Statements(page.services.database).export(
        page.account.account_id, before_id=before, limit=_FOREVER_MS
    )
    async for each in entries:
        line: Line = {
            "id": each.id,
            "at": _time_ms(each.at_ms),
            "kind": each.kind.value,
            "amount_usd": dollars(each.amount_nanousd),
            "balance_after_usd": dollars(each.balance_after_nanousd),
            "reason": each.reason,
            "request_id": each.request_id,
            "actor": each.actor,
        }
        yield line, str(each.id)


async def _calls(page: Page, place: str) -> AsyncIterator[tuple[Line, str]]:
    at_ms, _, request_id = place.partition(_PLACE)
    number = _number(at_ms)
    before = None if number is None else CallPlace(number, request_id)
    which = CallsQuery(account_id=page.account.account_id, since_ms=0, until_ms=_FOREVER_MS)
    found = CallLists(page.services.database).export(which, before=before, limit=_FOREVER_MS)
    async for call in found:
        yield _call_line(call), f"{call.at_ms}{_PLACE}{call.request_id}"


def _call_line(call: CallRecord) -> Line:
    """Return what customers see of a call, and who sent it."""
    return {
        "request_id": call.request_id,
        "at": _time_ms(call.at_ms),
        "key_id": call.key_id,
        "model": call.model,
        "endpoint": call.endpoint,
        "stream": call.stream,
        "status": call.status,
        "outcome": call.outcome,
        "error_kind": call.error_kind,
        "usage": msgspec.structs.asdict(call.usage),
        "estimated": call.estimated,
        "cost_usd": dollars(call.cost_nanousd),
        "ttft_ms": call.ttft_ms,
        "duration_ms": call.duration_ms,
        "address": call.address,
        "user_agent": call.user_agent,
    }


async def _audit(page: Page, object_id: str, place: str) -> AsyncIterator[tuple[Line, str]]:
    before = _number(place)
    while True:
        entries = await page.services.records.audit(
            object_id=object_id, before_id=before, limit=BATCH
        )
        for each in entries:
            yield _audit_line(each), str(each.id)
        if len(entries) < BATCH:
            return
        before = entries[-1].id


def _audit_line(entry: AuditEntry) -> Line:
    names = ("id", "actor", "action", "object", "before", "after")
    fields: dict[str, Any] = {name: getattr(entry, name) for name in names}
    return {"at": _time_ms(entry.at_ms), **fields}


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None


def _time(unix_s: int | None) -> str | None:
    return None if unix_s is None else rfc3339(unix_s)


def _time_ms(unix_ms: int) -> str:
    return rfc3339(unix_ms // 1000)


_USER: dict[str, Section] = {
    "profile": _profile,
    "membership": _memberships,
    "sign_in": _sign_ins,
    "passkey": _passkeys,
    "audit": _user_audit,
}
_ACCOUNT: dict[str, Section] = {
    "account": _account,
    "member": _members,
    "key": _keys,
    "audit": _account_audit,
    "key_audit": _key_audit,
    "ledger_entry": _ledger,
    "call": _calls,
}
ROUTES = (
    Route("GET", "/app/settings/export", Access.SIGNED_IN, export_user),
    Route("GET", "/app/settings/account/export", Access.OWNER, export_account),
)
