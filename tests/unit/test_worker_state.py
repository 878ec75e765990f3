"""The page that a supervisor and a worker share."""

from __future__ import annotations

import os

from gateway.worker_state import END_S, Orphan, Phase, WorkerState


def test_both_processes_see_what_the_other_writes() -> None:
    """Over a fork, each field by itself."""
    state = WorkerState()
    state.phase = Phase.LEAVE
    state.wanted = 7
    child = os.fork()
    if child == 0:
        seen = (state.phase, state.wanted) == (Phase.LEAVE, 7)
        state.beat = 12.5
        state.applied = 6 + seen
        state.rejected = 5
        state.started = True
        os._exit(0)
    os.waitpid(child, 0)

    assert (state.beat, state.applied, state.rejected, state.started) == (12.5, 7, 5, True)
    assert (state.phase, state.wanted) == (Phase.LEAVE, 7)


def test_new_page_asks_to_serve() -> None:
    """Nothing was written yet."""
    state = WorkerState()

    assert (state.phase, state.beat, state.started) == (Phase.SERVE, 0.0, False)
    assert (state.wanted, state.applied, state.rejected) == (0, 0, 0)


def test_worker_of_a_dead_supervisor_gets_the_grace_period() -> None:
    """It runs from the moment at which the worker notices; then calls end, then the worker."""
    orphan = Orphan(supervisor=7, grace_s=60.0)
    seen = [orphan.observe(parent, now) for parent, now in ((7, 0.0), (7, 500.0))]
    seen += [orphan.observe(1, now) for now in (501.0, 560.9, 561.0, 600.0)]

    assert seen == [None, None, Phase.DRAIN, Phase.DRAIN, Phase.END, Phase.END]
    assert [orphan.is_overdue(561.0 + END_S - 0.1), orphan.is_overdue(561.0 + END_S)] == [
        False,
        True,
    ]


def test_worker_with_a_supervisor_is_never_overdue() -> None:
    """However long it runs."""
    orphan = Orphan(supervisor=7, grace_s=0.0)
    orphan.observe(7, 0.0)

    assert not orphan.is_overdue(1e9)
