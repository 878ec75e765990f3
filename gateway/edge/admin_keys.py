"""The operator's API for virtual keys: a key is shown once, a change reaches every worker."""

from __future__ import annotations

import time
from typing import Protocol

import msgspec

from gateway.core.calendar import rfc3339
from gateway.core.catalogue import Catalogue
from gateway.core.limits import KeyLimits
from gateway.edge.admin import AdminRequest, Route
from gateway.edge.limit_shapes import KeyLimitsBody, limits_object, read_key_limits
from gateway.edge.parameters import Query, bad, read_json, read_text, read_time
from gateway.edge.replies import Reply, json_reply, list_reply
from gateway.store.keys.entry import Change
from gateway.store.keys.repository import KeyDetails, KeyRow, Keys

PAGE = 100
MAX_PAGE = 1000


class KeyPublisher(Protocol):
    """Tells every worker that a key has changed."""

    async def publish(self, change: Change) -> bool:
        """Return False when Redis is away and will be told later."""


class KeyBody(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The body that makes a key."""

    account_id: str
    name: str
    expires_at: str | int | None = None
    """An ISO date or time, or Unix seconds."""
    models: list[str] | None = None
    limits: KeyLimitsBody | None = None


class AdminKeys:
    """
    Handlers for keys.

    Args:
        keys: The table.
        publisher: Told of each change.
        catalogue: Which models there are.
    """

    def __init__(self, keys: Keys, publisher: KeyPublisher, catalogue: Catalogue) -> None:
        self._keys = keys
        self._publisher = publisher
        self._catalogue = catalogue

    def routes(self) -> list[Route]:
        """Return the paths."""
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

    async def _list(self, request: AdminRequest) -> Reply:
        query = Query(request.channel, ("account_id", "after", "limit"))
        limit = query.number("limit", PAGE, MAX_PAGE)
        after = query.text("after") or ""
        found = await self._keys.list(query.text("account_id"), after=after, limit=limit)
        rows = [key_object(row) for row in found]
        return list_reply(rows, limit, found[-1].id if found else None)

    async def _create(self, request: AdminRequest) -> Reply:
        body = await read_json(request.channel, KeyBody)
        details = KeyDetails(
            name=read_text(body.name, "name"),
            expires_at=_expiry(body.expires_at),
            models=None if body.models is None else self._public_names(body.models),
            limits=None if body.limits is None else self._limits(body.limits),
        )
        account_id = read_text(body.account_id, "account_id")
        made = await self._keys.create(account_id, details, by=request.by)
        return json_reply({**key_object(made.row), "key": made.raw}, 201)

    async def _show(self, request: AdminRequest) -> Reply:
        return json_reply(key_object(await self._keys.get(request.names[0])))

    async def _disable(self, request: AdminRequest) -> Reply:
        return await self._tell(await self._keys.disable(request.names[0], by=request.by))

    async def _enable(self, request: AdminRequest) -> Reply:
        return await self._tell(await self._keys.enable(request.names[0], by=request.by))

    async def _revoke(self, request: AdminRequest) -> Reply:
        return await self._tell(await self._keys.revoke(request.names[0], by=request.by))

    async def _show_limits(self, request: AdminRequest) -> Reply:
        limits = (await self._keys.get(request.names[0])).limits or KeyLimits()
        return json_reply({"object": "limits", **limits_object(limits)})

    async def _set_limits(self, request: AdminRequest) -> Reply:
        limits = self._limits(await read_json(request.channel, KeyLimitsBody))
        kept = None if limits == KeyLimits() else limits
        return await self._tell(await self._keys.set_limits(request.names[0], kept, by=request.by))

    async def _tell(self, change: Change) -> Reply:
        """Publish a change; `published` false means: as soon as Redis is back."""
        published = await self._publisher.publish(change)
        row = await self._keys.get(change.principal.key_id)
        return json_reply({**key_object(row), "published": published})

    def _limits(self, body: KeyLimitsBody) -> KeyLimits:
        limits = read_key_limits(body)
        named = [self._public_name(name, f"models.{name}") for name in limits.models]
        models = dict(zip(named, limits.models.values(), strict=True))
        return msgspec.structs.replace(limits, models=models)

    def _public_names(self, names: list[str]) -> list[str]:
        if not names:
            raise bad("models", "'models' must name at least one model; absent means all.")
        return [self._public_name(name, f"models[{at}]") for at, name in enumerate(names)]

    def _public_name(self, name: str, param: str) -> str:
        model = self._catalogue.resolve(name)
        if model is None:
            raise bad(param, f"There is no model '{name}'.")
        return model.name


def key_object(row: KeyRow) -> dict[str, object]:
    """Return a key as the operator sees it: never the key itself."""
    return {
        "object": "key",
        "id": row.id,
        "account_id": row.account_id,
        "name": row.name,
        "shown": f"{row.prefix}...{row.last_four}",
        "state": row.state,
        "version": row.version,
        "created_at": rfc3339(row.created_at),
        "changed_at": rfc3339(row.changed_at),
        "expires_at": None if row.expires_at is None else rfc3339(row.expires_at),
        "models": None if row.models is None else sorted(row.models),
        "limits": limits_object(row.limits or KeyLimits()),
    }


def _expiry(given: str | int | None) -> int | None:
    if given is None:
        return None
    expires_at = read_time(str(given), "expires_at")
    if expires_at <= time.time():
        raise bad("expires_at", "'expires_at' has passed already.")
    return expires_at
