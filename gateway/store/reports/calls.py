"""Lists of recorded calls, newest first, one page at a time."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import msgspec
import sqlalchemy as sa

from gateway.core.model import CallRecord
from gateway.store.booking.rows import record_of
from gateway.store.sql.database import Database
from gateway.store.sql.tables import LEDGER_ENTRIES, USAGE_EVENTS

EXPORT_LIMIT = 200_000
"""Calls in one download."""
MOST_MEASURED = 2000
"""Calls whose speed is measured."""
_BATCH = 500
_CALLS = USAGE_EVENTS.c
_FAILED = ("failed", "insured")


class CallPlace(msgspec.Struct, frozen=True):
    """The place of a call in the list."""

    at_ms: int
    request_id: str


class CallsQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Selects calls. None: all. Times are Unix milliseconds; `until_ms` is exclusive."""

    account_id: str | None
    since_ms: int
    until_ms: int
    key_id: str | None = None
    model: str | None = None
    endpoint: str | None = None
    outcomes: tuple[str, ...] = ()
    statuses: tuple[int, int] | None = None
    """The lowest and the highest HTTP status."""
    min_cost_nanousd: int = 0
    request_id: str | None = None
    provider: str | None = None
    upstream_model: str | None = None


class CallLists:
    """Reads `usage_events`. Every method may raise GatewayError (STORE_UNAVAILABLE)."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def page(
        self, which: CallsQuery, *, before: CallPlace | None = None, limit: int
    ) -> list[CallRecord]:
        """Return up to `limit` calls after the place `before`, newest first."""
        query = _ordered(_select(which), before).limit(limit)
        async with self._database.read() as connection:
            return [record_of(row) for row in await connection.execute(query)]

    async def count_since(self, which: CallsQuery, after: CallPlace, *, limit: int) -> int:
        """Return how many calls are newer than a place, at most `limit`."""
        newer = sa.tuple_(_CALLS.at_ms, _CALLS.request_id) > sa.tuple_(
            after.at_ms, after.request_id
        )
        query = sa.select(_CALLS.request_id).where(*_conditions(which), newer).limit(limit)
        async with self._database.read() as connection:
            count = sa.select(sa.func.count()).select_from(query.subquery())
            return int(await connection.scalar(count) or 0)

    async def speeds(self, since_ms: int) -> dict[str, float]:
        """Return tokens per second after the first token, by deployment, of the newest calls."""
        tokens = _CALLS.output_tokens + _CALLS.reasoning_tokens
        newest = (
            sa.select(
                _CALLS.provider,
                _CALLS.upstream_model,
                tokens.label("tokens"),
                (_CALLS.duration_ms - _CALLS.ttft_ms).label("took_ms"),
            )
            .where(_CALLS.at_ms >= since_ms, _CALLS.duration_ms > _CALLS.ttft_ms, tokens > 1)
            .order_by(_CALLS.at_ms.desc())
            .limit(MOST_MEASURED)
            .subquery()
        )
        column = newest.c
        query = sa.select(
            column.provider,
            column.upstream_model,
            sa.func.sum(column.tokens),
            sa.func.sum(column.took_ms),
        ).group_by(column.provider, column.upstream_model)
        async with self._database.read() as connection:
            rows = (await connection.execute(query)).all()
        return {f"{row[0]}/{row[1]}": float(row[2]) * 1000 / float(row[3]) for row in rows}

    async def call(self, account_id: str | None, request_id: str) -> CallRecord | None:
        """Return a recorded call of an account; None: there is none with this id."""
        query = sa.select(USAGE_EVENTS).where(_CALLS.request_id == request_id)
        if account_id is not None:
            query = query.where(_CALLS.account_id == account_id)
        async with self._database.read() as connection:
            row = (await connection.execute(query)).first()
        return None if row is None else record_of(row)

    async def charges(self, account_id: str | None, request_id: str) -> list[ChargeEntry]:
        """Return the ledger entries of a call, in order."""
        entries = LEDGER_ENTRIES.c
        query = sa.select(LEDGER_ENTRIES).where(entries.request_id == request_id)
        if account_id is not None:
            query = query.where(entries.account_id == account_id)
        async with self._database.read() as connection:
            rows = await connection.execute(query.order_by(entries.id))
            return [
                ChargeEntry(
                    id=row.id, at_ms=row.at_ms, kind=row.kind, amount_nanousd=row.amount_nanousd,
                    balance_after_nanousd=row.balance_after_nanousd,
                )
                for row in rows
            ]  # fmt: skip

    async def export(
        self, which: CallsQuery, *, before: CallPlace | None = None, limit: int = EXPORT_LIMIT
    ) -> AsyncIterator[CallRecord]:
        """
        Yield calls, newest first, with a short transaction for each batch.

        A download may take long: a transaction over all of it would keep SQLite's log growing.
        """
        left, place = limit, before
        while left > 0:
            batch = await self.page(which, before=place, limit=min(_BATCH, left))
            for call in batch:
                yield call
            if len(batch) < min(_BATCH, left):
                return
            left -= len(batch)
            place = CallPlace(batch[-1].at_ms, batch[-1].request_id)


class ChargeEntry(msgspec.Struct, frozen=True, kw_only=True):
    """An entry of the ledger about a call."""

    id: int
    at_ms: int
    kind: str
    amount_nanousd: int
    balance_after_nanousd: int


def _ordered(query: sa.Select[Any], before: CallPlace | None) -> sa.Select[Any]:
    if before is not None:
        # The first condition bounds the index range, also where row values do not.
        query = query.where(
            _CALLS.at_ms <= before.at_ms,
            sa.tuple_(_CALLS.at_ms, _CALLS.request_id) < sa.tuple_(before.at_ms, before.request_id),
        )
    return query.order_by(_CALLS.at_ms.desc(), _CALLS.request_id.desc())


def _select(which: CallsQuery) -> sa.Select[Any]:
    return sa.select(USAGE_EVENTS).where(*_conditions(which))


def _conditions(which: CallsQuery) -> list[sa.ColumnElement[bool]]:
    conditions = [_CALLS.at_ms >= which.since_ms, _CALLS.at_ms < which.until_ms]
    wanted = {
        "account_id": which.account_id,
        "key_id": which.key_id,
        "model": which.model,
        "endpoint": which.endpoint,
        "request_id": which.request_id,
        "provider": which.provider,
        "upstream_model": which.upstream_model,
    }
    conditions += [_CALLS[name] == value for name, value in wanted.items() if value is not None]
    if set(which.outcomes) == set(_FAILED):
        # As in the definition of the index, without parameters, so that it is used.
        conditions.append(sa.text("outcome IN ('failed', 'insured')"))  # type: ignore[arg-type]
    elif which.outcomes:
        conditions.append(_CALLS.outcome.in_(which.outcomes))
        if set(which.outcomes) <= set(_FAILED):
            conditions.append(sa.text("outcome IN ('failed', 'insured')"))  # type: ignore[arg-type]
    if which.statuses is not None:
        conditions.append(_CALLS.status.between(*which.statuses))
    if which.min_cost_nanousd:
        conditions.append(_CALLS.cost_nanousd >= which.min_cost_nanousd)
    return conditions
