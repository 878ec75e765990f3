"""CPU time, memory and cores of processes and of whole process trees."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

TICK_S = 1 / os.sysconf("SC_CLK_TCK")
IDLE_SHARE = 0.03
"""A tree that uses less than this share of a core is idle."""
_STEP_S = 0.2


def tree(root: int) -> list[int]:
    """Return a process and all its descendants that are alive."""
    found = [root]
    for pid in found:
        for children in Path(f"/proc/{pid}/task").glob("*/children"):
            try:
                found += [int(child) for child in children.read_text().split()]
            except OSError:
                continue
    return found


def cpu_s(pids: Collection[int]) -> float:
    """
    Return the user + system time of processes in seconds, with that of their ended threads.

    Read from each process' CPU clock, whose steps are nanoseconds; `/proc/PID/stat` has steps of
    10 ms. A process that has ended counts nothing: see `TreeClock`.
    """
    return sum(_clock_ns(pid) for pid in pids) / 1e9


def _clock_ns(pid: int) -> int:
    # What clock_getcpuclockid(3) returns on Linux: the inverted id, and 2 for scheduler time.
    try:
        return time.clock_gettime_ns((~pid << 3) | 2)
    except OSError:
        return 0


def _reaped_s(pid: int) -> float:
    """Return the time of the children that ended and were waited for."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[13]) + int(fields[14])) * TICK_S


@dataclass(frozen=True)
class Cpu:
    """CPU seconds of a process tree: those of its workers, and all."""

    workers: float
    whole: float

    @property
    def helpers(self) -> float:
        """Seconds of everything that is no worker."""
        return self.whole - self.workers

    def since(self, earlier: Cpu) -> Cpu:
        """Return the difference."""
        return Cpu(self.workers - earlier.workers, self.whole - earlier.whole)


class TreeClock:
    """
    The CPU time of a process and all its descendants, those that have ended included.

    Args:
        root: The main process.
        workers: Returns the processes that count as workers; None: all are.
    """

    def __init__(self, root: int, workers: Callable[[], Collection[int]] | None = None) -> None:
        self._root = root
        self._workers = workers

    def read(self) -> Cpu:
        """Return what was used so far."""
        pids = tree(self._root)
        whole = cpu_s(pids) + sum(_reaped_s(pid) for pid in pids)
        return Cpu(cpu_s(self._workers()) if self._workers else whole, whole)

    def wait_idle(self, most_s: float = 3.0) -> Cpu:
        """Wait until the tree rests, at most that long, and return what was used so far."""
        deadline = time.monotonic() + most_s
        used = self.read()
        while time.monotonic() < deadline:
            began = time.monotonic()
            time.sleep(_STEP_S)
            now = self.read()
            if now.since(used).whole < IDLE_SHARE * (time.monotonic() - began):
                return now
            used = now
        return used


def machine_s() -> float:
    """Return the CPU time of everything that runs on the machine, in seconds."""
    line = Path("/proc/stat").read_text().partition("\n")[0]
    user, nice, system, _, _, *interrupts = [int(field) for field in line.split()[1:8]]
    return (user + nice + system + sum(interrupts)) * TICK_S


class Noise:
    """How much CPU others take on the machine while this process and its children work."""

    def __init__(self) -> None:
        self._clock = TreeClock(os.getpid())
        self._began = self._read()

    def _read(self) -> tuple[float, float]:
        return time.monotonic(), machine_s() - self._clock.read().whole

    def cores(self) -> float:
        """Return it in cores, since the beginning."""
        (before, others), (now, later) = self._began, self._read()
        return round(max(later - others, 0.0) / max(now - before, TICK_S), 2)


def rss_mb(pids: Collection[int]) -> float:
    """Return resident memory of processes in megabytes, shared pages counted for each."""
    pages = sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in pids)
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def private_mb(pids: Collection[int]) -> float:
    """Return the memory that would be free without these processes, in megabytes."""
    kilobytes = 0
    for pid in pids:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        kilobytes += sum(int(found) for found in re.findall(r"^Private_\w+: +(\d+)", text, re.M))
    return kilobytes / 1000


def pin(pids: Collection[int], cores: set[int]) -> None:
    """Keep processes and their threads on some cores."""
    for pid in pids:
        for task in Path(f"/proc/{pid}/task").iterdir():
            os.sched_setaffinity(int(task.name), cores)


@contextmanager
def started_on(cores: set[int]) -> Iterator[None]:
    """Let what is started here inherit these cores, also what counts them to choose its threads."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
