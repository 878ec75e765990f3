"""
Schema migrations: numbered steps in `versions`, forward only.

Alembic is used as a library, without its command and its ini file. Any number of processes may run
`migrate` concurrently: the first one migrates in a single transaction, the others wait for it and
then have nothing to do.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from pathlib import Path

from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationContext, MigrationStep
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

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
    script = await asyncio.to_thread(_load_script)
    database = Database(settings, password, statement_timeout_s=None)
    try:
        return await _migrate(database, script)
    finally:
        await database.aclose()


async def _migrate(database: Database, script: ScriptDirectory) -> list[str]:
    async with database.write() as connection:
        # SQLite: `write` already holds the file's write lock.
        if not database.is_sqlite:
            await connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
        pending = _pending(script, await connection.run_sync(_revision))
        if pending:
            await connection.run_sync(_upgrade, script)
            logger.info("schema_migrated", extra={"revisions": pending})
        return pending


async def current_revision(database: Database) -> str | None:
    """Return the schema's revision; None if the database is empty."""
    async with database.read() as connection:
        return await connection.run_sync(_revision)


async def pending_revisions(database: Database) -> list[str]:
    """Return the revisions `migrate` would apply, oldest first; none if the schema is newer."""
    script = await asyncio.to_thread(_load_script)
    return _pending(script, await current_revision(database))


def _load_script() -> ScriptDirectory:
    script = ScriptDirectory(Path(__file__).parent)
    script.get_heads()  # reads all steps here, in a thread
    return script


def _revision(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


def _pending(script: ScriptDirectory, current: str | None) -> list[str]:
    known = [step.revision for step in script.walk_revisions()][::-1]
    if current is None:
        return known
    if current not in known:
        logger.warning("schema_newer_than_program", extra={"revision": current})
        return []
    return known[known.index(current) + 1 :]


def _upgrade(connection: Connection, script: ScriptDirectory) -> None:
    def steps(current: Sequence[str], _context: MigrationContext) -> list[MigrationStep]:
        wanted = _pending(script, current[0] if current else None)
        return [
            MigrationStep.upgrade_from_script(script.revision_map, script.get_revision(revision))
            for revision in wanted
        ]

    with EnvironmentContext(Config(), script, fn=steps) as environment:
        environment.configure(connection=connection)
        environment.run_migrations()
