"""
Adds the providers and models of SQL to those of the file.

The file takes precedence: an entry of SQL with the name of one in the file is not in force. An
invalid entry is left out, with its errors; it never prevents the others from being served. A model
that refers to an entry that is left out is served without that deployment or fallback, and left
out only if no deployment remains.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import msgspec

from gateway.settings.entries.permits import check_permits
from gateway.settings.errors import did_you_mean, join, shown
from gateway.settings.reading import read_table
from gateway.settings.schema import Model, Provider, Settings
from gateway.settings.upstreams.rules import CapsCheck, check_model, check_provider

Kind = Literal["provider", "model"]
KINDS: tuple[Kind, ...] = ("provider", "model")
Origin = Literal["file", "sql"]
CredentialCheck = Callable[[Provider, str], Sequence[str]]
"""Takes a provider and its key path; returns a line for each credential that is not available."""


class StoredEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A provider or model in SQL."""

    kind: Kind
    name: str
    body: dict[str, object] | None
    """Its settings as in the file, without `name`; None: unreadable."""
    created_at: int = 0
    updated_at: int = 0


class MergedEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A provider or model, and whether it is served."""

    kind: Kind
    name: str
    origin: Origin
    in_force: bool
    """False: it is left out."""
    problems: tuple[str, ...] = ()
    """Why it is left out, or what it is served without: key path and message."""
    overridden: bool = False
    """The file has an entry of this name."""


class Merged(msgspec.Struct, frozen=True):
    """The settings with the entries in force, and the state of every entry."""

    settings: Settings
    entries: tuple[MergedEntry, ...]
    """Those of the file first, then those of SQL in their order."""

    @property
    def rejected(self) -> int:
        """How many entries of SQL cannot be served; those that the file overrides do not count."""
        return sum(not (entry.in_force or entry.overridden) for entry in self.entries)

    @property
    def problems(self) -> list[str]:
        """The problems of all entries."""
        return [problem for entry in self.entries for problem in entry.problems]


def merge(
    file: Settings,
    stored: Sequence[StoredEntry],
    check_caps: CapsCheck | None = None,
    check_credentials: CredentialCheck | None = None,
) -> Merged:
    """
    Return the file's settings with the entries of SQL.

    Args:
        file: Checked.
        stored: In the order in which they were created.
        check_caps: Checks overrides of a dialect's capabilities; None disables the check.
        check_credentials: Checks that credentials are available; None disables the check.
    """
    if not file.catalogue.sql:
        stored = ()
    return _Merge(file, check_caps, check_credentials).run(stored)


def entry_path(kind: str, name: str) -> str:
    """Return the key path of an entry in messages: `providers.acme`."""
    return join(f"{kind}s", name)


class _Merge:
    def __init__(
        self,
        file: Settings,
        check_caps: CapsCheck | None,
        check_credentials: CredentialCheck | None,
    ) -> None:
        self._file = file
        self._check_caps = check_caps
        self._check_credentials = check_credentials
        self._providers = {each.name: each for each in file.providers}
        self._models = {each.name: each for each in file.models}
        self._taken: dict[str, str] = {}
        for index, model in enumerate(file.models):
            for name in (model.name, *model.aliases):
                self._taken[name] = f"models[{index}] of the file"
        self._states: dict[tuple[str, str], MergedEntry] = {}

    def run(self, stored: Sequence[StoredEntry]) -> Merged:
        of_file = self._of_file()
        own = set(of_file)
        for kind in KINDS:
            for entry in stored:
                if entry.kind == kind:
                    self._add(entry, is_overridden=(kind, entry.name) in own)
        models = self._with_known_fallbacks()
        settings = msgspec.structs.replace(
            self._file, providers=list(self._providers.values()), models=models
        )
        first = [
            MergedEntry(kind=kind, name=name, origin="file", in_force=True)
            for kind, name in of_file
        ]
        return Merged(settings, (*first, *self._states.values()))

    def _of_file(self) -> list[tuple[Kind, str]]:
        providers: list[tuple[Kind, str]] = [("provider", e.name) for e in self._file.providers]
        return providers + [("model", each.name) for each in self._file.models]

    def _add(self, entry: StoredEntry, *, is_overridden: bool) -> None:
        path = entry_path(entry.kind, entry.name)
        problems: list[str] = []
        in_force = False
        if is_overridden:
            problems.append(f"{path}: the configuration file has an entry of this name; it is used")
        elif entry.body is None:
            problems.append(f"{path}: is not a JSON object; replace or delete it")
        elif entry.kind == "provider":
            in_force = self._add_provider(entry, path, problems)
        else:
            in_force = self._add_model(entry, path, problems)
        self._states[entry.kind, entry.name] = MergedEntry(
            kind=entry.kind,
            name=entry.name,
            origin="sql",
            in_force=in_force,
            problems=tuple(problems),
            overridden=is_overridden,
        )

    def _add_provider(self, entry: StoredEntry, path: str, problems: list[str]) -> bool:
        provider = read_table({**(entry.body or {}), "name": entry.name}, Provider, problems, path)
        problems += check_provider(provider, path, self._check_caps)
        if not problems:
            problems += check_permits(provider, path, self._file)
        if not problems and self._check_credentials is not None:
            problems += self._check_credentials(provider, path)
        if not problems:
            self._providers[provider.name] = provider
        return not problems

    def _add_model(self, entry: StoredEntry, path: str, problems: list[str]) -> bool:
        errors: list[str] = []
        model = read_table({**(entry.body or {}), "name": entry.name}, Model, errors, path)
        model = self._with_known_providers(model, path, problems)
        names = (model.name, *model.aliases)
        first = {name: self._taken[name] for name in names if name in self._taken}
        prefix = self._file.brand.model_prefix
        errors += check_model(model, path, self._providers, prefix, first, self._check_caps)
        problems += errors
        if errors or not model.deployments:
            return False
        self._taken |= first
        self._models[model.name] = model
        return True

    def _with_known_providers(self, model: Model, path: str, problems: list[str]) -> Model:
        kept = []
        for index, deployment in enumerate(model.deployments):
            name = deployment.provider
            if not name or name in self._providers:  # a blank has been reported
                kept.append(deployment)
            else:
                known = ", ".join(self._providers) or "none"
                hint = did_you_mean(name, self._providers)
                problems.append(
                    f"{path}.deployments[{index}].provider: {shown(name)} is not a provider in "
                    f"force; known: {known}{hint}"
                )
        if len(kept) == len(model.deployments):
            return model
        hedge = model.hedge if len(kept) > 1 else None
        return msgspec.structs.replace(model, deployments=kept, hedge=hedge)

    def _with_known_fallbacks(self) -> list[Model]:
        """Return the models; those of SQL without fallbacks that do not exist."""
        models = []
        for name, model in self._models.items():
            state = self._states.get(("model", name))
            if state is None or not state.in_force:
                models.append(model)
                continue
            known = [each for each in model.fallbacks if each in self._models and each != name]
            lost = [each for each in model.fallbacks if each not in known]
            if lost:
                path = entry_path("model", name)
                notes = tuple(
                    f"{path}.fallbacks[{model.fallbacks.index(each)}]: {shown(each)} is not the "
                    "name of another model in force; remove it"
                    for each in lost
                )
                self._states["model", name] = msgspec.structs.replace(
                    state, problems=state.problems + notes
                )
            models.append(msgspec.structs.replace(model, fallbacks=known))
        return models
