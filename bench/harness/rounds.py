"""
The order of a run: rounds of scenarios, in each the systems one after the other.

Systems that are compared are measured within seconds of each other, and each round begins with
another of them, so that what drifts on the machine is shared out evenly.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from bench.harness.scenarios import Scenario
from bench.harness.systems import System


@dataclass(frozen=True)
class Group:
    """One scenario of one round, and the systems in their order."""

    round: int
    scenario: Scenario
    systems: tuple[System, ...]


def groups(
    scenarios: Sequence[Scenario], systems: Sequence[System], rounds: int
) -> Iterator[Group]:
    """Yield all groups of a run in their order."""
    for number in range(rounds):
        for scenario in scenarios:
            found = [system for system in systems if scenario.suits(system)]
            if found:
                start = number % len(found)
                yield Group(number, scenario, (*found[start:], *found[:start]))


class Slices:
    """
    Divides a run into slices, with a pause between them, on a machine shared with other jobs.

    Args:
        command: Run with `begin` before a slice and `end` after it, so that other jobs can wait;
            None: there are no slices.
        slice_s: The longest time of a slice, as long as one group fits into it.
        pause_s: The time between two slices.
    """

    def __init__(
        self,
        command: str | None,
        slice_s: float,
        pause_s: float,
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._command = command
        self._slice_s = slice_s
        self._pause_s = pause_s
        self._now = now
        self._sleep = sleep
        self._began: float | None = None

    def before(self, expected_s: float) -> None:
        """Begin a slice if none has room for the expected time."""
        if self._command is None:
            return
        if self._began is not None and self._now() + expected_s > self._began + self._slice_s:
            self.end()
            self._sleep(self._pause_s)
        if self._began is None:
            self._began = self._now()
            self._run("begin")

    def end(self) -> None:
        """End the slice, if there is one."""
        if self._began is not None:
            self._began = None
            self._run("end")

    def _run(self, word: str) -> None:
        subprocess.run(f"{self._command} {word}", shell=True, check=True)


def expected_s(group: Group, seconds: float) -> float:
    """Return about how long a group takes: loads, warm-up, and resting before and after."""
    return len(group.systems) * (seconds + group.scenario.open_s + 1.5)
