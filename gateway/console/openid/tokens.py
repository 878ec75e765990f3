"""Verifies ID tokens: signature, issuer, audience, times and nonce."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from gateway.console.openid.provider import Provider, ProviderError

ALGORITHMS: Final = (
    "RS256",
    "RS384",
    "RS512",
    "PS256",
    "PS384",
    "PS512",
    "ES256",
    "ES384",
)
"""Signatures with public keys only."""
LEEWAY_S: Final = 60
_LONGEST_SUBJECT = 255


class TokenRefusedError(Exception):
    """The token is not valid for this sign-in. The text is for the log."""


class Claims(msgspec.Struct, frozen=True):
    """The claims of an ID token that the console uses."""

    sub: str
    email: str = ""
    email_verified: bool | str = False
    name: str = ""
    preferred_username: str = ""
    groups: list[str] = []

    @property
    def verified_email(self) -> str:
        """The mail address, if the provider has verified it."""
        # Some providers write the boolean as a text.
        return self.email if self.email_verified in (True, "true") else ""


async def verify(provider: Provider, token: str, nonce: str) -> Claims:
    """
    Return the claims of a valid token.

    Raises:
        TokenRefusedError: It is not valid.
        ProviderError: The keys cannot be fetched.
    """
    try:
        claims = _decode(token, await provider.keys())
    except _UnknownKeyError:
        try:
            claims = _decode(token, await provider.keys(again=True))
        except _UnknownKeyError as error:
            raise TokenRefusedError("its key is unknown") from error
    _check(claims, provider, nonce)
    try:
        found = msgspec.convert(_known(claims), Claims)
    except msgspec.ValidationError as error:
        raise TokenRefusedError(str(error)) from error
    if not 0 < len(found.sub) <= _LONGEST_SUBJECT:
        raise TokenRefusedError("its subject is empty or too long")
    return found


def _known(claims: dict[str, Any]) -> dict[str, Any]:
    """Return the claims without optional ones of a wrong type: null, or one group as a text."""
    known = dict(claims)
    for name in ("email", "name", "preferred_username"):
        if not isinstance(known.get(name), str):
            known.pop(name, None)
    if not isinstance(known.get("email_verified"), bool | str):
        known.pop("email_verified", None)
    groups = known.pop("groups", None)
    listed = groups if isinstance(groups, list) else [groups]
    known["groups"] = [group for group in listed if isinstance(group, str)]
    return known


class _UnknownKeyError(Exception):
    pass


def _decode(token: str, keys: dict[str, Any]) -> dict[str, Any]:
    from joserfc import jwt  # noqa: PLC0415 -- loaded by the first sign-in
    from joserfc.errors import InvalidKeyIdError, JoseError  # noqa: PLC0415
    from joserfc.jwk import KeySet  # noqa: PLC0415

    try:
        key_set = KeySet.import_key_set(keys)  # type: ignore[arg-type]
    except (JoseError, ValueError, KeyError, TypeError) as error:
        raise ProviderError(f"the keys cannot be read: {error}") from error
    try:
        return jwt.decode(token, key_set, algorithms=list(ALGORITHMS)).claims
    except InvalidKeyIdError as error:
        raise _UnknownKeyError from error
    except (JoseError, ValueError, RecursionError) as error:
        raise TokenRefusedError(f"{type(error).__name__}: {error}") from error


def _check(claims: dict[str, Any], provider: Provider, nonce: str) -> None:
    from joserfc.errors import JoseError  # noqa: PLC0415 -- as above
    from joserfc.jwt import JWTClaimsRegistry  # noqa: PLC0415

    registry = JWTClaimsRegistry(
        leeway=LEEWAY_S,
        iss={"essential": True, "value": provider.issuer},
        aud={"essential": True, "value": provider.client_id},
        exp={"essential": True},
        iat={"essential": True},
        sub={"essential": True},
        nonce={"essential": True, "value": nonce},
    )
    try:
        registry.validate(claims)
    except JoseError as error:
        raise TokenRefusedError(f"{type(error).__name__}: {error}") from error
    audience = claims["aud"]
    others = isinstance(audience, list) and len(audience) > 1
    if claims.get("azp", provider.client_id if not others else None) != provider.client_id:
        raise TokenRefusedError("it was issued to another client")
