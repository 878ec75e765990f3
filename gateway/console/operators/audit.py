"""`/admin-ui/audit`: who changed what, newest first."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import NamedTuple

import msgspec
from starlette.responses import Response

from gateway.console.activity.scope import download, viewer_zone
from gateway.console.reporting.downloads import ExportRow
from gateway.console.reporting.filters import LONGEST_VALUE, UTC
from gateway.console.web.page import Page, Route
from gateway.console.web.viewer import Access
from gateway.core.calendar import rfc3339
from gateway.operations.records import RecordOperations
from gateway.store.accounts.audit import AuditEntry

PER_PAGE = 50
EXPORT_LIMIT = 10_000
_BATCH = 500
_COLUMNS = ("id", "time", "actor", "action", "object", "before", "after", "request_id", "address")


class Change(NamedTuple):
    """A field that an entry changed, before and after, as JSON; None where it was absent."""

    name: str
    before: str | None
    after: str | None


async def audit(page: Page) -> Response:
    """Show a page of changes."""
    records = page.services.records
    wanted = page.query("object").strip()
    object_id = wanted if 0 < len(wanted) <= LONGEST_VALUE and wanted.isprintable() else None
    before = page.query("before")
    before_id = int(before) if before.isascii() and before.isdigit() and len(before) < 19 else None
    file = download(page, "audit", _COLUMNS, _export(records, object_id, before_id))
    if file is not None:
        return file
    found = await records.audit(object_id=object_id, before_id=before_id, limit=PER_PAGE + 1)
    entries = found[:PER_PAGE]
    return page.render(
        "operators/audit.html",
        entries=[(entry, changes_of(entry)) for entry in entries],
        object_id=object_id or "",
        before=before_id,
        older=entries[-1].id if len(found) > PER_PAGE else None,
        zone=(viewer_zone(page) or UTC).key,
    )


def changes_of(entry: AuditEntry) -> list[Change]:
    """Return the fields that an entry changed, in the order of `after`."""
    before, after = entry.before or {}, entry.after or {}
    return [
        Change(name, _json(before, name), _json(after, name))
        for name in dict.fromkeys([*after, *before])
        if before.get(name) != after.get(name)
    ]


def _json(facts: dict[str, object], name: str) -> str | None:
    value = facts.get(name)
    return None if value is None else msgspec.json.encode(value).decode()


async def _export(
    records: RecordOperations, object_id: str | None, before_id: int | None
) -> AsyncIterator[ExportRow]:
    """Yield rows of up to EXPORT_LIMIT entries."""
    last_id, left = before_id, EXPORT_LIMIT
    while left > 0:
        batch = await records.audit(object_id=object_id, before_id=last_id, limit=_BATCH)
        for entry in batch:
            facts = [
                None if each is None else msgspec.json.encode(each).decode()
                for each in (entry.before, entry.after)
            ]
            yield [
                entry.id, rfc3339(entry.at_ms // 1000), entry.actor, entry.action, entry.object,
                *facts, entry.request_id, entry.address,
            ]  # fmt: skip
        if len(batch) < _BATCH:
            return
        left -= _BATCH
        last_id = batch[-1].id


ROUTES = (Route("GET", "/admin-ui/audit", Access.OPERATOR, audit),)
