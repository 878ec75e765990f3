"""`/admin-ui/keys`: the keys of all accounts; a key is found by its end or by its SHA-256."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator
from typing import Final
from urllib.parse import urlencode

from starlette.exceptions import HTTPException
from starlette.responses import Response

from gateway.console.activity.scope import download
from gateway.console.keys.list_line import limits_in_words
from gateway.console.operators.accounts import EXPORT_LIMIT, search_text
from gateway.console.reporting.downloads import ExportRow
from gateway.console.web.page import Page, Route
from gateway.console.web.viewer import Access
from gateway.core.calendar import rfc3339
from gateway.core.limits import KeyLimits
from gateway.operations.keys import ChangedKey
from gateway.store.keys.repository import KeyRevokedError, KeyRow, UnknownKeyError
from gateway.store.reports.directory import Directory, KeysQuery

PER_PAGE: Final = 50
STATES: Final = ("active", "disabled", "revoked")
_DIGEST: Final = re.compile(r"[0-9a-f]{64}\Z")
_PATH: Final = "/admin-ui/keys"
_BATCH: Final = 500
_COLUMNS: Final = (
    "id", "name", "account_id", "account", "last_four", "origin", "models", "limits", "state",
    "created", "expires", "last_call",
)  # fmt: skip


async def keys(page: Page) -> Response:
    """Show a page of keys."""
    now = time.time()
    text, digest, before = search_text(page), page.query("digest"), search_text(page, "before")
    state = page.query("state") if page.query("state") in STATES else ""
    which = KeysQuery(
        text=text,
        digest=bytes.fromhex(digest) if _DIGEST.match(digest) else None,
        state=state,
    )
    directory = Directory(page.services.database)
    file = download(page, "keys", _COLUMNS, _export(directory, which, before, now))
    if file is not None:
        return file
    found = await directory.keys(which, before=before, limit=PER_PAGE + 1)
    lines = found[:PER_PAGE]
    return page.render(
        "operators/keys.html",
        lines=[
            (
                line,
                limits_in_words(line.row.limits or KeyLimits(), page.text),
                _state(line.row, now),
            )
            for line in lines
        ],
        text=text,
        digest=digest if which.digest else "",
        state=state,
        states=[
            ("", page.text("All states")),
            ("active", page.text("Active")),
            ("disabled", page.text("Disabled")),
            ("revoked", page.text("Revoked")),
        ],
        before=before,
        query=urlencode(
            {"q": text, "state": state, "digest": digest if which.digest else "", "before": before}
        ),
        older=lines[-1].row.id if len(found) > PER_PAGE else "",
        late=page.query("late") == "1",
        now=int(now),
    )


async def _export(
    directory: Directory, which: KeysQuery, before: str, now: float
) -> AsyncIterator[ExportRow]:
    """Yield rows of up to EXPORT_LIMIT keys, newest first."""
    left = EXPORT_LIMIT
    while left > 0:
        batch = await directory.keys(which, before=before, limit=_BATCH)
        for line in batch:
            row = line.row
            yield [
                row.id, row.name, row.account_id, line.account_name, row.last_four, row.origin,
                None if row.models is None else ", ".join(sorted(row.models)),
                limits_in_words(row.limits or KeyLimits()), _state(row, now),
                rfc3339(row.created_at),
                None if row.expires_at is None else rfc3339(row.expires_at),
                None if line.last_call_ms is None else rfc3339(line.last_call_ms // 1000),
            ]  # fmt: skip
        if len(batch) < _BATCH:
            return
        left -= _BATCH
        before = batch[-1].row.id


def _state(row: KeyRow, now: float) -> str:
    is_over = row.expires_at is not None and row.expires_at <= now
    return "expired" if row.state == "active" and is_over else row.state


async def disable(page: Page) -> Response:
    """Reject calls of a key until it is enabled again."""
    return await _changed(page, "disable")


async def enable(page: Page) -> Response:
    """Accept calls of a key again."""
    return await _changed(page, "enable")


async def revoke(page: Page) -> Response:
    """Reject calls of a key for good."""
    return await _changed(page, "revoke")


async def _changed(page: Page, action: str) -> Response:
    operations, key_id = page.services.keys, page.name("key_id")
    act = {
        "disable": operations.disable,
        "enable": operations.enable,
        "revoke": operations.revoke,
    }[action]
    late = ""
    try:
        changed: ChangedKey = await act(key_id, page.actor)
        late = "" if changed.published else "&late=1"
    except UnknownKeyError as error:
        raise HTTPException(404) from error
    except KeyRevokedError:
        late = ""  # the list shows that it is revoked
    return page.redirect(f"{_PATH}?q={key_id}{late}")


ROUTES = (
    Route("GET", _PATH, Access.OPERATOR, keys),
    Route("POST", f"{_PATH}/{{key_id}}/disable", Access.OPERATOR, disable),
    Route("POST", f"{_PATH}/{{key_id}}/enable", Access.OPERATOR, enable),
    Route("POST", f"{_PATH}/{{key_id}}/revoke", Access.OPERATOR, revoke, confirmed=True),
)
