"""
Schema migrations: numbered steps in `versions` and its `from_*` folders of a dozen, forward only.

Alembic runs them, as a library, and is imported only if there are any: reading the schema's
revision is enough for a start, and Alembic takes 10 MB and a third of a second of CPU. Any number
of processes may run `migrate` concurrently: the first one migrates in a single transaction, the
others wait for it and then have nothing to do.
"""

from __future__ import annotations

import logging
from pathlib import Path

from sqlalchemy import Connection, inspect, text

from gateway.settings import Settings
from gateway.store.sql.database import Database

_LOCK = 0x43_41_50_49_4F
"""The number of the advisory lock on PostgreSQL: ASCII "CAPIO"."""
logger = logging.getLogger(__name__)


async def migrate(settings: Settings, password: str | None = None) -> list[str]:
    """
    Upgrade the schema to this program's revision; return the applied revisions.

    Waits without limit for another process that migrates. Arguments as for `Database`.

    Raises:
        GatewayError: STORE_UNAVAILABLE.
    """
    database = Database(settings, password, statement_timeout_s=None)
    try:
        if not await pending_revisions(database):
            return []
        return await _migrate(database)
    finally:
        await database.aclose()


async def _migrate(database: Database) -> list[str]:
    from gateway.store.sql.migrations import upgrade  # noqa: PLC0415 (imports Alembic)

    async with database.write() as connection:
        # SQLite: `write` already holds the file's write lock.
        if not database.is_sqlite:
            await connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
        pending = pending_after(await connection.run_sync(_revision))
        if pending:
            await connection.run_sync(upgrade.run, pending)
            logger.info("schema_migrated", extra={"revisions": pending})
        return pending


async def current_revision(database: Database) -> str | None:
    """Return the schema's revision; None if the database is empty."""
    async with database.read() as connection:
        return await connection.run_sync(_revision)


async def pending_revisions(database: Database) -> list[str]:
    """Return the revisions `migrate` would apply, oldest first; none if the schema is newer."""
    return pending_after(await current_revision(database))


def latest_revision() -> str:
    """Return the revision of this program."""
    return _revisions()[-1]


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    found = connection.execute(text("SELECT version_num FROM alembic_version"))
    revision: str | None = found.scalar_one_or_none()
    return revision


def _revisions() -> list[str]:
    """Return all revisions; each is a file whose name starts with its number."""
    files = (Path(__file__).parent / "versions").rglob("[0-9]*_*.py")
    return sorted(path.name.partition("_")[0] for path in files)


def pending_after(current: str | None) -> list[str]:
    """Return the revisions after `current`; None: an empty database's."""
    known = _revisions()
    if current is None:
        return known
    if current not in known:
        logger.warning("newer_schema_found", extra={"revision": current})
        return []
    return known[known.index(current) + 1 :]
