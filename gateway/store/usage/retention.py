"""Deletes usage events past their retention."""

from __future__ import annotations

import sqlalchemy as sa

from gateway.store.sql.database import Database
from gateway.store.sql.tables import USAGE_EVENTS

PURGE_BATCH = 2000
"""Rows per transaction, which bounds how long writers wait."""


async def purge_usage(database: Database, before_ms: int, *, batch: int = PURGE_BATCH) -> int:
    """
    Delete the usage events before `before_ms` (Unix milliseconds); return their number.

    Raises:
        GatewayError: STORE_UNAVAILABLE; completed batches stay deleted.
    """
    oldest = (
        sa.select(USAGE_EVENTS.c.request_id)
        .where(USAGE_EVENTS.c.at_ms < before_ms)
        .order_by(USAGE_EVENTS.c.at_ms)
        .limit(batch)
    )
    delete = sa.delete(USAGE_EVENTS).where(USAGE_EVENTS.c.request_id.in_(oldest))
    total = 0
    while True:
        async with database.write() as connection:
            deleted = (await connection.execute(delete)).rowcount
        total += deleted
        if deleted < batch:
            return total
