"""Records the responses of the demo upstream, for comparison with the gateway's charges."""

from __future__ import annotations

from collections import deque
from typing import Literal

import msgspec

KEPT = 10_000
"""Maximum number of requests kept."""


class Served(msgspec.Struct):
    """One request and what was sent for it."""

    id: str
    """The response's id, without the dialect's prefix."""
    deployment: str
    model: str
    dialect: Literal["openai", "anthropic"]
    streamed: bool
    fault: str | None = None
    status: int = 0
    """0: no head was sent."""
    tokens_sent: int = 0
    """Tokens of a stream so far; of a whole response, all or none."""
    input_tokens: int | None = None
    output_tokens: int | None = None
    """The output in the last reported usage; None: none was reported."""
    usage_reports: int = 0
    ending: Literal["running", "complete", "broken", "client_gone"] = "running"

    def report_usage(self, input_tokens: int, output_tokens: int) -> None:
        """Record the usage that the response reports."""
        self.input_tokens = input_tokens
        self.output_tokens = output_tokens
        self.usage_reports += 1


class Record:
    """
    The latest requests, oldest first.

    Args:
        kept: Maximum number of requests; None: all are kept.
    """

    def __init__(self, kept: int | None = KEPT) -> None:
        self._served: deque[Served] = deque(maxlen=kept)

    def add(self, served: Served) -> Served:
        """Keep a request and return it."""
        self._served.append(served)
        return served

    def clear(self) -> None:
        """Remove all requests."""
        self._served.clear()

    def served(self) -> list[Served]:
        """Return the requests."""
        return list(self._served)

    def as_json(self) -> bytes:
        """Return all requests as a JSON array."""
        return msgspec.json.encode(list(self._served))
