"""Providers and models, as operators see and change them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Struct

from gateway.console.openapi.shapes.common import about
from gateway.console.openapi.shapes.operators import Page, Time

Origin = Annotated[Literal["file", "sql"], about("Where it is defined; only SQL can be changed.")]
Settings = Annotated[
    dict[str, Any] | None,
    about("The settings that are not defaults, as in the configuration file; null: unreadable."),
]
Problems = Annotated[list[str], about("Why it is not served, or what it is served without.")]
Overridden = Annotated[bool, about("The file has one of this name, which is used instead.")]
InForce = Annotated[bool, about("It is served, as far as its settings are concerned.")]
Published = Annotated[
    bool, about("False: Redis is unavailable; workers notice the change within a minute.")
]


class SentProvider(Struct, kw_only=True):
    """The settings of a provider, those of `[[providers]]` in the configuration file."""


class SentModel(Struct, kw_only=True):
    """The settings of a model, those of `[[models]]` in the configuration file."""


class WorkersServing(Struct, kw_only=True):
    """How many workers serve the current revision."""

    serving: int
    total: int


class CatalogueState(Struct, kw_only=True):
    """The revision of the entries in SQL."""

    object: Literal["catalogue"]
    revision: Annotated[str, about("Changes with each change; empty before the first one.")]
    workers: WorkersServing


class CatalogueEntry(Struct, kw_only=True):
    """A provider or a model."""

    object: Literal["provider", "model"]
    name: str
    origin: Origin
    in_force: InForce
    overridden_by_file: Overridden
    problems: Problems
    settings: Settings
    created_at: Time | None
    updated_at: Time | None


class ChangedEntry(CatalogueEntry, kw_only=True):
    """A provider or a model after a change."""

    published: Published
    workers: WorkersServing


class DeletedEntry(Struct, kw_only=True):
    """The outcome of a deletion."""

    object: Literal["provider.deleted", "model.deleted"]
    name: str
    published: Published
    workers: WorkersServing


class CatalogueList(Page):
    """One page of providers or models: those of the file first."""

    data: list[CatalogueEntry]
