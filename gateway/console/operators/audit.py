"""`/admin-ui/audit`: who changed what, newest first."""

from __future__ import annotations

import datetime
from collections.abc import AsyncIterator, Mapping
from typing import NamedTuple
from zoneinfo import ZoneInfo

import msgspec
from starlette.responses import Response

from gateway.console.activity.scope import actor_names, download, viewer_zone
from gateway.console.reporting.downloads import ExportRow
from gateway.console.reporting.filters import UTC, ChangesFilter
from gateway.console.reporting.zones import QUARTER_S, day_start
from gateway.console.web.page import Page, Route
from gateway.console.web.viewer import Access
from gateway.console.web.words import money, utc
from gateway.core.calendar import rfc3339
from gateway.operations.records import RecordOperations
from gateway.store.accounts.audit import AuditEntry, AuditFilter

PER_PAGE = 50
EXPORT_LIMIT = 10_000
_BATCH = 500
_MONEY = "_nanousd"
_A_DAY = datetime.timedelta(days=1)
_COLUMNS = ("id", "time", "actor", "action", "object", "before", "after", "request_id", "address")


class Change(NamedTuple):
    """A field that an entry changed, before and after, in words; None where it was absent."""

    name: str
    before: str | None
    after: str | None


async def audit(page: Page) -> Response:
    """Show a page of changes."""
    records, zone = page.services.records, viewer_zone(page) or UTC
    shown = ChangesFilter.read(page.request.query_params)
    object_id, which = shown.object_id or None, _selected(shown, zone)
    before = page.query("before")
    before_id = int(before) if before.isascii() and before.isdigit() and len(before) < 19 else None
    file = download(page, "audit", _COLUMNS, _export(records, object_id, which, before_id))
    if file is not None:
        return file
    found = await records.audit(
        object_id=object_id, which=which, before_id=before_id, limit=PER_PAGE + 1
    )
    entries = found[:PER_PAGE]
    return page.render(
        "operators/audit.html",
        entries=[(entry, changes_of(entry)) for entry in entries],
        names=await actor_names(page, [entry.actor for entry in entries]),
        shown=shown,
        query=shown.query(),
        actions=_actions(page, shown.action),
        before=before_id,
        older=entries[-1].id if len(found) > PER_PAGE else None,
        zone=zone.key,
    )


def _actions(page: Page, shown: str) -> list[tuple[str, str]]:
    """Return the actions of a select: those on each kind of object, and the one that is shown."""
    text = page.text
    found = {
        "": text("All actions"),
        "account.": text("Accounts"),
        "credits.": text("Credits"),
        "key.": text("Keys"),
        "code.": text("Codes"),
        "user.": text("Users"),
        "session.": text("Sign-ins"),
        "member.": text("Members"),
        "link.": text("Links"),
        "incident.": text("Incidents"),
        "notice.": text("Notices"),
        "deployment.": text("Probes"),
        "usage.": text("Dead letters"),
        "ledger.": text("Checks of balances"),
    }
    return list({**found, shown: found.get(shown, shown)}.items())


def _selected(shown: ChangesFilter, zone: ZoneInfo) -> AuditFilter:
    since, until = shown.since, shown.until
    return AuditFilter(
        actor=shown.actor,
        action=shown.action,
        since_ms=None if since is None else day_start(since, zone) * QUARTER_S * 1000,
        until_ms=None if until is None else day_start(until + _A_DAY, zone) * QUARTER_S * 1000,
    )


def changes_of(entry: AuditEntry) -> list[Change]:
    """Return the fields that an entry changed, in the order of `after`."""
    before, after = _flat(entry.before or {}), _flat(entry.after or {})
    return [
        Change(name.removesuffix(_MONEY), _shown(name, before), _shown(name, after))
        for name in dict.fromkeys([*after, *before])
        if before.get(name) != after.get(name)
    ]


def _flat(facts: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    """Return the facts with the fields of objects beside the others: `limits.rpm`."""
    found: dict[str, object] = {}
    for name, value in facts.items():
        inner = _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else None
        found |= {f"{prefix}{name}": value} if inner is None else inner
    return found


def _shown(name: str, facts: Mapping[str, object]) -> str | None:
    value = facts.get(name)
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, int) and name.endswith(_MONEY):
        return money(value)
    if isinstance(value, int) and name.endswith("_at"):
        return utc(value)
    return msgspec.json.encode(value).decode()


async def _export(
    records: RecordOperations, object_id: str | None, which: AuditFilter, before_id: int | None
) -> AsyncIterator[ExportRow]:
    """Yield rows of up to EXPORT_LIMIT entries."""
    last_id, left = before_id, EXPORT_LIMIT
    while left > 0:
        batch = await records.audit(
            object_id=object_id, which=which, before_id=last_id, limit=_BATCH
        )
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
