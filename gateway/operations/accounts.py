"""Operations on accounts and their money."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Protocol

import msgspec
import sqlalchemy as sa

from gateway.core.limits import Limits
from gateway.core.money import MAX_BALANCE_NANOUSD, dollars
from gateway.operations.refusals import AmbiguousNameError
from gateway.operations.values import InvalidValueError
from gateway.store.accounts.accounts import Account, Accounts, Billing, Terms, UnknownAccountError
from gateway.store.accounts.audit import Actor, record
from gateway.store.accounts.codes import Codes
from gateway.store.accounts.credits import Booked, Credits, EntryKind, LedgerEntry
from gateway.store.hot_state.current_use import CurrentUse
from gateway.store.keys.repository import KeyChange, revoke_keys
from gateway.store.people.departures import remove_everyone
from gateway.store.sql.database import Database
from gateway.store.sql.tables import ACCOUNTS


class AccountRefresh(Protocol):
    """Makes a change of an account known to the workers."""

    async def refresh(self, account_id: str) -> bool:
        """Reload the account; return False if the workers learn of the change later."""


class AccountOperations:
    """
    Operations on accounts. Every change reaches the workers.

    Args:
        database: The SQL database.
        refresh: Called after each change.
    """

    def __init__(self, database: Database, refresh: AccountRefresh) -> None:
        self._database = database
        self._accounts = Accounts(database)
        self._credits = Credits(database)
        self._codes = Codes(database)
        self._refresh = refresh

    async def create(
        self, name: str, terms: Terms | None, by: Actor, *, trusted: bool = False
    ) -> Account:
        """Create an account with a balance of 0, prepaid by default."""
        return await self._accounts.create(name, terms or Terms(), trusted=trusted, by=by)

    async def get(self, account_id: str) -> Account:
        """Return the account with this id; raises UnknownAccountError."""
        return await self._accounts.get(account_id)

    async def view_as(self, account_id: str, by: Actor) -> Account:
        """Record that an operator looks at an account's pages; raises UnknownAccountError."""
        account = await self._accounts.get(account_id)
        async with self._database.write() as connection:
            await record(connection, by, "account.view_as", account_id)
        return account

    async def find(self, wanted: str) -> Account:
        """
        Return the account with this id, or the only one with this name.

        Raises:
            UnknownAccountError: No account has this id or name.
            AmbiguousNameError: Several accounts have the name.
        """
        try:
            return await self._accounts.get(wanted)
        except UnknownAccountError:
            named = await self._accounts.list(name=wanted, limit=2)
        if not named:
            raise UnknownAccountError(wanted)
        if len(named) > 1:
            raise AmbiguousNameError(wanted)
        return named[0]

    async def list(
        self, *, name: str | None = None, after: str = "", limit: int = 1000
    ) -> Sequence[Account]:
        """Return up to `limit` accounts after the id `after`, oldest first."""
        return await self._accounts.list(name=name, after=after, limit=limit)

    async def change(
        self,
        account_id: str,
        by: Actor,
        *,
        name: str | None = None,
        terms: Terms | None = None,
        limits: Limits | None = None,
        trusted: bool | None = None,
        own_budgets: Limits | None = None,
    ) -> Account:
        """Change the values that are not None; raises UnknownAccountError."""
        account = await self._accounts.change(
            account_id,
            by,
            name=name,
            terms=terms,
            limits=limits,
            trusted=trusted,
            own_budgets=own_budgets,
        )
        await self._refresh.refresh(account.id)
        return account

    async def book(
        self,
        account_id: str,
        kind: EntryKind,
        amount_nanousd: int,
        by: Actor,
        *,
        reason: str,
        idempotency_key: str | None,
    ) -> Booked:
        """
        Book a top-up or an adjustment.

        Raises:
            UnknownAccountError, AmountError, IdempotencyConflictError.
        """
        move = self._credits.topup if kind is EntryKind.TOPUP else self._credits.adjust
        booked = await move(
            account_id, amount_nanousd, by, reason=reason, idempotency_key=idempotency_key
        )
        await self._refresh.refresh(booked.entry.account_id)
        return booked

    async def refund(self, request_id: str, by: Actor, *, reason: str) -> LedgerEntry:
        """
        Refund a call's charge.

        Raises:
            UnknownChargeError, AlreadyRefundedError, AmountError.
        """
        entry = await self._credits.refund(request_id, by, reason=reason)
        await self._refresh.refresh(entry.account_id)
        return entry

    async def redeem(self, account_id: str, raw: str, by: Actor) -> LedgerEntry:
        """
        Add a redemption code's amount to an account.

        Raises:
            UnknownCodeError, CodeSpentError, UnknownAccountError, AmountError.
        """
        entry = await self._codes.redeem(raw, account_id, by)
        await self._refresh.refresh(account_id)
        return entry

    async def entries(
        self, account_id: str, *, before_id: int | None = None, limit: int
    ) -> Sequence[LedgerEntry]:
        """Return an account's ledger entries before the entry `before_id`, newest first."""
        return await self._credits.entries(account_id, before_id=before_id, limit=limit)


class KeyPublisher(Protocol):
    """Makes changes of keys known to the workers."""

    async def publish(self, change: KeyChange) -> bool:
        """Publish a change; return False if the workers learn of it later."""


class CallsRunningError(Exception):
    """Calls of the account run and hold money; their number and nano-dollars."""


class HoldsUnknownError(Exception):
    """Redis is unavailable, so it is not known whether calls run."""


class ClosedAccount(msgspec.Struct, frozen=True):
    """What was done."""

    keys: int
    """Keys that were revoked."""
    members: int
    published: bool
    """The workers know of all keys."""


class ClosingOperations:
    """
    Closes accounts.

    Args:
        database: The SQL database.
        publisher: Publishes each revoked key.
        current_use: Says whether calls run.
    """

    def __init__(
        self, database: Database, publisher: KeyPublisher, current_use: CurrentUse
    ) -> None:
        self._database = database
        self._publisher = publisher
        self._current_use = current_use

    async def close(self, account_id: str, by: Actor) -> ClosedAccount:
        """
        Revoke all keys, remove all people and what they set; ledger and usage stay.

        All of it is one transaction. A call that starts in the moment before it is charged as
        usual, and a balance stays in the ledger.

        Raises:
            UnknownAccountError: There is no such account, or it is closed already.
            CallsRunningError, HoldsUnknownError: See there.
        """
        use = await self._current_use.money(account_id)
        if use is None:
            raise HoldsUnknownError
        if use.running or use.held_nanousd:
            raise CallsRunningError(use.running, use.held_nanousd)
        close = (
            sa.update(ACCOUNTS)
            .where(ACCOUNTS.c.id == account_id, ACCOUNTS.c.closed_at.is_(None))
            .values(
                closed_at=int(time.time()),
                own_budgets=None,
                low_balance_nanousd=None,
                low_balance_mailed_at=None,
                version=ACCOUNTS.c.version + 1,
            )
        )
        async with self._database.write() as connection:
            if (await connection.execute(close)).rowcount != 1:
                raise UnknownAccountError(account_id)
            changes = await revoke_keys(connection, account_id, by)
            members = await remove_everyone(connection, account_id)
            facts = {"keys": len(changes), "members": list(members)}
            await record(connection, by, "account.close", account_id, after=facts)
        published = [await self._publisher.publish(change) for change in changes]
        return ClosedAccount(len(changes), len(members), all(published))


def read_terms(billing: Billing | None, credit_limit_nanousd: int | None) -> Terms | None:
    """
    Return the terms of an account, or None if neither value is given.

    Raises:
        InvalidValueError: The credit limit is out of range, or the account is not postpaid.
    """
    if credit_limit_nanousd is not None:
        if billing is not Billing.POSTPAID:
            raise InvalidValueError("credit_limit", "requires postpaid billing")
        if not 0 <= credit_limit_nanousd <= MAX_BALANCE_NANOUSD:
            most = dollars(MAX_BALANCE_NANOUSD)
            raise InvalidValueError("credit_limit", f"must be from 0 to {most} dollars")
    return None if billing is None else Terms(billing, credit_limit_nanousd)
