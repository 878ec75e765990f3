"""
How long a worker's loop has not run, as its supervisor may conclude.

Only time that the supervisor itself was running counts: when the machine was suspended, or all
processes were stopped, everything was silent and nothing is wrong.
"""

from __future__ import annotations

from pathlib import Path

LONGEST_TICK_S = 0.5
"""Of a longer pause between two looks only this counts."""


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
            elapsed: The time since the last look.
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
