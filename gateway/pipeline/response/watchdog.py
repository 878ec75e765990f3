"""
One timer for the clocks of all running responses.

A timer per chunk would cost more than relaying the chunk. Checking all streams every 250 ms costs
next to nothing, and is precise enough for limits of seconds.
"""

from __future__ import annotations

import asyncio
import logging
from time import monotonic
from typing import Protocol

from gateway.core.model import Clocks

TICK_S = 0.25

logger = logging.getLogger(__name__)


class Watched(Protocol):
    """Anything with time limits."""

    def check(self, now: float, clocks: Clocks) -> None:
        """Perform what is due at `now`."""


class Watchdog:
    """Checks every watched stream a few times a second, as a context manager."""

    def __init__(self) -> None:
        self._watched: dict[Watched, Clocks] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._passed_over = False

    def __enter__(self) -> Watchdog:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(TICK_S, self._tick, loop, monotonic() + TICK_S)
        return self

    def __exit__(self, *_: object) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def add(self, watched: Watched, clocks: Clocks) -> None:
        """Check `watched` from now on."""
        self._watched[watched] = clocks

    def discard(self, watched: Watched) -> None:
        """Stop checking `watched`."""
        self._watched.pop(watched, None)

    def _tick(self, loop: asyncio.AbstractEventLoop, due: float) -> None:
        now = monotonic()
        self._timer = loop.call_later(TICK_S, self._tick, loop, now + TICK_S)
        # After a pause of the process there is unread data, and the loop runs timers before it
        # reads: check one tick later. Only once, since a loop may be late all the time.
        self._passed_over = now - due > TICK_S and not self._passed_over
        if self._passed_over:
            return
        for watched, clocks in list(self._watched.items()):
            try:
                watched.check(now, clocks)
            except Exception:  # an error in one stream must not stop the clocks of the others
                logger.exception("clock_failed")
