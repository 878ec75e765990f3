"""Accounts in SQL: the payer of a set of keys, and its terms."""

from __future__ import annotations

import enum
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec
import sqlalchemy as sa

from gateway.core.limits import NO_LIMITS, Limits, tightest
from gateway.store.accounts.audit import SYSTEM, Actor, Facts, record
from gateway.store.sql.database import Database
from gateway.store.sql.ids import new_id
from gateway.store.sql.tables import ACCOUNTS

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection  # imports the ORM


class UnknownAccountError(LookupError):
    """There is no account with this id."""


class AccountClosedError(Exception):
    """The account with the id in the argument is closed."""


class Billing(enum.Enum):
    """When an account pays. The value is used in SQL, JSON and on the command line."""

    PREPAID = "prepaid"
    """It spends its balance."""
    POSTPAID = "postpaid"
    """It may owe up to its credit limit."""


class Terms(msgspec.Struct, frozen=True):
    """How an account pays."""

    billing: Billing = Billing.PREPAID
    credit_limit_nanousd: int | None = None
    """Postpaid: how far below zero the balance may go; None: unlimited. Prepaid: not used."""

    @property
    def credit_nanousd(self) -> int | None:
        """How far below zero the balance may go; None: unlimited."""
        return 0 if self.billing is Billing.PREPAID else self.credit_limit_nanousd


class Account(msgspec.Struct, frozen=True):
    """One account. `created_at` is in Unix seconds."""

    id: str
    name: str
    created_at: int
    terms: Terms = Terms()
    limits: Limits = NO_LIMITS
    """Those that the operator set."""
    balance_nanousd: int = 0
    """The sum of its ledger entries, without calls that the ledger writer has not booked yet."""
    version: int = 1
    """Incremented by every change but those of the balance."""
    trusted: bool = False
    """Its credit does not bound the cost of its running calls."""
    own_budgets: Limits = NO_LIMITS
    """Those that its owners set."""
    low_balance_nanousd: int | None = None
    """A balance below is pointed out; None: none is."""
    closed_at: int | None = None
    """When its owners closed it, in Unix seconds."""

    @property
    def limits_in_force(self) -> Limits:
        """What its calls must pass: the lower of the operator's and its own."""
        return tightest(self.limits, self.own_budgets)

    @property
    def is_low(self) -> bool:
        """The balance is to be pointed out."""
        threshold = self.low_balance_nanousd
        return threshold is not None and self.balance_nanousd < threshold

    @property
    def available_nanousd(self) -> int | None:
        """What it may spend according to the ledger, never below 0; None: unlimited."""
        credit = self.terms.credit_nanousd
        return None if credit is None else max(0, self.balance_nanousd + credit)


class Accounts:
    """
    The accounts table. Every method may raise GatewayError (STORE_UNAVAILABLE).

    Names are for people and need not be unique.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(
        self,
        name: str,
        terms: Terms = Terms(),  # noqa: B008 -- frozen
        *,
        trusted: bool = False,
        by: Actor = SYSTEM,
    ) -> Account:
        """Create an account with a balance of 0."""
        account = Account(new_id("acct"), name, int(time.time()), terms, trusted=trusted)
        values = {
            "id": account.id,
            "name": name,
            "created_at": account.created_at,
            "version": account.version,
            "trusted": trusted,
            **_terms_columns(terms),
        }
        async with self._database.write() as connection:
            await connection.execute(sa.insert(ACCOUNTS), values)
            await record(connection, by, "account.create", account.id, after=_facts(account))
        return account

    async def get(self, account_id: str) -> Account:
        """
        Return one account.

        Raises:
            UnknownAccountError: there is none with this id.
        """
        async with self._database.read() as connection:
            return await _find(connection, account_id)

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
        """
        Change the fields that are not None.

        Raises:
            UnknownAccountError: there is none with this id.
        """
        values: dict[str, object] = {} if terms is None else _terms_columns(terms)
        if name is not None:
            values["name"] = name
        if limits is not None:
            values["limits"] = msgspec.json.encode(limits).decode()
        if trusted is not None:
            values["trusted"] = trusted
        if own_budgets is not None:
            values["own_budgets"] = msgspec.json.encode(own_budgets).decode()
        async with self._database.write() as connection:
            before = await _find(connection, account_id, for_update=True)
            if not values:
                return before
            await connection.execute(
                sa.update(ACCOUNTS)
                .where(ACCOUNTS.c.id == account_id)
                .values(**values, version=ACCOUNTS.c.version + 1)
            )
            after = await _find(connection, account_id)
            await record(
                connection,
                by,
                "account.change",
                account_id,
                before=_facts(before),
                after=_facts(after),
            )
        return after

    async def list(
        self, *, name: str | None = None, after: str = "", limit: int = 1000
    ) -> Sequence[Account]:
        """Return up to `limit` accounts after the id `after`, oldest first."""
        query = sa.select(ACCOUNTS).where(ACCOUNTS.c.id > after)
        if name is not None:
            query = query.where(ACCOUNTS.c.name == name)
        async with self._database.read() as connection:
            rows = await connection.execute(query.order_by(ACCOUNTS.c.id).limit(limit))
            return [account_of(row) for row in rows]


def account_of(row: sa.Row[Any]) -> Account:
    """Return a row of `accounts` as a value."""
    return Account(
        id=row.id,
        name=row.name,
        created_at=row.created_at,
        terms=Terms(Billing(row.billing), row.credit_limit_nanousd),
        limits=_limits(row.limits),
        balance_nanousd=row.balance_nanousd,
        version=row.version,
        trusted=row.trusted,
        own_budgets=_limits(row.own_budgets),
        low_balance_nanousd=row.low_balance_nanousd,
        closed_at=row.closed_at,
    )


def _limits(text: str | None) -> Limits:
    return NO_LIMITS if text is None else msgspec.json.decode(text, type=Limits)


async def _find(
    connection: AsyncConnection, account_id: str, *, for_update: bool = False
) -> Account:
    query = sa.select(ACCOUNTS).where(ACCOUNTS.c.id == account_id)
    row = (await connection.execute(query.with_for_update() if for_update else query)).first()
    if row is None:
        raise UnknownAccountError(account_id)
    return account_of(row)


def _terms_columns(terms: Terms) -> dict[str, object]:
    limit = terms.credit_limit_nanousd if terms.billing is Billing.POSTPAID else None
    return {"billing": terms.billing.value, "credit_limit_nanousd": limit}


def _facts(account: Account) -> Facts:
    return {
        "name": account.name,
        **_terms_columns(account.terms),
        "limits": account.limits,
        "trusted": account.trusted,
        "own_budgets": account.own_budgets,
    }
