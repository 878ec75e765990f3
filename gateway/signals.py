"""
What ends a child process, and when it may.

A child ends with its parent: no orphan survives a supervisor's kill -9. And a worker hears the
signals that end it only once it can obey them: one that comes between its fork and its first
request would be lost in the handlers it inherited, or block Granian's for good, and the supervisor
would wait for the whole grace.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1
_ENDING = frozenset({signal.SIGTERM, signal.SIGINT})


def end_with_parent(parent: int | None = None) -> None:
    """
    Have this process get SIGTERM when its parent dies. Linux only; elsewhere nothing happens.

    Args:
        parent: The parent's process id where it is known: this process ends at once if the parent
            died before the call.
    """
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if parent is not None and os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGTERM)


def hold_ending_signals() -> None:
    """Have SIGTERM and SIGINT wait for this thread, and for what it forks or starts from now on."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)


def obey_ending_signals() -> None:
    """Take SIGTERM and SIGINT again, those that have waited first."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDING)
