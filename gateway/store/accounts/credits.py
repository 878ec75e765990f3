"""
Account balances and their ledger in SQL.

Invariant: an account's balance and the ledger entry that changes it are written in one transaction,
the balance first, so that its row lock orders the entries of an account. The sum of an account's
entries is always its balance; `reconcile` verifies it.
"""

from __future__ import annotations

import enum
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from gateway.core.money import MAX_AMOUNT_NANOUSD, MAX_BALANCE_NANOUSD, MIN_BALANCE_NANOUSD, dollars
from gateway.store.accounts.accounts import UnknownAccountError
from gateway.store.accounts.audit import Actor, record
from gateway.store.sql.database import Database
from gateway.store.sql.tables import ACCOUNTS, LEDGER_ENTRIES

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection  # imports the ORM


class AmountError(ValueError):
    """The amount cannot be booked, for the reason in the message."""


class IdempotencyConflictError(Exception):
    """The idempotency key was used for another booking."""


class UnknownChargeError(LookupError):
    """No call with this id was charged."""


class AlreadyRefundedError(Exception):
    """The call was refunded before."""


class EntryKind(enum.Enum):
    """Why a balance changed. The value is used in SQL, JSON and tables."""

    CHARGE = "charge"
    CORRECTION = "correction"
    """The difference between a provisional charge and a later settlement of the call."""
    TOPUP = "topup"
    ADJUSTMENT = "adjustment"
    CODE = "code"
    REFUND = "refund"


class LedgerEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One change of an account's balance; positive amounts increase it."""

    id: int
    account_id: str
    at_ms: int
    """When it was booked, Unix milliseconds."""
    kind: EntryKind
    amount_nanousd: int
    balance_after_nanousd: int
    request_id: str | None = None
    """The call that was charged, corrected or refunded."""
    idempotency_key: str | None = None
    reason: str | None = None
    actor: str
    provisional: bool = False
    """A later settlement of the call may correct it."""
    revision: int = 0
    """A correction's number among those of its call, from 1."""


class Booking(msgspec.Struct, frozen=True, kw_only=True):
    """A ledger entry to be made."""

    account_id: str
    kind: EntryKind
    amount_nanousd: int
    actor: str
    reason: str | None = None
    request_id: str | None = None
    idempotency_key: str | None = None


class Booked(msgspec.Struct, frozen=True):
    """The entry of a booking; `replayed` if its idempotency key was used before."""

    entry: LedgerEntry
    replayed: bool = False


async def book(connection: AsyncConnection, booking: Booking) -> LedgerEntry:
    """
    Update a balance and write the entry, within the open transaction.

    Raises:
        UnknownAccountError: there is no such account.
        AmountError: the balance would be out of bounds, or the amount is 0.
    """
    _check_amount(booking.amount_nanousd)
    move = (
        sa.update(ACCOUNTS)
        .where(ACCOUNTS.c.id == booking.account_id)
        .values(balance_nanousd=ACCOUNTS.c.balance_nanousd + booking.amount_nanousd)
        .returning(ACCOUNTS.c.balance_nanousd)
    )
    balance = (await connection.execute(move)).scalar_one_or_none()
    if balance is None:
        raise UnknownAccountError(booking.account_id)
    if not MIN_BALANCE_NANOUSD <= balance <= MAX_BALANCE_NANOUSD:
        raise AmountError(f"the balance would be {dollars(balance)}, which is out of bounds")
    values = {
        **msgspec.structs.asdict(booking),
        "kind": booking.kind.value,
        "at_ms": time.time_ns() // 1_000_000,
        "balance_after_nanousd": balance,
    }
    made = await connection.execute(sa.insert(LEDGER_ENTRIES).returning(LEDGER_ENTRIES), values)
    return entry_of(made.one())


def position_of(accounts: sa.Table) -> sa.ColumnElement[int]:
    """Return the column `position`: the id of an account's newest entry, 0 without entries."""
    newest = (
        sa.select(LEDGER_ENTRIES.c.id)
        .where(LEDGER_ENTRIES.c.account_id == accounts.c.id)
        .order_by(LEDGER_ENTRIES.c.id.desc())  # reads the index's end; max() would scan it
        .limit(1)
        .scalar_subquery()
    )
    return sa.func.coalesce(newest, 0).label("position")


class Credits:
    """Updates and lists balances. Every method may raise GatewayError (STORE_UNAVAILABLE)."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def topup(
        self,
        account_id: str,
        amount_nanousd: int,
        by: Actor,
        *,
        reason: str | None = None,
        idempotency_key: str | None = None,
    ) -> Booked:
        """
        Add a payment to a balance.

        Args:
            account_id: The account to credit.
            amount_nanousd: More than 0.
            by: The actor, for the audit log.
            reason: For example an invoice number.
            idempotency_key: Only the first of all bookings with the same key is made.

        Raises:
            UnknownAccountError: there is no such account.
            AmountError: not positive, or out of bounds.
            IdempotencyConflictError: the key belongs to another booking.
        """
        if amount_nanousd <= 0:
            raise AmountError("a top-up must be more than 0; use adjust to lower a balance")
        return await self._book_once(
            Booking(
                account_id=account_id,
                kind=EntryKind.TOPUP,
                amount_nanousd=amount_nanousd,
                actor=by.name,
                reason=reason,
                idempotency_key=idempotency_key,
            ),
            by,
        )

    async def adjust(
        self,
        account_id: str,
        amount_nanousd: int,
        by: Actor,
        *,
        reason: str,
        idempotency_key: str | None = None,
    ) -> Booked:
        """Raise or lower a balance, with a mandatory reason; otherwise like `topup`."""
        return await self._book_once(
            Booking(
                account_id=account_id,
                kind=EntryKind.ADJUSTMENT,
                amount_nanousd=amount_nanousd,
                actor=by.name,
                reason=reason,
                idempotency_key=idempotency_key,
            ),
            by,
        )

    async def refund(self, request_id: str, by: Actor, *, reason: str) -> LedgerEntry:
        """
        Refund a call's charge, including corrections, once.

        A refund closes the call: later settlements book nothing.

        Raises:
            UnknownChargeError: the call was not charged (yet), or corrected to 0.
            AlreadyRefundedError: it was refunded before.
        """
        try:
            async with self._database.write() as connection:
                account_id, amount = await _refundable(connection, request_id)
                booking = Booking(
                    account_id=account_id,
                    kind=EntryKind.REFUND,
                    amount_nanousd=amount,
                    actor=by.name,
                    reason=reason,
                    request_id=request_id,
                )
                return await _book_audited(connection, booking, by)
        except IntegrityError as error:  # a concurrent refund was first
            raise AlreadyRefundedError(request_id) from error

    async def entries(
        self, account_id: str, *, before_id: int | None = None, limit: int = 100
    ) -> Sequence[LedgerEntry]:
        """Return up to `limit` entries of an account older than `before_id`, newest first."""
        query = (
            sa.select(LEDGER_ENTRIES)
            .where(LEDGER_ENTRIES.c.account_id == account_id)
            .order_by(LEDGER_ENTRIES.c.id.desc())
            .limit(limit)
        )
        if before_id is not None:
            query = query.where(LEDGER_ENTRIES.c.id < before_id)
        async with self._database.read() as connection:
            return [entry_of(row) for row in await connection.execute(query)]

    async def _book_once(self, booking: Booking, by: Actor) -> Booked:
        _check_amount(booking.amount_nanousd)
        if booking.idempotency_key is None:
            async with self._database.write() as connection:
                return Booked(await _book_audited(connection, booking, by))
        try:
            async with self._database.write() as connection:
                made = await _find_made(connection, booking)
                return made or Booked(await _book_audited(connection, booking, by))
        except IntegrityError:  # a concurrent booking with the same key was first
            async with self._database.read() as connection:
                made = await _find_made(connection, booking)
            if made is None:
                raise
            return made


async def _refundable(connection: AsyncConnection, request_id: str) -> tuple[str, int]:
    """Return a call's account, which is locked, and its charge."""
    of_call = sa.select(LEDGER_ENTRIES).where(LEDGER_ENTRIES.c.request_id == request_id)
    first = (await connection.execute(of_call.limit(1))).first()
    if first is None:
        raise UnknownChargeError(request_id)
    # A ledger writer that corrects the call holds this lock, so its entry is seen or follows.
    account = sa.select(ACCOUNTS.c.id).where(ACCOUNTS.c.id == first.account_id).with_for_update()
    await connection.execute(account)
    rows = (await connection.execute(of_call)).all()
    if any(row.kind == EntryKind.REFUND.value for row in rows):
        raise AlreadyRefundedError(request_id)
    charged = -sum(row.amount_nanousd for row in rows)
    if charged <= 0:
        raise UnknownChargeError(request_id)
    return first.account_id, charged


async def _book_audited(connection: AsyncConnection, booking: Booking, by: Actor) -> LedgerEntry:
    entry = await book(connection, booking)
    after = entry.balance_after_nanousd
    await record(
        connection,
        by,
        f"credits.{entry.kind.value}",
        entry.account_id,
        before={"balance_nanousd": after - entry.amount_nanousd},
        after={
            "balance_nanousd": after,
            "amount_nanousd": entry.amount_nanousd,
            "ledger_entry": entry.id,
            "reason": entry.reason,
        },
    )
    return entry


async def _find_made(connection: AsyncConnection, booking: Booking) -> Booked | None:
    query = sa.select(LEDGER_ENTRIES).where(
        LEDGER_ENTRIES.c.idempotency_key == booking.idempotency_key
    )
    row = (await connection.execute(query)).first()
    if row is None:
        return None
    entry = entry_of(row)
    same = (entry.account_id, entry.kind, entry.amount_nanousd) == (
        booking.account_id,
        booking.kind,
        booking.amount_nanousd,
    )
    if not same:
        raise IdempotencyConflictError(booking.idempotency_key)
    return Booked(entry, replayed=True)


def entry_of(row: sa.Row[Any]) -> LedgerEntry:
    """Return a row of `ledger_entries` as a value."""
    columns = dict(row._mapping)
    return LedgerEntry(**{**columns, "kind": EntryKind(columns["kind"])})


def _check_amount(amount_nanousd: int) -> None:
    if amount_nanousd == 0:
        raise AmountError("the amount must not be 0")
    if abs(amount_nanousd) > MAX_AMOUNT_NANOUSD:
        raise AmountError(
            f"{dollars(amount_nanousd)} dollars in one booking is more than the "
            f"{dollars(MAX_AMOUNT_NANOUSD)} allowed"
        )
