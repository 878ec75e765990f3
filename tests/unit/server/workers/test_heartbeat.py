"""What counts as a worker's silence."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from gateway.server.workers.heartbeat import Silence, is_traced


def test_silence_grows_until_the_next_beat() -> None:
    """A beat ends it, whatever its time is."""
    silence = Silence()

    assert silence.observe(5.0, 0.1) == 0.0
    assert [round(silence.observe(5.0, 0.1), 1) for _ in range(3)] == [0.1, 0.2, 0.3]
    assert silence.observe(5.2, 0.1) == 0.0


def test_time_in_which_the_supervisor_stood_still_does_not_count() -> None:
    """A laptop that slept for an hour finds no silent worker."""
    silence = Silence()
    silence.observe(5.0, 0.1)

    assert silence.observe(5.0, 3600.0) == 0.5


def test_process_without_a_debugger_is_not_traced() -> None:
    """Nor is one that has ended."""
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()

    assert not is_traced(os.getpid())
    assert not is_traced(ended.pid)


@pytest.mark.skipif(sys.platform != "linux", reason="ptrace of Linux")
def test_process_under_a_debugger_is_traced() -> None:
    """PTRACE_TRACEME makes its parent the tracer, as a debugger does that starts a program."""
    program = (
        "import ctypes, sys; ctypes.CDLL(None).ptrace(0, 0, 0, 0); print(flush=True);"
        " sys.stdin.read()"
    )
    traced = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert traced.stdout is not None
    traced.stdout.readline()

    assert is_traced(traced.pid)
    traced.communicate()
