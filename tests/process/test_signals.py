"""Child processes end with their parent, also with one that is gone before they look."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from gateway.signals import PARENT_PID

pytestmark = pytest.mark.process
CHILD = "from gateway.signals import end_with_parent; end_with_parent(); print('alive')"


def run_child(parent: int) -> subprocess.CompletedProcess[str]:
    """Run a process that ties itself to `parent` and then prints a word."""
    return subprocess.run(
        [sys.executable, "-c", CHILD],
        env={**os.environ, PARENT_PID: str(parent)},
        check=False,
        capture_output=True,
        text=True,
        timeout=20,
    )


def test_child_of_a_dead_parent_is_terminated_at_once() -> None:
    """The kernel sends no signal for a parent that died before the call."""
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()

    child = run_child(dead.pid)

    assert (child.returncode, child.stdout) == (-signal.SIGTERM, "")


def test_child_of_a_living_parent_goes_on() -> None:
    """The parent's own child is not terminated."""
    child = run_child(os.getpid())

    assert (child.returncode, child.stdout) == (0, "alive\n")
