"""
Books spilled usage events in SQL without Redis, by the ledger writer's own transaction.

SQL recognises calls by their request ids, so an event that has also reached Redis, or reaches it
later, is charged once. Redis still has the call's hold and lacks its share of the budgets until the
event is sent there as well; the newest events are kept in memory for that. If the worker ends
before, a ledger writer makes Redis load the budgets again, see `store.usage.direct_charges`.
"""

from __future__ import annotations

from collections import deque
from typing import Protocol, TypeVar

from gateway.store.booking.booking import DIRECT_ACTOR, ChargeRefusedError, book
from gateway.store.booking.rows import UsageRow, row_of
from gateway.store.spill.replay import EventKeptError
from gateway.store.sql.failures import RowRefusedError
from gateway.store.sql.statements import Steps
from gateway.telemetry.metrics import Metrics

BOOK_LINES = 500
"""Events per transaction."""
_OWED = 10_000
_REFUSALS = (RowRefusedError, ChargeRefusedError, ValueError, TypeError, OverflowError)
"""Errors about a row. The last three are raised by drivers that cannot encode a value."""
T = TypeVar("T")


class Runner(Protocol):
    """Runs transactions, see `store.sql.transactions`."""

    async def run(self, steps: Steps[T]) -> T:
        """Run one, or raise RowRefusedError or GatewayError."""

    async def aclose(self) -> None:
        """Close the connection."""


class DirectBooking:
    """
    Books one worker's usage events in SQL while Redis does not accept them.

    Args:
        transactions: A connection of its own; closed by `aclose`.
        metrics: Updates `usage_direct` and `late_settlements`.

    Attributes:
        owed: The newest booked events, which this worker has not yet sent to Redis.
    """

    def __init__(self, transactions: Runner, metrics: Metrics) -> None:
        self._transactions = transactions
        self._metrics = metrics
        self.owed: deque[bytes] = deque(maxlen=_OWED)

    async def add(self, lines: list[bytes]) -> bool:
        """
        Book events that are new; return True.

        Raises:
            EventKeptError: SQL rejects one of them; the others are booked.
            GatewayError: STORE_UNAVAILABLE; the transaction may or may not have been committed.
        """
        rows: list[tuple[bytes, UsageRow]] = []
        refused: Exception | None = None
        for line in lines:
            try:
                rows.append((line, row_of(line)))
            except ValueError as error:
                refused = error
        try:
            await self._book(rows)
        except _REFUSALS:
            for pair in rows:
                try:
                    await self._book([pair])
                except _REFUSALS as error:
                    refused = error
        if refused is not None:
            raise EventKeptError(f"{type(refused).__name__}: {refused}") from refused
        return True

    async def aclose(self) -> None:
        """Close the connection."""
        await self._transactions.aclose()

    async def _book(self, rows: list[tuple[bytes, UsageRow]]) -> None:
        if not rows:
            return
        booked = await self._transactions.run(book([row for _, row in rows], DIRECT_ACTOR))
        self.owed.extend(line for line, _ in rows)
        self._metrics.usage_direct.inc(len(booked.new))
        self._metrics.late_settlements.inc(len(booked.late))
