"""Notices in SQL: banners that all pages show between two times."""

from __future__ import annotations

import enum
import time
from collections.abc import Sequence
from typing import Any

import msgspec
import sqlalchemy as sa

from gateway.store.accounts.audit import Actor, record
from gateway.store.sql.announcement_tables import NOTICES
from gateway.store.sql.database import Database
from gateway.store.sql.ids import new_id

MAX_ACTIVE = 3
"""Pages show so many at a time, the newest."""


class UnknownNoticeError(LookupError):
    """There is no such notice."""


class NoticeLevel(enum.Enum):
    """How a banner looks. The value is used in SQL and by programs."""

    INFO = "info"
    WARN = "warn"


class Notice(msgspec.Struct, frozen=True, kw_only=True):
    """A notice. Times are in Unix seconds."""

    id: str
    text: str
    level: NoticeLevel
    created_at: int
    starts_at: int
    ends_at: int | None

    def is_active(self, now: float) -> bool:
        """Return whether pages show it."""
        return self.starts_at <= now and (self.ends_at is None or now < self.ends_at)


class Notices:
    """The table. Every method may raise GatewayError (STORE_UNAVAILABLE)."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def publish(
        self,
        text: str,
        level: NoticeLevel,
        by: Actor,
        *,
        starts_at: int | None,
        ends_at: int | None,
    ) -> Notice:
        """Add a notice, shown at once unless `starts_at` is later."""
        now = int(time.time())
        notice = Notice(
            id=new_id("note"),
            text=text,
            level=level,
            created_at=now,
            starts_at=now if starts_at is None else starts_at,
            ends_at=ends_at,
        )
        row = {**msgspec.structs.asdict(notice), "level": level.value}
        async with self._database.write() as connection:
            await connection.execute(sa.insert(NOTICES), row)
            await record(connection, by, "notice.publish", notice.id, after=row)
        return notice

    async def end(self, notice_id: str, by: Actor) -> Notice:
        """End a notice. Idempotent. Raises UnknownNoticeError."""
        now = int(time.time())
        columns = NOTICES.c
        ends = sa.or_(columns.ends_at.is_(None), columns.ends_at > now)
        change = sa.update(NOTICES).where(columns.id == notice_id, ends).values(ends_at=now)
        async with self._database.write() as connection:
            row = await _row(connection, notice_id)
            if (await connection.execute(change)).rowcount:
                before = {"ends_at": row.ends_at}
                after = {"ends_at": now}
                await record(connection, by, "notice.end", notice_id, before=before, after=after)
            return _notice(await _row(connection, notice_id))

    async def list(self, *, before: str = "", limit: int) -> Sequence[Notice]:
        """Return notices before the id `before`, newest first."""
        query = sa.select(NOTICES).order_by(NOTICES.c.id.desc()).limit(limit)
        if before:
            query = query.where(NOTICES.c.id < before)
        async with self._database.read() as connection:
            return [_notice(row) for row in await connection.execute(query)]

    async def current(self, now: int, *, limit: int = 20) -> Sequence[Notice]:
        """Return those that are shown now or later, newest first."""
        ends = NOTICES.c.ends_at
        query = sa.select(NOTICES).where(sa.or_(ends.is_(None), ends > now))
        query = query.order_by(NOTICES.c.id.desc()).limit(limit)
        async with self._database.read() as connection:
            return [_notice(row) for row in await connection.execute(query)]


async def _row(connection: Any, notice_id: str) -> Any:
    found = (await connection.execute(sa.select(NOTICES).where(NOTICES.c.id == notice_id))).first()
    if found is None:
        raise UnknownNoticeError(notice_id)
    return found


def _notice(row: Any) -> Notice:
    return Notice(
        id=row.id,
        text=row.text,
        level=NoticeLevel(row.level),
        created_at=row.created_at,
        starts_at=row.starts_at,
        ends_at=row.ends_at,
    )
