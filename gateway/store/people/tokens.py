"""Secret tokens of sessions, links and forms: 256 random bits, stored as SHA-256 only."""

from __future__ import annotations

import hashlib
import secrets

LENGTH = 43  # characters
_BYTES = 32


def new_token() -> str:
    """Return a new token, safe in URLs and cookies."""
    return secrets.token_urlsafe(_BYTES)


def digest(token: str) -> bytes:
    """Return what is stored of a token."""
    return hashlib.sha256(token.encode("utf-8", "replace")).digest()
