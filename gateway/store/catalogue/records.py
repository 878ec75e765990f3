"""
The providers and models in SQL.

Every change gets a new revision in its transaction, by which workers notice it. Changes are made
one after another, so that each is checked against the entries that it joins.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import sqlalchemy as sa

from gateway.settings.entries.merge import Kind, StoredEntry
from gateway.store.accounts.audit import Actor, Facts, record
from gateway.store.sql.catalogue_tables import CATALOGUE_ENTRIES, SERVICE_VALUES
from gateway.store.sql.database import Database
from gateway.store.sql.ids import new_id

MOST_ENTRIES = 2000
READ_TIMEOUT_S = 2.0
_REVISION = "catalogue_revision"
_COLUMNS = CATALOGUE_ENTRIES.c

Check = Callable[[Sequence[StoredEntry], Sequence[StoredEntry]], None]
"""Takes the entries before and after a change, and raises to refuse it."""


class UnknownEntryError(LookupError):
    """SQL has no such provider or model. The arguments are kind and name."""


class CatalogueFullError(Exception):
    """SQL has as many providers and models as it may have."""


class StoredCatalogue(msgspec.Struct, frozen=True):
    """All entries at one revision."""

    revision: str
    """Empty before the first change."""
    entries: tuple[StoredEntry, ...] = ()
    """In the order of their creation."""


class CatalogueRecords:
    """
    The tables. Every method may raise GatewayError (STORE_UNAVAILABLE).

    Args:
        database: The SQL database.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def revision(self) -> str:
        """Return the current revision."""
        async with self._database.read(timeout_s=READ_TIMEOUT_S) as connection:
            return await _revision(connection)

    async def read(self) -> StoredCatalogue:
        """Return all entries."""
        async with self._database.read(timeout_s=READ_TIMEOUT_S) as connection:
            # The revision first: a change in between is then read again, not missed.
            revision = await _revision(connection)
            return StoredCatalogue(revision, await _entries(connection))

    async def put(
        self, kind: Kind, name: str, body: dict[str, object], by: Actor, check: Check
    ) -> tuple[StoredCatalogue, bool]:
        """
        Create or replace an entry; return all entries, and whether it was created.

        Raises:
            CatalogueFullError.
            Exception: What `check` raises.
        """
        now = int(time.time())
        async with self._database.write() as connection:
            await _lock(connection)
            before = await _entries(connection)
            old = _find(before, kind, name)
            new = StoredEntry(
                kind=kind,
                name=name,
                body=body,
                created_at=now if old is None else old.created_at,
                updated_at=now,
            )
            if old is None and len(before) >= MOST_ENTRIES:
                raise CatalogueFullError
            after = (*before, new) if old is None else _replaced(before, old, new)
            check(before, after)
            text = msgspec.json.encode(body).decode()
            if old is None:
                row = {"kind": kind, "name": name, "body": text}
                times = {"created_at": now, "updated_at": now}
                await connection.execute(sa.insert(CATALOGUE_ENTRIES), {**row, **times})
            else:
                change = sa.update(CATALOGUE_ENTRIES).where(_is(kind, name))
                await connection.execute(change.values(body=text, updated_at=now))
            action = f"{kind}.create" if old is None else f"{kind}.change"
            was = None if old is None else _facts(old)
            await record(connection, by, action, name, before=was, after=_facts(new))
            return StoredCatalogue(await _new_revision(connection), after), old is None

    async def delete(self, kind: Kind, name: str, by: Actor, check: Check) -> StoredCatalogue:
        """
        Delete an entry; return the others.

        Raises:
            UnknownEntryError.
            Exception: What `check` raises.
        """
        async with self._database.write() as connection:
            await _lock(connection)
            before = await _entries(connection)
            old = _find(before, kind, name)
            if old is None:
                raise UnknownEntryError(kind, name)
            after = tuple(entry for entry in before if entry is not old)
            check(before, after)
            await connection.execute(sa.delete(CATALOGUE_ENTRIES).where(_is(kind, name)))
            await record(connection, by, f"{kind}.delete", name, before=_facts(old))
            return StoredCatalogue(await _new_revision(connection), after)


def _find(entries: Sequence[StoredEntry], kind: Kind, name: str) -> StoredEntry | None:
    return next((each for each in entries if (each.kind, each.name) == (kind, name)), None)


def _replaced(
    entries: Sequence[StoredEntry], old: StoredEntry, new: StoredEntry
) -> tuple[StoredEntry, ...]:
    return tuple(new if entry is old else entry for entry in entries)


def _facts(entry: StoredEntry) -> Facts:
    """Return what the audit log records; headers are free text."""
    body = entry.body or {}
    return {**body, "headers": "***"} if "headers" in body else body


def _is(kind: Kind, name: str) -> sa.ColumnElement[bool]:
    return sa.and_(_COLUMNS.kind == kind, _COLUMNS.name == name)


async def _revision(connection: Any) -> str:
    query = sa.select(SERVICE_VALUES.c.value).where(SERVICE_VALUES.c.name == _REVISION)
    found: str | None = (await connection.execute(query)).scalar_one_or_none()
    return found or ""


async def _lock(connection: Any) -> None:
    """Wait for other changes; on SQLite the transaction has done so."""
    row = sa.select(SERVICE_VALUES).where(SERVICE_VALUES.c.name == _REVISION)
    await connection.execute(row.with_for_update())


async def _new_revision(connection: Any) -> str:
    revision = new_id("cat")
    change = sa.update(SERVICE_VALUES).where(SERVICE_VALUES.c.name == _REVISION)
    await connection.execute(change.values(value=revision))
    return revision


async def _entries(connection: Any) -> tuple[StoredEntry, ...]:
    query = sa.select(CATALOGUE_ENTRIES)
    query = query.order_by(_COLUMNS.created_at, _COLUMNS.kind, _COLUMNS.name)
    return tuple(_entry(row) for row in await connection.execute(query))


def _entry(row: Any) -> StoredEntry:
    try:
        body = msgspec.json.decode(row.body, type=dict[str, object])
    except (msgspec.DecodeError, UnicodeDecodeError):
        body = None  # written by something else: shown, and left out
    return StoredEntry(
        kind=row.kind,
        name=row.name,
        body=body,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )
