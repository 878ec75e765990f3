"""
Passkeys (WebAuthn): how one is created, and how one signs in.

A passkey is stored on the user's device, which checks a finger, a face or a PIN before it signs, so
it is two factors. The challenge of each ceremony travels in a signed `state`, lives for 15 minutes
and is accepted once.
"""

from __future__ import annotations

import ipaddress
import json
import logging
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from gateway.console.signin.secret import ConsoleSecret
from gateway.protocols.codec.nesting import TOO_DEEP, is_deep
from gateway.store.accounts.audit import Actor
from gateway.store.people.factors import Factors, Passkey
from gateway.store.people.users import User

# fido2 is loaded by the first ceremony.
if TYPE_CHECKING:
    from fido2.server import Fido2Server
    from fido2.webauthn import AttestedCredentialData

logger = logging.getLogger(__name__)

MOST = 20
"""Passkeys of one user."""
LIFE_S = 900
_MAX_CREDENTIAL = 32 * 1024
_CREATE = "create passkey"
_GET = "use passkey"


class PasskeyRefusedError(Exception):
    """The browser's response does not fit: it is expired, forged, used, or of another site."""


class Ceremony(NamedTuple):
    """`options` is JSON for the browser; `state` comes back with its response."""

    options: str
    state: str


class Passkeys:
    """
    Creates and verifies passkeys.

    Args:
        public_url: `brand.public_url`; its host is what passkeys are bound to.
        name: `brand.name`, shown by browsers.
        secret: Signs the states.
        factors: Where passkeys are stored.
    """

    def __init__(self, public_url: str, name: str, secret: ConsoleSecret, factors: Factors) -> None:
        url = urlsplit(public_url)
        self._host = url.hostname or ""
        self._origin = f"{url.scheme}://{url.netloc}"
        self._name = name
        self._secret = secret
        self._factors = factors
        is_secure = url.scheme == "https" or self._host == "localhost"
        self.is_available = is_secure and not _is_address(self._host)
        """Browsers allow passkeys on HTTPS and `localhost`, for names only."""

    def creation(self, user: User, existing: Sequence[Passkey]) -> Ceremony:
        """Return what the browser needs to create a passkey of a user who has those."""
        from fido2.webauthn import (  # noqa: PLC0415 -- see above
            PublicKeyCredentialUserEntity,
            ResidentKeyRequirement,
            UserVerificationRequirement,
        )

        entity = PublicKeyCredentialUserEntity(
            name=user.login, id=user.id.encode(), display_name=user.name
        )
        options, state = self._server().register_begin(
            entity,
            [_credential(each) for each in existing],
            resident_key_requirement=ResidentKeyRequirement.REQUIRED,
            user_verification=UserVerificationRequirement.REQUIRED,
        )
        return self._ceremony(options, state["challenge"], f"{_CREATE} {user.id}")

    async def register(self, user: User, state: str, response: str, name: str) -> Passkey:
        """Store the passkey that a browser has created; raises PasskeyRefusedError."""
        challenge = await self._challenge(state, f"{_CREATE} {user.id}")
        try:
            created = self._server().register_complete(_state(challenge), _read(response))
        except Exception as error:
            raise _refused(error) from error
        credential = created.credential_data
        if credential is None or await self._factors.find_passkey(credential.credential_id):
            raise PasskeyRefusedError
        if len(await self._factors.passkeys(user.id)) >= MOST:
            raise PasskeyRefusedError
        passkey = Passkey(
            id=credential.credential_id,
            user_id=user.id,
            name=name,
            credential=bytes(credential),
            sign_count=created.counter,
            created_at=int(time.time()),
        )
        await self._factors.add_passkey(passkey, Actor(f"user:{user.id}"))
        return passkey

    def request(self, allowed: Sequence[Passkey] = ()) -> Ceremony:
        """Return what the browser needs to use a passkey: one of those, else any of the device."""
        from fido2.webauthn import UserVerificationRequirement  # noqa: PLC0415 -- see above

        options, state = self._server().authenticate_begin(
            [_credential(each) for each in allowed] or None,
            user_verification=UserVerificationRequirement.REQUIRED,
        )
        return self._ceremony(options, state["challenge"], _GET)

    async def verify(self, state: str, response: str) -> User:
        """Return the user whose passkey signed the challenge; raises PasskeyRefusedError."""
        from fido2.webauthn import AuthenticationResponse  # noqa: PLC0415 -- see above

        challenge = await self._challenge(state, _GET)
        try:
            read = AuthenticationResponse.from_dict(_read(response))
        except Exception as error:
            raise _refused(error) from error
        found = await self._factors.find_passkey(read.raw_id)
        if found is None:
            raise PasskeyRefusedError
        passkey, user = found
        try:
            self._server().authenticate_complete(_state(challenge), [_credential(passkey)], read)
        except Exception as error:
            raise _refused(error) from error
        handle, counter = read.response.user_handle, read.response.authenticator_data.counter
        if handle is not None and handle != user.id.encode():
            raise PasskeyRefusedError
        # A counter that does not grow is that of a copy; synchronised passkeys keep it at 0.
        if counter <= passkey.sign_count and (counter or passkey.sign_count):
            logger.warning("passkey_counter_rejected", extra={"user": user.id})
            raise PasskeyRefusedError
        await self._factors.use_passkey(passkey.id, counter)
        return user

    def _server(self) -> Fido2Server:
        from fido2.server import Fido2Server  # noqa: PLC0415 -- see above
        from fido2.webauthn import PublicKeyCredentialRpEntity  # noqa: PLC0415

        party = PublicKeyCredentialRpEntity(name=self._name, id=self._host)
        return Fido2Server(party, verify_origin=lambda origin: origin == self._origin)

    def _ceremony(self, options: Any, challenge: str, purpose: str) -> Ceremony:
        state = self._secret.sign(challenge, purpose, LIFE_S)
        return Ceremony(json.dumps(dict(options)["publicKey"]), state)

    async def _challenge(self, state: str, purpose: str) -> str:
        challenge = self._secret.verify(state, purpose)
        if challenge is None or not await self._factors.claim_form(f"{purpose} {challenge}"):
            raise PasskeyRefusedError
        return challenge


def _state(challenge: str) -> dict[str, Any]:
    from fido2.webauthn import UserVerificationRequirement  # noqa: PLC0415 -- see above

    return {"challenge": challenge, "user_verification": UserVerificationRequirement.REQUIRED}


def _read(response: str) -> dict[str, Any]:
    if len(response) > _MAX_CREDENTIAL:
        raise ValueError("too large")
    if is_deep(response):
        raise ValueError(TOO_DEEP)
    found = json.loads(response)
    if not isinstance(found, dict):
        raise TypeError("not an object")
    return found


def _credential(passkey: Passkey) -> AttestedCredentialData:
    from fido2.webauthn import AttestedCredentialData  # noqa: PLC0415 -- see above

    return AttestedCredentialData(passkey.credential)


def _refused(error: Exception) -> PasskeyRefusedError:
    """Return the refusal of a response that cannot be read, or is wrong."""
    logger.info("passkey_refused", extra={"reason": str(error)[:200]})
    return PasskeyRefusedError()


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
