"""Identities of users at OpenID providers: the issuer, and its unchangeable id of the person."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from gateway.store.accounts.audit import Actor, record
from gateway.store.people.users import User, add_user, user_of
from gateway.store.sql.database import Database
from gateway.store.sql.people_tables import IDENTITIES, USERS

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection  # imports the ORM


class IdentityTakenError(Exception):
    """The identity is that of another user."""


class Identity(NamedTuple):
    """A person at a provider."""

    issuer: str
    subject: str


class Identities:
    """The table of identities. Every method may raise GatewayError (STORE_UNAVAILABLE)."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(self, identity: Identity) -> User | None:
        """Return the user with an identity; one who is disabled, too."""
        query = sa.select(USERS).join(IDENTITIES, IDENTITIES.c.user_id == USERS.c.id)
        query = query.where(*_is(identity))
        async with self._database.read() as connection:
            row = (await connection.execute(query)).first()
        return None if row is None else user_of(row)

    async def has(self, user_id: str, issuer: str) -> bool:
        """Return whether a user has an identity at a provider."""
        query = sa.select(IDENTITIES.c.subject).where(
            IDENTITIES.c.user_id == user_id, IDENTITIES.c.issuer == issuer
        )
        async with self._database.read() as connection:
            return (await connection.execute(query.limit(1))).first() is not None

    async def add(self, user_id: str, identity: Identity, by: Actor) -> None:
        """Add an identity to a user; raises IdentityTakenError if another has it."""
        async with self._database.write() as connection:
            await add_identity(connection, user_id, identity, by)

    async def create_user(
        self, identity: Identity, login: str, name: str, by: Actor, *, is_operator: bool
    ) -> User:
        """
        Create a user without a password who signs in with an identity.

        Raises:
            LoginTakenError, IdentityTakenError.
        """
        async with self._database.write() as connection:
            user = await add_user(
                connection, login, name, password=None, is_operator=is_operator, by=by
            )
            await add_identity(connection, user.id, identity, by)
        return user

    async def remove(self, user_id: str, issuer: str, by: Actor) -> None:
        """Remove a user's identities at a provider."""
        gone = sa.delete(IDENTITIES).where(
            IDENTITIES.c.user_id == user_id, IDENTITIES.c.issuer == issuer
        )
        async with self._database.write() as connection:
            if (await connection.execute(gone)).rowcount:
                await record(
                    connection, by, "user.identity_remove", user_id, before={"issuer": issuer}
                )


async def add_identity(
    connection: AsyncConnection, user_id: str, identity: Identity, by: Actor
) -> None:
    """Add an identity within the open transaction; raises IdentityTakenError."""
    query = sa.select(IDENTITIES.c.user_id).where(*_is(identity))
    owner = (await connection.execute(query)).scalar()
    if owner == user_id:
        return
    if owner is not None:
        raise IdentityTakenError
    values = {**identity._asdict(), "user_id": user_id, "created_at": int(time.time())}
    try:
        await connection.execute(sa.insert(IDENTITIES), values)
    except IntegrityError as error:
        raise IdentityTakenError from error
    await record(connection, by, "user.identity_add", user_id, after={"issuer": identity.issuer})


def _is(identity: Identity) -> tuple[sa.ColumnElement[bool], ...]:
    return (IDENTITIES.c.issuer == identity.issuer, IDENTITIES.c.subject == identity.subject)
