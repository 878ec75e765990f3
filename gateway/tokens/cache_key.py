"""
The name under which a token count is cached.

A digest, so that no text of a caller is ever stored. Agents send bursts of 40 to 50 identical
counts; the same bytes on the same route have the same answer.
"""

from __future__ import annotations

import hashlib


def count_key(route: str, body: bytes, headers: tuple[tuple[bytes, bytes], ...] = ()) -> str:
    """
    Return 32 hex digits of a 128-bit digest over route, headers and body.

    Args:
        route: What answers, the deployment's label or the name of a counter and its vocabulary.
        body: The request's bytes as the caller sent them.
        headers: Those that change the upstream's answer (`anthropic-version`, `anthropic-beta`).
    """
    digest = hashlib.blake2b(digest_size=16, person=b"capio-count")
    fields = [route.encode(), *(part for header in headers for part in header)]
    for field in fields:
        digest.update(len(field).to_bytes(4, "big"))
        digest.update(field)
    digest.update(b"\xff\xff\xff\xff")
    digest.update(body)
    return digest.hexdigest()
