"""
Sessions in SQL: opaque tokens of signed-in browsers, of which only the SHA-256 is stored.

A session ends when it was not used for a while, after its longest life, and when anyone ends it.
Operators' sessions are shorter.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import msgspec
import sqlalchemy as sa

from gateway.store.accounts.audit import Actor, record
from gateway.store.people.tokens import digest, new_token
from gateway.store.people.users import User, user_of
from gateway.store.sql.database import Database
from gateway.store.sql.ids import new_id
from gateway.store.sql.people_tables import MEMBERSHIPS, PASSKEYS, SESSIONS, USERS
from gateway.store.sql.tables import ACCOUNTS

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection  # imports the ORM

SEEN_EVERY_S = 60
"""The time of the last use is written at most this often."""


class Lifetimes(msgspec.Struct, frozen=True):
    """How long sessions live, in seconds: without use, and at most."""

    idle_s: float
    max_s: float
    operator_idle_s: float = 12 * 3600.0
    operator_max_s: float = 7 * 86_400.0


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """A signed-in browser. Times are in Unix seconds."""

    id: str
    account_id: str | None
    browser: str
    created_at: int
    seen_at: int
    confirmed_at: int


class AccountRole(msgspec.Struct, frozen=True):
    """An account of a user, and their role in it."""

    account_id: str
    account_name: str
    role: str
    balance_is_low: bool = False
    """The balance is below what the account's owners chose."""


class SignedIn(msgspec.Struct, frozen=True):
    """A session with its user and their accounts."""

    session: Session
    user: User
    accounts: tuple[AccountRole, ...]
    has_second_factor: bool


class Sessions:
    """
    The table of sessions. Every method may raise GatewayError (STORE_UNAVAILABLE).

    Args:
        database: Where the table is.
        lifetimes: When sessions end.
        clock: Unix seconds.
    """

    def __init__(
        self,
        database: Database,
        lifetimes: Lifetimes,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._lifetimes = lifetimes
        self._clock = clock

    async def begin(self, user: User, browser: str, *, instead_of: str | None = None) -> str:
        """
        Sign a user in; return the token for their browser.

        Args:
            user: Who signs in.
            browser: Family and system of the browser.
            instead_of: The token of a session that the new one replaces.
        """
        token, now = new_token(), int(self._clock())
        async with self._database.write() as connection:
            account_id = None
            if instead_of is not None:
                ended = sa.delete(SESSIONS).where(SESSIONS.c.digest == digest(instead_of))
                row = (await connection.execute(ended.returning(SESSIONS.c.account_id))).first()
                account_id = None if row is None else row.account_id
            session_id = new_id("sess")
            await connection.execute(
                sa.insert(SESSIONS),
                {
                    "digest": digest(token),
                    "id": session_id,
                    "user_id": user.id,
                    "account_id": account_id,
                    "browser": browser,
                    "created_at": now,
                    "seen_at": now,
                    "confirmed_at": now,
                },
            )
            await connection.execute(
                sa.update(USERS).where(USERS.c.id == user.id).values(seen_at=now)
            )
            actor = Actor(f"user:{user.id}")
            await record(connection, actor, "session.begin", user.id, after={"session": session_id})
        return token

    async def find(self, token: str) -> SignedIn | None:
        """Return the session of a token if it has not ended and the user is not disabled."""
        query = (
            sa.select(
                USERS,
                SESSIONS.c.id.label("session_id"),
                SESSIONS.c.account_id,
                SESSIONS.c.browser,
                SESSIONS.c.created_at.label("began_at"),
                SESSIONS.c.seen_at.label("used_at"),
                SESSIONS.c.confirmed_at,
                sa.exists().where(PASSKEYS.c.user_id == USERS.c.id).label("has_passkey"),
                ACCOUNTS.c.id.label("member_of"),
                ACCOUNTS.c.name.label("account_name"),
                (ACCOUNTS.c.balance_nanousd < ACCOUNTS.c.low_balance_nanousd).label("is_low"),
                MEMBERSHIPS.c.role,
            )
            .join(USERS, USERS.c.id == SESSIONS.c.user_id)
            .outerjoin(MEMBERSHIPS, MEMBERSHIPS.c.user_id == USERS.c.id)
            .outerjoin(ACCOUNTS, ACCOUNTS.c.id == MEMBERSHIPS.c.account_id)
            .where(SESSIONS.c.digest == digest(token), USERS.c.disabled_at.is_(None))
            .order_by(MEMBERSHIPS.c.created_at, MEMBERSHIPS.c.account_id)
        )
        now = int(self._clock())
        async with self._database.read() as connection:
            rows = (await connection.execute(query)).all()
        if not rows:
            return None
        row = rows[0]
        session = Session(
            id=row.session_id,
            account_id=row.account_id,
            browser=row.browser,
            created_at=row.began_at,
            seen_at=row.used_at,
            confirmed_at=row.confirmed_at,
        )
        user = user_of(row)
        if not self._is_alive(session, user, now):
            return None
        if now - session.seen_at >= SEEN_EVERY_S:
            await self._touch(session.id, user.id, now)
        accounts = tuple(
            AccountRole(each.member_of, each.account_name, each.role, bool(each.is_low))
            for each in rows
            if each.member_of is not None
        )
        has_factor = user.totp is not None or bool(row.has_passkey)
        return SignedIn(session, user, accounts, has_factor)

    async def confirm(self, session_id: str) -> None:
        """Record that the user has just proved who they are."""
        await self._set(session_id, confirmed_at=int(self._clock()))

    async def choose_account(self, session_id: str, account_id: str) -> None:
        """Let the session show another account."""
        await self._set(session_id, account_id=account_id)

    async def list(self, user_id: str) -> Sequence[Session]:
        """Return a user's sessions, last used first."""
        query = (
            sa.select(SESSIONS)
            .where(SESSIONS.c.user_id == user_id)
            .order_by(SESSIONS.c.seen_at.desc())
        )
        async with self._database.read() as connection:
            return [
                Session(**{name: getattr(row, name) for name in Session.__struct_fields__})
                for row in await connection.execute(query)
            ]

    async def end(self, token: str) -> None:
        """End a session by its token."""
        async with self._database.write() as connection:
            await connection.execute(sa.delete(SESSIONS).where(SESSIONS.c.digest == digest(token)))

    async def end_one(self, user_id: str, session_id: str) -> None:
        """End a session of a user by its id."""
        async with self._database.write() as connection:
            await connection.execute(
                sa.delete(SESSIONS).where(
                    SESSIONS.c.user_id == user_id, SESSIONS.c.id == session_id
                )
            )

    async def end_all(self, user_id: str, *, but: str = "") -> None:
        """End a user's sessions, except the one with the id `but`."""
        async with self._database.write() as connection:
            await end_sessions(connection, user_id, but=but)

    async def purge(self) -> int:
        """Delete sessions past their longest life; return how many."""
        before = int(self._clock() - self._lifetimes.max_s)
        async with self._database.write() as connection:
            gone = sa.delete(SESSIONS).where(SESSIONS.c.created_at < before)
            return (await connection.execute(gone)).rowcount

    def _is_alive(self, session: Session, user: User, now: int) -> bool:
        idle_s, max_s = self._lifetimes.idle_s, self._lifetimes.max_s
        if user.is_operator:
            idle_s = min(idle_s, self._lifetimes.operator_idle_s)
            max_s = min(max_s, self._lifetimes.operator_max_s)
        return now - session.seen_at <= idle_s and now - session.created_at <= max_s

    async def _touch(self, session_id: str, user_id: str, now: int) -> None:
        async with self._database.write() as connection:
            await connection.execute(
                sa.update(SESSIONS).where(SESSIONS.c.id == session_id).values(seen_at=now)
            )
            await connection.execute(
                sa.update(USERS).where(USERS.c.id == user_id).values(seen_at=now)
            )

    async def _set(self, session_id: str, **values: object) -> None:
        change = sa.update(SESSIONS).where(SESSIONS.c.id == session_id).values(**values)
        async with self._database.write() as connection:
            await connection.execute(change)


async def end_sessions(connection: AsyncConnection, user_id: str, *, but: str = "") -> None:
    """End a user's sessions, except the one with the id `but`, in the open transaction."""
    await connection.execute(
        sa.delete(SESSIONS).where(SESSIONS.c.user_id == user_id, SESSIONS.c.id != but)
    )
