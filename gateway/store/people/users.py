"""Users in SQL, and their memberships in accounts."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from gateway.store.accounts.audit import (
    SYSTEM,
    Actor,
    AuditEntry,
    Facts,
    audit_entry_of,
    record,
)
from gateway.store.sql.database import Database
from gateway.store.sql.ids import new_id
from gateway.store.sql.people_tables import MEMBERSHIPS, PASSKEYS, SESSIONS, USERS
from gateway.store.sql.tables import ACCOUNTS, AUDIT_LOG

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection  # imports the ORM

_CHANGEABLE = frozenset(
    {"name", "password", "totp", "totp_step", "is_operator", "disabled_at", "time_zone"}
    | {"language", "guide_closed_at"}
)
_SECRET = frozenset({"password", "totp", "totp_step"})
_USER = "user:"
"""What an actor who is a user begins with; the id follows."""


class UnknownUserError(LookupError):
    """There is no such user."""


class LoginTakenError(Exception):
    """Another user signs in with this name."""


class LastOwnerError(Exception):
    """The account would be left without an owner."""


class User(msgspec.Struct, frozen=True, kw_only=True):
    """One user. Times are in Unix seconds."""

    id: str
    login: str
    name: str
    created_at: int
    password: str | None = None
    totp: bytes | None = None
    totp_step: int = 0
    is_operator: bool = False
    disabled_at: int | None = None
    seen_at: int | None = None
    time_zone: str | None = None
    language: str | None = None
    guide_closed_at: int | None = None

    def __repr__(self) -> str:
        return f"User({self.id})"


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """A user of an account."""

    user_id: str
    login: str
    name: str
    role: str
    seen_at: int | None
    has_second_factor: bool


def normal_login(text: str) -> str:
    """Return a sign-in name as it is stored: in lower case, without surrounding white space."""
    return text.strip().casefold()


class Users:
    """The tables of users and memberships. Every method may raise STORE_UNAVAILABLE."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(
        self,
        login: str,
        name: str,
        *,
        password: str | None = None,
        is_operator: bool = False,
        by: Actor = SYSTEM,
    ) -> User:
        """
        Create a user.

        Raises:
            LoginTakenError: Another user has the sign-in name.
        """
        async with self._database.write() as connection:
            return await add_user(
                connection, login, name, password=password, is_operator=is_operator, by=by
            )

    async def get(self, user_id: str) -> User:
        """Return one user; raises UnknownUserError."""
        return await self._one(USERS.c.id == user_id, user_id)

    async def find(self, login: str) -> User | None:
        """Return the user with this sign-in name."""
        try:
            return await self._one(USERS.c.login == normal_login(login), login)
        except UnknownUserError:
            return None

    async def has_operator(self) -> bool:
        """Return whether there is an operator who is not disabled."""
        async with self._database.read() as connection:
            return await has_operator(connection)

    async def list(self, *, after: str = "", limit: int = 1000) -> Sequence[User]:
        """Return up to `limit` users after the id `after`, oldest first."""
        query = sa.select(USERS).where(USERS.c.id > after).order_by(USERS.c.id).limit(limit)
        async with self._database.read() as connection:
            return [user_of(row) for row in await connection.execute(query)]

    async def change(self, user_id: str, by: Actor, action: str, **values: object) -> User:
        """
        Change fields of a user; `action` names the change in the audit log.

        Raises:
            UnknownUserError: There is none with this id.
        """
        assert values.keys() <= _CHANGEABLE
        change = sa.update(USERS).where(USERS.c.id == user_id).values(**values).returning(USERS)
        async with self._database.write() as connection:
            row = (await connection.execute(change)).first()
            if row is None:
                raise UnknownUserError(user_id)
            facts = {name: value for name, value in values.items() if name not in _SECRET}
            await record(connection, by, action, user_id, after=facts)
        return user_of(row)

    async def use_totp_step(self, user_id: str, step: int) -> bool:
        """Return whether a time step is later than all used before, and mark it as used."""
        change = (
            sa.update(USERS)
            .where(USERS.c.id == user_id, USERS.c.totp_step < step)
            .values(totp_step=step)
        )
        async with self._database.write() as connection:
            return (await connection.execute(change)).rowcount == 1

    async def members(self, account_id: str) -> Sequence[Member]:
        """Return the users of an account, in the order in which they joined."""
        passkey = sa.exists().where(PASSKEYS.c.user_id == USERS.c.id)
        query = (
            sa.select(USERS, MEMBERSHIPS.c.role, passkey.label("has_passkey"))
            .join(MEMBERSHIPS, MEMBERSHIPS.c.user_id == USERS.c.id)
            .where(MEMBERSHIPS.c.account_id == account_id)
            .order_by(MEMBERSHIPS.c.created_at, USERS.c.id)
        )
        async with self._database.read() as connection:
            return [
                Member(
                    user_id=row.id,
                    login=row.login,
                    name=row.name,
                    role=row.role,
                    seen_at=row.seen_at,
                    has_second_factor=row.totp is not None or bool(row.has_passkey),
                )
                for row in await connection.execute(query)
            ]

    async def changes(
        self, object_id: str, account_id: str, *, limit: int
    ) -> tuple[Sequence[AuditEntry], Mapping[str, str]]:
        """
        Return the last changes of an object, newest first, and the names of those who made them.

        The names are by the id of the user, and only of members of the account.
        """
        columns = AUDIT_LOG.c
        made_it = sa.and_(
            columns.actor.startswith(_USER),
            MEMBERSHIPS.c.user_id == sa.func.substr(columns.actor, len(_USER) + 1),
            MEMBERSHIPS.c.account_id == account_id,
        )
        query = (
            sa.select(AUDIT_LOG, MEMBERSHIPS.c.user_id, USERS.c.name)
            .outerjoin(MEMBERSHIPS, made_it)
            .outerjoin(USERS, USERS.c.id == MEMBERSHIPS.c.user_id)
            .where(columns.object == object_id)
            .order_by(columns.id.desc())
            .limit(limit)
        )
        async with self._database.read() as connection:
            rows = (await connection.execute(query)).all()
        names = {row.user_id: row.name for row in rows if row.user_id is not None}
        return [audit_entry_of(row) for row in rows], names

    async def join(self, user_id: str, account_id: str, role: str, by: Actor) -> None:
        """Make a user a member of an account, or change their role; raises LastOwnerError."""
        async with self._database.write() as connection:
            await set_role(connection, user_id, account_id, role, by)

    async def leave(self, user_id: str, account_id: str, by: Actor) -> None:
        """Remove a user from an account; raises LastOwnerError."""
        async with self._database.write() as connection:
            await set_role(connection, user_id, account_id, None, by)

    async def _one(self, condition: sa.ColumnElement[bool], wanted: str) -> User:
        async with self._database.read() as connection:
            row = (await connection.execute(sa.select(USERS).where(condition))).first()
        if row is None:
            raise UnknownUserError(wanted)
        return user_of(row)


async def has_operator(connection: AsyncConnection) -> bool:
    """Return whether there is an operator who is not disabled."""
    query = sa.select(USERS.c.id).where(USERS.c.is_operator, USERS.c.disabled_at.is_(None))
    return (await connection.execute(query.limit(1))).first() is not None


async def add_user(
    connection: AsyncConnection,
    login: str,
    name: str,
    *,
    password: str | None,
    is_operator: bool = False,
    by: Actor | None = None,
) -> User:
    """Insert a user within the open transaction; `by` is the actor, None: the user."""
    user = User(
        id=new_id("user"),
        login=normal_login(login),
        name=name,
        created_at=int(time.time()),
        password=password,
        is_operator=is_operator,
    )
    taken = sa.select(USERS.c.id).where(USERS.c.login == user.login)
    if (await connection.execute(taken)).first() is not None:
        raise LoginTakenError(user.login)
    try:
        await connection.execute(sa.insert(USERS), msgspec.structs.asdict(user))
    except IntegrityError as error:
        raise LoginTakenError(user.login) from error
    actor = Actor(f"user:{user.id}") if by is None else by
    facts: Facts = {"login": user.login, "name": name, "is_operator": is_operator}
    await record(connection, actor, "user.create", user.id, after=facts)
    return user


async def set_role(
    connection: AsyncConnection, user_id: str, account_id: str, role: str | None, by: Actor
) -> None:
    """
    Set or, with None, remove a membership within the open transaction.

    Raises:
        LastOwnerError: No owner would be left.
    """
    # The account's row is locked, so that two owners cannot leave at the same time.
    await connection.execute(
        sa.select(ACCOUNTS.c.id).where(ACCOUNTS.c.id == account_id).with_for_update()
    )
    query = sa.select(MEMBERSHIPS).where(MEMBERSHIPS.c.account_id == account_id)
    roles = {row.user_id: row.role for row in await connection.execute(query)}
    before = roles.get(user_id)
    owners = {each for each, role_of in roles.items() if role_of == "owner"}
    if before == "owner" and role != "owner" and owners == {user_id}:
        raise LastOwnerError(account_id)
    await connection.execute(
        sa.delete(MEMBERSHIPS).where(
            MEMBERSHIPS.c.account_id == account_id, MEMBERSHIPS.c.user_id == user_id
        )
    )
    if role is not None:
        values = {"user_id": user_id, "account_id": account_id, "role": role}
        await connection.execute(sa.insert(MEMBERSHIPS), {**values, "created_at": int(time.time())})
    else:
        await connection.execute(
            sa.update(SESSIONS)
            .where(SESSIONS.c.user_id == user_id, SESSIONS.c.account_id == account_id)
            .values(account_id=None)
        )
    was: Facts | None = None if before is None else {"user": user_id, "role": before}
    now: Facts | None = None if role is None else {"user": user_id, "role": role}
    await record(connection, by, "member.change", account_id, before=was, after=now)


def user_of(row: sa.Row[Any]) -> User:
    """Return a row of `users` as a value."""
    columns = {name: getattr(row, name) for name in User.__struct_fields__}
    if columns["totp"] is not None:
        columns["totp"] = bytes(columns["totp"])
    return User(**columns)
