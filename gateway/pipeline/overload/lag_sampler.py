"""Measures the lag of the event loop, and logs the begin and the end of an overload."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from time import monotonic

from gateway.pipeline.overload.loop_lag import LoopLag

SAMPLE_EVERY_S = 0.05

logger = logging.getLogger(__name__)


class LagSampler:
    """
    Samples the lag of the running loop from its start as a context manager to its end.

    Args:
        limit_s: See `LoopLag`.
        observe: Called with every sample, in seconds.
    """

    def __init__(self, limit_s: float, observe: Callable[[float], None]) -> None:
        self.lag = LoopLag(limit_s)
        self._observe = observe
        self._handle: asyncio.Handle | None = None
        self._refusing = False

    def __enter__(self) -> LagSampler:
        self._wait(asyncio.get_running_loop())
        return self

    def __exit__(self, *_: object) -> None:
        if self._handle is not None:
            self._handle.cancel()

    def _wait(self, loop: asyncio.AbstractEventLoop) -> None:
        due = monotonic() + SAMPLE_EVERY_S
        # A timer overtakes the callbacks that are ready; the one behind it waits for all of them.
        self._handle = loop.call_later(SAMPLE_EVERY_S, self._queue, loop, due)

    def _queue(self, loop: asyncio.AbstractEventLoop, due: float) -> None:
        self._handle = loop.call_soon(self._sample, loop, due)

    def _sample(self, loop: asyncio.AbstractEventLoop, due: float) -> None:
        lag_s = max(monotonic() - due, 0.0)
        self._observe(lag_s)
        self.lag.observe(lag_s, SAMPLE_EVERY_S + lag_s)
        refusing = self.lag.refusing
        if refusing is not self._refusing:
            self._refusing = refusing
            event = "overload_started" if refusing else "overload_ended"
            logger.warning(event, extra={"lag_ms": round(self.lag.lag_s * 1000)})
        self._wait(loop)
