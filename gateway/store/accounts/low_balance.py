"""
The notice of a low balance: an account's threshold, and which accounts are due for a mail.

A mail is due once each time that the balance falls below the threshold. Claiming it is one
conditional update, so that of several consoles one sends it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import msgspec
import sqlalchemy as sa

from gateway.store.accounts.accounts import UnknownAccountError
from gateway.store.accounts.audit import Actor, record
from gateway.store.sql.database import Database
from gateway.store.sql.people_tables import MEMBERSHIPS, USERS
from gateway.store.sql.tables import ACCOUNTS

_AT_ONCE = 100
"""Most accounts that one round claims."""


class Owner(msgspec.Struct, frozen=True):
    """Who gets the mail."""

    login: str
    language: str | None


class LowBalance(msgspec.Struct, frozen=True, kw_only=True):
    """An account whose balance fell below its threshold."""

    account_id: str
    name: str
    balance_nanousd: int
    threshold_nanousd: int
    owners: tuple[Owner, ...]


class LowBalances:
    """The thresholds in the accounts table. Every method may raise STORE_UNAVAILABLE."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def set(self, account_id: str, threshold_nanousd: int | None, by: Actor) -> None:
        """
        Set the threshold of an account; None: its balance is never pointed out.

        A balance that is already below a changed threshold is due for a mail.

        Raises:
            UnknownAccountError: There is no account with this id.
        """
        accounts = ACCOUNTS.c
        query = sa.select(accounts.low_balance_nanousd).where(accounts.id == account_id)
        async with self._database.write() as connection:
            row = (await connection.execute(query.with_for_update())).first()
            if row is None:
                raise UnknownAccountError(account_id)
            if row.low_balance_nanousd == threshold_nanousd:
                return
            await connection.execute(
                sa.update(ACCOUNTS)
                .where(accounts.id == account_id)
                .values(low_balance_nanousd=threshold_nanousd, low_balance_mailed_at=None)
            )
            await record(
                connection,
                by,
                "account.low_balance",
                account_id,
                before={"low_balance_nanousd": row.low_balance_nanousd},
                after={"low_balance_nanousd": threshold_nanousd},
            )

    async def claim(self) -> Sequence[LowBalance]:
        """Return accounts that are due for a mail, each once until its balance has recovered."""
        accounts = ACCOUNTS.c
        recovered = (
            sa.update(ACCOUNTS)
            .where(
                accounts.low_balance_mailed_at.is_not(None),
                accounts.balance_nanousd >= accounts.low_balance_nanousd,
            )
            .values(low_balance_mailed_at=None)
        )
        is_due = sa.and_(
            accounts.balance_nanousd < accounts.low_balance_nanousd,
            accounts.low_balance_mailed_at.is_(None),
        )
        async with self._database.read() as connection:
            wanted = sa.or_(is_due, accounts.low_balance_mailed_at.is_not(None))
            if not (await connection.execute(sa.select(sa.exists().where(wanted)))).scalar():
                return []
        some = sa.select(accounts.id).where(is_due).order_by(accounts.id).limit(_AT_ONCE)
        claimed = (
            sa.update(ACCOUNTS)
            .where(accounts.id.in_(some), is_due)
            .values(low_balance_mailed_at=int(time.time()))
            .returning(
                accounts.id, accounts.name, accounts.balance_nanousd, accounts.low_balance_nanousd
            )
        )
        async with self._database.write() as connection:
            await connection.execute(recovered)
            rows = (await connection.execute(claimed)).all()
            owners: dict[str, list[Owner]] = {row.id: [] for row in rows}
            found = (
                sa.select(MEMBERSHIPS.c.account_id, USERS.c.login, USERS.c.language)
                .join(USERS, USERS.c.id == MEMBERSHIPS.c.user_id)
                .where(
                    MEMBERSHIPS.c.account_id.in_(list(owners)),
                    MEMBERSHIPS.c.role == "owner",
                    USERS.c.disabled_at.is_(None),
                )
                .order_by(USERS.c.id)
            )
            for row in await connection.execute(found):
                owners[row.account_id].append(Owner(row.login, row.language))
        return [
            LowBalance(
                account_id=row.id,
                name=row.name,
                balance_nanousd=row.balance_nanousd,
                threshold_nanousd=row.low_balance_nanousd,
                owners=tuple(owners[row.id]),
            )
            for row in rows
        ]

    async def release(self, account_id: str) -> None:
        """Make an account due again, since no mail could be sent."""
        change = sa.update(ACCOUNTS).where(ACCOUNTS.c.id == account_id)
        async with self._database.write() as connection:
            await connection.execute(change.values(low_balance_mailed_at=None))
