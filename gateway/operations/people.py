"""Operations on users and their sign-in links."""

from __future__ import annotations

import time
from collections.abc import Sequence

from gateway.operations.values import InvalidValueError
from gateway.store.accounts.accounts import Accounts
from gateway.store.accounts.audit import Actor
from gateway.store.people.links import LinkKind, Links
from gateway.store.people.sessions import Lifetimes, Sessions
from gateway.store.people.users import UnknownUserError, User, Users
from gateway.store.sql.database import Database

ROLES = ("owner", "member", "viewer")


class PeopleOperations:
    """
    Operations on users.

    Args:
        database: The SQL database.
        public_url: `brand.public_url`, where links lead.
    """

    def __init__(self, database: Database, public_url: str) -> None:
        self._users = Users(database)
        self._links = Links(database)
        self._accounts = Accounts(database)
        self._sessions = Sessions(database, Lifetimes(0, 0))
        self._public_url = public_url.rstrip("/")

    async def has_operator(self) -> bool:
        """Return whether an operator exists, that is, whether the service is set up."""
        return await self._users.has_operator()

    async def setup_link(self, by: Actor) -> str:
        """Return a link that makes the first operator; raises OperatorExistsError."""
        return self._link(LinkKind.SETUP, await self._links.create_setup(by))

    async def link(self, login: str, kind: LinkKind, by: Actor) -> str:
        """Return a link that signs a user in, or resets their password; raises UnknownUserError."""
        user = await self.find(login)
        return self._link(kind, await self._links.create_for_user(kind, user.id, by))

    async def invite(self, account_id: str, role: str, by: Actor) -> str:
        """
        Return a link with which someone joins an account.

        Raises:
            UnknownAccountError: There is no such account.
            InvalidValueError: The role does not exist.
        """
        if role not in ROLES:
            raise InvalidValueError("role", f"must be one of {', '.join(ROLES)}")
        account = await self._accounts.get(account_id)
        token = await self._links.create_invitation(account.id, role, by)
        return self._link(LinkKind.INVITE, token)

    async def create(self, login: str, name: str, by: Actor, *, is_operator: bool = False) -> User:
        """Create a user without a password, who signs in by a link; raises LoginTakenError."""
        return await self._users.create(login, name, is_operator=is_operator, by=by)

    async def join(self, user_id: str, account_id: str, role: str, by: Actor) -> None:
        """Make a user a member of an account; raises LastOwnerError."""
        await self._users.join(user_id, account_id, role, by)

    async def find(self, login: str) -> User:
        """Return the user who signs in with this name; raises UnknownUserError."""
        user = await self._users.find(login)
        if user is None:
            raise UnknownUserError(login)
        return user

    async def list(self, *, after: str = "", limit: int = 1000) -> Sequence[User]:
        """Return up to `limit` users after the id `after`, oldest first."""
        return await self._users.list(after=after, limit=limit)

    async def set_operator(self, login: str, by: Actor, *, is_operator: bool) -> User:
        """Grant or revoke a user's operator role; their sessions end."""
        user = await self.find(login)
        changed = await self._users.change(user.id, by, "user.operator", is_operator=is_operator)
        await self._sessions.end_all(user.id)
        return changed

    async def set_disabled(self, login: str, by: Actor, *, disabled: bool) -> User:
        """Block or allow a user's sign-in; blocking it ends their sessions."""
        user = await self.find(login)
        at = int(time.time()) if disabled else None
        changed = await self._users.change(user.id, by, "user.disable", disabled_at=at)
        if disabled:
            await self._sessions.end_all(user.id)
        return changed

    def _link(self, kind: LinkKind, token: str) -> str:
        return f"{self._public_url}/{kind.value}#{token}"
