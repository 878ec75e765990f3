"""An account is closed at once or not at all, and not while its calls hold money."""

from __future__ import annotations

import pytest

from gateway.operations.accounts import CallsRunningError, ClosingOperations, HoldsUnknownError
from gateway.store.accounts.accounts import AccountClosedError, Accounts, UnknownAccountError
from gateway.store.accounts.audit import Actor, AuditLog
from gateway.store.accounts.credits import Credits
from gateway.store.accounts.low_balance import LowBalances
from gateway.store.hot_state.current_use import CurrentUse, MoneyInUse
from gateway.store.keys.repository import KeyChange, KeyDetails, Keys
from gateway.store.people.users import Users
from gateway.store.sql.database import Database

BY = Actor("user:ada")


class Publisher:
    """Remembers what was published."""

    def __init__(self) -> None:
        self.changes: list[KeyChange] = []

    async def publish(self, change: KeyChange) -> bool:
        self.changes.append(change)
        return len(self.changes) != 2


class Use(CurrentUse):
    """Returns a fixed result."""

    def __init__(self, found: MoneyInUse | None) -> None:
        self.found = found

    async def money(self, account_id: str) -> MoneyInUse | None:
        return self.found


async def test_closed_account_keeps_its_ledger_only(database: Database) -> None:
    """Keys are revoked and published, people are out, no key can be created, the ledger stays."""
    accounts, keys, users = Accounts(database), Keys(database, "sk-"), Users(database)
    account = await accounts.create("acme")
    await Credits(database).topup(account.id, 700, BY)
    await LowBalances(database).set(account.id, 5, BY)
    made = [(await keys.create(account.id, KeyDetails(name=f"of Ada {n}"))).row for n in range(3)]
    await keys.revoke(made[0].id)
    user = await users.create("ada", "Ada")
    await users.join(user.id, account.id, "owner", BY)
    publisher = Publisher()

    closed = await ClosingOperations(database, publisher, Use(MoneyInUse())).close(account.id, BY)

    after = await accounts.get(account.id)
    rows = await keys.list(account.id)
    assert (closed.keys, closed.members, closed.published) == (2, 1, False)
    assert {(change.principal.key_id, change.principal.state) for change in publisher.changes} == {
        (row.id, "revoked") for row in made[1:]
    }
    assert [(row.state, row.name) for row in rows] == [("revoked", "deleted")] * 3
    assert (after.closed_at is not None, after.low_balance_nanousd) == (True, None)
    assert after.balance_nanousd == 700
    assert len(await Credits(database).entries(account.id, limit=9)) == 1
    assert await users.members(account.id) == []
    [entry] = [e for e in await AuditLog(database).list() if e.action == "account.close"]
    assert (entry.actor, entry.after) == ("user:ada", {"keys": 2, "members": [user.id]})
    with pytest.raises(AccountClosedError):
        await keys.create(account.id, KeyDetails(name="x"))
    with pytest.raises(UnknownAccountError):
        await ClosingOperations(database, publisher, Use(MoneyInUse())).close(account.id, BY)


@pytest.mark.parametrize(
    ("use", "refusal"),
    [
        (None, HoldsUnknownError),
        (MoneyInUse(1, 0, 0), CallsRunningError),
        (MoneyInUse(1, 9, 0), CallsRunningError),
    ],
)
async def test_running_calls_keep_an_account_open(
    database: Database, use: MoneyInUse | None, refusal: type[Exception]
) -> None:
    """Also if it is not known whether there are any."""
    account = await Accounts(database).create("acme")
    key = (await Keys(database, "sk-").create(account.id, KeyDetails(name="x"))).row

    with pytest.raises(refusal):
        await ClosingOperations(database, Publisher(), Use(use)).close(account.id, BY)

    assert (await Accounts(database).get(account.id)).closed_at is None
    assert (await Keys(database, "sk-").get(key.id)).state == "active"
