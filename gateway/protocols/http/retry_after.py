"""
Converts the retry advice of an upstream's response to a form that every client understands.

An upstream may send a number, a date or anything else. SDKs use every number, even `nan`, and
compare dates with a clock that may differ from the upstream's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from email.utils import formatdate, parsedate_to_datetime
from typing import Final

Header = tuple[bytes, bytes]

RETRY_AFTER: Final = frozenset({b"retry-after", b"retry-after-ms"})

_NUMBER: Final = re.compile(rb"\d{1,9}(\.\d{1,9})?")
_LONGEST_DATE: Final = 40
_MOST_SECONDS: Final = 999_999_999
"""The largest whole number that `_NUMBER` accepts."""


def dated(upstream: Sequence[Header], received_at: float) -> Sequence[Header]:
    """
    Return the headers of a response, with a `date` if its retry advice may need one.

    A recipient notes when it received a response that has no valid `date` (RFC 9110, 6.6.1). The
    seconds are rounded down, so that a delay computed from them never ends early.

    Args:
        upstream: Headers of the upstream, names in lower case.
        received_at: Unix time.
    """
    if all(name != b"retry-after" for name, _ in upstream) or _sent_at(upstream) is not None:
        return upstream
    return [*upstream, (b"date", formatdate(int(received_at), usegmt=True).encode())]


def retry_headers(upstream: Iterable[Header]) -> tuple[Header, ...]:
    """
    Return the retry headers to relay: numbers as they are, a date as seconds after `date`.

    Anything else is omitted, and so is a date if the response has no `date`, see `dated`.

    Args:
        upstream: Headers of the upstream, names in lower case.
    """
    given = [header for header in upstream if header[0] in RETRY_AFTER or header[0] == b"date"]
    now = _sent_at(given)
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
            seconds = int((until - now).total_seconds())
            kept.append((name, b"%d" % min(max(0, seconds), _MOST_SECONDS)))
    return tuple(kept)


def retry_after_s(kept: Iterable[Header]) -> float | None:
    """Return the delay in seconds; `retry-after-ms` is more precise and takes precedence."""
    values = dict(kept)
    for name, unit in ((b"retry-after-ms", 0.001), (b"retry-after", 1.0)):
        value = values.get(name, b"").strip()
        if _NUMBER.fullmatch(value):
            return float(value) * unit
    return None


def _sent_at(headers: Iterable[Header]) -> datetime | None:
    """Return the time of the first `date` that is valid."""
    dates = (_date(value.strip()) for name, value in headers if name == b"date")
    return next((date for date in dates if date is not None), None)


def _date(value: bytes) -> datetime | None:
    if len(value) > _LONGEST_DATE or not value.isascii():
        return None
    try:
        date = parsedate_to_datetime(value.decode())
    except (TypeError, ValueError, IndexError, OverflowError):
        return None
    return date.replace(tzinfo=UTC) if date.tzinfo is None else date
