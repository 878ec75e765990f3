"""The lag of a running event loop."""

from __future__ import annotations

import asyncio
import time

from gateway.pipeline.overload.lag_sampler import SAMPLE_EVERY_S, LagSampler
from tests.support.waiting import wait_until


async def test_lag_is_what_a_due_callback_waits_for() -> None:
    """A callback that blocks the loop makes the sample late by as long."""
    lags: list[float] = []
    sampler = LagSampler(0.0, lags.append)

    with sampler:
        time.sleep(SAMPLE_EVERY_S + 0.1)  # noqa: ASYNC251 - it blocks the loop on purpose
        await wait_until(lambda: lags)

    assert 0.1 <= lags[0] < 5


async def test_lag_includes_callbacks_that_are_ready() -> None:
    """They run before what is due now, though a timer would overtake them."""
    loop = asyncio.get_running_loop()
    lags: list[float] = []
    sampler = LagSampler(0.0, lags.append)

    def busy() -> None:
        time.sleep(0.02)
        loop.call_soon(busy_again)

    def busy_again() -> None:
        if not lags:
            busy()

    for _ in range(5):
        loop.call_soon(busy)
    with sampler:
        await wait_until(lambda: lags)

    assert lags[0] >= 0.1


async def test_turns_are_measured_without_calls() -> None:
    """So an overload ends even if no further call arrives."""
    with LagSampler(1.0, lambda _: None) as sampler:
        await wait_until(lambda: sampler.turns.limit.turn_s > 0)


async def test_ended_sampler_takes_no_further_sample() -> None:
    """While another one, which started then, takes two."""
    lags: list[float] = []
    with LagSampler(0.0, lags.append):
        await wait_until(lambda: lags)
    count = len(lags)

    others: list[float] = []
    with LagSampler(0.0, others.append):
        await wait_until(lambda: len(others) > 1)

    assert len(lags) == count
