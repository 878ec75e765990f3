"""`/app/api-keys/{id}`: one key, its settings, and disabling, revoking and replacing it."""

from __future__ import annotations

import time
from collections.abc import Mapping

import msgspec
from starlette.responses import Response

from gateway.console.keys.key_form import DAY_S, KeyFields, fields_of, fields_of_key, read_details
from gateway.console.keys.key_order import maker
from gateway.console.keys.key_use import EVERY_S, key_gauges, key_of_path, key_plot
from gateway.console.keys.list_line import key_line
from gateway.console.keys.list_page import account_activity, shown_once
from gateway.console.web.page import Handler, Page, Route
from gateway.console.web.viewer import Access
from gateway.operations.keys import ChangedKey
from gateway.store.keys.activity import NO_ACTIVITY
from gateway.store.keys.repository import KeyRevokedError, KeyRow
from gateway.store.usage.reports import CallFilter

_LAST_CALLS = 10
_AUDIT = 20
_PATH = "/app/api-keys/{key_id}"


async def show_key(page: Page) -> Response:
    """Show one key."""
    row = await key_of_path(page)
    return await _key_page(page, row, fields_of_key(row), {})


async def change_key(page: Page) -> Response:
    """Change name, expiry, models and limits."""
    row = await key_of_path(page)
    form = await page.form()
    fields = fields_of(form)
    details, errors = read_details(fields, page.services.catalogue, time.time(), row)
    if details is None:
        return await _key_page(page, row, fields, errors, status=422)
    return await _changed(page, await page.services.keys.change(row.id, details, page.actor))


async def disable_key(page: Page) -> Response:
    """Reject calls of the key until it is enabled again."""
    row = await key_of_path(page)
    return await _changed(page, await page.services.keys.disable(row.id, page.actor))


async def enable_key(page: Page) -> Response:
    """Accept calls of the key again."""
    row = await key_of_path(page)
    return await _changed(page, await page.services.keys.enable(row.id, page.actor))


async def revoke_key(page: Page) -> Response:
    """Reject calls of the key permanently, once its name was typed."""
    row = await key_of_path(page)
    form = await page.form()
    if form.text("name") != row.name:
        errors = {"revoke": "Type the key's name exactly as it is shown."}
        return await _key_page(page, row, fields_of_key(row), errors, status=422)
    return await _changed(page, await page.services.keys.revoke(row.id, page.actor))


async def replace_key(page: Page) -> Response:
    """Create a key with the same settings; this one ends in a day."""
    row = await key_of_path(page)
    form = await page.form()
    if not await page.claim(form):
        return page.redirect("/app/api-keys")
    now = int(time.time())
    created, changed = await page.services.keys.replace(row.id, now + DAY_S, page.actor)
    return await shown_once(page, created, changed.row)


async def _changed(page: Page, changed: ChangedKey) -> Response:
    late = "" if changed.published else "?late=1"
    return page.redirect(f"/app/api-keys/{changed.row.id}{late}")


async def _key_page(
    page: Page,
    row: KeyRow,
    fields: KeyFields,
    errors: Mapping[str, str],
    *,
    status: int = 200,
) -> Response:
    services, now = page.services, time.time()
    sums = await account_activity(page, now, last_use=False)
    calls = await services.records.calls(_LAST_CALLS, CallFilter(key_id=row.id))
    activity = msgspec.structs.replace(
        sums.get(row.id, NO_ACTIVITY), used_at=calls[0].at_ms // 1000 if calls else None
    )
    audit, names = await services.people.users.changes(row.id, row.account_id, limit=_AUDIT)
    return page.render(
        "keys/key.html",
        status=status,
        row=row,
        line=key_line(row, activity, now, page.text),
        fields=fields,
        errors={name: page.text(text) for name, text in errors.items()},
        models=services.catalogue.models,
        calls=calls,
        plot=await key_plot(page, row, now),
        is_first=True,
        gauges=None if row.state == "revoked" else await key_gauges(page, row),
        every_s=EVERY_S,
        audit=[(entry, maker(page, names, entry.actor)) for entry in audit],
        now=int(now),
        late=page.query("late") == "1",
        idem=page.new_form_token(),
    )


def _revoked_is_read_only(handle: Handler) -> Handler:
    async def guarded(page: Page) -> Response:
        try:
            return await handle(page)
        except KeyRevokedError:
            return page.redirect(page.path.rpartition("/")[0])

    return guarded


ROUTES = (
    Route("GET", _PATH, Access.VIEWER, show_key),
    Route("POST", _PATH, Access.MEMBER, _revoked_is_read_only(change_key)),
    Route("POST", f"{_PATH}/disable", Access.MEMBER, _revoked_is_read_only(disable_key)),
    Route("POST", f"{_PATH}/enable", Access.MEMBER, _revoked_is_read_only(enable_key)),
    Route("POST", f"{_PATH}/revoke", Access.MEMBER, revoke_key),
    Route("POST", f"{_PATH}/replace", Access.MEMBER, _revoked_is_read_only(replace_key)),
)
