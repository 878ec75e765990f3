"""
Decides which new calls a worker refuses while its event loop is overloaded.

Everything that a worker does waits for its loop, so the length of the loop's turns is the length of
the queue for its CPU. A turn is short whenever the loop has been idle before it, however busy the
machine is: turns that stay long for a while are a queue that does not end by itself. From then on
each call that arrives in or after a turn of some length is refused, and all others are accepted.
A call passes through several turns, so that length is shorter than the limit: the queue is never
empty, so that no CPU time is lost, and calls take about as long as just below the capacity.

The overload ends when few calls are refused. It is not judged by turns, of which a few are long at
any load; and if it has not ended, turns stand again soon.

Turns are measured in CPU time of the loop's thread. In wall time, a worker that competes with other
processes or has a small CPU quota would seem overloaded while it has little to do.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from time import monotonic, thread_time

STANDING_S = 0.1
"""Turns that are long for this time are a queue, not one long task or one burst."""
SHORTER = 0.4
"""Share of the limit that a turn may last during an overload."""
JUDGED_S = 0.25
"""How often an overload is judged."""
ENDING = 0.25
"""Share of refused calls at which an overload has ended."""

logger = logging.getLogger(__name__)


class TurnLimit:
    """
    Judges the turns of a loop.

    Args:
        limit_s: CPU time of a long turn; 0 refuses nothing.
    """

    __slots__ = (
        "_asked",
        "_judged_at",
        "_limit_s",
        "_long_since",
        "_refused",
        "overloaded",
        "turn_s",
    )

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._long_since: float | None = None
        self._judged_at = 0.0
        self._asked = self._refused = 0
        self.turn_s = 0.0
        """CPU time of the last turn."""
        self.overloaded = False

    def observe(self, turn_s: float, now: float) -> None:
        """Take the CPU time of a turn that ended `now`."""
        self.turn_s = turn_s
        if self.overloaded:
            self._judge(now)
        elif not turn_s > self._limit_s > 0:
            self._long_since = None
        elif self._long_since is None:
            self._long_since = now
        elif now - self._long_since >= STANDING_S:
            self.overloaded = True
            self._begin(now)

    def refuses(self, age_s: float) -> bool:
        """Return whether to refuse a call that arrives `age_s` of CPU time into a turn."""
        if not self.overloaded:
            return False
        self._asked += 1
        if max(self.turn_s, age_s) <= self._limit_s * SHORTER:
            return False
        self._refused += 1
        return True

    def _judge(self, now: float) -> None:
        if now - self._judged_at < JUDGED_S:
            return
        self.overloaded = self._refused > ENDING * self._asked
        self._begin(now)

    def _begin(self, now: float) -> None:
        self._judged_at, self._long_since = now, None
        self._asked = self._refused = 0


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
        """Start measuring a turn, unless one is being measured."""
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
