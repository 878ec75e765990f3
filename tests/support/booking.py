"""Books calls as the ledger writer does."""

from __future__ import annotations

from typing import TypeVar

from gateway.core.model import CallRecord
from gateway.store.booking.booking import BookedBatch, book
from gateway.store.booking.rows import row_of
from gateway.store.sql.database import Database
from gateway.store.sql.statements import Steps
from tests.support.usage import encoded

T = TypeVar("T")


async def book_calls(database: Database, *events: CallRecord) -> BookedBatch:
    """Book a batch."""
    return await run_steps(database, book([row_of(encoded(event)) for event in events]))


async def die_booking(database: Database, *events: CallRecord) -> None:
    """Book a batch and die before the commit."""
    try:
        await run_steps(database, _dying(*events))
    except LookupError:
        return
    raise AssertionError("the batch was committed")


async def run_steps(database: Database, steps: Steps[T]) -> T:
    """Run a transaction on a connection of its own."""
    transactions = database.transactions()
    try:
        return await transactions.run(steps)
    finally:
        await transactions.aclose()


def _dying(*events: CallRecord) -> Steps[None]:
    yield from book([row_of(encoded(event)) for event in events])
    raise LookupError
