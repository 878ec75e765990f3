"""
Token counts and charged extras, as both wires spell them in `usage`.

A count that cannot be true (negative, fractional, no number, beyond `MAX_COUNT`) makes its whole
usage unreadable: the call is then estimated, as if nothing had been reported.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

Count = int | float | None
# Some upstreams write `10.0`.

MAX_COUNT: Final = 1_000_000_000
"""Largest plausible count, a thousand times the longest contexts."""

_STANDARD: Final = frozenset(
    {"standard", "default", "auto", "standard_only", "global", "not_available"}
)
_TIER = re.compile(r"[a-z0-9_-]{1,32}\Z")


class NotACountError(ValueError):
    """An impossible count."""


UNREADABLE: Final = (
    msgspec.DecodeError,
    msgspec.ValidationError,
    UnicodeError,
    NotACountError,
)
"""The exceptions that reading a `usage` object may raise."""


class ServerToolUse(msgspec.Struct, gc=False):
    """Tools that the upstream ran itself."""

    web_search_requests: Count = None


class ChargedExtras(msgspec.Struct, gc=False):
    """Members of either wire's usage that are charged separately or change the price of tokens."""

    server_tool_use: ServerToolUse | None = None
    num_search_queries: Count = None
    # Of any type: upstreams also use these names for other values, such as tokens per second.
    service_tier: object = None
    speed: object = None
    inference_geo: object = None

    def web_searches(self) -> int:
        """Return the searches the upstream ran."""
        tools = self.server_tool_use or ServerToolUse()
        return first_count(tools.web_search_requests, self.num_search_queries)

    def tier(self, beside: object = None) -> str | None:
        """
        Return service tier, speed and region except standard ones; None: all are standard.

        Args:
            beside: The service tier that the response reports next to its usage.
        """
        names = (self.service_tier or beside, self.speed, self.inference_geo)
        if names == (None, None, None):
            return None
        return "+".join(name for name in names if isinstance(name, str) and _is_tier(name)) or None


def count(value: Count) -> int:
    """
    Return a count as an integer, 0 for None.

    Raises:
        NotACountError: It is impossible.
    """
    if value is None:
        return 0
    # The order matters: NaN and the infinities fail the comparison, and `int` would raise.
    if not 0 <= value <= MAX_COUNT or value != int(value):
        raise NotACountError
    return int(value)


def first_count(*values: Count) -> int:
    """Return the first count that is not zero, else 0; all of them are checked up to it."""
    for value in values:
        if value is not None and (found := count(value)):
            return found
    return 0


def count_or(value: Count, known: int) -> int:
    """Return the count, or `known` if it is absent or zero: some upstreams repeat counts as 0."""
    return count(value) or known


def _is_tier(name: str) -> bool:
    return name not in _STANDARD and _TIER.match(name) is not None
