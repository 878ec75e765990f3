"""The statements that a read takes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa

from gateway.store.sql.database import Database


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
