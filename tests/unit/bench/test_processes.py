"""CPU time of whole process trees, on real processes."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from bench.harness.processes import (
    Noise,
    TreeClock,
    cpu_s,
    machine_s,
    private_mb,
    started_on,
    tree,
)

BURN = "import time\nwhile time.process_time() < {s}: pass\n"
PARENT = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", {code!r}])
print(child.pid, flush=True)
{then}
sys.stdin.read()
"""


@contextmanager
def parent_of(code: str, then: str = "") -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A process with one child that runs some code; yields it and the child's id."""
    process = subprocess.Popen(
        [sys.executable, "-c", PARENT.format(code=code, then=then)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        yield process, int(process.stdout.readline())
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def test_tree_has_children_of_children() -> None:
    """Everything that a system has started is part of it."""
    with parent_of("import sys; sys.stdin.read()") as (process, child):
        assert tree(process.pid) == [process.pid, child]
        assert {process.pid, child} <= set(tree(os.getpid()))


def test_cpu_clock_agrees_with_the_process_itself() -> None:
    """The clock of another process is read as exactly as one's own."""
    before = time.process_time()
    seen = cpu_s([os.getpid()])
    after = time.process_time()

    assert before <= seen <= after


def test_child_counts_while_it_runs_and_after_its_end() -> None:
    """A helper that has ended took its CPU all the same; the tree's time never goes back."""
    with parent_of(BURN.format(s=0.3), then="child.wait(); print(flush=True)") as (process, _):
        clock = TreeClock(process.pid)
        reads = [clock.read().whole]
        assert process.stdout is not None
        process.stdout.readline()
        reads.append(clock.read().whole)

    # Ended children are counted in ticks of 10 ms.
    assert reads[1] - reads[0] >= 0.3 - reads[0] - 0.03
    assert reads[1] >= 0.29


def test_workers_and_helpers_are_counted_apart() -> None:
    """The share of a child that is a worker is the worker's, the rest is the helpers'."""
    with parent_of(BURN.format(s=0.2) + "import sys; sys.stdin.read()") as (process, child):
        clock = TreeClock(process.pid, lambda: [child])
        used = clock.wait_idle(10.0)

        assert used.workers == pytest.approx(cpu_s([child]), abs=0.01)
        assert used.helpers == pytest.approx(cpu_s([process.pid]), abs=0.01)
        assert used.workers >= 0.2
        assert used.since(used).whole == 0


def test_rest_is_not_waited_for_longer_than_asked() -> None:
    """A system that never rests is measured as it is."""
    with parent_of("while True: pass") as (process, _):
        began = time.monotonic()
        TreeClock(process.pid).wait_idle(0.4)

        assert 0.4 <= time.monotonic() - began < 5


def test_noise_is_what_other_processes_take() -> None:
    """A child's work is the run's own; CPU of the machine includes it."""
    before, noise = machine_s(), Noise()
    with parent_of(BURN.format(s=0.5), then="child.wait(); print(flush=True)") as (process, _):
        assert process.stdout is not None
        process.stdout.readline()
        own = noise.cores()
    burnt = machine_s() - before

    assert burnt >= 0.45
    assert 0 <= own <= (os.cpu_count() or 1)


def test_ended_process_counts_nothing() -> None:
    """A worker that was replaced does not break the measurement."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()

    assert cpu_s([process.pid]) == 0
    assert TreeClock(process.pid).read().whole == 0


def test_what_is_started_on_a_core_stays_there() -> None:
    """The core is inherited, and this process keeps its own."""
    own = os.sched_getaffinity(0)
    core = {min(own)}
    with started_on(core):
        process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)

    try:
        assert os.sched_getaffinity(process.pid) == core
        assert os.sched_getaffinity(0) == own
        assert private_mb([process.pid]) > 0
    finally:
        process.kill()
        process.communicate()
