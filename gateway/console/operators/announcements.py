"""`/admin-ui/system/announcements`: incidents on the status page, and notices on all pages."""

from __future__ import annotations

import time
from typing import Final

from starlette.exceptions import HTTPException
from starlette.responses import Response

from gateway.console.operators.accounts import search_text
from gateway.console.web.forms import Form
from gateway.console.web.page import Page, Route
from gateway.console.web.viewer import Access
from gateway.operations.announcements import MAX_TITLE
from gateway.operations.refusals import refusal
from gateway.operations.values import MAX_TEXT, InvalidValueError, read_time
from gateway.store.announcements.incidents import (
    IncidentResolvedError,
    IncidentState,
    UnknownIncidentError,
)
from gateway.store.announcements.notices import UnknownNoticeError

PER_PAGE: Final = 20
_PATH: Final = "/admin-ui/system/announcements"
_INCIDENT: Final = ("title", "text", "state")
_NOTICE: Final = ("notice", "level", "starts", "ends")


async def announcements(page: Page) -> Response:
    """Show the last incidents and notices."""
    return await _list(page)


async def open_incident(page: Page) -> Response:
    """Open an incident."""
    form = await page.form()
    try:
        if not await page.claim(form):
            return page.redirect(_PATH)
        await page.services.announcements.open_incident(
            form.text("title"),
            form.text("text"),
            form.all("models"),
            form.text("state"),
            page.actor,
        )
    except InvalidValueError as error:
        return await _refused(page, form, error)
    await page.services.status.forget()
    return page.redirect(_PATH)


async def update_incident(page: Page) -> Response:
    """Add an update to an incident."""
    form = await page.form()
    incident_id = page.name("incident_id")
    try:
        if not await page.claim(form):
            return page.redirect(_PATH)
        await page.services.announcements.update_incident(
            incident_id, form.text("state"), form.text("text"), page.actor
        )
    except UnknownIncidentError as error:
        raise HTTPException(404) from error
    except InvalidValueError as error:
        return await _list(page, error=error.message, status=422)
    except IncidentResolvedError as error:
        return await _list(page, error=refusal(error).message, status=409)
    await page.services.status.forget()
    return page.redirect(_PATH)


async def publish_notice(page: Page) -> Response:
    """Show a notice on all pages."""
    form = await page.form()
    try:
        starts_at, ends_at = (
            read_time(form.text(name), name) if form.text(name) else None
            for name in ("starts", "ends")
        )
        if not await page.claim(form):
            return page.redirect(_PATH)
        await page.services.announcements.publish_notice(
            form.text("notice"),
            form.text("level", "info"),
            page.actor,
            starts_at=starts_at,
            ends_at=ends_at,
        )
    except InvalidValueError as error:
        return await _refused(page, form, error)
    await page.services.banners.refresh()
    return page.redirect(_PATH)


async def end_notice(page: Page) -> Response:
    """End a notice."""
    try:
        await page.services.announcements.end_notice(page.name("notice_id"), page.actor)
    except UnknownNoticeError as error:
        raise HTTPException(404) from error
    await page.services.banners.refresh()
    return page.redirect(_PATH)


async def _refused(page: Page, form: Form, error: InvalidValueError) -> Response:
    fields = {name: form.text(name) for name in (*_INCIDENT, *_NOTICE)}
    names = {"ends_at": "ends", "starts_at": "starts"}
    param = error.param or ""
    if param == "text" and form.has("notice"):
        param = "notice"
    errors = {names.get(param, param): error.message}
    return await _list(page, fields=fields, models=form.all("models"), errors=errors, status=422)


async def _list(
    page: Page,
    *,
    fields: dict[str, str] | None = None,
    models: list[str] | None = None,
    errors: dict[str, str] | None = None,
    error: str = "",
    status: int = 200,
) -> Response:
    before = search_text(page, "before")
    operations = page.services.announcements
    found = await operations.incidents(before=before, limit=PER_PAGE + 1)
    notices = await operations.notices(limit=PER_PAGE)
    incidents = found[:PER_PAGE]
    now = int(time.time())
    return page.render(
        "operators/announcements.html",
        status=status,
        incidents=incidents,
        older=incidents[-1].id if len(found) > PER_PAGE else "",
        notices=[(each, _phase(each.starts_at, each.ends_at, now)) for each in notices],
        states=[(each.value, page.text(_STATES[each])) for each in IncidentState],
        words={each.value: page.text(_STATES[each]) for each in IncidentState},
        levels=[("info", page.text("Information")), ("warn", page.text("Warning"))],
        models=[(each.name, each.name, "") for each in page.services.catalogue.models],
        chosen=models or [],
        fields=fields or dict.fromkeys((*_INCIDENT, *_NOTICE), ""),
        errors=errors or {},
        error=error,
        most_title=MAX_TITLE,
        most_text=MAX_TEXT,
        now=now,
        idem=page.new_form_token(),
    )


def _(message: str) -> str:
    """Mark a text for translation."""
    return message


_STATES: Final = {
    IncidentState.INVESTIGATING: _("Investigating"),
    IncidentState.IDENTIFIED: _("Identified"),
    IncidentState.MONITORING: _("Monitoring"),
    IncidentState.RESOLVED: _("Resolved"),
}


def _phase(starts_at: int, ends_at: int | None, now: int) -> str:
    if ends_at is not None and ends_at <= now:
        return "over"
    return "shown" if starts_at <= now else "planned"


ROUTES = (
    Route("GET", _PATH, Access.OPERATOR, announcements),
    Route("POST", "/admin-ui/system/incidents", Access.OPERATOR, open_incident),
    Route("POST", "/admin-ui/system/incidents/{incident_id}", Access.OPERATOR, update_incident),
    Route("POST", "/admin-ui/system/notices", Access.OPERATOR, publish_notice),
    Route("POST", "/admin-ui/system/notices/{notice_id}/end", Access.OPERATOR, end_notice),
)
