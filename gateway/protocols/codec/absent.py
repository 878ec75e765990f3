"""Distinguishes absent members from null and empty ones."""

from __future__ import annotations

from typing import Final

from msgspec import Raw

ABSENT: Final = Raw()
"""A raw member that the client did not send."""
_EMPTY: Final = frozenset({b"", b"null", b'""', b"[]", b"{}"})


def is_given(raw: Raw) -> bool:
    """Return whether a member was sent and is not null."""
    return bytes(raw).strip() not in (b"", b"null")


def is_filled(raw: Raw) -> bool:
    """Return whether a member was sent and is neither null nor empty."""
    return bytes(raw).translate(None, b" \t\r\n") not in _EMPTY
