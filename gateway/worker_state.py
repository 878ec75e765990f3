"""
The state that the supervisor and one worker share: a page of memory that both map.

The supervisor creates the page before it forks the worker. The worker writes its heartbeat, whether
it has started and which configuration it serves; the supervisor writes the phase and the
configuration to serve. Each field has one writer, and is written in one operation.
"""

from __future__ import annotations

import mmap
import socket
import struct
from collections.abc import Callable
from enum import IntEnum
from typing import NamedTuple

_BEAT = struct.Struct("=d")
_NUMBER = struct.Struct("=I")
_BEAT_AT, _PHASE_AT, _STARTED_AT, _WANTED_AT, _APPLIED_AT, _REJECTED_AT = 0, 8, 12, 16, 20, 24


END_S = 10.0
"""Time after the grace period in which workers end and settle their calls."""


class Phase(IntEnum):
    """What a worker is to do."""

    SERVE = 0
    DRAIN = 1
    """Serve, but report not ready, and close each connection after its response."""
    LEAVE = 2
    """As DRAIN, and leave new connections to other workers."""
    END = 3
    """End the calls that are still running: the grace period is over."""


class WorkerState:
    """The page of one worker."""

    __slots__ = ("_page",)

    def __init__(self) -> None:
        self._page = mmap.mmap(-1, mmap.PAGESIZE)

    @property
    def beat(self) -> float:
        """When the worker's loop last ran, in monotonic seconds; 0 before it has."""
        value: float = _BEAT.unpack_from(self._page, _BEAT_AT)[0]
        return value

    @beat.setter
    def beat(self, now: float) -> None:
        _BEAT.pack_into(self._page, _BEAT_AT, now)

    @property
    def phase(self) -> Phase:
        """What the worker is to do."""
        return Phase(self._number(_PHASE_AT))

    @phase.setter
    def phase(self, phase: Phase) -> None:
        _NUMBER.pack_into(self._page, _PHASE_AT, phase)

    @property
    def started(self) -> bool:
        """The worker serves calls."""
        return self._number(_STARTED_AT) != 0

    @started.setter
    def started(self, started: bool) -> None:
        _NUMBER.pack_into(self._page, _STARTED_AT, started)

    @property
    def wanted(self) -> int:
        """The revision of the configuration that the worker is to serve."""
        return self._number(_WANTED_AT)

    @wanted.setter
    def wanted(self, revision: int) -> None:
        _NUMBER.pack_into(self._page, _WANTED_AT, revision)

    @property
    def applied(self) -> int:
        """The revision of the configuration that the worker serves."""
        return self._number(_APPLIED_AT)

    @applied.setter
    def applied(self, revision: int) -> None:
        _NUMBER.pack_into(self._page, _APPLIED_AT, revision)

    @property
    def rejected(self) -> int:
        """The latest revision that the worker could not apply."""
        return self._number(_REJECTED_AT)

    @rejected.setter
    def rejected(self, revision: int) -> None:
        _NUMBER.pack_into(self._page, _REJECTED_AT, revision)

    def _number(self, offset: int) -> int:
        value: int = _NUMBER.unpack_from(self._page, offset)[0]
        return value


class Orphan:
    """
    Applies the supervisor's shutdown timeouts to a worker whose supervisor has died.

    Args:
        supervisor: Its process id.
        grace_s: Grace period of running calls.
    """

    def __init__(self, supervisor: int, grace_s: float) -> None:
        self._supervisor = supervisor
        self._grace_s = grace_s
        self._since: float | None = None

    def observe(self, parent: int, now: float) -> Phase | None:
        """Return the phase to enter without a supervisor; None while the supervisor lives."""
        if parent == self._supervisor:
            return None
        if self._since is None:
            self._since = now
        return Phase.END if now - self._since >= self._grace_s else Phase.DRAIN

    def is_overdue(self, now: float) -> bool:
        """Return whether the worker has not ended in time."""
        return self._since is not None and now - self._since >= self._grace_s + END_S


class WorkerLink(NamedTuple):
    """What a worker receives from its supervisor."""

    state: WorkerState
    revision: int
    """The revision of the settings that it was forked with."""
    supervisor: int
    """Its process id."""
    port: int
    """The port on which the worker listens."""
    stop_accepting: Callable[[], None]
    """Leaves new connections to the other workers; existing ones are served."""
    direct: socket.socket | None = None
    """The listening socket of the direct port, if there is one."""
    max_connections: int = 0
    """Of each port."""
