"""
Removes the operator's credential from upstream responses.

Some upstreams quote the request, including its headers, in their errors, which are relayed to
clients.
"""

from __future__ import annotations

import re
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Iterable, Iterator
from typing import Final
from urllib.parse import quote

import msgspec

Header = tuple[bytes, bytes]

MASKED: Final = b"[redacted]"
SHORTEST: Final = 8
"""Bytes. Shorter credentials could match unrelated text and are not masked."""

_CREDENTIALS: Final = frozenset({b"authorization", b"x-api-key"})
_BEARER: Final = b"Bearer "


class CredentialMask:
    """
    Replaces a route's credential in any form: plain, JSON-escaped, percent-encoded, base64.

    Args:
        route_headers: Headers sent to the upstream, names in lower case.
    """

    __slots__ = ("_pattern",)

    def __init__(self, route_headers: Iterable[Header]) -> None:
        forms = {
            form
            for name, value in route_headers
            if name in _CREDENTIALS
            for form in _forms(value.removeprefix(_BEARER))
        }
        # Longest first, since one form may be a prefix of another.
        ordered = sorted(forms, key=len, reverse=True)
        self._pattern = re.compile(b"|".join(map(re.escape, ordered))) if ordered else None

    def clean(self, text: bytes) -> bytes:
        """Return `text` without the credential; the same object if it contains none."""
        if self._pattern is None or self._pattern.search(text) is None:
            return text
        return self._pattern.sub(MASKED, text)

    def clean_text(self, text: str) -> str:
        """Return `text` without the credential."""
        return self.clean(text.encode("utf-8", "surrogatepass")).decode("utf-8", "surrogatepass")

    def clean_headers(self, headers: Iterable[Header]) -> tuple[Header, ...]:
        """Return the headers without the credential in their values."""
        return tuple((name, self.clean(value)) for name, value in headers)


def _forms(credential: bytes) -> Iterator[bytes]:
    if len(credential) < SHORTEST:
        return
    yield credential
    escaped = msgspec.json.encode(credential.decode("latin-1"))[1:-1]
    yield escaped
    yield escaped.replace(b"/", rb"\/")
    yield quote(credential, safe="").encode()
    for whole in (credential, _BEARER + credential):
        for encoded in (b64encode(whole), urlsafe_b64encode(whole)):
            yield encoded
            yield encoded.rstrip(b"=")
