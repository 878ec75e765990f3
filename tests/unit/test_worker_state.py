"""The page that a supervisor and a worker share."""

from __future__ import annotations

import os

from gateway.worker_state import Phase, WorkerState


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
