"""
Measures, from a worker's heartbeats, for how long its event loop has not run.

Only time in which the supervisor itself ran counts: if the machine was suspended or all processes
were stopped, the worker is not to blame for its silence.
"""

from __future__ import annotations

from pathlib import Path

LONGEST_TICK_S = 0.5
"""Longer pauses between two observations count as this many seconds."""


class Silence:
    """The silence of one worker."""

    __slots__ = ("_beat", "seconds")

    def __init__(self) -> None:
        self._beat = 0.0
        self.seconds = 0.0

    def observe(self, beat: float, elapsed: float) -> float:
        """
        Return for how many seconds the worker has been silent.

        Args:
            beat: Its latest heartbeat.
            elapsed: Seconds since the last observation.
        """
        if beat != self._beat:
            self._beat = beat
            self.seconds = 0.0
        else:
            self.seconds += min(elapsed, LONGEST_TICK_S)
        return self.seconds


def is_traced(pid: int) -> bool:
    """Return whether a debugger holds a process; never on systems without `/proc`."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
    tracer = next((line for line in status.split("\n") if line.startswith("TracerPid:")), "")
    return tracer.split()[1:] not in ([], ["0"])
