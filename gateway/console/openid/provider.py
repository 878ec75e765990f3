"""
The OpenID provider: its description and keys, which are cached, and the exchange of a code.

Responses are bounded in size and time, redirects are not followed, and all endpoints must be
encrypted unless the issuer is on this machine.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

import msgspec

from gateway.protocols.codec.nesting import TOO_DEEP, is_deep
from gateway.settings import Oidc
from gateway.settings.urls import is_loopback

KEPT_S: Final = 3600.0
"""How long the description and the keys are used."""
RETRY_S: Final = 30.0
"""The shortest time between two fetches of the keys because a token names an unknown one."""
TIMEOUT_S: Final = 5.0
MAX_RESPONSE_BYTES: Final = 256 * 1024
Kind = TypeVar("Kind")
_DESCRIPTION: Final = "/.well-known/openid-configuration"


class ProviderError(Exception):
    """The provider does not respond, or its response cannot be used. The text is for the log."""


class Description(msgspec.Struct, frozen=True):
    """The members of a provider's description that the console uses."""

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    token_endpoint_auth_methods_supported: tuple[str, ...] = ("client_secret_basic",)


class _Tokens(msgspec.Struct, frozen=True):
    id_token: str


class Provider:
    """
    The provider of the settings.

    Args:
        oidc: `console.oidc`.
        client_secret: None: a public client.
        clock: Seconds.
    """

    def __init__(
        self,
        oidc: Oidc,
        client_secret: str | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.issuer = oidc.issuer
        self.client_id = oidc.client_id
        self._client_secret = client_secret
        self._clock = clock
        self._description: tuple[float, Description] | None = None
        self._keys: tuple[float, dict[str, Any]] | None = None
        self._lock = asyncio.Lock()

    async def description(self) -> Description:
        """Return the provider's description; raises ProviderError."""
        async with self._lock:
            if self._description is None or self._is_older(self._description[0], KEPT_S):
                found = await self._read(self.issuer.rstrip("/") + _DESCRIPTION, Description)
                if found.issuer != self.issuer:
                    raise ProviderError(f"the description is that of {found.issuer}")
                for url in (found.authorization_endpoint, found.token_endpoint, found.jwks_uri):
                    self._check(url)
                self._description = self._clock(), found
            return self._description[1]

    async def keys(self, *, again: bool = False) -> dict[str, Any]:
        """Return the JWK set; with `again`, a newer one unless it has just been fetched."""
        url = (await self.description()).jwks_uri
        async with self._lock:
            kept_s = RETRY_S if again else KEPT_S
            if self._keys is None or self._is_older(self._keys[0], kept_s):
                self._keys = self._clock(), await self._read(url, dict[str, Any])
            return self._keys[1]

    async def exchange(self, code: str, verifier: str, redirect_uri: str) -> str:
        """Return the ID token for a code; raises ProviderError."""
        description = await self.description()
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": redirect_uri,
            "code_verifier": verifier,
        }
        basic = None
        if self._client_secret is None:
            form["client_id"] = self.client_id
        elif "client_secret_basic" in description.token_endpoint_auth_methods_supported:
            basic = (self.client_id, self._client_secret)
        else:
            form |= {"client_id": self.client_id, "client_secret": self._client_secret}
        tokens = await self._read(description.token_endpoint, _Tokens, form, basic)
        return tokens.id_token

    def _is_older(self, at: float, kept_s: float) -> bool:
        return self._clock() - at >= kept_s

    def _check(self, url: str) -> None:
        is_local = is_loopback(self.issuer) and is_loopback(url)
        if not url.startswith("https://") and not is_local:
            raise ProviderError(f"{url} is not encrypted")

    async def _read(
        self,
        url: str,
        kind: type[Kind],
        form: Mapping[str, str] | None = None,
        basic: tuple[str, str] | None = None,
    ) -> Kind:
        import httpx2  # noqa: PLC0415 -- loaded by the first sign-in

        method = "GET" if form is None else "POST"
        headers = {"accept": "application/json"}
        try:
            async with (
                asyncio.timeout(TIMEOUT_S),
                httpx2.AsyncClient(timeout=TIMEOUT_S, follow_redirects=False) as client,
                client.stream(method, url, data=form, headers=headers, auth=basic) as response,
            ):
                body = b""
                async for part in response.aiter_bytes():
                    body += part
                    if len(body) > MAX_RESPONSE_BYTES:
                        raise ProviderError(f"{url} sent a response that is too large")
        except httpx2.InvalidURL as error:
            raise ProviderError(f"{url} is not a URL") from error
        except (httpx2.HTTPError, OSError, TimeoutError) as error:
            raise ProviderError(f"{url} does not respond: {type(error).__name__}") from error
        if response.status_code != 200:
            raise ProviderError(f"{url} responds with {response.status_code}")
        try:
            if is_deep(body):
                raise ValueError(TOO_DEEP)
            return msgspec.convert(json.loads(body), kind)
        except (ValueError, msgspec.ValidationError) as error:
            raise ProviderError(f"{url} sent an invalid response") from error
