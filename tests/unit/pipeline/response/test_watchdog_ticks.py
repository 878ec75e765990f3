"""The timer behind all clocks."""

from __future__ import annotations

import asyncio
from time import monotonic

import pytest

from gateway.pipeline.response.watchdog import TICK_S, Watchdog
from tests.support.pipeline_fakes import CLOCKS
from tests.support.waiting import wait_until


class Watched:
    """Counts how often it is looked at, and may fail."""

    def __init__(self, error: Exception | None = None) -> None:
        self.count = 0
        self._error = error

    def check(self, now: float, clocks: object) -> None:
        self.count += 1
        if self._error is not None:
            raise self._error


async def test_watchdog_looks_at_all_though_one_fails(caplog: pytest.LogCaptureFixture) -> None:
    """An error in one stream does not stop the clocks of others."""
    watchdog = Watchdog()
    failing, sound = Watched(ZeroDivisionError()), Watched()
    watchdog.add(failing, CLOCKS)
    watchdog.add(sound, CLOCKS)

    with watchdog:
        await wait_until(lambda: sound.count >= 2 and failing.count >= 2)

    assert "clock_failed" in caplog.text


async def test_watchdog_forgets_what_is_discarded() -> None:
    """A discarded stream is not checked; discarding it twice is no error."""
    watchdog = Watchdog()
    gone, kept = Watched(), Watched()
    watchdog.add(gone, CLOCKS)
    watchdog.add(kept, CLOCKS)
    watchdog.discard(gone)
    watchdog.discard(gone)

    with watchdog:
        await wait_until(lambda: kept.count)

    assert gone.count == 0


async def test_watchdog_passes_over_one_tick_after_a_standstill() -> None:
    """Data that came meanwhile is read before the clocks judge; a second late tick judges."""
    watchdog = Watchdog()
    watched = Watched()
    watchdog.add(watched, CLOCKS)
    loop = asyncio.get_running_loop()

    counts = []
    for late_s in (0.0, 2 * TICK_S, 2 * TICK_S, 0.0, 2 * TICK_S):
        watchdog._tick(loop, monotonic() - late_s)
        watchdog.__exit__()
        counts.append(watched.count)

    assert counts == [1, 1, 2, 3, 3]
