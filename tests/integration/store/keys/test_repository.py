"""Virtual keys in SQL."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import sqlalchemy as sa

from gateway.core import api_keys
from gateway.settings import Server, Settings
from gateway.store.accounts.accounts import Accounts, UnknownAccountError
from gateway.store.keys.repository import KeyDetails, KeyRevokedError, Keys, NewKey, UnknownKeyError
from gateway.store.sql.database import Database
from gateway.store.sql.migrations import migrate

PREFIX = "sk-capio-live-"


@pytest.fixture
def keys(database: Database) -> Keys:
    return Keys(database, PREFIX)


async def make(database: Database, keys: Keys, details: KeyDetails | None = None) -> NewKey:
    account = await Accounts(database).create("customer")
    return await keys.create(account.id, details or KeyDetails(name="laptop"))


async def test_key_created_is_well_formed_and_speaks_for_its_account(
    database: Database, keys: Keys
) -> None:
    """The raw key is one of ours, and its digest leads to the principal."""
    details = KeyDetails(name="laptop", expires_at=1_900_000_000, models=["b", "a"])

    new = await make(database, keys, details)
    principal = await keys.load_by_digest(api_keys.digest(new.raw))

    assert api_keys.well_formed(new.raw, PREFIX)
    assert principal is not None
    assert principal == new.change.principal
    assert principal.key_id == new.row.id
    assert principal.account_id == new.row.account_id
    assert (principal.key_name, principal.state, principal.version) == ("laptop", "active", 1)
    assert principal.expires_at == 1_900_000_000
    assert principal.models == {"a", "b"}
    assert new.change.digest == api_keys.digest(new.raw)


async def test_key_listed_shows_prefix_and_last_four_only(database: Database, keys: Keys) -> None:
    """A listed key shows its prefix and last four characters."""
    new = await make(database, keys)

    (row,) = await keys.list(new.row.account_id)

    assert row == new.row
    assert (row.prefix, row.last_four) == (PREFIX, new.raw[-4:])
    assert new.raw not in repr(row)
    assert new.raw not in repr(new)


async def test_key_without_an_account_is_refused(keys: Keys) -> None:
    """A key belongs to an account that exists."""
    with pytest.raises(UnknownAccountError):
        await keys.create("acct_none", KeyDetails(name="orphan"))


async def test_key_disabled_and_enabled_again_raises_the_version_each_time(
    database: Database, keys: Keys
) -> None:
    """Every change raises the version."""
    new = await make(database, keys)

    disabled = await keys.disable(new.row.id)
    enabled = await keys.enable(new.row.id)

    assert (disabled.principal.state, disabled.principal.version) == ("disabled", 2)
    assert (enabled.principal.state, enabled.principal.version) == ("active", 3)
    assert disabled.digest == enabled.digest == new.change.digest
    assert await keys.load_by_digest(new.change.digest) == enabled.principal


async def test_key_revoked_stays_revoked(database: Database, keys: Keys) -> None:
    """Nothing brings a revoked key back; it is still found, to be refused."""
    new = await make(database, keys)

    await keys.revoke(new.row.id)
    again = await keys.revoke(new.row.id)
    with pytest.raises(KeyRevokedError):
        await keys.enable(new.row.id)
    with pytest.raises(KeyRevokedError):
        await keys.disable(new.row.id)

    assert (again.principal.state, again.principal.version) == ("revoked", 3)
    assert await keys.load_by_digest(new.change.digest) == again.principal
    assert (await keys.get(new.row.id)).state == "revoked"


async def test_key_changed_by_many_at_once_loses_no_version(database: Database, keys: Keys) -> None:
    """Each of many simultaneous changes gets a version of its own."""
    new = await make(database, keys)

    changes = await asyncio.gather(*[keys.disable(new.row.id) for _ in range(8)])

    assert sorted(change.principal.version for change in changes) == list(range(2, 10))


async def test_key_unknown_is_told_from_a_revoked_one(keys: Keys) -> None:
    """An id that was never given is a lookup error, a digest that was never given is nobody."""
    with pytest.raises(UnknownKeyError):
        await keys.revoke("key_none")
    with pytest.raises(UnknownKeyError):
        await keys.get("key_none")
    assert await keys.load_by_digest(bytes(32)) is None


async def test_keys_of_one_account_do_not_show_those_of_another(
    database: Database, keys: Keys
) -> None:
    """The keys of an account are listed without those of other accounts."""
    first, second = await make(database, keys), await make(database, keys)

    assert await keys.list(first.row.account_id) == [first.row]
    assert {row.id for row in await keys.list()} == {first.row.id, second.row.id}


async def test_digest_of_another_length_is_refused_by_the_table(database: Database) -> None:
    """Only a SHA-256 can stand where the digest is, by the database's own rule."""
    account = await Accounts(database).create("customer")
    insert = sa.text(
        "INSERT INTO api_keys (id, account_id, name, digest, prefix, last_four, state, version,"
        " created_at, changed_at) VALUES ('key_1', :a, 'n', :d, 'p', 'l', 'active', 1, 1, 1)"
    )

    with pytest.raises(sa.exc.DBAPIError):
        async with database.write() as connection:
            await connection.execute(insert, {"a": account.id, "d": b"sk-raw"})


def all_bytes(directory: Path) -> bytes:
    return b"".join(path.read_bytes() for path in directory.rglob("*") if path.is_file())


async def test_raw_key_reaches_no_file(tmp_path: Path) -> None:
    """The key itself is nowhere in the data directory, not even in part."""
    settings = Settings(server=Server(data_dir=str(tmp_path)))
    await migrate(settings)
    database = Database(settings)
    new = await make(database, Keys(database, PREFIX))
    await database.aclose()

    written = all_bytes(tmp_path)

    assert new.change.digest in written
    assert new.raw[len(PREFIX) : len(PREFIX) + 12].encode() not in written
