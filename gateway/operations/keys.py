"""Operations on virtual keys."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Protocol

import msgspec

from gateway.core.catalogue import Catalogue
from gateway.core.limits import KeyLimits
from gateway.operations.limits import merge_key_limits
from gateway.operations.values import InvalidValueError, check_expiry
from gateway.settings.errors import did_you_mean
from gateway.store.accounts.audit import Actor
from gateway.store.keys.entry import Change
from gateway.store.keys.repository import KeyDetails, KeyRevokedError, KeyRow, Keys, NewKey


class KeyPublisher(Protocol):
    """Makes a change of a key known to the workers."""

    async def publish(self, change: Change) -> bool:
        """Publish the change; return False if the workers learn of it later."""


class ChangedKey(msgspec.Struct, frozen=True):
    """A key after a change; `published` is False if the workers learn of it later."""

    row: KeyRow
    published: bool


class KeyOperations:
    """
    Operations on keys. Every change reaches the workers.

    Args:
        keys: The table of keys.
        publisher: Called after each change.
    """

    def __init__(self, keys: Keys, publisher: KeyPublisher) -> None:
        self._keys = keys
        self._publisher = publisher

    async def create(self, account_id: str, details: KeyDetails, by: Actor) -> NewKey:
        """Create a key; only this result contains its secret. Raises UnknownAccountError."""
        check_expiry(details.expires_at, time.time())
        return await self._keys.create(account_id, details, by=by)

    async def get(self, key_id: str) -> KeyRow:
        """Return a key; raises UnknownKeyError."""
        return await self._keys.get(key_id)

    async def list(
        self, account_id: str | None = None, *, after: str = "", limit: int = 1000
    ) -> Sequence[KeyRow]:
        """Return up to `limit` keys after the id `after`, oldest first."""
        return await self._keys.list(account_id, after=after, limit=limit)

    async def disable(self, key_id: str, by: Actor) -> ChangedKey:
        """
        Reject a key until it is enabled again.

        Raises:
            UnknownKeyError, KeyRevokedError.
        """
        return await self._published(await self._keys.disable(key_id, by=by))

    async def enable(self, key_id: str, by: Actor) -> ChangedKey:
        """Accept a disabled key again; raises as `disable`."""
        return await self._published(await self._keys.enable(key_id, by=by))

    async def revoke(self, key_id: str, by: Actor) -> ChangedKey:
        """Reject a key permanently; revoking twice succeeds. Raises UnknownKeyError."""
        return await self._published(await self._keys.revoke(key_id, by=by))

    async def set_limits(self, key_id: str, limits: KeyLimits, by: Actor) -> ChangedKey:
        """Replace a key's limits; raises as `disable`."""
        kept = None if limits == KeyLimits() else limits
        return await self._published(await self._keys.set_limits(key_id, kept, by=by))

    async def change(self, key_id: str, details: KeyDetails, by: Actor) -> ChangedKey:
        """Replace name, expiry, models and limits of a key; raises as `disable`."""
        change = await self._keys.change(
            key_id,
            name=details.name,
            expires_at=details.expires_at,
            models=details.models,
            limits=None if details.limits == KeyLimits() else details.limits,
            by=by,
        )
        return await self._published(change)

    async def replace(self, key_id: str, ends_at: int, by: Actor) -> tuple[NewKey, ChangedKey]:
        """
        Create a key with the settings of `key_id`, and let that one expire by `ends_at`.

        Raises:
            UnknownKeyError, KeyRevokedError.
        """
        row = await self._keys.get(key_id)
        if row.state == "revoked":
            raise KeyRevokedError(key_id)
        details = KeyDetails(
            name=row.name, expires_at=row.expires_at, models=row.models, limits=row.limits
        )
        created = await self._keys.create(row.account_id, details, by=by)
        ending = min(ends_at, row.expires_at or ends_at)
        old = KeyDetails(
            name=f"{row.name} (replaced)", expires_at=ending, models=row.models, limits=row.limits
        )
        return created, await self.change(key_id, old, by)

    async def change_limits(
        self, key_id: str, changes: dict[str, int | None], model: str | None, by: Actor
    ) -> ChangedKey:
        """Change some limits of a key, or of the key for `model`; None removes one."""
        limits = (await self._keys.get(key_id)).limits or KeyLimits()
        return await self.set_limits(key_id, merge_key_limits(limits, changes, model), by)

    async def _published(self, change: Change) -> ChangedKey:
        published = await self._publisher.publish(change)
        return ChangedKey(await self._keys.get(change.principal.key_id), published)


def public_name(catalogue: Catalogue, name: str, param: str) -> str:
    """Return a model's public name; raises InvalidValueError."""
    model = catalogue.resolve(name)
    if model is None:
        hint = did_you_mean(name, catalogue.names)
        raise InvalidValueError(param, f"names an unknown model, '{name}'{hint}")
    return model.name


def public_names(catalogue: Catalogue, names: Iterable[str]) -> list[str]:
    """Return the public names of models; raises InvalidValueError, also if `names` is empty."""
    found = [public_name(catalogue, name, f"models[{at}]") for at, name in enumerate(names)]
    if not found:
        raise InvalidValueError("models", "must name at least one model; omit it to allow all")
    return found


def public_limits(catalogue: Catalogue, limits: KeyLimits) -> KeyLimits:
    """Return `limits` with the public names of their models; raises InvalidValueError."""
    models = {
        public_name(catalogue, name, f"models.{name}"): each for name, each in limits.models.items()
    }
    return msgspec.structs.replace(limits, models=models)
