"""
Links that work once: to set up the service, sign in, join an account, or reset a password.

The token stands after `#` in the URL, so that it reaches no server log; only its SHA-256 is stored.
"""

from __future__ import annotations

import enum
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
import sqlalchemy as sa

from gateway.core.limits import NO_LIMITS
from gateway.store.accounts.audit import Actor, record
from gateway.store.people.identities import Identity, add_identity
from gateway.store.people.sessions import end_sessions
from gateway.store.people.tokens import digest, new_token
from gateway.store.people.users import User, add_user, has_operator, set_role, user_of
from gateway.store.sql.database import Database
from gateway.store.sql.ids import new_id
from gateway.store.sql.people_tables import LINKS, RECOVERY_CODES, USERS
from gateway.store.sql.tables import ACCOUNTS

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection  # imports the ORM

HOUR_S = 3600
BY_MAIL = Actor("mail")
"""Creates the links that users ask for by mail. They replace a password, not a second factor."""
INVITATION_S = 7 * 86_400


class LinkKind(enum.Enum):
    """What a link is for. The value is used in SQL and is the path of its page."""

    SETUP = "setup"
    """Makes the first operator."""
    ENTER = "enter"
    """Signs its user in."""
    INVITE = "invite"
    """Makes a user, or the signed-in one, a member of an account."""
    RESET = "reset"
    """Sets a new password of its user and removes their second factors."""


class LinkUsedError(LookupError):
    """The link does not exist, was used, or has expired."""


class OperatorExistsError(Exception):
    """An operator already exists, so the service is already set up."""


class Link(msgspec.Struct, frozen=True, kw_only=True):
    """One link that was not used yet. Times are in Unix seconds."""

    id: str
    kind: LinkKind
    user_id: str | None
    account_id: str | None
    role: str | None
    created_by: str
    created_at: int
    expires_at: int

    @property
    def is_by_mail(self) -> bool:
        """The user asked for it by mail."""
        return self.created_by == BY_MAIL.name


class Newcomer(msgspec.Struct, frozen=True):
    """What a new user enters; the password is a PHC string, None for one of a provider."""

    login: str
    name: str
    password: str | None


class Links:
    """
    The table of links. Every method may raise GatewayError (STORE_UNAVAILABLE).

    Args:
        database: Where the table is.
        clock: Unix seconds.
    """

    def __init__(self, database: Database, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._clock = clock

    async def create_setup(self, by: Actor) -> str:
        """Return the token of a new set-up link; raises OperatorExistsError."""
        async with self._database.write() as connection:
            if await has_operator(connection):
                raise OperatorExistsError
            return await self._add(connection, LinkKind.SETUP, by)

    async def create_for_user(self, kind: LinkKind, user_id: str, by: Actor) -> str:
        """Return the token of a new link to sign in as a user, or to reset the password."""
        async with self._database.write() as connection:
            return await self._add(connection, kind, by, user_id=user_id)

    async def create_invitation(self, account_id: str, role: str, by: Actor) -> str:
        """Return the token of a new invitation to an account."""
        async with self._database.write() as connection:
            return await self._add(
                connection, LinkKind.INVITE, by, account_id=account_id, role=role
            )

    async def peek(self, kind: LinkKind, token: str) -> Link:
        """Return a link that can be used; raises LinkUsedError."""
        async with self._database.read() as connection:
            row = (await connection.execute(self._open(kind, token))).first()
        if row is None:
            raise LinkUsedError
        return _link(row)

    async def invitations(self, account_id: str) -> Sequence[Link]:
        """Return an account's invitations that nobody has used, newest first."""
        query = (
            sa.select(LINKS)
            .where(LINKS.c.account_id == account_id, LINKS.c.expires_at > self._now())
            .order_by(LINKS.c.id.desc())
        )
        async with self._database.read() as connection:
            return [_link(row) for row in await connection.execute(query)]

    async def withdraw(self, account_id: str, link_id: str, by: Actor) -> None:
        """Delete an invitation of an account."""
        query = sa.delete(LINKS).where(LINKS.c.account_id == account_id, LINKS.c.id == link_id)
        async with self._database.write() as connection:
            if (await connection.execute(query)).rowcount:
                await record(connection, by, "link.withdraw", account_id, after={"link": link_id})

    # Uses of a link. Each deletes the link in its transaction.

    async def set_up(self, token: str, operator: Newcomer, account_name: str) -> tuple[User, str]:
        """
        Make the first operator, who owns a new account; return them and the account's id.

        Raises:
            LinkUsedError: The link was used, possibly at the same time.
            OperatorExistsError: Another link was used.
            LoginTakenError: The sign-in name is taken.
        """
        async with self._database.write() as connection:
            # Two links race: the second waits here for the first, and then finds no link.
            every = sa.select(LINKS.c.digest).where(LINKS.c.kind == LinkKind.SETUP.value)
            await connection.execute(every.order_by(LINKS.c.digest).with_for_update())
            await self._use(connection, LinkKind.SETUP, token)
            await connection.execute(sa.delete(LINKS).where(LINKS.c.kind == LinkKind.SETUP.value))
            if await has_operator(connection):
                raise OperatorExistsError
            user = await add_newcomer(connection, operator, is_operator=True)
            actor = Actor(f"user:{user.id}")
            account_id = await add_account(connection, account_name, actor, self._now())
            await set_role(connection, user.id, account_id, "owner", actor)
        return user, account_id

    async def enter(self, token: str) -> User:
        """Return the user whom the link signs in; raises LinkUsedError."""
        async with self._database.write() as connection:
            link = await self._use(connection, LinkKind.ENTER, token)
            return await _user(connection, link)

    async def join(
        self, token: str, who: Newcomer | User, identity: Identity | None = None
    ) -> User:
        """
        Make a new or an existing user a member of the link's account.

        Args:
            token: Of the invitation.
            who: The user, who signs in with `identity` from then on.
            identity: Their identity at an OpenID provider.

        Raises:
            LinkUsedError, LoginTakenError, LastOwnerError, IdentityTakenError.
        """
        async with self._database.write() as connection:
            link = await self._use(connection, LinkKind.INVITE, token)
            assert link.account_id is not None
            assert link.role is not None
            user = who if isinstance(who, User) else await add_newcomer(connection, who)
            actor = Actor(f"user:{user.id}")
            await set_role(connection, user.id, link.account_id, link.role, actor)
            if identity is not None:
                await add_identity(connection, user.id, identity, actor)
        return user

    async def reset(self, token: str, password: str) -> User:
        """
        Set a user's password and end their sessions; raises LinkUsedError.

        A link that an operator or owner made also removes the authenticator, one by mail does not.
        """
        async with self._database.write() as connection:
            link = await self._use(connection, LinkKind.RESET, token)
            user = await _user(connection, link)
            values: dict[str, object] = {"password": password}
            if not link.is_by_mail:
                values |= {"totp": None, "totp_step": 0}
                await connection.execute(
                    sa.delete(RECOVERY_CODES).where(RECOVERY_CODES.c.user_id == user.id)
                )
            await connection.execute(sa.update(USERS).where(USERS.c.id == user.id).values(**values))
            await end_sessions(connection, user.id)
            await record(connection, Actor(f"user:{user.id}"), "user.reset", user.id)
        return msgspec.structs.replace(user, **values)

    async def _use(self, connection: AsyncConnection, kind: LinkKind, token: str) -> Link:
        query = self._open(kind, token).with_only_columns(LINKS.c.digest)
        used = sa.delete(LINKS).where(LINKS.c.digest.in_(query)).returning(LINKS)
        row = (await connection.execute(used)).first()
        if row is None:
            raise LinkUsedError
        return _link(row)

    def _open(self, kind: LinkKind, token: str) -> sa.Select[Any]:
        return sa.select(LINKS).where(
            LINKS.c.digest == digest(token),
            LINKS.c.kind == kind.value,
            LINKS.c.expires_at > self._now(),
        )

    async def _add(
        self,
        connection: AsyncConnection,
        kind: LinkKind,
        by: Actor,
        *,
        user_id: str | None = None,
        account_id: str | None = None,
        role: str | None = None,
    ) -> str:
        token, now, link_id = new_token(), self._now(), new_id("link")
        lives_s = INVITATION_S if kind is LinkKind.INVITE else HOUR_S
        await connection.execute(sa.delete(LINKS).where(LINKS.c.expires_at < now))
        await connection.execute(
            sa.insert(LINKS),
            {
                "digest": digest(token),
                "id": link_id,
                "kind": kind.value,
                "user_id": user_id,
                "account_id": account_id,
                "role": role,
                "created_by": by.name,
                "created_at": now,
                "expires_at": now + lives_s,
            },
        )
        after = {"kind": kind.value, "link": link_id, "role": role}
        await record(connection, by, "link.create", account_id or user_id or link_id, after=after)
        return token

    def _now(self) -> int:
        return int(self._clock())


async def add_account(connection: AsyncConnection, name: str, by: Actor, now: int) -> str:
    """Insert a prepaid account within the open transaction; return its id."""
    account_id = new_id("acct")
    await connection.execute(
        sa.insert(ACCOUNTS), {"id": account_id, "name": name, "created_at": now, "version": 1}
    )
    facts = {"name": name, "billing": "prepaid", "limits": NO_LIMITS, "trusted": False}
    await record(connection, by, "account.create", account_id, after=facts)
    return account_id


async def add_newcomer(
    connection: AsyncConnection, who: Newcomer, *, is_operator: bool = False
) -> User:
    """Insert a user within the open transaction; raises LoginTakenError."""
    return await add_user(
        connection, who.login, who.name, password=who.password, is_operator=is_operator
    )


async def _user(connection: AsyncConnection, link: Link) -> User:
    query = sa.select(USERS).where(USERS.c.id == link.user_id, USERS.c.disabled_at.is_(None))
    row = (await connection.execute(query)).first()
    # An operator's rights do not depend on a mailbox; the user may have become one since.
    if row is None or (row.is_operator and link.is_by_mail):
        raise LinkUsedError
    return user_of(row)


def _link(row: sa.Row[Any]) -> Link:
    columns = {name: getattr(row, name) for name in Link.__struct_fields__}
    return Link(**{**columns, "kind": LinkKind(row.kind)})
