"""
Books a batch of calls: their usage rows, sums, charges and balances, in one transaction.

Each call is booked exactly once, regardless of the number and order of deliveries. A call is booked
if its usage row is new and the ledger has no entry of it. After that only an event that supersedes
the booked one (see `rows.supersedes`) is booked: the usage row is replaced, and a `correction` in
the ledger changes the balance by the difference.

The ledger keeps a call's charge, and whether it was provisional, forever, even after the usage row
has been purged. It has no entry of calls that cost nothing, nor of a settlement that cost the same
as the abandoned call.

Each charged call has its own ledger entry. One sum per batch would be smaller, but its parts could
not be verified after the usage rows are purged, and a call delivered later would be charged twice.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.core.calendar import DAY_MS
from gateway.core.model import ABANDONED
from gateway.core.money import MIN_BALANCE_NANOUSD
from gateway.store.accounts.credits import EntryKind, position_of
from gateway.store.accounts.snapshot import Position
from gateway.store.sql.tables import ACCOUNTS, LEDGER_ENTRIES, SPEND, USAGE_EVENTS
from gateway.store.usage.rows import Row, is_provisional, supersedes
from gateway.store.usage_sums.quarters import BookedRow, QuarterSums

ACTOR = "gateway"

_OF_CALLS: sa.BindParameter[Any] = sa.bindparam("request_ids", expanding=True)
_LOCK_ROWS = (
    sa.select(USAGE_EVENTS)
    .where(USAGE_EVENTS.c.request_id.in_(_OF_CALLS))
    .order_by(USAGE_EVENTS.c.request_id)  # two writers lock in the same order
    .with_for_update()
)
_UPDATE_ROW = sa.update(USAGE_EVENTS).where(USAGE_EVENTS.c.request_id == sa.bindparam("call"))
_DELETE_ROWS = sa.delete(USAGE_EVENTS).where(USAGE_EVENTS.c.request_id.in_(_OF_CALLS))
_ENTRIES_OF_CALLS = (
    sa.select(LEDGER_ENTRIES)
    .where(LEDGER_ENTRIES.c.request_id.in_(_OF_CALLS))
    .order_by(LEDGER_ENTRIES.c.id)
)
_THE_ACCOUNTS = ACCOUNTS.c.id.in_(sa.bindparam("account_ids", expanding=True))
_LOCK_BALANCES = (
    sa.select(ACCOUNTS.c.id, ACCOUNTS.c.balance_nanousd)
    .where(_THE_ACCOUNTS)
    .order_by(ACCOUNTS.c.id)  # two writers lock in the same order
    .with_for_update()
)
_POSITIONS = sa.select(ACCOUNTS.c.id, ACCOUNTS.c.balance_nanousd, position_of(ACCOUNTS)).where(
    _THE_ACCOUNTS
)
_SET_BALANCE = (
    sa.update(ACCOUNTS)
    .where(ACCOUNTS.c.id == sa.bindparam("account"))
    .values(balance_nanousd=sa.bindparam("balance"))
)
_ADD_ENTRIES = sa.insert(LEDGER_ENTRIES)


class ChargeRefusedError(Exception):
    """A call cannot be charged, for the permanent reason in the message."""


class BookedBatch(msgspec.Struct, frozen=True):
    new: frozenset[str]
    """Request ids with new rows."""
    charged_nanousd: int
    """Including corrections."""
    positions: Mapping[str, Position]
    """The new balance of each account with a priced or correcting call in the batch."""
    late: Mapping[str, int] = {}
    """Request ids of calls booked as abandoned before -> the difference charged now."""
    closed: frozenset[str] = frozenset()
    """Request ids of late settlements that were not booked, since their calls were refunded."""


class _Charged(msgspec.Struct, frozen=True):
    """The ledger's entries of one call, summed."""

    account_id: str
    cost_nanousd: int
    provisional: bool
    revision: int
    refunded: bool


class _Change(msgspec.Struct, frozen=True):
    """One call to be booked, and what was booked of it before."""

    row: Row
    before: Row | None
    """Its usage row."""
    known: _Charged | None

    @property
    def due_nanousd(self) -> int:
        """The amount still to be charged; negative: credited back."""
        return _cost(self.row) - (self.known.cost_nanousd if self.known else 0)


class UsageBooker:
    """
    Books calls.

    Args:
        is_sqlite: The database is SQLite, not PostgreSQL.
    """

    def __init__(self, *, is_sqlite: bool) -> None:
        insert = sqlite.insert if is_sqlite else postgresql.insert
        self._add_rows = (
            insert(USAGE_EVENTS)
            .on_conflict_do_nothing(index_elements=["request_id"])
            .returning(USAGE_EVENTS.c.request_id)
        )
        add_spend = insert(SPEND)
        self._add_spend = add_spend.on_conflict_do_update(
            index_elements=list(SPEND.primary_key),
            set_={"cost_nanousd": SPEND.c.cost_nanousd + add_spend.excluded.cost_nanousd},
        )
        self._sums = QuarterSums(is_sqlite=is_sqlite)

    async def book(self, connection: AsyncConnection, rows: Sequence[Row]) -> BookedBatch:
        """
        Book the new ones of `rows`, within the open transaction.

        Of rows with the same request id, the one that supersedes the others counts, or the first.

        Raises:
            ChargeRefusedError: a charged account does not exist, or its balance would be out of
                bounds. The transaction must be rolled back.
            sqlalchemy.exc.DBAPIError: a row was rejected.
        """
        # Ordered, so that two writers with the same calls do not deadlock.
        ordered = _strongest(rows)
        inserted = await connection.execute(self._add_rows, ordered)
        new = frozenset(request_id for (request_id,) in inserted)
        before = await _lock_rows(connection, [row for row in ordered if _id(row) not in new])
        accounts = sorted({str(row["account_id"]) for row in ordered})
        locked = await connection.execute(_LOCK_BALANCES, {"account_ids": accounts})
        balances: dict[str, int] = {row.id: row.balance_nanousd for row in locked}
        # Read after locking, so that charges of other writers are visible.
        known = await _read_ledger(connection, [_id(row) for row in ordered])
        due, closed, stray = _classify(ordered, new, before, known)
        if stray:
            await connection.execute(_DELETE_ROWS, {"request_ids": stray})
        await self._charge(connection, [each for each in due if each.due_nanousd], balances)
        late = {_id(each.row): each.due_nanousd for each in due if each.before or each.known}
        updates = [{**each.row, "call": _id(each.row)} for each in due if each.before]
        if updates:
            await connection.execute(_UPDATE_ROW, updates)
        booked = [BookedRow(e.row, e.before, e.known is not None, e.due_nanousd) for e in due]
        await self._sums.add(connection, booked)
        moved = {str(each.row["account_id"]) for each in due if each.due_nanousd}
        costly = {str(row["account_id"]) for row in rows if row["cost_nanousd"]}
        return BookedBatch(
            new - frozenset(stray),
            sum(each.due_nanousd for each in due),
            await _positions(connection, sorted(costly | moved)),
            late,
            closed,
        )

    async def _charge(
        self, connection: AsyncConnection, due: list[_Change], balances: dict[str, int]
    ) -> None:
        """Charge calls to accounts whose rows are locked."""
        if not due:
            return
        entries = _entries(due, balances)
        await connection.execute(_ADD_ENTRIES, entries)
        moved = sorted({str(each.row["account_id"]) for each in due})
        new_balances = [{"account": name, "balance": balances[name]} for name in moved]
        await connection.execute(_SET_BALANCE, new_balances)
        await connection.execute(self._add_spend, _spend(due))


def _strongest(rows: Iterable[Row]) -> list[Row]:
    """Return one row per call, ordered by request id."""
    found: dict[str, Row] = {}
    for row in rows:
        held = found.setdefault(_id(row), row)
        if supersedes(row, provisional=is_provisional(held), cost_nanousd=_cost(held)):
            found[_id(row)] = row
    return [found[request_id] for request_id in sorted(found)]


def _classify(
    rows: Iterable[Row],
    new: frozenset[str],
    before: Mapping[str, Row],
    known: Mapping[str, _Charged],
) -> tuple[list[_Change], frozenset[str], list[str]]:
    """
    Return the changes to book, the calls that are closed, and the new rows to delete again.

    The last are rows of calls whose row was purged and whose booked cost differs.
    """
    due: list[_Change] = []
    closed: set[str] = set()
    stray: list[str] = []
    for row in rows:
        request_id = _id(row)
        held, entry = before.get(request_id), known.get(request_id)
        if held is None and entry is None:
            due.append(_Change(row, None, None))
            continue
        provisional = entry.provisional if entry else False
        if held is not None:
            provisional = is_provisional(held)
        cost = entry.cost_nanousd if entry else 0
        owner = entry.account_id if entry else held and held["account_id"]
        is_later = supersedes(row, provisional=provisional, cost_nanousd=cost)
        if is_later and owner == row["account_id"]:
            if entry is None or not entry.refunded:
                due.append(_Change(row, held, entry))
                continue
            closed.add(request_id)
        if request_id in new and cost != _cost(row):
            stray.append(request_id)
    return due, frozenset(closed), stray


async def _lock_rows(connection: AsyncConnection, rows: Sequence[Row]) -> dict[str, Row]:
    """Return the usage rows of calls that have one, locked."""
    if not rows:
        return {}
    found = await connection.execute(_LOCK_ROWS, {"request_ids": [_id(row) for row in rows]})
    return {row.request_id: dict(row._mapping) for row in found}


async def _read_ledger(
    connection: AsyncConnection, request_ids: Sequence[str]
) -> dict[str, _Charged]:
    """Return the charges of calls that have ledger entries."""
    grouped: dict[str, list[sa.Row[Any]]] = {}
    for entry in await connection.execute(_ENTRIES_OF_CALLS, {"request_ids": request_ids}):
        grouped.setdefault(entry.request_id, []).append(entry)
    known: dict[str, _Charged] = {}
    for request_id, entries in grouped.items():
        charges = [each for each in entries if each.kind != EntryKind.REFUND.value]
        known[request_id] = _Charged(
            account_id=entries[0].account_id,
            cost_nanousd=-sum(each.amount_nanousd for each in charges),
            provisional=charges[-1].provisional,
            revision=charges[-1].revision,
            refunded=len(charges) < len(entries),
        )
    return known


async def _positions(connection: AsyncConnection, accounts: list[str]) -> dict[str, Position]:
    if not accounts:
        return {}
    found = await connection.execute(_POSITIONS, {"account_ids": accounts})
    return {row.id: Position(row.position, row.balance_nanousd) for row in found}


def _entries(due: Iterable[_Change], balances: dict[str, int]) -> list[dict[str, str | int]]:
    """Return the entries in order, and update `balances`."""
    at_ms = time.time_ns() // 1_000_000
    entries: list[dict[str, str | int]] = []
    for each in due:
        account_id = str(each.row["account_id"])
        if account_id not in balances:
            raise ChargeRefusedError(f"there is no account {account_id} to charge")
        balances[account_id] -= each.due_nanousd
        if balances[account_id] < MIN_BALANCE_NANOUSD:
            raise ChargeRefusedError(f"the balance of {account_id} is at its lower bound")
        kind = EntryKind.CORRECTION if each.known else EntryKind.CHARGE
        entries.append(
            {
                "account_id": account_id,
                "at_ms": at_ms,
                "kind": kind.value,
                "amount_nanousd": -each.due_nanousd,
                "balance_after_nanousd": balances[account_id],
                "request_id": _id(each.row),
                "actor": ACTOR,
                "provisional": each.row["outcome"] == ABANDONED,
                "revision": each.known.revision + 1 if each.known else 0,
            }
        )
    return entries


def _spend(due: Iterable[_Change]) -> list[dict[str, str | int]]:
    """
    Return the charges summed by account, day, key and model, in that order.

    A correction subtracts the booked cost from the sums of the row that it supersedes, so that the
    sums match the usage rows. If that row was purged, its day is unknown: then the difference
    counts for the day of the late settlement.
    """
    sums: dict[tuple[str, int, str, str], int] = {}
    for each in due:
        if each.before is not None and each.known is not None:
            group = _group(each.before)
            sums[group] = sums.get(group, 0) - each.known.cost_nanousd
            group, cost = _group(each.row), _cost(each.row)
        else:
            group, cost = _group(each.row), each.due_nanousd
        sums[group] = sums.get(group, 0) + cost
    names = [column.name for column in SPEND.primary_key]
    return [
        {**dict(zip(names, group, strict=True)), "cost_nanousd": sums[group]}
        for group in sorted(sums)
    ]


def _group(row: Row) -> tuple[str, int, str, str]:
    day = int(row["at_ms"] or 0) // DAY_MS
    return str(row["account_id"]), day, str(row["key_id"]), str(row["model"])


def _id(row: Row) -> str:
    return str(row["request_id"])


def _cost(row: Row) -> int:
    return int(row["cost_nanousd"] or 0)
