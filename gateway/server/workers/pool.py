"""
Manages the worker processes: start, heartbeat, replacement, drain, end.

Does no I/O of its own: `spawn` starts a process, and `tick` is passed the time. The supervisor's
main thread calls `tick` several times a second; other threads only request changes and read the
state.

| a worker | then |
| --- | --- |
| exits | it is replaced; after two in a row that exit before they have started, all stop |
| is silent for too long | it is killed and replaced, one worker at a time |
| is to be replaced | the new one starts; then the old one leaves |
| leaves | it accepts no connection, and is stopped when its idle connections are closed |
| is stopped | it gets the grace period, then ends its calls, then is killed |
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import NamedTuple, Protocol

from gateway.server.workers.heartbeat import Silence, is_traced
from gateway.worker_state import END_S, Phase, WorkerState

logger = logging.getLogger(__name__)


class Process(Protocol):
    """A worker process that was started."""

    @property
    def pid(self) -> int:
        """Its process id."""

    def is_alive(self) -> bool:
        """Return whether it runs."""

    def terminate(self) -> None:
        """Make it close its listener, and exit when its connections have ended."""

    def kill(self) -> None:
        """Send SIGKILL."""


class Limits(NamedTuple):
    """Times in seconds."""

    heartbeat_s: float
    """A worker that is silent for longer is killed; 0 disables this."""
    drain_s: float
    grace_s: float
    quiet_s: float
    """How long idle connections stay open."""


class Member:
    """A worker process and its state."""

    __slots__ = ("end_at", "kill_at", "leave_at", "process", "silence", "slot", "state", "stopped")

    def __init__(self, slot: int, process: Process, state: WorkerState) -> None:
        self.slot = slot
        self.process = process
        self.state = state
        self.silence = Silence()
        self.leave_at: float | None = None
        """When it is to be stopped, because another worker serves its slot."""
        self.stopped = False
        self.end_at = self.kill_at = 0.0

    def stop(self, now: float, grace_s: float) -> None:
        """Let its calls end within the grace period."""
        self.stopped = True
        self.end_at = now + grace_s
        self.kill_at = self.end_at + END_S
        self.process.terminate()


class Pool:
    """
    All worker processes.

    Args:
        size: How many serve at a time.
        spawn: Starts the process of a slot, which maps the state.
        limits: Times.
        close_listeners: Called once, when workers must accept no further connections.
    """

    def __init__(
        self,
        size: int,
        spawn: Callable[[int, WorkerState], Process],
        limits: Limits,
        close_listeners: Callable[[], None],
    ) -> None:
        self.draining = False
        """Whether workers report not ready."""
        self.revision = 0
        """The revision of the configuration that workers are to serve."""
        self.failed = False
        """Whether the pool stopped because workers could not start."""
        self.replacement_failed = False
        """Whether the latest replacement of all workers failed: a new one could not start."""
        self._size = size
        self._spawn = spawn
        self._limits = limits
        self._close_listeners = close_listeners
        self._serving: dict[int, Member] = {}
        self._leaving: list[Member] = []
        self._failures = [0] * size
        self._to_replace: list[int] = []
        self._stop_at: float | None = None
        self._stopping = False
        self._ticked_at = 0.0

    def start(self) -> None:
        """Start one worker for each slot."""
        for slot in range(self._size):
            self._serving[slot] = self._started(slot)

    @property
    def workers(self) -> list[Member]:
        """The workers that serve, without those that have been replaced."""
        return list(self._serving.values())

    @property
    def leaving(self) -> int:
        """How many workers have been replaced and finish their calls."""
        return len(self._leaving)

    @property
    def all_started(self) -> bool:
        """Every worker serves calls."""
        return all(member.state.started for member in self.workers)

    @property
    def ended(self) -> bool:
        """No process is left, and none is to be started."""
        return self._stopping and not self._serving and not self._leaving

    @property
    def replacing(self) -> bool:
        """Whether workers are still to be replaced."""
        return bool(self._to_replace) or not self.all_started

    def replace_all(self) -> None:
        """Replace the workers, one after the other."""
        self.replacement_failed = False
        if not self._to_replace and self._stop_at is None:
            self._to_replace = list(self._serving)

    def stop(self, now: float, *, drain: bool) -> None:
        """End all workers, after the drain period if `drain`; another call can only hasten it."""
        stop_at = now + (self._limits.drain_s if drain else 0.0)
        if self._stop_at is None or stop_at < self._stop_at:
            self._stop_at = stop_at

    def tick(self, now: float) -> None:
        """Start, replace, stop and kill workers as is due."""
        elapsed, self._ticked_at = now - self._ticked_at, now
        if self._stop_at is not None and now >= self._stop_at and not self._stopping:
            self._stop_all(now)
        self._reap(now)
        self._check_heartbeats(elapsed)
        if self._to_replace and self.all_started:
            self._replace(self._to_replace.pop(0))
        for member in self._leaving:
            self._advance(member, now)
        for member in [*self._serving.values(), *self._leaving]:
            self._command(member, now)

    @property
    def _is_draining(self) -> bool:
        return self.draining or self._stop_at is not None

    def _started(self, slot: int) -> Member:
        state = WorkerState()
        state.wanted = self.revision
        if self._is_draining:
            state.phase = Phase.DRAIN
        return Member(slot, self._spawn(slot, state), state)

    def _command(self, member: Member, now: float) -> None:
        """Write a worker's orders to its state, if they have changed."""
        state = member.state
        if state.wanted != self.revision:
            state.wanted = self.revision
        phase = Phase.DRAIN if self._is_draining else Phase.SERVE
        if member.stopped and now >= member.end_at:
            phase = Phase.END
        elif member.leave_at is not None:
            phase = Phase.LEAVE
        if state.phase is not phase:
            state.phase = phase

    def _stop_all(self, now: float) -> None:
        self._stopping = True
        self._to_replace.clear()
        self._close_listeners()
        self._leaving += self._serving.values()
        self._serving.clear()
        for member in self._leaving:
            if not member.stopped:
                member.stop(now, self._limits.grace_s)

    def _reap(self, now: float) -> None:
        for member in [each for each in self._leaving if not each.process.is_alive()]:
            self._leaving.remove(member)
        for slot, member in list(self._serving.items()):
            if not member.process.is_alive():
                self._replace_exited(slot, member, now)

    def _replace_exited(self, slot: int, member: Member, now: float) -> None:
        started = member.state.started
        logger.warning("worker_exited", extra={"worker": member.process.pid})
        predecessor = self._predecessor(slot)
        if not started and predecessor is not None:
            self._leaving.remove(predecessor)
            self._serving[slot] = predecessor
            self._to_replace.clear()
            self.replacement_failed = True
            return
        self._failures[slot] = 0 if started else self._failures[slot] + 1
        if self._failures[slot] > 1:
            logger.error("worker_pool_failed")
            self.failed = True
            del self._serving[slot]
            self.stop(now, drain=False)
            return
        self._serving[slot] = self._started(slot)

    def _predecessor(self, slot: int) -> Member | None:
        """Return the worker that serves a slot until its replacement has started."""
        return next(
            (each for each in self._leaving if each.slot == slot and each.leave_at is None), None
        )

    def _check_heartbeats(self, elapsed: float) -> None:
        limit = self._limits.heartbeat_s
        members = [*self._serving.values(), *self._leaving]
        silent = [
            member
            for member in members
            if member.state.started and member.silence.observe(member.state.beat, elapsed) > limit
        ]
        # If all are silent, the machine may be the cause: the next one is killed only once the
        # replacement of this one serves.
        if not limit or not silent or not self.all_started:
            return
        member = max(silent, key=lambda each: each.silence.seconds)
        silent_s, member.silence = round(member.silence.seconds, 1), Silence()
        pid = member.process.pid
        if is_traced(pid):
            return
        logger.error("worker_killed", extra={"worker": pid, "silent_s": silent_s})
        member.process.kill()

    def _replace(self, slot: int) -> None:
        """Start another worker in a slot; the old one leaves once it serves."""
        self._leaving.append(self._serving[slot])
        self._serving[slot] = self._started(slot)

    def _advance(self, member: Member, now: float) -> None:
        """Stop a worker that may leave, and kill one that did not end in time."""
        if member.stopped:
            if now >= member.kill_at:
                logger.error("worker_killed", extra={"worker": member.process.pid})
                member.process.kill()
                member.kill_at = now + END_S
        elif member.leave_at is None:
            if self._serving[member.slot].state.started:
                member.leave_at = now + self._limits.quiet_s
        elif now >= member.leave_at:
            member.stop(now, self._limits.grace_s)
