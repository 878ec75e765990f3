"""Incidents on the status page, and notices on all pages, in the operator's words."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence

from gateway.operations.values import InvalidValueError, check_expiry, read_text
from gateway.settings.errors import did_you_mean
from gateway.store.accounts.audit import Actor
from gateway.store.announcements.incidents import Incident, Incidents, IncidentState
from gateway.store.announcements.notices import Notice, NoticeLevel, Notices
from gateway.store.sql.database import Database

MAX_TITLE = 120


class AnnouncementOperations:
    """
    What operators announce.

    Args:
        database: The SQL database.
        models: Returns the names of all models.
    """

    def __init__(self, database: Database, models: Callable[[], Collection[str]]) -> None:
        self._incidents = Incidents(database)
        self._notices = Notices(database)
        self._models = models

    async def open_incident(
        self, title: str, text: str, models: Sequence[str], state: str, by: Actor
    ) -> Incident:
        """Open an incident of some models, or of all if none is named; raises InvalidValueError."""
        names = tuple(dict.fromkeys(models))
        for name in names:
            if name not in self._models():
                hint = did_you_mean(name, self._models())
                raise InvalidValueError("models", f"contains '{name}', which is no model{hint}")
        title = read_text(title, "title")
        if len(title) > MAX_TITLE:
            raise InvalidValueError("title", f"must have at most {MAX_TITLE} characters")
        return await self._incidents.open(
            title, read_text(text, "text"), names, by, _state(state or "investigating")
        )

    async def update_incident(self, incident_id: str, state: str, text: str, by: Actor) -> Incident:
        """
        Add an update; one with the state `resolved` is the last.

        Raises:
            InvalidValueError: The state or the text is invalid.
            UnknownIncidentError, IncidentResolvedError.
        """
        await self._incidents.update(incident_id, _state(state), read_text(text, "text"), by)
        return await self._incidents.get(incident_id)

    async def incidents(self, *, before: str = "", limit: int) -> Sequence[Incident]:
        """Return up to `limit` incidents before the id `before`, newest first."""
        return await self._incidents.list(before=before, limit=limit)

    async def publish_notice(
        self, text: str, level: str, by: Actor, *, starts_at: int | None, ends_at: int | None
    ) -> Notice:
        """Show a notice on all pages; raises InvalidValueError."""
        levels = [each.value for each in NoticeLevel]
        if level not in levels:
            raise InvalidValueError("level", f"must be one of {', '.join(levels)}")
        check_expiry(ends_at, time.time(), "ends_at")
        if starts_at is not None and ends_at is not None and ends_at <= starts_at:
            raise InvalidValueError("ends_at", "must be later than 'starts_at'")
        return await self._notices.publish(
            read_text(text, "text"), NoticeLevel(level), by, starts_at=starts_at, ends_at=ends_at
        )

    async def end_notice(self, notice_id: str, by: Actor) -> Notice:
        """End a notice; raises UnknownNoticeError."""
        return await self._notices.end(notice_id, by)

    async def notices(self, *, before: str = "", limit: int) -> Sequence[Notice]:
        """Return up to `limit` notices before the id `before`, newest first."""
        return await self._notices.list(before=before, limit=limit)


def _state(value: str) -> IncidentState:
    states = [each.value for each in IncidentState]
    if value not in states:
        raise InvalidValueError("state", f"must be one of {', '.join(states)}")
    return IncidentState(value)
