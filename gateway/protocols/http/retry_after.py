"""
Converts the retry advice of an upstream's response to a form that every client understands.

An upstream may send a number, a date or anything else. SDKs use every number, even `nan`, and
compare dates with a clock that may differ from the upstream's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

Header = tuple[bytes, bytes]

RETRY_AFTER: Final = frozenset({b"retry-after", b"retry-after-ms"})

_NUMBER: Final = re.compile(rb"\d{1,9}(\.\d{1,9})?")
_LONGEST_DATE: Final = 40


def retry_headers(upstream: Iterable[Header]) -> tuple[Header, ...]:
    """
    Return the retry headers to relay: numbers as they are, a date as seconds.

    A date is converted by the upstream's own `date`; without one it is relayed as it is. Anything
    else is omitted.

    Args:
        upstream: Headers of the upstream, names in lower case.
    """
    given = [header for header in upstream if header[0] in RETRY_AFTER or header[0] == b"date"]
    now = next((_date(value) for name, value in given if name == b"date"), None)
    kept: list[Header] = []
    for name, value in given:
        stripped = value.strip()
        if name == b"date":
            continue
        if _NUMBER.fullmatch(stripped):
            kept.append((name, stripped))
            continue
        until = _date(stripped) if name == b"retry-after" else None
        if until is not None and now is not None:
            kept.append((name, b"%d" % max(0, int((until - now).total_seconds()))))
        elif until is not None:
            kept.append((name, stripped))
    return tuple(kept)


def retry_after_s(kept: Iterable[Header]) -> float | None:
    """Return the delay in seconds; `retry-after-ms` is more precise and takes precedence."""
    values = dict(kept)
    for name, unit in ((b"retry-after-ms", 0.001), (b"retry-after", 1.0)):
        value = values.get(name, b"").strip()
        if _NUMBER.fullmatch(value):
            return float(value) * unit
    return None


def _date(value: bytes) -> datetime | None:
    if len(value) > _LONGEST_DATE or not value.isascii():
        return None
    try:
        date = parsedate_to_datetime(value.decode())
    except (TypeError, ValueError, IndexError, OverflowError):
        return None
    return date.replace(tzinfo=UTC) if date.tzinfo is None else date
