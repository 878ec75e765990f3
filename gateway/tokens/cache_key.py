"""
The cache key of a token count.

It is a digest, so that no client's text is stored. Agents send bursts of 40 to 50 identical count
requests; equal bytes on the same route have equal counts.
"""

from __future__ import annotations

import hashlib


def count_key(route: str, body: bytes, headers: tuple[tuple[bytes, bytes], ...] = ()) -> str:
    """
    Return a 128-bit digest of route, headers and body as 32 hex digits.

    Args:
        route: The deployment's label, or the name of a counter and its vocabulary.
        body: The request's bytes as the client sent them.
        headers: Headers that affect the count (`anthropic-version`, `anthropic-beta`).
    """
    digest = hashlib.blake2b(digest_size=16, person=b"capio-count")
    fields = [route.encode(), *(part for header in headers for part in header)]
    for field in fields:
        digest.update(len(field).to_bytes(4, "big"))
        digest.update(field)
    digest.update(b"\xff\xff\xff\xff")
    digest.update(body)
    return digest.hexdigest()
