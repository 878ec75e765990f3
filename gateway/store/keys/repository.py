"""
Virtual keys in SQL. The raw key is returned once, by `create`; only its SHA-256 is stored.

Every change increments the key's `version` and returns a `KeyChange` to be published, so that no
cache keeps an older principal.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
import sqlalchemy as sa

from gateway.core import api_keys
from gateway.core.limits import KeyLimits
from gateway.core.model import Principal
from gateway.store.accounts.accounts import AccountClosedError, UnknownAccountError
from gateway.store.accounts.audit import SYSTEM, Actor, Facts, record, record_made
from gateway.store.sql.database import Database
from gateway.store.sql.ids import new_id
from gateway.store.sql.tables import ACCOUNTS, API_KEYS

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection  # imports the ORM

LOAD_TIMEOUT_S = 3.0
_NAMELESS = "deleted"
"""In place of the names of a closed account's keys."""

_Row = sa.Row[Any]


class UnknownKeyError(LookupError):
    """There is no key with this id."""


class KeyRevokedError(Exception):
    """The key is revoked; revocation is final."""


class KeyRow(msgspec.Struct, frozen=True):
    """The public fields of a key. Times are in Unix seconds."""

    id: str
    account_id: str
    name: str
    prefix: str
    """The prefix of all keys of the brand, `sk-capio-live-`."""
    last_four: str
    state: str
    """`active`, `disabled` or `revoked`; a key past `expires_at` is refused in any state."""
    version: int
    created_at: int
    changed_at: int
    expires_at: int | None = None
    models: frozenset[str] | None = None
    """Public model names the key may use; None means all."""
    limits: KeyLimits | None = None
    origin: str = "user"
    """`playground` for keys that a page created for itself."""
    created_by: str | None = None
    """The actor of the audit log; None for keys older than this field."""


class KeyChange(msgspec.Struct, frozen=True):
    """The state of a key after a change, for the caches."""

    digest: bytes
    principal: Principal


class NewKey(msgspec.Struct, frozen=True):
    """A new key. `raw` is the secret: show it once and never store it."""

    raw: str
    row: KeyRow
    change: KeyChange

    def __repr__(self) -> str:
        return f"NewKey({self.row.id})"


class KeyDetails(msgspec.Struct, frozen=True, kw_only=True):
    """The fields of a new key. `models`: public model names, None means all."""

    name: str
    expires_at: int | None = None
    models: Collection[str] | None = None
    limits: KeyLimits | None = None
    origin: str = "user"


class Keys:
    """
    The api_keys table. Every method may raise GatewayError (STORE_UNAVAILABLE).

    Args:
        database: Where the table is.
        key_prefix: `brand.key_prefix`, for new keys.
    """

    def __init__(self, database: Database, key_prefix: str) -> None:
        self._database = database
        self._key_prefix = key_prefix

    async def create(self, account_id: str, details: KeyDetails, *, by: Actor = SYSTEM) -> NewKey:
        """
        Create a key for an account.

        Raises:
            UnknownAccountError: there is no such account.
            AccountClosedError: it is closed.
        """
        raw = api_keys.mint(secrets.token_bytes(api_keys.RANDOM_BYTES), self._key_prefix)
        prefix, last_four = api_keys.display(raw)
        now = int(time.time())
        values = {
            "id": new_id("key"),
            "account_id": account_id,
            "name": details.name,
            "digest": api_keys.digest(raw),
            "prefix": prefix,
            "last_four": last_four,
            "state": "active",
            "version": 1,
            "models": _stored_models(details.models),
            "created_at": now,
            "changed_at": now,
            "expires_at": details.expires_at,
            "limits": _stored_limits(details.limits),
            "origin": details.origin,
            "created_by": by.name,
        }
        async with self._database.write() as connection:
            # Locked, so that no key is created while the account is closed.
            account = sa.select(ACCOUNTS.c.closed_at).where(ACCOUNTS.c.id == account_id)
            found = (await connection.execute(account.with_for_update(read=True))).first()
            if found is None:
                raise UnknownAccountError(account_id)
            if found.closed_at is not None:
                raise AccountClosedError(account_id)
            made = await connection.execute(sa.insert(API_KEYS).returning(API_KEYS), values)
            row = made.one()
            await record(connection, by, "key.create", row.id, after=_facts(row))
        return NewKey(raw, key_row(row), _change(row))

    async def list(
        self, account_id: str | None = None, *, after: str = "", limit: int = 1000
    ) -> Sequence[KeyRow]:
        """Return up to `limit` keys after the id `after`, oldest first."""
        query = sa.select(API_KEYS).where(API_KEYS.c.id > after).order_by(API_KEYS.c.id)
        if account_id is not None:
            query = query.where(API_KEYS.c.account_id == account_id)
        async with self._database.read() as connection:
            return [key_row(row) for row in await connection.execute(query.limit(limit))]

    async def get(self, key_id: str) -> KeyRow:
        """
        Return one key.

        Raises:
            UnknownKeyError: there is none with this id.
        """
        async with self._database.read() as connection:
            return key_row(await _find(connection, key_id))

    async def disable(self, key_id: str, *, by: Actor = SYSTEM) -> KeyChange:
        """
        Disable a key until `enable`.

        Raises:
            UnknownKeyError: there is none with this id.
            KeyRevokedError: the key is revoked.
        """
        return await self._change(key_id, by, "key.disable", state="disabled")

    async def enable(self, key_id: str, *, by: Actor = SYSTEM) -> KeyChange:
        """Enable a disabled key; raises the errors of `disable`."""
        return await self._change(key_id, by, "key.enable", state="active")

    async def revoke(self, key_id: str, *, by: Actor = SYSTEM) -> KeyChange:
        """
        Revoke a key permanently. Idempotent.

        Raises:
            UnknownKeyError: there is none with this id.
        """
        return await self._change(key_id, by, "key.revoke", state="revoked")

    async def set_limits(
        self, key_id: str, limits: KeyLimits | None, *, by: Actor = SYSTEM
    ) -> KeyChange:
        """Replace a key's limits; None removes them. Raises the errors of `disable`."""
        return await self._change(key_id, by, "key.limits", limits=_stored_limits(limits))

    async def change(
        self,
        key_id: str,
        *,
        name: str,
        expires_at: int | None,
        models: Collection[str] | None,
        limits: KeyLimits | None,
        by: Actor = SYSTEM,
    ) -> KeyChange:
        """Replace what a key's owner may set. Raises the errors of `disable`."""
        return await self._change(
            key_id,
            by,
            "key.change",
            name=name,
            expires_at=expires_at,
            models=_stored_models(models),
            limits=_stored_limits(limits),
        )

    async def load_by_digest(self, digest: bytes) -> Principal | None:
        """
        Return the principal of the key with this SHA-256, in any state; None: no such key.

        Raises STORE_UNAVAILABLE after LOAD_TIMEOUT_S, since a request waits for it.
        """
        query = sa.select(API_KEYS).where(API_KEYS.c.digest == digest)
        async with self._database.read(timeout_s=LOAD_TIMEOUT_S) as connection:
            row = (await connection.execute(query)).first()
        return None if row is None else _change(row).principal

    async def changed_since(self, unix_s: int) -> Sequence[KeyChange]:
        """Return the keys changed at that time or later, except new ones."""
        query = sa.select(API_KEYS).where(API_KEYS.c.changed_at >= unix_s, API_KEYS.c.version > 1)
        async with self._database.read() as connection:
            return [_change(row) for row in await connection.execute(query)]

    async def _change(
        self, key_id: str, by: Actor, action: str, **values: str | int | None
    ) -> KeyChange:
        # The row is locked before it is read, so that concurrent changes are serialised.
        change = (
            sa.update(API_KEYS)
            .where(API_KEYS.c.id == key_id)
            .values(**values, version=API_KEYS.c.version + 1, changed_at=int(time.time()))
            .returning(API_KEYS)
        )
        async with self._database.write() as connection:
            before = await _find(connection, key_id, for_update=True)
            if before.state == "revoked" and values.get("state") != "revoked":
                raise KeyRevokedError(key_id)
            row = (await connection.execute(change)).one()
            await record(connection, by, action, key_id, before=_facts(before), after=_facts(row))
        return _change(row)


async def revoke_keys(
    connection: AsyncConnection, account_id: str, by: Actor
) -> Sequence[KeyChange]:
    """Revoke all keys of an account, and remove their names, within the open transaction."""
    of_account = API_KEYS.c.account_id == account_id
    names = sa.update(API_KEYS).where(of_account, API_KEYS.c.state == "revoked")
    await connection.execute(names.values(name=_NAMELESS))
    change = (
        sa.update(API_KEYS)
        .where(of_account, API_KEYS.c.state != "revoked")
        .values(
            state="revoked",
            name=_NAMELESS,
            version=API_KEYS.c.version + 1,
            changed_at=int(time.time()),
        )
        .returning(API_KEYS)
    )
    rows = (await connection.execute(change)).all()
    if rows:
        await record_made(connection, by, "key.revoke", {row.id: _facts(row) for row in rows})
    return [_change(row) for row in rows]


async def _find(connection: AsyncConnection, key_id: str, *, for_update: bool = False) -> _Row:
    query = sa.select(API_KEYS).where(API_KEYS.c.id == key_id)
    row = (await connection.execute(query.with_for_update() if for_update else query)).first()
    if row is None:
        raise UnknownKeyError(key_id)
    return row


def key_row(row: _Row) -> KeyRow:
    return KeyRow(
        id=row.id,
        account_id=row.account_id,
        name=row.name,
        prefix=row.prefix,
        last_four=row.last_four,
        state=row.state,
        version=row.version,
        created_at=row.created_at,
        changed_at=row.changed_at,
        expires_at=row.expires_at,
        models=_models(row.models),
        limits=_limits(row.limits),
        origin=row.origin,
        created_by=row.created_by,
    )


def _facts(row: _Row) -> Facts:
    """Return the audit log's fields of a key, without secrets."""
    return {
        "account_id": row.account_id,
        "name": row.name,
        "last_four": row.last_four,
        "state": row.state,
        "version": row.version,
        "expires_at": row.expires_at,
        "models": None if row.models is None else sorted(_models(row.models) or ()),
        "limits": _limits(row.limits),
    }


def _change(row: _Row) -> KeyChange:
    principal = Principal(
        key_id=row.id,
        account_id=row.account_id,
        key_name=row.name,
        state=row.state,
        version=row.version,
        expires_at=row.expires_at,
        models=_models(row.models),
        limits=_limits(row.limits),
    )
    return KeyChange(bytes(row.digest), principal)


def _models(stored: str | None) -> frozenset[str] | None:
    return None if stored is None else msgspec.json.decode(stored, type=frozenset[str])


def _stored_models(models: Collection[str] | None) -> str | None:
    return None if models is None else msgspec.json.encode(sorted(models)).decode()


def _limits(stored: str | None) -> KeyLimits | None:
    return None if stored is None else msgspec.json.decode(stored, type=KeyLimits)


def _stored_limits(limits: KeyLimits | None) -> str | None:
    return None if limits is None else msgspec.json.encode(limits).decode()
