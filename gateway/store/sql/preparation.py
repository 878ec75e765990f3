"""Waits until the database is ready to be used by this program."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Protocol

from gateway.errors import GatewayError
from gateway.settings import Settings
from gateway.settings.embedded import is_sql_embedded
from gateway.store.sql.database import Database
from gateway.store.sql.failures import sql_state
from gateway.store.sql.migrations import latest_revision, migrate, pending_after, pending_revisions

FIRST_DELAY_S = 0.5
LONGEST_DELAY_S = 5.0
_REFUSED_STATES = ("28", "3D")  # wrong role or password; no such database
logger = logging.getLogger(__name__)


class SchemaMemory(Protocol):
    """What earlier starts have seen, see `store.hot_state.known_schema`."""

    async def recall(self) -> str | None:
        """Return the revision of the schema; None: it is unknown."""

    async def remember(self, revision: str) -> None:
        """Store the revision of the schema."""


async def prepare_schema(
    settings: Settings,
    password: str | None,
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    memory: SchemaMemory | None = None,
) -> bool:
    """
    Return True once the schema is this program's: migrate it, or wait until another process has.

    A PostgreSQL that is unavailable is waited for, without limit. The log says so at each attempt.
    If an earlier start has seen the schema, it is not waited for: False.
    If it rejects the role, the password or the database, raise: waiting would not help.

    Args:
        settings: Checked.
        password: As for `Database`.
        sleep: Waits for seconds.
        memory: What earlier starts have seen.

    Raises:
        GatewayError: The embedded database cannot be used, or PostgreSQL refuses the settings.
        OSError: The data directory cannot be written.
    """
    delay = FIRST_DELAY_S
    while True:
        try:
            if settings.sql.migrate or is_sql_embedded(settings):
                await migrate(settings, password)
                pending = []
            else:
                pending = await _pending(settings, password)
            if not pending:
                if memory is not None:
                    await memory.remember(latest_revision())
                return True
            reason: str = f"{len(pending)} migrations are pending"
            remedy = "run `capio migrate`, or set sql.migrate = true"
        except GatewayError as failure:
            if is_sql_embedded(settings) or sql_state(failure.__cause__)[:2] in _REFUSED_STATES:
                raise
            reason = failure.detail or failure.message
            seen = None if memory is None else await memory.recall()
            if seen is not None and not pending_after(seen):
                logger.warning("sql_check_skipped", extra={"reason": reason, "schema": seen})
                return False
            remedy = "check sql.url and the network"
        fields = {"reason": reason, "remedy": remedy, "delay_s": delay}
        logger.warning("start_deferred", extra=fields)
        await sleep(delay)
        delay = min(delay * 2, LONGEST_DELAY_S)


async def _pending(settings: Settings, password: str | None) -> list[str]:
    database = Database(settings, password)
    try:
        return await pending_revisions(database)
    finally:
        await database.aclose()
