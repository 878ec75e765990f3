"""
Timers for timeouts that rarely expire.

Setting and cancelling a timer of the event loop costs 2 us, and a request needs several. Here a
timer is an entry in a dict, and one timer of the loop checks all entries while there are any.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from time import monotonic
from typing import Any, Protocol

TICK_S = 0.1
"""How late a callback may be."""
COARSE_FROM_S = 1.0
"""Shorter delays use the loop's own timers, which are precise."""

Callback = Callable[..., object]

logger = logging.getLogger(__name__)


class Cancellable(Protocol):
    """A callback that is due later."""

    def cancel(self) -> None:
        """Do not call it. Idempotent."""


class Timers(Protocol):
    """Calls functions later: `Deadlines`, or an event loop."""

    def call_later(self, delay: float, callback: Callback, /, *args: Any) -> Cancellable:
        """Call `callback` after `delay` seconds, unless it is cancelled."""


class Deadlines:
    """`Timers` of one event loop that may be late by `TICK_S`, but are never early."""

    __slots__ = ("_timer", "_waiting")

    def __init__(self) -> None:
        self._waiting: dict[_Deadline, None] = {}
        self._timer: asyncio.TimerHandle | None = None

    def call_later(self, delay: float, callback: Callback, /, *args: Any) -> Cancellable:
        """Call `callback` after `delay` seconds, unless it is cancelled."""
        if delay < COARSE_FROM_S:
            return asyncio.get_running_loop().call_later(delay, callback, *args)
        deadline = _Deadline(self._waiting, monotonic() + delay, callback, args)
        self._waiting[deadline] = None
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(TICK_S, self._tick)
        return deadline

    def _tick(self) -> None:
        now = monotonic()
        for deadline in [each for each in self._waiting if each.due <= now]:
            try:
                deadline.run()
            except Exception:  # one callback must not keep the others from being called
                logger.exception("deadline_failed")
        self._timer = None
        if self._waiting:
            self._timer = asyncio.get_running_loop().call_later(TICK_S, self._tick)


class _Deadline:
    __slots__ = ("_args", "_callback", "_waiting", "due")

    def __init__(
        self,
        waiting: dict[_Deadline, None],
        due: float,
        callback: Callback,
        args: tuple[Any, ...],
    ) -> None:
        self._waiting = waiting
        self._callback: Callback | None = callback
        self._args = args
        self.due = due

    def cancel(self) -> None:
        # The callback may refer to this object's owner; removing it breaks the reference cycle.
        self._callback, self._args = None, ()
        self._waiting.pop(self, None)

    def run(self) -> None:
        callback, args = self._callback, self._args
        self.cancel()
        if callback is not None:  # a callback before it may have cancelled this one
            callback(*args)
