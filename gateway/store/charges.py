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
from collections.abc import Iterable, Sequence

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.core.money import MIN_BALANCE_NANOUSD
from gateway.store.balances import EntryKind
from gateway.store.tables import ACCOUNTS, LEDGER_ENTRIES, USAGE_EVENTS
from gateway.store.usage_rows import Row

ACTOR = "gateway"

_CHARGED_ALREADY = sa.select(LEDGER_ENTRIES.c.request_id).where(
    LEDGER_ENTRIES.c.kind == EntryKind.CHARGE.value,
    LEDGER_ENTRIES.c.request_id.in_(sa.bindparam("request_ids", expanding=True)),
)
_LOCK_BALANCES = (
    sa.select(ACCOUNTS.c.id, ACCOUNTS.c.balance_nanousd)
    .where(ACCOUNTS.c.id.in_(sa.bindparam("account_ids", expanding=True)))
    .order_by(ACCOUNTS.c.id)  # two writers lock in the same order
    .with_for_update()
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

    new: int
    """Rows that were not there before."""
    charged_nanousd: int


class CallBooking:
    """
    Books calls.

    Args:
        is_sqlite: Which database it is.
    """

    def __init__(self, *, is_sqlite: bool) -> None:
        insert = sqlite.insert if is_sqlite else postgresql.insert
        self._insert = (
            insert(USAGE_EVENTS)
            .on_conflict_do_nothing(index_elements=["request_id"])
            .returning(USAGE_EVENTS.c.request_id)
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
        distinct: dict[object, Row] = {}
        for row in rows:
            distinct.setdefault(row["request_id"], row)
        # In order, so that two writers with the same calls do not wait for each other in a circle.
        ordered = [distinct[request_id] for request_id in sorted(map(str, distinct))]
        inserted = await connection.execute(self._insert, ordered)
        new = {request_id for (request_id,) in inserted}
        charged = await _charge(connection, (row for row in ordered if row["request_id"] in new))
        return BookedBatch(len(new), charged)


async def _charge(connection: AsyncConnection, rows: Iterable[Row]) -> int:
    """Charge calls to their accounts; return the sum in nano-dollars."""
    costly = [row for row in rows if row["cost_nanousd"]]
    if not costly:
        return 0
    account_ids = sorted({str(row["account_id"]) for row in costly})
    locked = await connection.execute(_LOCK_BALANCES, {"account_ids": account_ids})
    balances: dict[str, int] = {row.id: row.balance_nanousd for row in locked}
    request_ids = [row["request_id"] for row in costly]
    old = set((await connection.execute(_CHARGED_ALREADY, {"request_ids": request_ids})).scalars())
    entries = _entries((row for row in costly if row["request_id"] not in old), balances)
    if not entries:
        return 0
    await connection.execute(_ADD_ENTRIES, entries)
    moved = {str(entry["account_id"]) for entry in entries}
    await connection.execute(
        _SET_BALANCE,
        [{"account": account, "balance": balances[account]} for account in sorted(moved)],
    )
    return -sum(int(entry["amount_nanousd"]) for entry in entries)


def _entries(rows: Iterable[Row], balances: dict[str, int]) -> list[dict[str, str | int]]:
    """Return the entries in order, and move `balances` to where they lead."""
    at_ms = time.time_ns() // 1_000_000
    entries: list[dict[str, str | int]] = []
    for row in rows:
        account_id, cost = str(row["account_id"]), int(row["cost_nanousd"] or 0)
        if account_id not in balances:
            raise ChargeRefusedError(f"there is no account {account_id} to charge")
        balances[account_id] -= cost
        if balances[account_id] < MIN_BALANCE_NANOUSD:
            raise ChargeRefusedError(f"the balance of {account_id} is at its lower bound")
        entries.append(
            {
                "account_id": account_id,
                "at_ms": at_ms,
                "kind": EntryKind.CHARGE.value,
                "amount_nanousd": -cost,
                "balance_after_nanousd": balances[account_id],
                "request_id": str(row["request_id"]),
                "actor": ACTOR,
            }
        )
    return entries
