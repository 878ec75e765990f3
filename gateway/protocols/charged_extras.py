"""Members of `usage` that are charged separately or change the price of tokens."""

from __future__ import annotations

import re
from typing import Final

import msgspec

from gateway.protocols.codec.usage_counts import Count, first_count

_STANDARD: Final = frozenset(
    {"standard", "default", "auto", "standard_only", "global", "not_available"}
)
_TIER = re.compile(r"[a-z0-9_-]{1,32}\Z")


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


def _is_tier(name: str) -> bool:
    return name not in _STANDARD and _TIER.match(name) is not None
