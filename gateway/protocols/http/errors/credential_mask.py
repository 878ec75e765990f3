"""
Takes the gateway's own credential out of what an upstream says.

Some upstreams quote the request in their errors, headers included. Errors are relayed to clients,
who must not read the operator's key there.
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
"""Bytes. A shorter credential would be found by chance and spoil every text."""

_CREDENTIALS: Final = frozenset({b"authorization", b"x-api-key"})
_BEARER: Final = b"Bearer "


class CredentialMask:
    """
    Replaces a route's credential wherever it stands: plain, JSON-escaped, percent-encoded, base64.

    Args:
        route_headers: Those sent to the upstream, names in lower case.
    """

    __slots__ = ("_found",)

    def __init__(self, route_headers: Iterable[Header]) -> None:
        forms = {
            form
            for name, value in route_headers
            if name in _CREDENTIALS
            for form in _forms(value.removeprefix(_BEARER))
        }
        # The longest first: a form may be the beginning of another.
        ordered = sorted(forms, key=len, reverse=True)
        self._found = re.compile(b"|".join(map(re.escape, ordered))) if ordered else None

    def clean(self, text: bytes) -> bytes:
        """Return `text` without the credential; the same object where there is none."""
        if self._found is None or self._found.search(text) is None:
            return text
        return self._found.sub(MASKED, text)

    def clean_text(self, text: str) -> str:
        """Return `text` without the credential."""
        return self.clean(text.encode("utf-8", "surrogatepass")).decode("utf-8", "surrogatepass")

    def clean_headers(self, headers: Iterable[Header]) -> tuple[Header, ...]:
        """Return headers whose values lack the credential."""
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
