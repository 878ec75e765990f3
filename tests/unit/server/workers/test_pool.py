"""The life of workers, by values: no process, no clock."""

from __future__ import annotations

import pytest

from gateway.server.workers import pool as pool_module
from gateway.server.workers.pool import Limits, Pool
from gateway.worker_state import END_S, Phase, WorkerState

LIMITS = Limits(heartbeat_s=10, drain_s=5, grace_s=60, quiet_s=7)
TICK_S = 0.5


class FakeProcess:
    """A worker that starts at once and beats until the test says otherwise."""

    def __init__(self, pid: int, slot: int, state: WorkerState) -> None:
        self.pid = pid
        self.slot = slot
        self.state = state
        self.alive = True
        self.starts = True
        self.beats = True
        self.ends = True
        """It ends when it is terminated."""
        self.terminated = False
        self.killed = False

    def is_alive(self) -> bool:
        return self.alive

    def terminate(self) -> None:
        self.terminated = True
        self.alive = not self.ends

    def kill(self) -> None:
        self.killed = True
        self.alive = False

    def live(self, now: float) -> None:
        """Do what a worker does between two ticks."""
        self.state.started = self.state.started or self.starts
        if self.beats:
            self.state.beat = now


class World:
    """A pool with fake processes and a clock."""

    def __init__(self, size: int = 2, limits: Limits = LIMITS) -> None:
        self.now = 1000.0
        self.processes: list[FakeProcess] = []
        self.closed = 0
        self.starts = True
        self.pool = Pool(size, self._spawn, limits, self._close)
        self.pool.start()
        self.run(1)

    def _spawn(self, slot: int, state: WorkerState) -> FakeProcess:
        process = FakeProcess(len(self.processes) + 1, slot, state)
        process.starts = self.starts
        self.processes.append(process)
        return process

    def _close(self) -> None:
        self.closed += 1

    def run(self, seconds: float) -> None:
        """Let time pass."""
        until = self.now + seconds
        while self.now < until:
            for process in self.processes:
                if process.alive:
                    process.live(self.now)
            self.now += TICK_S
            self.pool.tick(self.now)

    @property
    def alive(self) -> list[int]:
        """The processes that run."""
        return [process.pid for process in self.processes if process.alive]

    @property
    def serving(self) -> list[int]:
        """The processes that serve, by slot."""
        return [member.process.pid for member in self.pool.workers]

    def phase(self, pid: int) -> Phase:
        """What a process is to do."""
        return self.processes[pid - 1].state.phase

    def process(self, pid: int) -> FakeProcess:
        """A process."""
        return self.processes[pid - 1]


def test_worker_that_exits_is_replaced_in_its_slot() -> None:
    """Any number of times."""
    world = World()
    for _ in range(5):
        world.process(world.serving[1]).alive = False
        world.run(1)

    assert world.serving == [1, 7]
    assert world.processes[-1].slot == 1
    assert not world.pool.failed


def test_worker_that_cannot_start_twice_ends_everything() -> None:
    """The process manager restarts the gateway, and sees the error."""
    world = World()
    world.starts = False
    world.process(1).alive = False
    world.run(1)
    world.process(3).alive = False
    world.run(1)
    assert not world.pool.failed

    world.process(4).alive = False
    world.run(2)

    assert world.pool.failed
    assert world.pool.ended
    assert world.alive == []


def test_silent_worker_is_killed_and_replaced() -> None:
    """Not before its time; the other one stays."""
    world = World()
    world.process(1).beats = False
    world.run(9)
    assert world.alive == [1, 2]

    world.run(3)

    assert world.process(1).killed
    assert world.serving == [3, 2]


def test_machine_that_stood_still_costs_no_worker() -> None:
    """After the pause the supervisor looks before the workers have beaten."""
    world = World()
    for _ in range(20):
        world.now += 3600
        world.pool.tick(world.now)
        world.run(1)

    assert world.serving == [1, 2]


def test_workers_that_are_silent_together_are_killed_one_after_the_other() -> None:
    """When the first replacement serves, the others have beaten again, or it is their turn."""
    world = World(size=3)
    for pid in (1, 2, 3):
        world.process(pid).beats = False
    world.starts = False
    world.run(30)
    assert [process.pid for process in world.processes if process.killed] == [1]

    world.process(2).beats = world.process(3).beats = True
    world.process(4).starts = True
    world.run(30)

    assert world.serving == [4, 2, 3]


def test_worker_under_a_debugger_is_not_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that is stopped in a debugger is not killed."""
    world = World()
    monkeypatch.setattr(pool_module, "is_traced", lambda pid: pid == 1)
    world.process(1).beats = False
    world.run(60)

    assert world.serving == [1, 2]


def test_heartbeats_can_be_switched_off() -> None:
    """For debuggers inside of the worker."""
    world = World(limits=LIMITS._replace(heartbeat_s=0))
    world.process(1).beats = False
    world.run(600)

    assert world.serving == [1, 2]


def test_worker_that_has_not_started_is_not_silent() -> None:
    """A start may wait for Redis or SQL."""
    world = World()
    world.starts = False
    world.process(1).alive = False
    world.run(120)

    assert world.serving == [3, 2]


def test_drain_is_for_all_workers_those_started_later_included() -> None:
    """And it can be taken back."""
    world = World()
    world.pool.draining = True
    world.process(2).alive = False
    world.run(1)
    assert [world.phase(pid) for pid in world.serving] == [Phase.DRAIN, Phase.DRAIN]

    world.pool.draining = False
    world.run(1)

    assert [world.phase(pid) for pid in world.serving] == [Phase.SERVE, Phase.SERVE]


def test_stop_drains_then_terminates_then_ends_calls_then_kills() -> None:
    """Each at its time; the port is closed when the drain period is over."""
    world = World(size=1)
    world.process(1).ends = False
    world.pool.stop(world.now, drain=True)
    world.run(4.5)
    assert (world.phase(1), world.process(1).terminated, world.closed) == (Phase.DRAIN, False, 0)

    world.run(1)
    assert (world.process(1).terminated, world.closed) == (True, 1)
    world.run(58)
    assert world.phase(1) is Phase.DRAIN
    world.run(2)
    assert (world.phase(1), world.process(1).killed) == (Phase.END, False)
    world.run(END_S)

    assert world.process(1).killed
    world.run(1)
    assert world.pool.ended


def test_second_signal_may_only_end_the_drain_sooner() -> None:
    """Ctrl-C after SIGTERM skips the rest of the drain; SIGTERM after Ctrl-C changes nothing."""
    world = World()
    world.pool.stop(world.now, drain=True)
    world.run(1)
    world.pool.stop(world.now, drain=False)
    world.pool.stop(world.now, drain=True)
    world.run(1)

    assert world.pool.ended
    assert world.closed == 1


def test_restart_replaces_one_worker_after_the_other() -> None:
    """Old workers accept until the new one serves, then serve what they have, then stop."""
    world = World()
    world.starts = False
    world.pool.replace_all()
    world.run(20)
    assert world.serving == [3, 2]
    assert [world.phase(pid) for pid in (1, 2, 3)] == [Phase.SERVE] * 3

    world.starts = world.process(3).starts = True
    world.run(2)
    assert world.phase(1) is Phase.LEAVE
    assert not world.process(1).terminated
    assert world.serving == [3, 4]
    assert not world.pool.replacing
    assert world.pool.leaving == 2
    world.run(LIMITS.quiet_s + 2)

    assert world.alive == [3, 4]
    assert world.pool.leaving == 0
    assert world.closed == 0


def test_restart_that_cannot_start_a_worker_keeps_the_old_ones() -> None:
    """The gateway does not end because of it."""
    world = World()
    world.starts = False
    world.pool.replace_all()
    world.run(1)
    world.process(3).alive = False
    world.run(60)

    assert world.serving == world.alive == [1, 2]
    assert world.pool.replacement_failed
    assert not world.pool.replacing
    assert world.phase(1) is Phase.SERVE


def test_old_worker_that_does_not_end_gets_the_grace_period_only() -> None:
    """As at the end of the gateway."""
    world = World(size=1)
    world.process(1).ends = False
    world.pool.replace_all()
    world.run(LIMITS.quiet_s + 3)
    assert world.process(1).terminated
    world.run(LIMITS.grace_s)
    assert world.phase(1) is Phase.END

    world.run(END_S + 1)

    assert world.alive == [2]


def test_stop_in_a_restart_ends_old_and_new_workers() -> None:
    """All of them."""
    world = World()
    world.pool.replace_all()
    world.run(1)
    world.pool.stop(world.now, drain=False)
    world.run(2)

    assert world.alive == []
    assert world.pool.ended


def test_revision_reaches_all_workers() -> None:
    """Those that leave, too: their connections may bring calls."""
    world = World()
    world.pool.replace_all()
    world.run(2)
    world.pool.revision = 3
    world.run(TICK_S)

    assert [world.process(pid).state.wanted for pid in world.alive] == [3] * len(world.alive)
