"""What workers publish about the calls that run in them."""

from __future__ import annotations

from typing import Final

import msgspec

EVERY_S: Final = 2.0
"""How often a worker publishes its report."""
WINDOW_S: Final = 60.0
"""The time that counts of started and ended calls cover."""
MAX_LINES: Final = 200
MAX_PROBLEMS: Final = 50


class LiveLine(msgspec.Struct, kw_only=True):
    """The calls of one model at one deployment; counts cover the last `WINDOW_S`."""

    model: str
    deployment: str
    """Empty for calls without a chosen deployment."""
    running: int = 0
    oldest_s: int = 0
    """The age of the oldest running call."""
    started: int = 0
    ended: int = 0
    failed: int = 0
    """Failed calls among `ended`."""
    tokens: int = 0
    """Output and reasoning tokens of the calls in `ended`."""

    def add(self, other: LiveLine) -> None:
        """Add the calls of another worker."""
        self.running += other.running
        self.oldest_s = max(self.oldest_s, other.oldest_s)
        self.started += other.started
        self.ended += other.ended
        self.failed += other.failed
        self.tokens += other.tokens


class LiveReport(msgspec.Struct, frozen=True, kw_only=True):
    """The calls of one worker."""

    worker: str
    pod: str
    """The name of its host."""
    version: str
    running: int
    """All calls, also those whose model is not known yet."""
    lines: tuple[LiveLine, ...] = ()
    """At most `MAX_LINES`, those with the most running calls first."""
    catalogue: str = ""
    """The revision of the catalogue in SQL that it serves."""
    problems: tuple[str, ...] = ()
    """What is wrong with entries in SQL, by its environment; at most `MAX_PROBLEMS`."""
