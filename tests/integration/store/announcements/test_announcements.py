"""Incidents and notices in SQL: their order, their end, and the audit log."""

from __future__ import annotations

import time

import pytest
import sqlalchemy as sa

from gateway.errors import GatewayError
from gateway.operations.announcements import AnnouncementOperations
from gateway.store.accounts.audit import Actor, AuditLog
from gateway.store.announcements.incidents import (
    MAX_UPDATES,
    IncidentResolvedError,
    Incidents,
    IncidentState,
    UnknownIncidentError,
)
from gateway.store.announcements.notices import NoticeLevel, Notices, UnknownNoticeError
from gateway.store.sql.announcement_tables import INCIDENTS
from gateway.store.sql.database import Database

BY = Actor("operator:user_1")


async def test_incident_is_told_in_updates_until_it_is_resolved(database: Database) -> None:
    """The newest update has its state; each is audited."""
    incidents = Incidents(database)
    older = await incidents.open("Old", "It was slow.", (), BY, IncidentState.RESOLVED)
    opened = await incidents.open("Slow", "We look at it.", ("kimi",), BY)
    await incidents.update(opened.id, IncidentState.MONITORING, "Repaired.", BY)
    await incidents.update(opened.id, IncidentState.RESOLVED, "It is over.", BY)

    found = await incidents.get(opened.id)
    listed = await incidents.list(limit=10)
    entries = await AuditLog(database).list(object_id=opened.id)

    assert [each.id for each in listed] == [opened.id, older.id]
    assert listed[0] == found
    assert (found.title, found.models, found.state) == ("Slow", ("kimi",), IncidentState.RESOLVED)
    assert [each.text for each in found.updates] == ["It is over.", "Repaired.", "We look at it."]
    assert found.resolved_at == found.updates[0].at
    assert [each.action for each in entries] == ["incident.update"] * 2 + ["incident.open"]
    assert entries[0].after == {"state": "resolved", "text": "It is over."}
    with pytest.raises(IncidentResolvedError):
        await incidents.update(opened.id, IncidentState.MONITORING, "Again.", BY)
    with pytest.raises(UnknownIncidentError):
        await incidents.update("inc_none", IncidentState.MONITORING, "Again.", BY)


async def test_lists_are_bounded_and_leave_out_what_is_long_over(database: Database) -> None:
    """An incident has a bounded number of updates, of which the last may resolve it."""
    incidents = Incidents(database)
    opened = await incidents.open("Slow", "1", (), BY)
    for n in range(MAX_UPDATES - 1):
        await incidents.update(opened.id, IncidentState.MONITORING, str(n), BY)
    with pytest.raises(IncidentResolvedError):
        await incidents.update(opened.id, IncidentState.MONITORING, "more", BY)
    await incidents.update(opened.id, IncidentState.RESOLVED, "over", BY)
    newer = await incidents.open("New", "1", (), BY)
    later = int(time.time()) + 5

    assert [each.id for each in await incidents.list(limit=1)] == [newer.id]
    assert [each.id for each in await incidents.list(before=newer.id, limit=9)] == [opened.id]
    assert [each.id for each in await incidents.list(limit=9, since=later)] == [newer.id]


async def test_notice_is_shown_between_its_times(database: Database) -> None:
    """Ending it twice changes it once."""
    notices, now = Notices(database), int(time.time())
    plain = await notices.publish("Hi", NoticeLevel.INFO, BY, starts_at=None, ends_at=None)
    planned = await notices.publish(
        "Soon", NoticeLevel.WARN, BY, starts_at=now + 60, ends_at=now + 120
    )
    assert [each.id for each in await notices.current(now)] == [planned.id, plain.id]
    assert [each.id for each in await notices.current(now + 120)] == [plain.id]
    assert [planned.is_active(at) for at in (now, now + 60, now + 120)] == [False, True, False]

    await notices.end(plain.id, BY)
    ended = await notices.end(plain.id, BY)

    assert ended.ends_at is not None
    assert not ended.is_active(time.time())
    entries = await AuditLog(database).list(object_id=plain.id)
    assert [each.action for each in entries] == ["notice.end", "notice.publish"]
    with pytest.raises(UnknownNoticeError):
        await notices.end("note_none", BY)


@pytest.mark.parametrize(
    ("title", "text", "models", "state", "param"),
    [
        ("", "t", [], "identified", "title"),
        ("x" * 121, "t", [], "identified", "title"),
        ("t", " ", [], "identified", "text"),
        ("t", "t", ["kimmi"], "identified", "models"),
        ("t", "t", [], "broken", "state"),
    ],
)
async def test_wrong_values_name_their_field(
    database: Database, title: str, text: str, models: list[str], state: str, param: str
) -> None:
    """Nothing is stored."""
    operations = AnnouncementOperations(database, lambda: ["kimi"])
    with pytest.raises(GatewayError) as caught:
        await operations.open_incident(title, text, models, state, BY)

    assert caught.value.param == param
    async with database.read() as connection:
        assert await connection.scalar(sa.select(sa.func.count()).select_from(INCIDENTS)) == 0


async def test_notice_ends_after_it_begins(database: Database) -> None:
    """And in the future."""
    operations, now = AnnouncementOperations(database, list), int(time.time())
    for level, starts_at, ends_at, param in (
        ("loud", None, None, "level"),
        ("info", None, now - 1, "ends_at"),
        ("info", now + 60, now + 60, "ends_at"),
    ):
        with pytest.raises(GatewayError) as caught:
            await operations.publish_notice("Hi", level, BY, starts_at=starts_at, ends_at=ends_at)
        assert caught.value.param == param
