"""
Books a batch of calls: their usage rows, their charges and the balances, all in one transaction.

Exactly once, whatever is delivered how often. A call is booked when its usage row is new, and is
charged when, besides, no charge of its request id is in the ledger. The second condition holds for
ever, also after the usage row has been purged.

Each charged call has an entry of its own in the ledger. One sum for a batch would be smaller, but
then the proof of what a sum consists of would go with the usage rows after their days; and a call
delivered after that would be charged twice. Calls that cost nothing leave no entry.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.core.calendar import DAY_MS
from gateway.core.money import MIN_BALANCE_NANOUSD
from gateway.store.accounts.credits import EntryKind, position_of
from gateway.store.hot_state.snapshot import Position
from gateway.store.sql.tables import ACCOUNTS, LEDGER_ENTRIES, SPEND, USAGE_EVENTS
from gateway.store.usage.rows import Row

ACTOR = "gateway"

_CHARGED_ALREADY = sa.select(LEDGER_ENTRIES.c.request_id).where(
    LEDGER_ENTRIES.c.kind == EntryKind.CHARGE.value,
    LEDGER_ENTRIES.c.request_id.in_(sa.bindparam("request_ids", expanding=True)),
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
    """A call cannot be charged, now or later; the message says why."""


class BookedBatch(msgspec.Struct, frozen=True):
    """What became of a batch."""

    new: frozenset[str]
    """Request ids whose rows were not there before."""
    charged_nanousd: int
    positions: Mapping[str, Position]
    """For each account that a costly call of the batch names, new or not: its balance now."""


class CallBooking:
    """
    Books calls.

    Args:
        is_sqlite: Which database it is.
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

    async def book(self, connection: AsyncConnection, rows: Sequence[Row]) -> BookedBatch:
        """
        Book what is new of `rows`, within the caller's transaction.

        Of rows with the same request id the first counts.

        Raises:
            ChargeRefusedError: a charged account does not exist, or its balance would leave its
                bounds. The transaction must be rolled back.
            sqlalchemy.exc.DBAPIError: a row was refused.
        """
        distinct: dict[str, Row] = {}
        for row in rows:
            distinct.setdefault(str(row["request_id"]), row)
        # In order, so that two writers with the same calls do not wait for each other in a circle.
        ordered = [distinct[request_id] for request_id in sorted(distinct)]
        inserted = await connection.execute(self._add_rows, ordered)
        new = frozenset(request_id for (request_id,) in inserted)
        named = sorted({str(row["account_id"]) for row in rows if row["cost_nanousd"]})
        if not named:
            return BookedBatch(new, 0, {})
        locked = await connection.execute(_LOCK_BALANCES, {"account_ids": named})
        balances: dict[str, int] = {row.id: row.balance_nanousd for row in locked}
        costly = [row for row in ordered if row["cost_nanousd"] and row["request_id"] in new]
        charged = await self._charge(connection, costly, balances)
        found = await connection.execute(_POSITIONS, {"account_ids": named})
        positions = {row.id: Position(row.position, row.balance_nanousd) for row in found}
        return BookedBatch(new, charged, positions)

    async def _charge(
        self, connection: AsyncConnection, rows: list[Row], balances: dict[str, int]
    ) -> int:
        """Charge calls to accounts whose rows are locked; return the sum in nano-dollars."""
        if not rows:
            return 0
        ids = {"request_ids": [row["request_id"] for row in rows]}
        old = set((await connection.execute(_CHARGED_ALREADY, ids)).scalars())
        due = [row for row in rows if row["request_id"] not in old]
        if not due:
            return 0
        entries = _entries(due, balances)
        await connection.execute(_ADD_ENTRIES, entries)
        moved = sorted({str(row["account_id"]) for row in due})
        new_balances = [{"account": name, "balance": balances[name]} for name in moved]
        await connection.execute(_SET_BALANCE, new_balances)
        await connection.execute(self._add_spend, _spend(due))
        return sum(_cost(row) for row in due)


def _entries(rows: Iterable[Row], balances: dict[str, int]) -> list[dict[str, str | int]]:
    """Return the entries in order, and move `balances` to where they lead."""
    at_ms = time.time_ns() // 1_000_000
    entries: list[dict[str, str | int]] = []
    for row in rows:
        account_id = str(row["account_id"])
        if account_id not in balances:
            raise ChargeRefusedError(f"there is no account {account_id} to charge")
        balances[account_id] -= _cost(row)
        if balances[account_id] < MIN_BALANCE_NANOUSD:
            raise ChargeRefusedError(f"the balance of {account_id} is at its lower bound")
        entries.append(
            {
                "account_id": account_id,
                "at_ms": at_ms,
                "kind": EntryKind.CHARGE.value,
                "amount_nanousd": -_cost(row),
                "balance_after_nanousd": balances[account_id],
                "request_id": str(row["request_id"]),
                "actor": ACTOR,
            }
        )
    return entries


def _spend(rows: Iterable[Row]) -> list[dict[str, str | int]]:
    """Return the charges summed up by account, day, key and model, in that order."""
    sums: dict[tuple[str, int, str, str], int] = {}
    for row in rows:
        day = int(row["at_ms"] or 0) // DAY_MS
        group = (str(row["account_id"]), day, str(row["key_id"]), str(row["model"]))
        sums[group] = sums.get(group, 0) + _cost(row)
    names = [column.name for column in SPEND.primary_key]
    return [
        {**dict(zip(names, group, strict=True)), "cost_nanousd": sums[group]}
        for group in sorted(sums)
    ]


def _cost(row: Row) -> int:
    return int(row["cost_nanousd"] or 0)
