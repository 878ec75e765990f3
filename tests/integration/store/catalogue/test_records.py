"""Providers and models in SQL: changes one after another, each with a revision and an audit."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
import sqlalchemy as sa

from gateway.settings.entries.merge import StoredEntry
from gateway.store.accounts.audit import Actor, AuditLog
from gateway.store.catalogue import records as module
from gateway.store.catalogue.records import (
    CatalogueFullError,
    CatalogueRecords,
    StoredCatalogue,
    UnknownEntryError,
)
from gateway.store.sql.catalogue_tables import CATALOGUE_ENTRIES
from gateway.store.sql.database import Database

BY = Actor("operator:user_1")
Entries = Sequence[StoredEntry]


def accept(_before: Entries, _after: Entries) -> None:
    """Refuse nothing."""


def names(catalogue: StoredCatalogue) -> list[tuple[str, str]]:
    return [(each.kind, each.name) for each in catalogue.entries]


async def test_entries_are_created_replaced_and_deleted(database: Database) -> None:
    """Each change returns all entries, as a reader finds them, under a new revision."""
    records = CatalogueRecords(database)
    assert await records.read() == StoredCatalogue("")

    added, created = await records.put("provider", "acme", {"dialect": "openai"}, BY, accept)
    assert created
    assert await records.read() == added
    changed, created = await records.put("provider", "acme", {"headers": {"a": "b"}}, BY, accept)
    assert not created
    assert changed.entries[0].body == {"headers": {"a": "b"}}
    both, _ = await records.put("model", "acme", {}, BY, accept)
    assert names(both) == [("model", "acme"), ("provider", "acme")] or names(both) == [
        ("provider", "acme"),
        ("model", "acme"),
    ]
    left = await records.delete("provider", "acme", BY, accept)
    assert names(left) == [("model", "acme")]
    assert await records.read() == left
    assert await records.revision() == left.revision
    assert len({"", added.revision, changed.revision, both.revision, left.revision}) == 5
    with pytest.raises(UnknownEntryError):
        await records.delete("provider", "acme", BY, accept)

    audit = await AuditLog(database).list(object_id="acme")
    assert [each.action for each in audit] == [
        "provider.delete",
        "model.create",
        "provider.change",
        "provider.create",
    ]
    assert (audit[2].before, audit[2].after) == ({"dialect": "openai"}, {"headers": "***"})


async def test_refused_change_leaves_nothing_behind(database: Database) -> None:
    """The check sees the entries before and after; what it raises undoes the change."""
    records = CatalogueRecords(database)
    kept, _ = await records.put("model", "kept", {}, BY, accept)
    seen: list[list[str]] = []

    def refuse(before: Entries, after: Entries) -> None:
        seen.append([each.name for each in before])
        seen.append(sorted(each.name for each in after))
        raise LookupError

    with pytest.raises(LookupError):
        await records.put("model", "new", {}, BY, refuse)
    with pytest.raises(LookupError):
        await records.delete("model", "kept", BY, refuse)

    assert seen == [["kept"], ["kept", "new"], ["kept"], []]
    assert await records.read() == kept
    assert len(await AuditLog(database).list()) == 1


async def test_concurrent_changes_are_checked_one_after_another(database: Database) -> None:
    """Of changes that each allow one more entry, only one is made."""
    records = CatalogueRecords(database)

    def only_one(before: Entries, _after: Entries) -> None:
        if before:
            raise ValueError

    outcomes = await asyncio.gather(
        *(records.put("model", f"m{n}", {}, BY, only_one) for n in range(5)),
        return_exceptions=True,
    )

    assert sum(isinstance(each, ValueError) for each in outcomes) == 4
    assert len((await records.read()).entries) == 1


async def test_row_that_is_no_json_is_read_without_a_body(database: Database) -> None:
    """It is shown and can be deleted."""
    records = CatalogueRecords(database)
    row = {"kind": "model", "name": "torn", "body": "[1", "created_at": 1, "updated_at": 2}
    async with database.write() as connection:
        await connection.execute(sa.insert(CATALOGUE_ENTRIES), row)

    (entry,) = (await records.read()).entries
    assert (entry.name, entry.body, entry.updated_at) == ("torn", None, 2)
    assert (await records.delete("model", "torn", BY, accept)).entries == ()


async def test_number_of_entries_is_bounded(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One more is refused; those that exist can be replaced."""
    monkeypatch.setattr(module, "MOST_ENTRIES", 1)
    records = CatalogueRecords(database)
    await records.put("model", "a", {}, BY, accept)

    with pytest.raises(CatalogueFullError):
        await records.put("model", "b", {}, BY, accept)
    await records.put("model", "a", {"context": 1}, BY, accept)
