"""Accounts whose balance falls below what their owners chose: each crossing is found once."""

from __future__ import annotations

import asyncio

import pytest

from gateway.store.accounts.accounts import Accounts, UnknownAccountError
from gateway.store.accounts.audit import Actor
from gateway.store.accounts.credits import Credits
from gateway.store.accounts.low_balance import LowBalances, Owner
from gateway.store.people.users import Users
from gateway.store.sql.database import Database

BY = Actor("cli:tester")


async def test_each_crossing_is_claimed_once(database: Database) -> None:
    """By one of several consoles; again only after the balance has recovered."""
    ledger, low = Credits(database), LowBalances(database)
    account = await Accounts(database).create("acme")
    users = Users(database)
    for login, role in (("ada@x.test", "owner"), ("bob@x.test", "member"), ("eve@x.test", "owner")):
        user = await users.create(login, login)
        await users.join(user.id, account.id, role, BY)
        if login.startswith("eve"):
            await users.change(user.id, BY, "user.disable", disabled_at=1)
    await ledger.topup(account.id, 1000, BY)
    await low.set(account.id, 500, BY)
    above = await low.claim()
    await ledger.adjust(account.id, -501, BY, reason="x")
    seen = [
        each for found in await asyncio.gather(*[low.claim() for _ in range(4)]) for each in found
    ]
    await ledger.adjust(account.id, -1, BY, reason="x")
    still = await low.claim()
    await ledger.topup(account.id, 2, BY)
    recovered = await low.claim()
    await ledger.adjust(account.id, -1, BY, reason="x")
    again = await low.claim()
    await low.release(account.id)

    assert (above, still, recovered) == ([], [], [])
    assert [(e.balance_nanousd, e.threshold_nanousd, e.owners) for e in seen] == [
        (499, 500, (Owner("ada@x.test", None),))
    ]
    assert [each.balance_nanousd for each in again] == [499]
    assert len(await low.claim()) == 1


async def test_change_of_the_threshold_is_audited_and_starts_anew(database: Database) -> None:
    """The same value changes nothing; no threshold, no notice."""
    low = LowBalances(database)
    accounts = Accounts(database)
    account = await accounts.create("acme")
    await low.set(account.id, 1, BY)
    first = await low.claim()
    await low.set(account.id, 1, BY)
    same = await low.claim()
    await low.set(account.id, 2, BY)
    raised = await low.claim()
    is_low = (await accounts.get(account.id)).is_low
    await low.set(account.id, None, BY)

    assert ([len(each) for each in (first, same, raised)], is_low) == ([1, 0, 1], True)
    assert await low.claim() == []
    assert not (await accounts.get(account.id)).is_low
    with pytest.raises(UnknownAccountError):
        await low.set("acct_none", 1, BY)
