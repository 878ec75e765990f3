"""`/admin-ui/codes`: redemption codes, and creating them, when alone they are shown."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Final
from urllib.parse import urlencode

from starlette.exceptions import HTTPException
from starlette.responses import Response

from gateway.console.activity.scope import actor_names, download
from gateway.console.operators.accounts import search_text
from gateway.console.reporting.downloads import ExportRow, csv_lines
from gateway.console.web.forms import Form
from gateway.console.web.page import Page, Route
from gateway.console.web.viewer import Access
from gateway.core.calendar import rfc3339
from gateway.core.money import dollars
from gateway.errors import GatewayError
from gateway.operations.values import check_expiry, read_amount, read_text, read_time
from gateway.store.accounts.codes import (
    CodeDetails,
    CodeSpentError,
    NewCode,
    UnknownCodeError,
)
from gateway.store.reports.directory import Directory

PER_PAGE: Final = 50
MOST_AT_ONCE: Final = 1000
STATES: Final = ("open", "redeemed", "expired", "revoked")
_PATH: Final = "/admin-ui/codes"
_DAY_S: Final = 86_400
EXPORT_LIMIT: Final = 10_000
_BATCH: Final = 500
_COLUMNS: Final = (
    "id", "last_four", "amount_usd", "note", "made", "made_by", "expires", "state", "redeemed",
    "redeemed_by",
)  # fmt: skip
_MADE_COLUMNS: Final = ("code", "amount_usd", "expires", "note")
_MOST_NANOUSD: Final = 10**15
_FIELDS: Final = ("amount", "count", "note", "expires")


async def codes(page: Page) -> Response:
    """Show a page of codes."""
    return await _list(page)


async def create(page: Page) -> Response:
    """Create codes and show them, once."""
    form = await page.form()
    details, count, errors = _read(page, form)
    if errors or details is None:
        fields = {name: form.text(name) for name in _FIELDS}
        return await _list(page, fields=fields, errors=errors, status=422)
    if not await page.claim(form):
        return page.redirect(_PATH)
    made = await page.services.codes.create(details, count, page.actor)
    return await _list(page, made=made)


async def revoke(page: Page) -> Response:
    """Revoke a code that has not been redeemed."""
    try:
        await page.services.codes.revoke(page.name("code_id"), page.actor)
    except UnknownCodeError as error:
        raise HTTPException(404) from error
    except CodeSpentError:
        text = page.text("The code has been redeemed. Take the money back by an adjustment.")
        return await _list(page, error=text, status=409)
    return page.redirect(_PATH)


def _read(page: Page, form: Form) -> tuple[CodeDetails | None, int, dict[str, str]]:
    errors: dict[str, str] = {}
    amount, expires_at, note = 0, None, None
    try:
        amount = read_amount(form.text("amount").replace(",", "") or None, None, "amount") or 0
    except GatewayError:
        amount = 0
    if not 0 < amount <= _MOST_NANOUSD:
        errors["amount"] = page.text("Enter dollars above 0, at most a million.")
    text = form.text("count", "1")
    count = int(text) if text.isascii() and text.isdigit() and len(text) < 6 else 0
    if not 1 <= count <= MOST_AT_ONCE:
        errors["count"] = page.text("Enter a number from 1 to %(most)s.", most=MOST_AT_ONCE)
    try:
        note = read_text(form.text("note"), "note") if form.text("note") else None
    except GatewayError:
        errors["note"] = page.text("Use at most 500 printable characters.")
    try:
        if form.text("expires"):
            # A code can be redeemed until the end of the day, in UTC.
            expires_at = read_time(form.text("expires"), "expires") + _DAY_S - 1
            check_expiry(expires_at, time.time())
    except GatewayError:
        errors["expires"] = page.text("Enter a day from today on, like 2027-01-31.")
    details = CodeDetails(amount_nanousd=amount, note=note, expires_at=expires_at)
    return (None if errors else details), count, errors


async def _list(
    page: Page,
    *,
    made: list[NewCode] | None = None,
    fields: dict[str, str] | None = None,
    errors: dict[str, str] | None = None,
    error: str = "",
    status: int = 200,
) -> Response:
    now = int(time.time())
    state = page.query("state") if page.query("state") in STATES else ""
    text, before = search_text(page), search_text(page, "before")
    directory = Directory(page.services.database)
    if not made and not errors and not error:
        file = download(page, "codes", _COLUMNS, _export(directory, state, now, text))
        if file is not None:
            return file
    found = await directory.codes(state, now, text=text, before=before, limit=PER_PAGE + 1)
    shown = found[:PER_PAGE]
    return page.render(
        "operators/codes.html",
        status=status,
        headers={"cache-control": "no-store"},
        codes=[(each, each.state(now)) for each in shown],
        names=await actor_names(page, [each.created_by for each in shown]),
        state=state,
        states=[
            ("", page.text("All codes")),
            ("open", page.text("Open")),
            ("redeemed", page.text("Redeemed")),
            ("expired", page.text("Expired")),
            ("revoked", page.text("Revoked")),
        ],
        text=text,
        before=before,
        older=shown[-1].id if len(found) > PER_PAGE else "",
        query=urlencode({name: value for name, value in (("q", text), ("state", state)) if value}),
        made=made or [],
        made_csv=csv_lines([_MADE_COLUMNS, *[_made_row(each) for each in made or []]]),
        fields=fields or {"amount": "", "count": "1", "note": "", "expires": ""},
        errors=errors or {},
        error=error,
        most=MOST_AT_ONCE,
        now=now,
        idem=page.new_form_token(),
    )


def _made_row(made: NewCode) -> ExportRow:
    code = made.code
    return [made.raw, dollars(code.amount_nanousd), _time(code.expires_at), code.note]


async def _export(
    directory: Directory, state: str, now: int, text: str
) -> AsyncIterator[ExportRow]:
    """Yield rows of up to EXPORT_LIMIT codes; the codes themselves are not stored."""
    before, left = "", EXPORT_LIMIT
    while left > 0:
        batch = await directory.codes(state, now, text=text, before=before, limit=_BATCH)
        for code in batch:
            yield [
                code.id, code.last_four, dollars(code.amount_nanousd), code.note,
                _time(code.created_at), code.created_by, _time(code.expires_at), code.state(now),
                _time(code.redeemed_at), code.redeemed_by,
            ]  # fmt: skip
        if len(batch) < _BATCH:
            return
        left -= _BATCH
        before = batch[-1].id


def _time(unix_s: int | None) -> str | None:
    return None if unix_s is None else rfc3339(unix_s)


ROUTES = (
    Route("GET", _PATH, Access.OPERATOR, codes),
    Route("POST", _PATH, Access.OPERATOR, create, confirmed=True),
    Route("POST", f"{_PATH}/{{code_id}}/revoke", Access.OPERATOR, revoke),
)
