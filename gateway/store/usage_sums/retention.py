"""Deletes usage sums past their retention."""

from __future__ import annotations

import sqlalchemy as sa

from gateway.store.sql.database import Database
from gateway.store.sql.tables import USAGE_QUARTERS, USAGE_TOTALS
from gateway.store.usage_sums.quarters import QUARTER_MS
from gateway.store.usage_sums.totals import PROPERTIES

SUMS_RETENTION_DAYS = 397
"""Usage sums are kept for 13 months."""


async def purge_quarters(database: Database, before_ms: int) -> int:
    """
    Delete the sums of quarters before `before_ms` (Unix milliseconds); return their number.

    Raises:
        GatewayError: STORE_UNAVAILABLE; completed quarters stay deleted.
    """
    quarter = USAGE_QUARTERS.c.quarter
    oldest = sa.select(sa.func.min(quarter)).where(quarter < before_ms // QUARTER_MS)
    total = 0
    while True:
        async with database.read() as connection:
            found = await connection.scalar(oldest)
        if found is None:
            return total
        async with database.write() as connection:
            delete = sa.delete(USAGE_QUARTERS).where(quarter == found)
            total += (await connection.execute(delete)).rowcount
            totals = sa.delete(USAGE_TOTALS).where(
                USAGE_TOTALS.c.property.in_(PROPERTIES), USAGE_TOTALS.c.quarter == found
            )
            await connection.execute(totals)
