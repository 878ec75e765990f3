"""Incidents and their updates in SQL. The state of an incident is that of its last update."""

from __future__ import annotations

import enum
import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
import sqlalchemy as sa

from gateway.store.accounts.audit import Actor, record
from gateway.store.sql.announcement_tables import INCIDENT_UPDATES, INCIDENTS
from gateway.store.sql.database import Database
from gateway.store.sql.ids import new_id

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection  # imports the ORM

MAX_UPDATES = 100
"""Of one incident."""


class UnknownIncidentError(LookupError):
    """There is no such incident."""


class IncidentResolvedError(Exception):
    """A resolved incident does not change any more."""


class IncidentState(enum.Enum):
    """The state of an incident. The value is used in SQL and by programs."""

    INVESTIGATING = "investigating"
    IDENTIFIED = "identified"
    MONITORING = "monitoring"
    RESOLVED = "resolved"


class IncidentUpdate(msgspec.Struct, frozen=True, kw_only=True):
    """What an operator wrote. `at` is in Unix seconds."""

    at: int
    state: IncidentState
    text: str


class Incident(msgspec.Struct, frozen=True, kw_only=True):
    """An incident. Times are in Unix seconds."""

    id: str
    title: str
    models: tuple[str, ...]
    """Empty: all."""
    began_at: int
    resolved_at: int | None
    updates: tuple[IncidentUpdate, ...]
    """Newest first; at least one."""

    @property
    def state(self) -> IncidentState:
        """The state of the newest update."""
        return self.updates[0].state


class Incidents:
    """The tables. Every method may raise GatewayError (STORE_UNAVAILABLE)."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def open(
        self,
        title: str,
        text: str,
        models: Iterable[str],
        by: Actor,
        state: IncidentState = IncidentState.INVESTIGATING,
    ) -> Incident:
        """Add an incident with its first update."""
        now = int(time.time())
        update = IncidentUpdate(at=now, state=state, text=text)
        incident = Incident(
            id=new_id("inc"),
            title=title,
            models=tuple(models),
            began_at=now,
            resolved_at=now if state is IncidentState.RESOLVED else None,
            updates=(update,),
        )
        row = {
            "id": incident.id,
            "title": title,
            "models": msgspec.json.encode(incident.models).decode(),
            "began_at": now,
            "resolved_at": incident.resolved_at,
        }
        async with self._database.write() as connection:
            await connection.execute(sa.insert(INCIDENTS), row)
            await _add(connection, incident.id, update)
            facts = {**row, "models": list(incident.models), **_facts(update)}
            await record(connection, by, "incident.open", incident.id, after=facts)
        return incident

    async def update(self, incident_id: str, state: IncidentState, text: str, by: Actor) -> None:
        """
        Add an update; `RESOLVED` ends the incident.

        Raises:
            UnknownIncidentError: there is none with this id.
            IncidentResolvedError: it is resolved, or has MAX_UPDATES.
        """
        update = IncidentUpdate(at=int(time.time()), state=state, text=text)
        ends = state is IncidentState.RESOLVED
        async with self._database.write() as connection:
            change = (
                sa.update(INCIDENTS)
                .where(INCIDENTS.c.id == incident_id, INCIDENTS.c.resolved_at.is_(None))
                .values(resolved_at=update.at if ends else None)
            )
            if not (await connection.execute(change)).rowcount:
                known = sa.select(INCIDENTS.c.id).where(INCIDENTS.c.id == incident_id)
                if await connection.scalar(known) is None:
                    raise UnknownIncidentError(incident_id)
                raise IncidentResolvedError(incident_id)
            count = sa.select(sa.func.count()).where(INCIDENT_UPDATES.c.incident_id == incident_id)
            if int(await connection.scalar(count) or 0) >= MAX_UPDATES and not ends:
                raise IncidentResolvedError(incident_id)
            await _add(connection, incident_id, update)
            await record(connection, by, "incident.update", incident_id, after=_facts(update))

    async def list(self, *, before: str = "", limit: int, since: int = 0) -> Sequence[Incident]:
        """
        Return incidents, newest first.

        Args:
            before: The id after which the page continues.
            limit: At most so many.
            since: Only those that are open, or were resolved after this time.
        """
        query = sa.select(INCIDENTS).order_by(INCIDENTS.c.id.desc()).limit(limit)
        if before:
            query = query.where(INCIDENTS.c.id < before)
        if since:
            ended = INCIDENTS.c.resolved_at
            query = query.where(sa.or_(ended.is_(None), ended >= since))
        async with self._database.read() as connection:
            rows = (await connection.execute(query)).all()
            updates = await _updates(connection, [row.id for row in rows])
        return [_incident(row, updates) for row in rows]

    async def get(self, incident_id: str) -> Incident:
        """Return an incident; raises UnknownIncidentError."""
        query = sa.select(INCIDENTS).where(INCIDENTS.c.id == incident_id)
        async with self._database.read() as connection:
            row = (await connection.execute(query)).first()
            if row is None:
                raise UnknownIncidentError(incident_id)
            return _incident(row, await _updates(connection, [incident_id]))


async def _updates(
    connection: AsyncConnection, ids: Sequence[str]
) -> dict[str, list[IncidentUpdate]]:
    if not ids:
        return {}
    columns = INCIDENT_UPDATES.c
    query = sa.select(INCIDENT_UPDATES).where(columns.incident_id.in_(ids))
    found: dict[str, list[IncidentUpdate]] = {}
    for row in await connection.execute(query.order_by(columns.id.desc())):
        update = IncidentUpdate(at=row.at, state=IncidentState(row.state), text=row.text)
        found.setdefault(row.incident_id, []).append(update)
    return found


async def _add(connection: AsyncConnection, incident_id: str, update: IncidentUpdate) -> None:
    row = {"id": new_id("upd"), "incident_id": incident_id, "at": update.at, **_facts(update)}
    await connection.execute(sa.insert(INCIDENT_UPDATES), row)


def _facts(update: IncidentUpdate) -> dict[str, object]:
    return {"state": update.state.value, "text": update.text}


def _incident(row: sa.Row[Any], updates: dict[str, list[IncidentUpdate]]) -> Incident:
    return Incident(
        id=row.id,
        title=row.title,
        models=tuple(msgspec.json.decode(row.models, type=list[str])),
        began_at=row.began_at,
        resolved_at=row.resolved_at,
        updates=tuple(updates[row.id]),
    )
