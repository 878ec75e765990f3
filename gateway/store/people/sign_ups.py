"""New users who open an account of their own, in one transaction with the code that they redeem."""

from __future__ import annotations

import time

from gateway.store.accounts.audit import Actor
from gateway.store.accounts.codes import redeem_code
from gateway.store.people.links import Newcomer, add_account, add_newcomer
from gateway.store.people.users import User, set_role
from gateway.store.sql.database import Database


class SignUps:
    """Creates users with their accounts. Every method may raise STORE_UNAVAILABLE."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def sign_up(self, who: Newcomer, account_name: str, code: str | None) -> User:
        """
        Create a user, who owns a new prepaid account.

        Args:
            who: The user.
            account_name: Of the account.
            code: A redemption code, as typed, which is redeemed into the account.

        Raises:
            LoginTakenError: Another user has the sign-in name; the code stays as it is.
            UnknownCodeError, CodeSpentError: The code cannot be redeemed; nothing is created.
        """
        async with self._database.write() as connection:
            user = await add_newcomer(connection, who)
            actor = Actor(f"user:{user.id}")
            account_id = await add_account(connection, account_name, actor, int(time.time()))
            await set_role(connection, user.id, account_id, "owner", actor)
            if code is not None:
                await redeem_code(connection, code, account_id, actor)
        return user
