"""The key check over real SQL: what the key table and the cache owe each other."""

from __future__ import annotations

import uuid

import pytest

from gateway.core import api_keys
from gateway.store.accounts.accounts import Accounts
from gateway.store.keys.repository import KeyDetails, Keys
from gateway.store.sql.database import Database
from tests.support.key_cluster import Worker
from tests.support.waiting import wait_until

pytestmark = pytest.mark.redis


async def test_key_made_used_and_revoked_over_real_stores(
    valkey_url: str, database: Database
) -> None:
    """A key works from its creation on, in every worker, and stops within a second."""
    keys = Keys(database, "sk-capio-live-")
    account = await Accounts(database).create("customer")
    new = await keys.create(account.id, KeyDetails(name="laptop"))
    digest = api_keys.digest(new.raw)
    prefix = f"t{uuid.uuid4().hex}:"
    workers = [Worker(valkey_url, keys, prefix) for _ in range(2)]
    for worker in workers:
        await worker.start()
        assert await worker.keys.lookup(digest) == new.change.principal

    assert await workers[0].keys.publish(await keys.revoke(new.row.id))

    await wait_until(lambda: all(w.keys.cached(digest) is None for w in workers), timeout_s=1.0)
    assert [await worker.lookup_state(digest) for worker in workers] == ["revoked"] * 2
    for worker in workers:
        await worker.close()


async def test_changed_since_gives_changed_keys_only(database: Database) -> None:
    """A key that is merely new cannot be held wrongly anywhere; a changed one can."""
    keys = Keys(database, "sk-capio-live-")
    account = await Accounts(database).create("customer")
    changed = await keys.create(account.id, KeyDetails(name="changed"))
    await keys.create(account.id, KeyDetails(name="new"))
    change = await keys.disable(changed.row.id)
    changed_at = (await keys.get(changed.row.id)).changed_at

    assert list(await keys.changed_since(changed_at)) == [change]
    assert list(await keys.changed_since(changed_at + 1)) == []
