"""
The providers and models of the file and of SQL, and changes of the latter.

A change is checked as the file is, together with all entries that remain. It is refused if the
entry has an error, or if an entry that was served before no longer could be.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from gateway.core.routing.live import LiveReport
from gateway.errors import ErrorKind, GatewayError
from gateway.operations.refusals import CatalogueOffError, EntryInUseError, EntryOfFileError
from gateway.protocols.translate.capabilities import capabilities
from gateway.settings import Model, Provider, Settings
from gateway.settings.entries.given import given_settings
from gateway.settings.entries.merge import (
    Kind,
    Merged,
    MergedEntry,
    Origin,
    StoredEntry,
    entry_path,
    merge,
)
from gateway.settings.entries.permits import check_permits
from gateway.store.accounts.audit import Actor
from gateway.store.catalogue.announcer import CatalogueAnnouncer
from gateway.store.catalogue.records import CatalogueRecords, StoredCatalogue, UnknownEntryError
from gateway.store.health.live import LiveReports
from gateway.store.redis.client import RedisUnavailable, ReplyError

APPLY_S = 2.0
"""How long a change waits for all workers to serve it."""
_POLL_S = 0.05


class InvalidEntryError(GatewayError):
    """An entry has errors. `problems` has a line for each, which begins with the setting."""

    def __init__(self, kind: Kind, name: str, problems: Sequence[str]) -> None:
        path = entry_path(kind, name)
        self.problems = [_relative(problem, path) for problem in problems]
        field, colon, _ = self.problems[0].partition(": ")
        super().__init__(
            ErrorKind.BAD_REQUEST,
            "\n".join(self.problems),
            param=field if colon and " " not in field else None,
            code="invalid_entry",
        )


class CatalogueEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A provider or model with its settings and its state."""

    kind: Kind
    name: str
    origin: Origin
    in_force: bool
    """It is served, as far as its settings are concerned."""
    overridden: bool
    """It is in SQL, and the file has one of the same name, which is used."""
    problems: tuple[str, ...]
    """Why it is not served, or what it is served without."""
    worker_problems: tuple[str, ...] = ()
    """What workers cannot use of it: credentials that their environment lacks."""
    settings: dict[str, Any] | None
    """Those that are given, without `name`; None: unreadable."""
    created_at: int | None = None
    updated_at: int | None = None
    """Unix seconds; None for entries of the file."""


class WorkerState(msgspec.Struct, frozen=True):
    """How many workers serve the current revision."""

    serving: int = 0
    total: int = 0


class Changed(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of a change."""

    entry: CatalogueEntry | None
    """None: it was deleted."""
    created: bool = False
    published: bool
    """False: Redis is unavailable; workers notice the change by themselves, within a minute."""
    workers: WorkerState


class CatalogueOperations:
    """
    What operators see and change. Methods may raise GatewayError (STORE_UNAVAILABLE).

    Args:
        records: SQL.
        announcer: Announces changes to workers.
        live: The reports of workers.
        file: Returns the settings of the file.
        changed: Called with a new catalogue.
    """

    def __init__(
        self,
        records: CatalogueRecords,
        announcer: CatalogueAnnouncer,
        live: LiveReports,
        file: Callable[[], Settings],
        changed: Callable[[StoredCatalogue], None],
    ) -> None:
        self._records = records
        self._announcer = announcer
        self._live = live
        self._file = file
        self._changed = changed

    async def list(self, kind: Kind) -> Sequence[CatalogueEntry]:
        """Return the entries of a kind: those of the file first, then those of SQL."""
        stored, reports = await asyncio.gather(self._records.read(), self._reports())
        return self._entries(stored, kind, reports)

    async def get(self, kind: Kind, name: str, origin: Origin | None = None) -> CatalogueEntry:
        """Return an entry: the one in force if file and SQL have it. Raises UnknownEntryError."""
        found = [
            entry
            for entry in await self.list(kind)
            if entry.name == name and origin in (None, entry.origin)
        ]
        if not found:
            raise UnknownEntryError(kind, name)
        return found[0]

    async def workers(self) -> tuple[str, WorkerState]:
        """Return the current revision, and how many workers serve it."""
        revision, reports = await asyncio.gather(self._records.revision(), self._reports())
        return revision, _serving(reports, revision)

    async def put(self, kind: Kind, name: str, raw: dict[str, object], by: Actor) -> Changed:
        """
        Create or replace an entry in SQL.

        Args:
            kind: Its kind.
            name: Its name.
            raw: Its settings as in the file; `name` may be absent.
            by: For the audit log.

        Raises:
            CatalogueOffError, InvalidEntryError, EntryInUseError, CatalogueFullError.
        """
        file = self._writable()
        if raw.get("name", name) != name:
            raise InvalidEntryError(kind, name, ["name: differs from the name in the path"])
        body = {key: value for key, value in raw.items() if key != "name"}

        def check(before: Sequence[StoredEntry], after: Sequence[StoredEntry]) -> None:
            # As if the file did not override it, so that it may move from the file to SQL.
            alone = merge(_without(file, kind, name), after, capabilities)
            problems = list(_state(alone, kind, name).problems)
            for provider in alone.settings.providers if kind == "provider" else ():
                if provider.name == name:
                    problems += check_permits(provider, entry_path(kind, name), file)
            if problems:
                raise InvalidEntryError(kind, name, problems)
            _check_others(file, before, after, kind, name)

        catalogue, created = await self._records.put(kind, name, body, by, check)
        published, workers = await self._announce(catalogue)
        reports = await self._reports()
        entries = self._entries(catalogue, kind, reports)
        entry = next(each for each in entries if (each.name, each.origin) == (name, "sql"))
        return Changed(entry=entry, created=created, published=published, workers=workers)

    async def delete(self, kind: Kind, name: str, by: Actor) -> Changed:
        """
        Delete an entry of SQL.

        Raises:
            CatalogueOffError, UnknownEntryError, EntryOfFileError, EntryInUseError.
        """
        file = self._writable()

        def check(before: Sequence[StoredEntry], after: Sequence[StoredEntry]) -> None:
            _check_others(file, before, after, kind, name)

        try:
            catalogue = await self._records.delete(kind, name, by, check)
        except UnknownEntryError as error:
            if _without(file, kind, name) != file:
                raise EntryOfFileError(kind, name) from error
            raise
        published, workers = await self._announce(catalogue)
        return Changed(entry=None, published=published, workers=workers)

    def _writable(self) -> Settings:
        file = self._file()
        if not file.catalogue.sql:
            raise CatalogueOffError
        return file

    async def _announce(self, catalogue: StoredCatalogue) -> tuple[bool, WorkerState]:
        """Announce a change; wait until all workers serve it, for `APPLY_S`."""
        self._changed(catalogue)
        if not await self._announcer.announce(catalogue):
            return False, WorkerState()
        deadline = time.monotonic() + APPLY_S
        while True:
            state = _serving(await self._reports(), catalogue.revision)
            if state.serving == state.total or time.monotonic() > deadline:
                return True, state
            await asyncio.sleep(_POLL_S)

    async def _reports(self) -> Sequence[LiveReport]:
        try:
            return await self._live.read()
        except (RedisUnavailable, ReplyError):
            return []

    def _entries(
        self, stored: StoredCatalogue, kind: Kind, reports: Sequence[LiveReport]
    ) -> Sequence[CatalogueEntry]:
        file = self._file()
        merged = merge(file, stored.entries, capabilities)
        of_file = {(kind, each.name): each for each in _of_kind(file, kind)}
        of_sql = {(each.kind, each.name): each for each in stored.entries}
        reported = list(dict.fromkeys(line for report in reports for line in report.problems))
        found = []
        for entry in merged.entries:
            if entry.kind != kind:
                continue
            if entry.origin == "file":
                found.append(_entry(entry, given_settings(of_file[kind, entry.name])))
                continue
            row = of_sql[kind, entry.name]
            others = [
                line
                for line in reported
                if _concerns(line, entry_path(kind, entry.name)) and line not in entry.problems
            ]
            found.append(_entry(entry, row.body, row, others))
        return found


def _entry(
    entry: MergedEntry,
    settings: dict[str, Any] | None,
    row: StoredEntry | None = None,
    worker_problems: Sequence[str] = (),
) -> CatalogueEntry:
    return CatalogueEntry(
        kind=entry.kind,
        name=entry.name,
        origin=entry.origin,
        in_force=entry.in_force,
        overridden=entry.overridden,
        problems=entry.problems,
        worker_problems=tuple(worker_problems),
        settings=settings,
        created_at=None if row is None else row.created_at,
        updated_at=None if row is None else row.updated_at,
    )


def _check_others(
    file: Settings,
    before: Sequence[StoredEntry],
    after: Sequence[StoredEntry],
    kind: Kind,
    name: str,
) -> None:
    """Raise EntryInUseError if a change gives another entry a problem that it did not have."""
    # By their settings: a message may list other entries.
    had = {_setting(problem) for problem in merge(file, before, capabilities).problems}
    path = entry_path(kind, name)
    new = [
        problem
        for problem in merge(file, after, capabilities).problems
        if _setting(problem) not in had and not _concerns(problem, path)
    ]
    if new:
        raise EntryInUseError(name, "\n".join(new))


def _state(merged: Merged, kind: Kind, name: str) -> MergedEntry:
    return next(
        each
        for each in merged.entries
        if (each.kind, each.name, each.origin) == (kind, name, "sql")
    )


def _without(file: Settings, kind: Kind, name: str) -> Settings:
    """Return the file's settings without an entry."""
    if kind == "provider":
        kept = [each for each in file.providers if each.name != name]
        return msgspec.structs.replace(file, providers=kept)
    models = [each for each in file.models if each.name != name]
    return msgspec.structs.replace(file, models=models)


def _of_kind(file: Settings, kind: Kind) -> Sequence[Provider | Model]:
    return file.providers if kind == "provider" else file.models


def _serving(reports: Sequence[LiveReport], revision: str) -> WorkerState:
    serving = sum(report.catalogue == revision for report in reports)
    return WorkerState(serving, len(reports))


def _setting(problem: str) -> str:
    return problem.partition(": ")[0]


def _concerns(problem: str, path: str) -> bool:
    return problem.startswith(path) and problem[len(path) :][:1] in (":", ".", "[")


def _relative(problem: str, path: str) -> str:
    """Return a problem without the path of its entry."""
    return problem.removeprefix(path).lstrip(".:").strip() if _concerns(problem, path) else problem
