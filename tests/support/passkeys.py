"""A device with one passkey, which responds as browsers do."""

from __future__ import annotations

import hashlib
import json
import os
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from fido2.cose import ES256
from fido2.utils import websafe_decode, websafe_encode
from fido2.webauthn import (
    AttestationObject,
    AttestedCredentialData,
    AuthenticatorData,
)

_FLAGS = AuthenticatorData.FLAG


class Device:
    """
    An authenticator.

    Args:
        origin: Of the page that the browser shows.
        rp_id: What the passkey is bound to, if not the host that is asked for.
        verifies_user: It checks a finger, face or PIN.
        forged: It signs with another key than it was created with.
    """

    def __init__(
        self,
        origin: str,
        *,
        rp_id: str | None = None,
        verifies_user: bool = True,
        forged: bool = False,
    ) -> None:
        self._origin = origin
        self._rp_id = rp_id
        self._forged = forged
        self._flags = _FLAGS.UP | _FLAGS.UV if verifies_user else _FLAGS.UP
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._credential = os.urandom(16)
        self._user = ""
        self.counter = 0

    @property
    def id(self) -> str:
        """The credential's id."""
        return websafe_encode(self._credential)

    def take(self, other: Device) -> None:
        """Copy the passkey of another device."""
        self._credential, self._user, self.counter = other._credential, other._user, other.counter
        if not self._forged:
            self._key = other._key

    def create(self, options: dict[str, Any]) -> dict[str, Any]:
        """Return what `navigator.credentials.create` does, as JSON."""
        self._user = options["user"]["id"]
        self.counter += 1
        key = ES256.from_cryptography_key(self._key.public_key())  # type: ignore[no-untyped-call]
        credential = AttestedCredentialData.create(b"\0" * 16, self._credential, key)
        data = AuthenticatorData.create(
            self._party(options["rp"]["id"]), self._flags | _FLAGS.AT, self.counter, credential
        )
        attestation = AttestationObject.create("none", data, {})
        return self._credential_json(
            {
                "clientDataJSON": websafe_encode(self._client_data("create", options)),
                "attestationObject": websafe_encode(bytes(attestation)),
            }
        )

    def get(self, options: dict[str, Any]) -> dict[str, Any]:
        """Return what `navigator.credentials.get` does, as JSON."""
        self.counter += 1
        client_data = self._client_data("get", options)
        data = AuthenticatorData.create(self._party(options["rpId"]), self._flags, self.counter)
        signed = bytes(data) + hashlib.sha256(client_data).digest()
        return self._credential_json(
            {
                "clientDataJSON": websafe_encode(client_data),
                "authenticatorData": websafe_encode(bytes(data)),
                "signature": websafe_encode(self._key.sign(signed, ec.ECDSA(hashes.SHA256()))),
                "userHandle": self._user,
            }
        )

    def _party(self, rp_id: str) -> bytes:
        return hashlib.sha256((self._rp_id or rp_id).encode()).digest()

    def _client_data(self, kind: str, options: dict[str, Any]) -> bytes:
        assert websafe_decode(options["challenge"])
        facts = {
            "type": f"webauthn.{kind}",
            "challenge": options["challenge"],
            "origin": self._origin,
            "crossOrigin": False,
        }
        return json.dumps(facts).encode()

    def _credential_json(self, response: dict[str, str]) -> dict[str, Any]:
        return {
            "id": self.id,
            "rawId": self.id,
            "type": "public-key",
            "response": response,
            "clientExtensionResults": {},
        }
