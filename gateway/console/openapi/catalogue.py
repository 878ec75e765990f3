"""`/admin/providers` and `/admin/models`."""

from __future__ import annotations

from typing import Final

import msgspec

from gateway.console.openapi.admin_operation import AFTER, LIMIT, admin_operation
from gateway.console.openapi.operation import Operation, Parameter, Success
from gateway.console.openapi.shapes import catalogue as shapes

CATALOGUE: Final = "Catalogue"
_NAMES: Final = {"/admin/providers/{name}": "second", "/admin/models/{name}": "team/second"}
_ORIGIN: Final = Parameter("origin", "query", "Default: both.", allowed=("file", "sql"))
_ONE: Final = Parameter("origin", "query", "Default: the one in force.", allowed=("file", "sql"))


def catalogue_operations(model: str) -> tuple[Operation, ...]:
    """Return the operations on providers and models; `model` is one for the examples."""
    found = (*_changes(model), *_reads(), *_deletions())
    return tuple(_with_name(each) for each in found)


def _changes(model: str) -> tuple[Operation, ...]:
    put = "In SQL, checked as the file is; served within a second."
    changed = Success(shapes.ChangedEntry, "The entry; 200 if it existed.", status=201)
    return (
        admin_operation(
            *("PUT", "providers/{name}", CATALOGUE),
            ("Create or replace a provider", put),
            changed,
            request=shapes.SentProvider,
            body={
                "openai": {"base_url": "https://api.second.example/v1"},
                "api_key_env": "SECOND_API_KEY",
            },
        ),
        admin_operation(
            *("PUT", "models/{name}", CATALOGUE),
            ("Create or replace a model", put),
            changed,
            request=shapes.SentModel,
            body={
                "deployments": [{"provider": "second", "model": model}],
                "prices": {"input": "0.07", "output": "0.14"},
            },
        ),
    )


def _reads() -> tuple[Operation, ...]:
    page = Success(shapes.CatalogueList, "One page.")
    entry = Success(shapes.CatalogueEntry, "The entry.")
    lists = (AFTER, LIMIT, _ORIGIN)
    return (
        admin_operation(
            *("GET", "providers", CATALOGUE),
            ("List providers with their settings", "Those of the file first, then those of SQL."),
            page,
            parameters=lists,
        ),
        admin_operation(
            *("GET", "providers/{name}", CATALOGUE),
            ("Get a provider", "The one in force if file and SQL have it."),
            entry,
            parameters=(_ONE,),
        ),
        admin_operation(
            *("GET", "models", CATALOGUE),
            ("List models with their settings", "Those of the file first, then those of SQL."),
            page,
            parameters=lists,
        ),
        admin_operation(
            *("GET", "models/{name}", CATALOGUE),
            ("Get a model", "The one in force if file and SQL have it."),
            entry,
            parameters=(_ONE,),
        ),
        admin_operation(
            *("GET", "catalogue", CATALOGUE),
            ("Get the state of the catalogue", "Which workers serve the current revision."),
            Success(shapes.CatalogueState, "The state."),
        ),
    )


def _deletions() -> tuple[Operation, ...]:
    deleted = Success(shapes.DeletedEntry, "It was deleted.")
    return (
        admin_operation(
            *("DELETE", "models/{name}", CATALOGUE),
            ("Delete a model", "From SQL; running calls end as they began."),
            deleted,
        ),
        admin_operation(
            *("DELETE", "providers/{name}", CATALOGUE),
            ("Delete a provider", "From SQL, unless a model in force needs it."),
            deleted,
        ),
    )


def _with_name(operation: Operation) -> Operation:
    """Return an operation whose example has the name in its path."""
    name = _NAMES.get(operation.path)
    if name is None:
        return operation
    example = msgspec.structs.replace(operation.example, path={"name": name})
    return msgspec.structs.replace(operation, example=example)
