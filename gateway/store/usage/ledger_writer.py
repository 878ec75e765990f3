"""
The ledger writer: moves usage events from the streams into SQL, effectively exactly once.

A turn: claim the entries of dead writers, read a batch, book it in one transaction (usage rows,
charges and balances, see `booking`) that skips known request ids, and only then acknowledge it.
If the writer is killed, the batch is delivered again. While Redis or SQL is unavailable it retries.
An entry that cannot be decoded, or whose row SQL rejects, goes to the dead-letter stream.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from typing import NamedTuple

import msgspec
from redis.exceptions import RedisError

from gateway.errors import GatewayError
from gateway.store.accounts.snapshot import Position
from gateway.store.booking.booking import ChargeRefusedError, book
from gateway.store.booking.rows import UsageRow, row_of
from gateway.store.sql.database import Database
from gateway.store.sql.failures import RowRefusedError
from gateway.store.usage.direct_charges import DirectCharges
from gateway.store.usage.reader import BATCH, PER_SHARD, StreamEntry, UsageReader
from gateway.telemetry.metrics import Metrics

_CLAIM_EVERY_S = 5.0
_STATUS_EVERY_S = 5.0
_BACKOFF_FIRST_S = 0.1
_BACKOFF_LIMIT_S = 5.0
_DRAIN_S = 5.0
_REFUSALS = (RowRefusedError, ChargeRefusedError, ValueError, TypeError, OverflowError)
"""Errors about a row. The last three are raised by drivers that cannot encode a value."""
logger = logging.getLogger(__name__)


class LedgerStatus(msgspec.Struct, frozen=True):
    """The backlog and the progress of a ledger writer."""

    lag_s: float
    """Age of the oldest event in the stream."""
    stream_length: int
    written_total: int
    """Rows inserted by this process."""
    repeated_total: int
    """Events of calls that SQL had already, including late settlements."""
    parked_total: int


class _Outcome(NamedTuple):
    """The result of a batch: new balances, and the entries whose calls SQL had before."""

    positions: dict[str, Position]
    repeated: set[StreamEntry]


class LedgerWriter:
    """
    One writer; any number may run concurrently.

    Args:
        reader: The consumer of the streams; not closed.
        database: The destination; not closed.
        metrics: Updates `ledger_*`.
        rest_s: Pause after a batch that was not full: a transaction costs as much as many rows.
    """

    def __init__(
        self, reader: UsageReader, database: Database, metrics: Metrics, *, rest_s: float = 0.0
    ) -> None:
        self._reader = reader
        self._metrics = metrics
        self._direct = DirectCharges(reader, database)
        self._transactions = database.transactions()
        self._written = self._repeated = self._parked = 0
        self._connected = False
        self._claim_at = 0.0
        self._rest_s = rest_s

    async def run(self, stop: asyncio.Event) -> None:
        """Write until `stop` is set, then drain the streams for some seconds at most."""
        try:
            await self._write_until(stop)
            with contextlib.suppress(RedisError, OSError, GatewayError, TimeoutError):
                async with asyncio.timeout(_DRAIN_S):
                    while await self._store(await self._reader.read_new(None)):
                        pass
        finally:
            await self._transactions.aclose()

    async def _write_until(self, stop: asyncio.Event) -> None:
        delay = _BACKOFF_FIRST_S
        while not stop.is_set():
            try:
                stored = await self._turn()
                if 0 < stored < PER_SHARD and self._rest_s:  # no stream had more to read
                    await pause(stop, self._rest_s)
            except (RedisError, OSError, GatewayError) as error:
                self._connected = False
                self._metrics.ledger_failing.set(1)
                logger.warning(
                    "ledger_write_deferred", extra={"error": describe(error), "delay_s": delay}
                )
                await pause(stop, delay)
                delay = min(delay * 2, _BACKOFF_LIMIT_S)
            except Exception:  # the root of a task: the writer goes on
                self._connected = False
                self._metrics.ledger_failing.set(1)
                logger.exception("ledger_turn_failed")
                await pause(stop, _BACKOFF_LIMIT_S)
            else:
                delay = _BACKOFF_FIRST_S
                self._metrics.ledger_failing.set(1 if self._reader.unreachable else 0)

    async def status(self) -> LedgerStatus:
        """
        Measure the backlog in Redis.

        Raises:
            redis.exceptions.RedisError: Redis is unavailable.
        """
        return LedgerStatus(
            lag_s=await self._reader.oldest_age_s(int(time.time() * 1000)),
            stream_length=await self._reader.length(),
            written_total=self._written,
            repeated_total=self._repeated,
            parked_total=self._parked,
        )

    async def _turn(self) -> int:
        """Return how many new entries were stored."""
        if not self._connected:
            await self._reader.ensure_group()
            while await self._store(await self._reader.read_own()):
                pass
            self._connected = True
        now = time.monotonic()
        if now >= self._claim_at:
            while await self._store(await self._reader.claim()):
                pass
            with contextlib.suppress(RedisError):  # the next check looks at the same charges
                await self._direct.check()
            self._claim_at = now + _CLAIM_EVERY_S
        entries = await self._reader.read_new()
        await self._store(entries)
        if not entries and await self._reader.redeliver_orphans():
            logger.warning("usage_stream_reread")
        return len(entries)

    async def _store(self, entries: list[StreamEntry]) -> bool:
        """Insert and acknowledge; return False if there are no entries."""
        for start in range(0, len(entries), BATCH):
            await self._store_batch(entries[start : start + BATCH])
        return bool(entries)

    async def _store_batch(self, entries: list[StreamEntry]) -> None:
        rows: list[tuple[StreamEntry, UsageRow]] = []
        for entry in entries:
            if entry.event is None:
                continue
            try:
                rows.append((entry, row_of(entry.event)))
            except ValueError as error:
                await self._park(entry, str(error))
        outcome = _Outcome({}, set())
        if rows:
            await self._write(rows, outcome)
        await self._reader.acknowledge(entries, outcome.positions, outcome.repeated)

    async def _write(self, rows: list[tuple[StreamEntry, UsageRow]], outcome: _Outcome) -> None:
        try:
            await self._book(rows, outcome)
        except _REFUSALS as refusal:  # of one row, see `Database.write`
            if len(rows) == 1:
                await self._park(rows[0][0], describe(refusal))
                return
            for pair in rows:
                await self._write([pair], outcome)

    async def _book(self, rows: list[tuple[StreamEntry, UsageRow]], outcome: _Outcome) -> None:
        booked = await self._transactions.run(book([row for _, row in rows]))
        new = set(booked.new)
        for entry, row in rows:
            if row["request_id"] in new:
                new.remove(str(row["request_id"]))
            else:
                outcome.repeated.add(entry)
        outcome.positions.update(booked.positions)
        self._written += len(booked.new)
        self._repeated += len(rows) - len(booked.new)
        self._metrics.ledger_written.inc(len(booked.new))
        self._metrics.late_settlements.inc(len(booked.late))
        for request_id, difference in booked.late.items():
            logger.info(
                "late_settlement_booked",
                extra={"request_id": request_id, "difference_nanousd": difference},
            )
        for request_id in booked.closed:
            logger.warning("refunded_call_settled", extra={"request_id": request_id})

    async def _park(self, entry: StreamEntry, reason: str) -> None:
        await self._reader.park(entry, reason)
        self._parked += 1
        self._metrics.ledger_parked.inc()
        logger.error(
            "usage_event_parked",
            extra={"entry_id": entry.entry_id.decode(), "reason": reason},
        )

    async def report(self, stop: asyncio.Event) -> None:
        """Update the gauges until `stop` is set."""
        while not stop.is_set():
            with contextlib.suppress(RedisError, OSError):  # logged by `run`
                status = await self.status()
                self._metrics.ledger_lag.set(status.lag_s)
                self._metrics.ledger_length.set(status.stream_length)
            await pause(stop, _STATUS_EVERY_S)


def describe(error: BaseException) -> str:
    """Return an error's type and message for a log line, without values of rows."""
    detail = error.detail if isinstance(error, GatewayError) else getattr(error, "orig", error)
    return f"{type(error).__name__}: {detail}"


async def pause(stop: asyncio.Event, seconds: float) -> None:
    """Sleep, or return early once `stop` is set."""
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), seconds)
