"""`/admin/keys`: virtual keys and their limits."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from gateway.console.admin_api.request import MAX_PAGE, PAGE, AdminRequest, Route
from gateway.core.catalogue import Catalogue
from gateway.core.limits import KeyLimits
from gateway.operations.http_api import Query, Response, json_response, list_response
from gateway.operations.keys import (
    ChangedKey,
    KeyOperations,
    KeyPublisher,
    public_limits,
    public_names,
)
from gateway.operations.limits import KeyLimitsBody, read_key_limits
from gateway.operations.objects import key_object, limits_object
from gateway.operations.values import read_text, read_time
from gateway.store.keys.repository import KeyDetails, Keys


class KeyBody(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    account_id: str
    name: str
    expires_at: str | int | None = None  # an ISO date or time, or Unix seconds
    models: list[str] | None = None
    limits: KeyLimitsBody | None = None


class AdminKeys:
    """
    Handlers for keys.

    Args:
        keys: The table of keys.
        publisher: Called after each change.
        catalogue: Returns the models; a reload replaces them.
    """

    def __init__(
        self, keys: Keys, publisher: KeyPublisher, catalogue: Callable[[], Catalogue]
    ) -> None:
        self._keys = KeyOperations(keys, publisher)
        self._catalogue = catalogue

    def routes(self) -> list[Route]:
        return [
            Route("GET", "keys", self._list),
            Route("POST", "keys", self._create),
            Route("GET", "keys/*", self._show),
            Route("POST", "keys/*/disable", self._disable),
            Route("POST", "keys/*/enable", self._enable),
            Route("POST", "keys/*/revoke", self._revoke),
            Route("GET", "keys/*/limits", self._show_limits),
            Route("PUT", "keys/*/limits", self._set_limits),
        ]

    async def _list(self, request: AdminRequest) -> Response:
        query = Query(request.query, ("account_id", "after", "limit"))
        limit = query.number("limit", PAGE, MAX_PAGE)
        after = query.text("after") or ""
        found = await self._keys.list(query.text("account_id"), after=after, limit=limit)
        rows = [key_object(row) for row in found]
        return list_response(rows, limit, found[-1].id if found else None)

    async def _create(self, request: AdminRequest) -> Response:
        body = await request.json(KeyBody)
        expires_at = body.expires_at
        details = KeyDetails(
            name=read_text(body.name, "name"),
            expires_at=None if expires_at is None else read_time(str(expires_at), "expires_at"),
            models=None if body.models is None else public_names(self._catalogue(), body.models),
            limits=None if body.limits is None else self._limits(body.limits),
        )
        account_id = read_text(body.account_id, "account_id")
        created = await self._keys.create(account_id, details, request.by)
        return json_response({**key_object(created.row), "key": created.raw}, 201)

    async def _show(self, request: AdminRequest) -> Response:
        return json_response(key_object(await self._keys.get(request.names[0])))

    async def _disable(self, request: AdminRequest) -> Response:
        return _changed(await self._keys.disable(request.names[0], request.by))

    async def _enable(self, request: AdminRequest) -> Response:
        return _changed(await self._keys.enable(request.names[0], request.by))

    async def _revoke(self, request: AdminRequest) -> Response:
        return _changed(await self._keys.revoke(request.names[0], request.by))

    async def _show_limits(self, request: AdminRequest) -> Response:
        limits = (await self._keys.get(request.names[0])).limits or KeyLimits()
        return json_response({"object": "limits", **limits_object(limits)})

    async def _set_limits(self, request: AdminRequest) -> Response:
        limits = self._limits(await request.json(KeyLimitsBody))
        return _changed(await self._keys.set_limits(request.names[0], limits, request.by))

    def _limits(self, body: KeyLimitsBody) -> KeyLimits:
        return public_limits(self._catalogue(), read_key_limits(body))


def _changed(changed: ChangedKey) -> Response:
    return json_response({**key_object(changed.row), "published": changed.published})
