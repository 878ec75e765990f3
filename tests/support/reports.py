"""Calls booked for reports, and a count of the statements that a read takes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa

from gateway.core.model import CallRecord
from gateway.store.sql.database import Database
from gateway.store.usage.booking import UsageBooker
from gateway.store.usage.rows import row_of
from tests.support.usage import encoded


async def book_calls(database: Database, *events: CallRecord) -> None:
    """Book a batch as the ledger writer does."""
    booking = UsageBooker(is_sqlite=database.is_sqlite)
    async with database.write() as connection:
        await booking.book(connection, [row_of(encoded(event)) for event in events])


@contextmanager
def statements(database: Database) -> Iterator[list[str]]:
    """Collect the statements that run in the block, without BEGIN."""
    found: list[str] = []

    def note(*arguments: Any) -> None:
        if not arguments[2].startswith("BEGIN"):
            found.append(arguments[2])

    engine = database._engine.sync_engine
    sa.event.listen(engine, "before_cursor_execute", note)
    try:
        yield found
    finally:
        sa.event.remove(engine, "before_cursor_execute", note)
