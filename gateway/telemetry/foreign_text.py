"""Bounds texts that clients and upstreams choose, before they are recorded."""

from __future__ import annotations

from typing import Final

MAX_FOREIGN_TEXT: Final = 200
"""Most characters recorded of a text from a client or an upstream."""


def recordable(text: str | None) -> str | None:
    """Return text truncated and without characters that PostgreSQL rejects: NUL, surrogates."""
    if not text:
        return None
    kept = text[:MAX_FOREIGN_TEXT]
    return kept if kept.isprintable() else "".join(filter(str.isprintable, kept)) or None
