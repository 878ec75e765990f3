"""
One sign-in with a provider, from its start to the callback, kept in a cookie of the browser.

The cookie is encrypted and lives for ten minutes. Its state must come back with the callback, so
that a sign-in begun elsewhere cannot be completed in this browser, and is accepted once.
"""

from __future__ import annotations

import base64
import hashlib
import time
from typing import Final
from urllib.parse import urlencode, urlsplit

import msgspec

from gateway.console.openid.provider import Description
from gateway.console.signin.secret import ConsoleSecret
from gateway.store.people.tokens import new_token

LIFE_S: Final = 600
SCOPE: Final = "openid email profile"
_OWNER: Final = "oidc"


class Flow(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """The state of a sign-in that has begun."""

    state: str
    nonce: str
    verifier: str
    expires_at: int
    following: str
    invitation: str = ""
    """The token of the invitation that is accepted."""
    user_id: str = ""
    """The signed-in user who connects the provider."""


def begin(following: str, *, invitation: str = "", user_id: str = "") -> Flow:
    """Return a new flow that leads to the path `following`."""
    return Flow(
        state=new_token(),
        nonce=new_token(),
        verifier=new_token(),
        expires_at=int(time.time()) + LIFE_S,
        following=following,
        invitation=invitation,
        user_id=user_id,
    )


def sealed(flow: Flow, secret: ConsoleSecret) -> str:
    """Return a flow as the value of a cookie."""
    return secret.seal(msgspec.json.encode(flow), _OWNER).hex()


def opened(cookie: str, secret: ConsoleSecret) -> Flow | None:
    """Return the flow of a cookie; None if it has expired or is invalid."""
    try:
        content = secret.open(bytes.fromhex(cookie), _OWNER)
    except ValueError:
        return None
    if content is None:
        return None
    try:
        flow = msgspec.json.decode(content, type=Flow)
    except msgspec.ValidationError:
        return None  # sealed by another version
    return flow if flow.expires_at > time.time() else None


def authorization_url(
    flow: Flow, description: Description, client_id: str, redirect_uri: str
) -> str:
    """Return where the browser goes to sign in."""
    challenge = hashlib.sha256(flow.verifier.encode()).digest()
    query = urlencode(
        {
            "response_type": "code",
            "client_id": client_id,
            "redirect_uri": redirect_uri,
            "scope": SCOPE,
            "state": flow.state,
            "nonce": flow.nonce,
            "code_challenge": base64.urlsafe_b64encode(challenge).decode().rstrip("="),
            "code_challenge_method": "S256",
        }
    )
    endpoint = description.authorization_endpoint
    return f"{endpoint}{'&' if urlsplit(endpoint).query else '?'}{query}"
