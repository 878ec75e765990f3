"""
People who leave: deleting a user, and taking everyone out of an account that is closed.

Accounts, keys, usage and ledger stay; they have no columns about people. The row of
a deleted user stays too, without anything personal, since the audit log names its id.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import sqlalchemy as sa

from gateway.store.accounts.audit import Actor, record
from gateway.store.people.sessions import end_sessions
from gateway.store.people.users import UnknownUserError, set_role
from gateway.store.sql.database import Database
from gateway.store.sql.people_tables import (
    IDENTITIES,
    LINKS,
    MEMBERSHIPS,
    PASSKEYS,
    RECOVERY_CODES,
    SESSIONS,
    USERS,
)

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection  # imports the ORM

_NOTHING = {
    "password": None,
    "totp": None,
    "totp_step": 0,
    "is_operator": False,
    "seen_at": None,
    "time_zone": None,
    "language": None,
    "guide_closed_at": None,
}


class LastOperatorError(Exception):
    """The service would be left without an operator."""


async def delete_user(database: Database, user_id: str, by: Actor) -> None:
    """
    End a user's sign-ins and memberships, and remove everything personal.

    Raises:
        UnknownUserError: There is none with this id.
        LastOperatorError: The user is the only operator.
        LastOwnerError: The user is the only owner of the account in its argument.
    """
    async with database.write() as connection:
        await _check_operators(connection, user_id)
        found = sa.select(USERS.c.id).where(USERS.c.id == user_id).with_for_update()
        if (await connection.execute(found)).first() is None:
            raise UnknownUserError(user_id)
        # In one order, so that two users who leave the same accounts do not deadlock.
        accounts = (
            sa.select(MEMBERSHIPS.c.account_id)
            .where(MEMBERSHIPS.c.user_id == user_id)
            .order_by(MEMBERSHIPS.c.account_id)
        )
        for account_id in (await connection.execute(accounts)).scalars().all():
            await set_role(connection, user_id, account_id, None, by)
        for table in (SESSIONS, PASSKEYS, RECOVERY_CODES, IDENTITIES, LINKS):
            await connection.execute(sa.delete(table).where(table.c.user_id == user_id))
        gone = {"login": f"deleted:{user_id}", "name": "deleted", "disabled_at": int(time.time())}
        change = sa.update(USERS).where(USERS.c.id == user_id)
        await connection.execute(change.values({**_NOTHING, **gone}))
        await record(connection, by, "user.delete", user_id)


async def remove_everyone(connection: AsyncConnection, account_id: str) -> Sequence[str]:
    """
    Remove members and invitations of an account within the open transaction; return the members.

    Sign-ins of those who have no other account, and are no operators, end.
    """
    mine, other = MEMBERSHIPS.alias(), MEMBERSHIPS.alias()
    has_other = sa.exists().where(
        other.c.user_id == mine.c.user_id, other.c.account_id != account_id
    )
    query = (
        sa.select(mine.c.user_id, sa.or_(has_other, USERS.c.is_operator).label("stays"))
        .join(USERS, USERS.c.id == mine.c.user_id)
        .where(mine.c.account_id == account_id)
        .order_by(mine.c.user_id)
    )
    rows = (await connection.execute(query)).all()
    await connection.execute(sa.delete(MEMBERSHIPS).where(MEMBERSHIPS.c.account_id == account_id))
    await connection.execute(sa.delete(LINKS).where(LINKS.c.account_id == account_id))
    for row in rows:
        if not row.stays:
            await end_sessions(connection, row.user_id)
    shown = sa.update(SESSIONS).where(SESSIONS.c.account_id == account_id)
    await connection.execute(shown.values(account_id=None))
    return [row.user_id for row in rows]


async def _check_operators(connection: AsyncConnection, user_id: str) -> None:
    # Locked, so that two last operators cannot leave at the same time.
    operators = (
        sa.select(USERS.c.id)
        .where(USERS.c.is_operator, USERS.c.disabled_at.is_(None))
        .order_by(USERS.c.id)
        .with_for_update()
    )
    if (await connection.execute(operators)).scalars().all() == [user_id]:
        raise LastOperatorError
