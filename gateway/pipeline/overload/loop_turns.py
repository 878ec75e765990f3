"""
Decides which new calls a worker refuses while its event loop has more to do than it can.

Everything that a worker does waits for its loop, so the length of the loop's turns is the length of
the queue for its CPU. A turn is short whenever the loop has been idle before it, however busy the
machine is: turns that stay long for a while are a queue that does not end by itself. From then on
each call that arrives in or after a long turn is refused, and all others are accepted. The queue is
thus kept at the limit: never empty, so that no CPU time is lost, and never much longer.

Turns are measured in CPU time of the loop's thread. In wall time, a worker that competes with other
processes or has a small CPU quota would seem overloaded while it has little to do.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from time import monotonic, thread_time

STANDING_S = 0.2
"""Turns that are long for this time are a queue, not one long task or one burst."""
CALM_S = 1.0
"""The overload has ended after this time without a long turn."""

logger = logging.getLogger(__name__)


class TurnLimit:
    """
    Judges the turns of a loop.

    Args:
        limit_s: CPU time of a long turn; 0 refuses nothing.
    """

    __slots__ = ("_limit_s", "_long_at", "_long_since", "overloaded", "turn_s")

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._long_since: float | None = None
        self._long_at = 0.0
        self.turn_s = 0.0
        """CPU time of the last turn."""
        self.overloaded = False

    def observe(self, turn_s: float, now: float) -> None:
        """Take the CPU time of a turn that ended `now`."""
        self.turn_s = turn_s
        if turn_s > self._limit_s > 0:
            self._long_at = now
            if self._long_since is None:
                self._long_since = now
            elif now - self._long_since >= STANDING_S:
                self.overloaded = True
            return
        self._long_since = None
        if now - self._long_at >= CALM_S:
            self.overloaded = False

    def refuses(self, age_s: float) -> bool:
        """Return whether to refuse a call that arrives `age_s` of CPU time into a turn."""
        return self.overloaded and max(self.turn_s, age_s) > self._limit_s


class LoopTurns:
    """
    Measures turns of the running loop, and logs the begin and end of an overload.

    Args:
        limit_s: See `TurnLimit`.
        cpu_time: Returns the CPU time of the loop's thread.
    """

    __slots__ = ("_began_s", "_cpu_time", "limit")

    def __init__(self, limit_s: float, cpu_time: Callable[[], float] = thread_time) -> None:
        self.limit = TurnLimit(limit_s)
        self._cpu_time = cpu_time
        self._began_s: float | None = None

    def begin(self) -> None:
        """Measure from here to the same place in the next turn, unless that is in progress."""
        if self._began_s is None:
            self._began_s = self._cpu_time()
            asyncio.get_running_loop().call_soon(self._end)

    def refuses(self) -> bool:
        """Return whether to refuse a call that arrives now."""
        self.begin()
        if not self.limit.overloaded or self._began_s is None:
            return False
        return self.limit.refuses(self._cpu_time() - self._began_s)

    def _end(self) -> None:
        assert self._began_s is not None
        turn_s = self._cpu_time() - self._began_s
        self._began_s = None
        before = self.limit.overloaded
        self.limit.observe(turn_s, monotonic())
        if self.limit.overloaded is not before:
            event = "overload_ended" if before else "overload_started"
            logger.warning(event, extra={"turn_ms": round(turn_s * 1000)})
