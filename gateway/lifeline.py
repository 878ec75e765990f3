"""Ties the life of a child process to its parent's: no orphan survives a supervisor's kill -9."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


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
