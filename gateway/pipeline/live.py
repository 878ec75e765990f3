"""
Counts the calls of one worker by model and deployment, for consoles.

A call costs a few additions at its end, and nothing before: running calls are counted when a
report is made.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING

from gateway.core.routing.live import EVERY_S, MAX_LINES, WINDOW_S, LiveLine

if TYPE_CHECKING:
    from gateway.pipeline.call import Call

_FAILED = ("failed", "insured")
_Key = tuple[str, str]


class LiveCounts:
    """
    The counts of one worker.

    Args:
        now: Monotonic time of the start, in seconds.
    """

    __slots__ = ("_began", "_counts", "_past")

    def __init__(self, now: float) -> None:
        self._began = now
        self._counts: dict[_Key, LiveLine] = {}
        self._past: deque[dict[_Key, LiveLine]] = deque(maxlen=round(WINDOW_S / EVERY_S))

    def ended(self, call: Call) -> None:
        """Count a settled call."""
        line = self._line(call)
        if line is None:
            return
        line.ended += 1
        if call.started_at >= self._began:
            line.started += 1
        if call.outcome in _FAILED:
            line.failed += 1
        usage = call.usage
        line.tokens += usage.output + usage.reasoning

    def lines(self, running: Iterable[Call], now: float) -> tuple[LiveLine, ...]:
        """Return the counts of the last `WINDOW_S`; call it every `EVERY_S`."""
        for call in running:
            # A call that started since the last report is seen once: here or in `ended`.
            if call.started_at >= self._began and (line := self._line(call)) is not None:
                line.started += 1
        self._past.append(self._counts)
        self._counts, self._began = {}, now
        found: dict[_Key, LiveLine] = {}
        for counts in self._past:
            for key, line in counts.items():
                _of(found, key).add(line)
        for call in running:
            if call.model is not None:
                line = _of(found, _key(call))
                line.running += 1
                line.oldest_s = max(line.oldest_s, round(now - call.started_at))
        busiest = sorted(found.values(), key=lambda line: (-line.running, -line.ended))
        return tuple(busiest[:MAX_LINES])

    def _line(self, call: Call) -> LiveLine | None:
        """Return the line of a call; None: it was refused before its model was known."""
        return None if call.model is None else _of(self._counts, _key(call))


def _key(call: Call) -> _Key:
    deployment = call.deployment
    assert call.model is not None
    return call.model.name, "" if deployment is None else deployment.label


def _of(lines: dict[_Key, LiveLine], key: _Key) -> LiveLine:
    line = lines.get(key)
    if line is None:
        line = lines[key] = LiveLine(model=key[0], deployment=key[1])
    return line
