"""Links work once, within their time, and do what they say in one transaction."""

from __future__ import annotations

import asyncio

import pytest
import sqlalchemy as sa

from gateway.store.accounts.accounts import Accounts
from gateway.store.accounts.audit import SYSTEM
from gateway.store.people.links import (
    HOUR_S,
    LinkKind,
    Links,
    LinkUsedError,
    Newcomer,
    OperatorExistsError,
)
from gateway.store.people.sessions import Lifetimes, Sessions
from gateway.store.people.users import LastOwnerError, LoginTakenError, User, Users
from gateway.store.sql.database import Database
from gateway.store.sql.people_tables import LINKS

ADA = Newcomer("ada@example.com", "Ada", "phc")


async def test_two_setup_links_race_and_one_wins(database: Database) -> None:
    """One operator, one account; the other link is refused, and no further one is made."""
    links = Links(database)
    tokens = [await links.create_setup(SYSTEM) for _ in range(2)]

    results = await asyncio.gather(
        *(
            links.set_up(token, Newcomer(f"user{at}", "Ada", "phc"), "Acme")
            for at, token in enumerate(tokens)
        ),
        return_exceptions=True,
    )

    refused = [each for each in results if isinstance(each, Exception)]
    assert len(refused) == 1
    assert isinstance(refused[0], LinkUsedError | OperatorExistsError)
    assert len(await Users(database).list()) == 1
    assert len(await Accounts(database).list()) == 1
    with pytest.raises(OperatorExistsError):
        await links.create_setup(SYSTEM)


async def test_link_is_dead_after_its_use_and_after_an_hour(database: Database) -> None:
    """Both are the same to who presents it; another kind of page does not take it."""
    now = [1_800_000_000.0]
    links = Links(database, lambda: now[0])
    user = await Users(database).create("ada", "Ada")
    used = await links.create_for_user(LinkKind.ENTER, user.id, SYSTEM)
    late = await links.create_for_user(LinkKind.ENTER, user.id, SYSTEM)

    with pytest.raises(LinkUsedError):
        await links.reset(used, "phc")
    assert (await links.enter(used)).id == user.id
    with pytest.raises(LinkUsedError):
        await links.enter(used)
    now[0] += HOUR_S
    with pytest.raises(LinkUsedError):
        await links.enter(late)


async def test_stored_links_do_not_contain_their_tokens(database: Database) -> None:
    """Who reads the database cannot get in."""
    token = await Links(database).create_setup(SYSTEM)

    async with database.read() as connection:
        row = (await connection.execute(sa.select(LINKS))).one()

    assert token not in repr(tuple(row))
    assert token.encode() not in bytes(row.digest)


async def test_invitation_makes_a_member_and_can_be_withdrawn(database: Database) -> None:
    """A newcomer joins with the link's role; a withdrawn link does nothing."""
    links, users = Links(database), Users(database)
    account = await Accounts(database).create("Acme")
    token = await links.create_invitation(account.id, "member", SYSTEM)
    other = await links.create_invitation(account.id, "owner", SYSTEM)
    for link in await links.invitations(account.id):
        if link.role == "owner":
            await links.withdraw(account.id, link.id, SYSTEM)

    user = await links.join(token, ADA)

    (member,) = await users.members(account.id)
    assert (member.user_id, member.role, member.has_second_factor) == (user.id, "member", False)
    with pytest.raises(LinkUsedError):
        await links.join(other, user)


async def test_refused_newcomer_leaves_the_link_usable(database: Database) -> None:
    """A taken name does not use the invitation up."""
    links = Links(database)
    account = await Accounts(database).create("Acme")
    await Users(database).create("ADA@example.com ", "Someone")
    token = await links.create_invitation(account.id, "viewer", SYSTEM)

    with pytest.raises(LoginTakenError):
        await links.join(token, ADA)

    assert (await links.peek(LinkKind.INVITE, token)).role == "viewer"


async def test_reset_changes_the_password_and_ends_everything_else(database: Database) -> None:
    """Sessions and the authenticator are gone."""
    users, links = Users(database), Links(database)
    sessions = Sessions(database, Lifetimes(1000, 1000))
    user = await users.create("ada", "Ada", password="old")
    await users.change(user.id, SYSTEM, "test", totp=b"sealed")
    token = await sessions.begin(user, "Firefox on Linux")

    await links.reset(await links.create_for_user(LinkKind.RESET, user.id, SYSTEM), "new")

    after: User = await users.get(user.id)
    assert (after.password, after.totp) == ("new", None)
    assert await sessions.find(token) is None


async def test_last_owner_stays(database: Database) -> None:
    """An account keeps an owner when members leave."""
    users = Users(database)
    account = await Accounts(database).create("Acme")
    ada = await users.create("ada", "Ada")
    ben = await users.create("ben", "Ben")
    await users.join(ada.id, account.id, "owner", SYSTEM)
    await users.join(ben.id, account.id, "member", SYSTEM)

    with pytest.raises(LastOwnerError):
        await users.leave(ada.id, account.id, SYSTEM)
    with pytest.raises(LastOwnerError):
        await users.join(ada.id, account.id, "viewer", SYSTEM)
    await users.join(ben.id, account.id, "owner", SYSTEM)
    await users.leave(ada.id, account.id, SYSTEM)

    assert [each.login for each in await users.members(account.id)] == ["ben"]
