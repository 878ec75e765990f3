"""Deleting users, and what keeps them: the last operator, the only owner of an account."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from gateway.store.accounts.accounts import Accounts
from gateway.store.accounts.audit import Actor
from gateway.store.people.departures import LastOperatorError, delete_user, remove_everyone
from gateway.store.people.links import Links
from gateway.store.people.sessions import Lifetimes, Sessions
from gateway.store.people.users import LastOwnerError, UnknownUserError, Users
from gateway.store.sql.database import Database
from gateway.store.sql.people_tables import MEMBERSHIPS, SESSIONS, USERS

BY = Actor("cli:tester")


async def test_deleted_user_leaves_nothing_personal(database: Database) -> None:
    """The row stays with its id; the sign-in name is free again; the session is dead."""
    users, sessions = Users(database), Sessions(database, Lifetimes(100, 100))
    account = await Accounts(database).create("acme")
    ada = await users.create("ada@x.test", "Ada", password="phc")
    bob = await users.create("bob@x.test", "Bob")
    for user in (ada, bob):
        await users.join(user.id, account.id, "owner", BY)
    token = await sessions.begin(ada, "Firefox on Linux")
    await users.change(ada.id, BY, "user.change", totp=b"secret", time_zone="UTC", language="en")

    await delete_user(database, ada.id, BY)

    async with database.read() as connection:
        row = (await connection.execute(sa.select(USERS).where(USERS.c.id == ada.id))).one()
    kept = {name: value for name, value in row._mapping.items() if value not in (None, 0, False)}
    assert kept.keys() == {"id", "login", "name", "created_at", "disabled_at"}
    assert (kept["login"], kept["name"]) == (f"deleted:{ada.id}", "deleted")
    assert await sessions.find(token) is None
    assert [each.user_id for each in await users.members(account.id)] == [bob.id]
    assert (await users.create("ada@x.test", "Ada")).id != ada.id
    with pytest.raises(UnknownUserError):
        await delete_user(database, "user_none", BY)


async def test_last_operator_and_only_owner_stay(database: Database) -> None:
    """Nothing of them is changed."""
    users = Users(database)
    account = await Accounts(database).create("acme")
    ada = await users.create("ada", "Ada", is_operator=True)
    eve = await users.create("eve", "Eve", is_operator=True)
    bob = await users.create("bob", "Bob")
    await users.change(eve.id, BY, "user.disable", disabled_at=1)
    await users.join(bob.id, account.id, "owner", BY)

    with pytest.raises(LastOperatorError):
        await delete_user(database, ada.id, BY)
    with pytest.raises(LastOwnerError, match=account.id):
        await delete_user(database, bob.id, BY)

    assert (await users.get(ada.id)).is_operator
    assert (await users.get(bob.id)).login == "bob"
    await users.change(eve.id, BY, "user.enable", disabled_at=None)
    await delete_user(database, ada.id, BY)
    assert not (await users.get(ada.id)).is_operator


async def test_everyone_leaves_a_closed_account(database: Database) -> None:
    """Who has another account, or is an operator, stays signed in and sees that."""
    users, sessions = Users(database), Sessions(database, Lifetimes(100, 100))
    accounts = Accounts(database)
    account, other = await accounts.create("acme"), await accounts.create("other")
    tokens = {}
    for login in ("ada", "bob", "eve"):
        user = await users.create(login, login, is_operator=login == "eve")
        await users.join(user.id, account.id, "owner", BY)
        if login == "bob":
            await users.join(user.id, other.id, "member", BY)
        tokens[login] = await sessions.begin(user, "Firefox")
    async with database.write() as connection:
        await connection.execute(sa.update(SESSIONS).values(account_id=account.id))
    await Links(database).create_invitation(account.id, "member", BY)

    async with database.write() as connection:
        members = await remove_everyone(connection, account.id)

    found = {login: await sessions.find(token) for login, token in tokens.items()}
    assert len(members) == 3
    assert {login for login, each in found.items() if each is not None} == {"bob", "eve"}
    assert all(each is None or each.session.account_id is None for each in found.values())
    assert await Links(database).invitations(account.id) == []
    async with database.read() as connection:
        left = (await connection.execute(sa.select(MEMBERSHIPS.c.account_id))).scalars().all()
    assert left == [other.id]
