"""Accounts in SQL."""

from __future__ import annotations

import pytest

from gateway.store.accounts.accounts import Accounts, UnknownAccountError
from gateway.store.sql.database import Database


async def test_accounts_created_are_found_by_id_and_in_order(database: Database) -> None:
    """What was made is there, the oldest first, in pages."""
    accounts = Accounts(database)

    made = [await accounts.create(name) for name in ("one", "two", "two")]
    made.sort(key=lambda account: account.id)

    assert await accounts.get(made[1].id) == made[1]
    assert await accounts.list() == made
    assert await accounts.list(after=made[0].id, limit=1) == [made[1]]
    assert [account.name for account in await accounts.list(name="two")] == ["two", "two"]
    assert all(account.id.startswith("acct_") and len(account.id) == 31 for account in made)


async def test_account_unknown_is_a_lookup_error(database: Database) -> None:
    """An id that was never given names no account."""
    with pytest.raises(UnknownAccountError, match="acct_none"):
        await Accounts(database).get("acct_none")


async def test_account_name_with_sql_in_it_is_only_a_name(database: Database) -> None:
    """Values are parameters, never text of a statement."""
    accounts = Accounts(database)
    name = "'); DROP TABLE api_keys; --"

    account = await accounts.create(name)

    assert (await accounts.get(account.id)).name == name
    assert await accounts.list(name=name) == [account]
