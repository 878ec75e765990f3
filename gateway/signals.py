"""
Ties child processes to their parent and defers shutdown signals during start-up.

A child exits with its parent, so that no orphan survives a supervisor's kill -9. A worker blocks
shutdown signals until it can handle them: a signal between its fork and its first request would be
lost in inherited handlers or block Granian's, and the supervisor would wait the whole grace period.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PARENT_PID = "CAPIO_PARENT_PID"
"""Environment variable with which a process passes its id to the children it starts."""
_PR_SET_PDEATHSIG = 1
_STOP_SIGNALS = frozenset({signal.SIGTERM, signal.SIGINT})


def end_with_parent(parent: int | None = None) -> None:
    """
    Have the kernel send SIGTERM to this process when its parent dies; does nothing except on Linux.

    This process is terminated at once if the parent died before the call: a Python program takes a
    second to get here, and the kernel sends no signal for a parent that is already gone.

    Args:
        parent: The parent's process id; the default is that of `PARENT_PID`, if it is set.
    """
    if sys.platform != "linux":
        return
    if parent is None and PARENT_PID in os.environ:
        parent = int(os.environ[PARENT_PID])
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if parent is not None and os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGTERM)


def block_stop_signals() -> None:
    """Block SIGTERM and SIGINT in this thread and in the processes and threads it starts."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _STOP_SIGNALS)


def unblock_stop_signals() -> None:
    """Unblock SIGTERM and SIGINT; pending ones are delivered first."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOP_SIGNALS)
