"""`/app/api-keys`: the keys of the account, and creating one, whose secret is shown once."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from starlette.responses import Response

from gateway.console.keys.key_form import KeyFields, fields_of, read_details
from gateway.console.keys.key_order import is_column, maker, ordered
from gateway.console.keys.list_line import KeyLine, key_line
from gateway.console.keys.snippets import snippets
from gateway.console.web.page import Page, Route
from gateway.console.web.viewer import Access
from gateway.core.calendar import DAY_MS, first_day_of, month_of
from gateway.core.model import Model
from gateway.store.keys.activity import NO_ACTIVITY, KeyActivity, read_activity
from gateway.store.keys.repository import KeyRow, NewKey

MOST_KEYS = 500
STATES = ("all", "active", "disabled", "expired", "revoked")


async def key_lines(page: Page, activity: Mapping[str, KeyActivity], now: float) -> list[KeyLine]:
    """Return the account's keys, newest first, without those that pages made for themselves."""
    lines = await _all_lines(page, activity, now)
    return [line for line in lines if line.row.origin == "user"]


async def _all_lines(page: Page, activity: Mapping[str, KeyActivity], now: float) -> list[KeyLine]:
    """Return the account's keys, newest first."""
    rows = await page.services.keys.list(page.account.account_id, limit=MOST_KEYS)
    return [key_line(row, activity.get(row.id, NO_ACTIVITY), now, page.text) for row in rows][::-1]


async def account_activity(
    page: Page, now: float, *, last_use: bool = True
) -> Mapping[str, KeyActivity]:
    """Return the activity of the account's keys; with their last use only if wanted."""
    today = int(now * 1000) // DAY_MS
    return await read_activity(
        page.services.database,
        page.account.account_id,
        today=today,
        month_start=first_day_of(month_of(today)),
        last_use=last_use,
    )


async def show_keys(page: Page) -> Response:
    """Show the list; filters are in the URL."""
    return await _list_page(page)


async def show_new(page: Page) -> Response:
    """Show the form of a new key."""
    return _form_page(page, KeyFields(), {})


async def create_key(page: Page) -> Response:
    """Create a key and show its secret, once."""
    form = await page.form()
    fields = fields_of(form)
    details, errors = read_details(fields, page.services.catalogue, time.time())
    if details is None:
        return _form_page(page, fields, errors, status=422)
    if not await page.claim(form):
        return await _list_page(page, was_shown=True)
    created = await page.services.keys.create(page.account.account_id, details, page.actor)
    return await shown_once(page, created)


async def shown_once(page: Page, created: NewKey, replaced: KeyRow | None = None) -> Response:
    """Return the list with the panel of a new key: the only response that contains it."""
    services = page.services
    return await _list_page(
        page,
        created=created,
        replaced=replaced,
        snippets=snippets(services.catalogue, services.settings.brand.public_url, created.raw),
        test_model=_first_model(services.catalogue.models, created.row),
    )


def _first_model(models: Sequence[Model], row: KeyRow) -> str | None:
    allowed = [each.name for each in models if row.models is None or each.name in row.models]
    return allowed[0] if allowed else None


async def _list_page(page: Page, **extra: object) -> Response:
    now = time.time()
    every = await _all_lines(page, await account_activity(page, now), now)
    lines = [line for line in every if line.row.origin == "user"]
    automatic = [line for line in every if line.row.origin != "user" and line.state == "active"]
    members = await page.services.people.users.members(page.account.account_id)
    names = {each.user_id: each.name for each in members}
    makers = {line.row.id: maker(page, names, line.row.created_by) for line in every}
    sort = page.query("sort")
    state, text = page.query("state", "all"), page.query("q").strip()[:100]
    shown = [
        line
        for line in lines
        if (line.state == state if state in STATES[1:] else line.state != "revoked")
        and (text.lower() in line.row.name.lower() or text == line.row.last_four)
    ]
    values: dict[str, Any] = {
        "created": None,
        "replaced": None,
        "snippets": [],
        "test_model": None,
        "was_shown": False,
        **extra,
    }
    headers = {"cache-control": "no-store"}
    return page.render(
        "keys/list.html",
        headers=headers,
        lines=ordered(shown, sort, makers),
        automatic=automatic,
        makers=makers,
        sort=sort if is_column(sort) else "",
        has_keys=bool(lines),
        state=state,
        text=text,
        states=STATES,
        now=int(now),
        fields=KeyFields(),
        errors={},
        idem=page.new_form_token(),
        models=page.services.catalogue.models,
        **values,
    )


def _form_page(
    page: Page, fields: KeyFields, errors: Mapping[str, str], *, status: int = 200
) -> Response:
    return page.render(
        "keys/new.html",
        status=status,
        fields=fields,
        errors={name: page.text(text) for name, text in errors.items()},
        idem=page.new_form_token(),
        models=page.services.catalogue.models,
    )


ROUTES = (
    Route("GET", "/app/api-keys", Access.VIEWER, show_keys),
    Route("POST", "/app/api-keys", Access.MEMBER, create_key),
    Route("GET", "/app/api-keys/new", Access.MEMBER, show_new),
)
