"""A sign-up makes user, account and balance together, or nothing."""

from __future__ import annotations

import asyncio

import pytest

from gateway.store.accounts.accounts import Accounts
from gateway.store.accounts.audit import SYSTEM, AuditLog
from gateway.store.accounts.codes import CodeDetails, Codes, CodeSpentError, UnknownCodeError
from gateway.store.people.links import Newcomer
from gateway.store.people.sign_ups import SignUps
from gateway.store.people.users import LoginTakenError, User, Users
from gateway.store.sql.database import Database

ADA = Newcomer("ada@example.com", "Ada", "phc")
AMOUNT = 25_000_000_001


async def new_code(database: Database) -> str:
    [made] = await Codes(database).create(CodeDetails(amount_nanousd=AMOUNT), SYSTEM)
    return made.raw


async def test_code_is_redeemed_by_one_of_two_at_once(database: Database) -> None:
    """The other gets neither a user nor an account."""
    code = await new_code(database)
    results = await asyncio.gather(
        *(
            SignUps(database).sign_up(Newcomer(f"user{at}", "Ada", "phc"), "Acme", code)
            for at in range(2)
        ),
        return_exceptions=True,
    )

    [user] = [each for each in results if isinstance(each, User)]
    [refused] = [each for each in results if isinstance(each, Exception)]
    assert isinstance(refused, CodeSpentError)
    assert [each.id for each in await Users(database).list()] == [user.id]
    [account] = await Accounts(database).list()
    assert (account.name, account.balance_nanousd) == ("Acme", AMOUNT)
    [member] = await Users(database).members(account.id)
    assert (member.user_id, member.role) == (user.id, "owner")
    actions = {each.action: each.actor for each in await AuditLog(database).list(limit=20)}
    assert actions["code.redeem"] == f"user:{user.id}"
    assert not await Codes(database).is_open(code)


async def test_taken_name_and_wrong_code_leave_nothing(database: Database) -> None:
    """The code stays open; a code that is unknown makes no user."""
    code = await new_code(database)
    await Users(database).create(ADA.login, "Ada")

    with pytest.raises(LoginTakenError):
        await SignUps(database).sign_up(ADA, "Acme", code)
    with pytest.raises(UnknownCodeError):
        await SignUps(database).sign_up(Newcomer("ben", "Ben", "phc"), "Acme", "7H3KQ")

    assert await Codes(database).is_open(code)
    assert not await Codes(database).is_open("7H3KQ")
    assert len(await Users(database).list()) == 1
    assert await Accounts(database).list() == []
