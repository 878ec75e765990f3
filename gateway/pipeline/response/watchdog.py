"""
The clocks of all running streams, and the loop's own lag, from one timer.

A timer per chunk would cost more than relaying it; one sweep a quarter of a second over all streams
costs next to nothing, and a stream's limits are seconds.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from time import monotonic
from typing import Protocol

from gateway.core.model import Clocks

TICK_S = 0.25

log = logging.getLogger("gateway.pipeline")


class Watched(Protocol):
    """Something with clocks."""

    def check(self, now: float, clocks: Clocks) -> None:
        """Act when one of the clocks ran out."""


class Watchdog:
    """
    Checks every watched stream a few times a second.

    Args:
        observe_lag: Gets how late each tick was, in seconds.
    """

    def __init__(self, observe_lag: Callable[[float], None]) -> None:
        self._watched: dict[Watched, Clocks] = {}
        self._observe_lag = observe_lag
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin to tick on the running loop."""
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(TICK_S, self._tick, loop, monotonic() + TICK_S)

    def stop(self) -> None:
        """Tick no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def add(self, watched: Watched, clocks: Clocks) -> None:
        """Check `watched` from now on."""
        self._watched[watched] = clocks

    def discard(self, watched: Watched) -> None:
        """Check it no more."""
        self._watched.pop(watched, None)

    def _tick(self, loop: asyncio.AbstractEventLoop, due: float) -> None:
        now = monotonic()
        self._observe_lag(max(now - due, 0.0))
        self._timer = loop.call_later(TICK_S, self._tick, loop, now + TICK_S)
        for watched, clocks in list(self._watched.items()):
            try:
                watched.check(now, clocks)
            except Exception:  # one stream's mistake must not stop the clocks of the others
                log.exception("clock_failed")
