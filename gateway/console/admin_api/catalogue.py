"""`/admin/providers` and `/admin/models`: the entries of the file, and those of SQL to change."""

from __future__ import annotations

from typing import Any, Literal, cast

import msgspec

from gateway.console.admin_api.request import MAX_PAGE, PAGE, AdminRequest, Route
from gateway.operations.http_api import Query, Response, json_response, list_response
from gateway.operations.service.catalogue import (
    CatalogueEntry,
    CatalogueOperations,
    Changed,
    WorkerState,
)
from gateway.operations.values import InvalidValueError, show_time
from gateway.settings.entries.merge import KINDS, Kind, Origin

_ORIGINS = ("file", "sql")


class AdminCatalogue:
    """
    Handlers for the catalogue.

    Args:
        operations: On it.
    """

    def __init__(self, operations: CatalogueOperations) -> None:
        self._operations = operations

    def routes(self) -> list[Route]:
        found = [Route("GET", "catalogue", self._show_state)]
        for kind in KINDS:
            handlers = _EntryHandlers(self._operations, kind)
            found += [
                Route("GET", f"{kind}s", handlers.list),
                Route("GET", f"{kind}s/**", handlers.show),
                Route("PUT", f"{kind}s/**", handlers.put),
                Route("DELETE", f"{kind}s/**", handlers.delete),
            ]
        return found

    async def _show_state(self, request: AdminRequest) -> Response:
        Query(request.query, ())
        revision, workers = await self._operations.workers()
        return json_response(
            {"object": "catalogue", "revision": revision, "workers": _workers(workers)}
        )


class _EntryHandlers:
    def __init__(self, operations: CatalogueOperations, kind: Kind) -> None:
        self._operations = operations
        self._kind = kind

    async def list(self, request: AdminRequest) -> Response:
        query = Query(request.query, ("after", "limit", "origin"))
        limit, after = query.number("limit", PAGE, MAX_PAGE), query.text("after")
        origin = _origin(query)
        entries = [
            each
            for each in await self._operations.list(self._kind)
            if origin in (None, each.origin)
        ]
        cursors = [_cursor(each) for each in entries]
        start = 0
        if after is not None:
            if after not in cursors:
                raise InvalidValueError("after", "is no entry any more; start again without it")
            start = cursors.index(after) + 1
        page = entries[start : start + limit]
        last = _cursor(page[-1]) if page else None
        return list_response([entry_object(each) for each in page], limit, last)

    async def show(self, request: AdminRequest) -> Response:
        origin = _origin(Query(request.query, ("origin",)))
        entry = await self._operations.get(self._kind, request.names[0], origin)
        return json_response(entry_object(entry))

    async def put(self, request: AdminRequest) -> Response:
        Query(request.query, ())
        body = await request.json(dict[str, object])
        changed = await self._operations.put(self._kind, request.names[0], body, request.by)
        assert changed.entry is not None
        shown = {**entry_object(changed.entry), **_outcome(changed)}
        return json_response(shown, 201 if changed.created else 200)

    async def delete(self, request: AdminRequest) -> Response:
        Query(request.query, ())
        name = request.names[0]
        changed = await self._operations.delete(self._kind, name, request.by)
        shown = {"object": f"{self._kind}.deleted", "name": name, **_outcome(changed)}
        return json_response(shown)


def entry_object(entry: CatalogueEntry) -> dict[str, Any]:
    """Return an entry as the API shows it."""
    return {
        "object": entry.kind,
        "name": entry.name,
        "origin": entry.origin,
        "in_force": entry.in_force,
        "overridden_by_file": entry.overridden,
        "problems": [*entry.problems, *entry.worker_problems],
        "settings": entry.settings,
        "created_at": show_time(entry.created_at),
        "updated_at": show_time(entry.updated_at),
    }


def _outcome(changed: Changed) -> dict[str, Any]:
    return {"published": changed.published, "workers": _workers(changed.workers)}


def _workers(state: WorkerState) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.to_builtins(state)
    return found


def _cursor(entry: CatalogueEntry) -> str:
    return f"{entry.origin}:{entry.name}"


def _origin(query: Query) -> Origin | None:
    origin = query.text("origin")
    if origin is not None and origin not in _ORIGINS:
        raise InvalidValueError("origin", f"must be one of {', '.join(_ORIGINS)}")
    return cast("Literal['file', 'sql'] | None", origin)
