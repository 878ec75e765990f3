"""
Verifies the ledger: recomputes derived values from its entries and reports differences.

It never changes anything. Differences are corrected by an adjustment, which is an entry like any
other. Each check is one statement, so it sees one snapshot and may run beside the writers.
"""

from __future__ import annotations

from typing import Any

import msgspec
import sqlalchemy as sa

from gateway.store.accounts.credits import EntryKind
from gateway.store.sql.database import Database
from gateway.store.sql.tables import ACCOUNTS, LEDGER_ENTRIES, SPEND, USAGE_EVENTS

MAX_DIFFERENCES = 1000
"""Reported at most for each check."""

_ENTRIES = LEDGER_ENTRIES.c


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """Two amounts that should be equal, in nano-dollars."""

    check: str
    """`balance`, `chain`, `spend` or `charge`."""
    account_id: str
    subject: str
    """The account, the ledger entry's id, or the call's request id."""
    expected_nanousd: int
    """According to the ledger; for `charge`, to the usage row."""
    found_nanousd: int | None
    """None: no row was found."""


class Reconciliation(msgspec.Struct, frozen=True):
    """How many rows were checked, and the differences."""

    accounts: int
    entries: int
    differences: list[Difference]


async def reconcile(database: Database) -> Reconciliation:
    """
    Check the whole ledger.

    1. balance: an account's balance is the sum of its entries.
    2. chain: each entry leads from the balance after the one before it to the balance after it.
    3. spend: the sums kept for budgets are the sum of an account's charges and corrections.
    4. charge: if a call's usage row has a cost, its charge and corrections add up to that cost.

    Raises:
        GatewayError: STORE_UNAVAILABLE.
    """
    differences: list[Difference] = []
    for check, query in (
        ("balance", _balances()),
        ("chain", _chains()),
        ("spend", _spend()),
        ("charge", _charges()),
    ):
        async with database.read() as connection:
            for row in await connection.execute(query.limit(MAX_DIFFERENCES)):
                found = None if row.found is None else int(row.found)
                differences.append(
                    Difference(
                        check=check,
                        account_id=row.account_id,
                        subject=str(row.subject),
                        expected_nanousd=int(row.expected),
                        found_nanousd=found,
                    )
                )
    async with database.read() as connection:
        accounts = await connection.scalar(sa.select(sa.func.count()).select_from(ACCOUNTS))
        entries = await connection.scalar(sa.select(sa.func.count()).select_from(LEDGER_ENTRIES))
    return Reconciliation(int(accounts or 0), int(entries or 0), differences)


def _balances() -> sa.Select[Any]:
    sums = (
        sa.select(_ENTRIES.account_id, sa.func.sum(_ENTRIES.amount_nanousd).label("total"))
        .group_by(_ENTRIES.account_id)
        .subquery()
    )
    expected = sa.func.coalesce(sums.c.total, 0)
    return (
        sa.select(
            ACCOUNTS.c.id.label("account_id"),
            ACCOUNTS.c.id.label("subject"),
            expected.label("expected"),
            ACCOUNTS.c.balance_nanousd.label("found"),
        )
        .select_from(ACCOUNTS.outerjoin(sums, sums.c.account_id == ACCOUNTS.c.id))
        .where(ACCOUNTS.c.balance_nanousd != expected)
        .order_by(ACCOUNTS.c.id)
    )


def _chains() -> sa.Select[Any]:
    before = sa.func.lag(_ENTRIES.balance_after_nanousd, 1, 0).over(
        partition_by=_ENTRIES.account_id, order_by=_ENTRIES.id
    )
    steps = sa.select(
        _ENTRIES.account_id,
        _ENTRIES.id.label("subject"),
        (before + _ENTRIES.amount_nanousd).label("expected"),
        _ENTRIES.balance_after_nanousd.label("found"),
    ).subquery()
    return sa.select(steps).where(steps.c.expected != steps.c.found).order_by(steps.c.subject)


def _spend() -> sa.Select[Any]:
    charged = (
        sa.select(_ENTRIES.account_id, sa.func.sum(-_ENTRIES.amount_nanousd).label("total"))
        .where(_ENTRIES.kind.in_((EntryKind.CHARGE.value, EntryKind.CORRECTION.value)))
        .group_by(_ENTRIES.account_id)
        .subquery()
    )
    kept = (
        sa.select(SPEND.c.account_id, sa.func.sum(SPEND.c.cost_nanousd).label("total"))
        .group_by(SPEND.c.account_id)
        .subquery()
    )
    expected = sa.func.coalesce(charged.c.total, 0)
    found = sa.func.coalesce(kept.c.total, 0)
    both = ACCOUNTS.outerjoin(charged, charged.c.account_id == ACCOUNTS.c.id).outerjoin(
        kept, kept.c.account_id == ACCOUNTS.c.id
    )
    return (
        sa.select(
            ACCOUNTS.c.id.label("account_id"),
            ACCOUNTS.c.id.label("subject"),
            expected.label("expected"),
            found.label("found"),
        )
        .select_from(both)
        .where(expected != found)
        .order_by(ACCOUNTS.c.id)
    )


def _charges() -> sa.Select[Any]:
    calls = USAGE_EVENTS.c
    of_call = sa.and_(
        _ENTRIES.request_id == calls.request_id, _ENTRIES.kind == EntryKind.CHARGE.value
    )
    corrections = LEDGER_ENTRIES.alias()
    corrected = (
        sa.select(sa.func.coalesce(sa.func.sum(corrections.c.amount_nanousd), 0))
        .where(
            corrections.c.request_id == calls.request_id,
            corrections.c.kind == EntryKind.CORRECTION.value,
        )
        .correlate(USAGE_EVENTS)
        .scalar_subquery()
    )
    charged = -(_ENTRIES.amount_nanousd + corrected)
    return (
        sa.select(
            calls.account_id,
            calls.request_id.label("subject"),
            calls.cost_nanousd.label("expected"),
            charged.label("found"),
        )
        .select_from(USAGE_EVENTS.outerjoin(LEDGER_ENTRIES, of_call))
        .where(
            sa.or_(
                sa.and_(calls.cost_nanousd > 0, charged.is_(None)),
                charged != calls.cost_nanousd,
                _ENTRIES.account_id != calls.account_id,
            )
        )
        .order_by(calls.request_id)
    )
