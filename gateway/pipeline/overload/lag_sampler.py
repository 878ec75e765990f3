"""Samples the event loop: how late it runs what is due, and how long its turns are."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import monotonic

from gateway.pipeline.overload.loop_turns import LoopTurns

SAMPLE_EVERY_S = 0.05


class LagSampler:
    """
    Samples the running loop from its start as a context manager to its end.

    Args:
        limit_s: See `LoopTurns`.
        observe: Called with every lag, in seconds.
    """

    def __init__(self, limit_s: float, observe: Callable[[float], None]) -> None:
        self.turns = LoopTurns(limit_s)
        self._observe = observe
        self._handle: asyncio.Handle | None = None

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
        self._observe(max(monotonic() - due, 0.0))
        self.turns.begin()  # without calls, nothing else would show that an overload has ended
        self._wait(loop)
