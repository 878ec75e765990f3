"""Authenticates requests: finds the principal of the API key in the headers."""

from __future__ import annotations

import time
from typing import NamedTuple

from gateway.core.api_keys import digest, may_be_key, pick_key, well_formed
from gateway.core.idempotency import HEADER, KeyedRequest, keyed_request
from gateway.core.model import Principal
from gateway.core.stored_responses import ResponseSealer
from gateway.errors import ErrorKind, GatewayError
from gateway.pipeline.client.channel import ClientChannel
from gateway.ports import KeyDirectory


class AuthenticatedClient(NamedTuple):
    """The principal of a request, its Idempotency-Key if any, and the sealer of its responses."""

    principal: Principal
    keyed: KeyedRequest | None
    sealer: ResponseSealer | None = None


class Authenticator:
    """
    Checks keys.

    Args:
        keys: The principals of keys.
        key_prefix: The prefix of every key; other strings are refused without a lookup.
        idempotency: Whether the Idempotency-Key is read.
    """

    def __init__(self, keys: KeyDirectory, key_prefix: str, *, idempotency: bool = False) -> None:
        self._keys = keys
        self._idempotency = idempotency
        self._key_prefix = key_prefix

    async def principal(self, channel: ClientChannel) -> Principal:
        """
        Return the principal of a request.

        Raises:
            GatewayError: MISSING_KEY, INVALID_KEY, EXPIRED_KEY, DISABLED_KEY, STORE_UNAVAILABLE.
        """
        return (await self._checked(channel))[0]

    async def client(self, channel: ClientChannel, *, seals: bool = False) -> AuthenticatedClient:
        """
        Return the principal of a request and its Idempotency-Key.

        Args:
            channel: The request.
            seals: Return a sealer, too.

        Raises:
            GatewayError: As `principal`; BAD_REQUEST for a malformed Idempotency-Key.
        """
        principal, key = await self._checked(channel)
        keyed = None
        if self._idempotency and channel.header(HEADER) is not None:
            keyed = keyed_request(channel.headers, key)
        sealer = ResponseSealer(key, principal) if seals else None
        return AuthenticatedClient(principal, keyed, sealer)

    async def sealer(self, channel: ClientChannel) -> ResponseSealer:
        """
        Return the sealer that decrypts the stored responses of a request's key.

        Raises:
            GatewayError: As `principal`.
        """
        principal, key = await self._checked(channel)
        return ResponseSealer(key, principal)

    async def _checked(self, channel: ClientChannel) -> tuple[Principal, str]:
        """Return the principal and the raw key, which never leaves this class."""
        key = pick_key(
            channel.header(b"authorization"), channel.header(b"x-api-key"), self._key_prefix
        )
        if key is None:
            raise GatewayError(ErrorKind.MISSING_KEY, "Missing API key.")
        principal = await self._known(key)
        if principal is None or principal.state == "revoked":
            raise GatewayError(ErrorKind.INVALID_KEY, "Invalid API key.")
        if principal.state != "active":
            raise GatewayError(ErrorKind.DISABLED_KEY, "This API key is disabled.")
        if principal.expires_at is not None and principal.expires_at <= time.time():
            raise GatewayError(ErrorKind.EXPIRED_KEY, "This API key has expired.")
        return principal, key

    async def _known(self, key: str) -> Principal | None:
        """Return the key's principal in any state; None: there is no such key."""
        if not may_be_key(key, self._key_prefix):
            return None
        hashed = digest(key)
        principal = self._keys.cached(hashed)
        if principal is not None:
            return principal  # its checksum was checked before it was looked up
        return await self._keys.lookup(hashed) if well_formed(key, self._key_prefix) else None
