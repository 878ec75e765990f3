"""Timers that are nearly always cancelled: when they are due, and what they refer to."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable
from time import monotonic
from typing import Any

import pytest

from gateway.deadlines import COARSE_FROM_S, TICK_S, Deadlines
from tests.support.waiting import wait_until


@pytest.mark.parametrize("delay_s", [0.02, COARSE_FROM_S])
async def test_a_callback_is_called_once_with_its_arguments_and_never_early(
    delay_s: float,
) -> None:
    deadlines = Deadlines()
    called: list[Any] = []
    began = monotonic()
    deadlines.call_later(delay_s, lambda *args: called.append((args, monotonic())), 1, "two")
    await wait_until(lambda: called)
    await asyncio.sleep(TICK_S)
    ((args, at),) = called
    assert args == (1, "two")
    assert at - began >= delay_s - 0.002  # the loop's own clock has milliseconds


@pytest.mark.parametrize("delay_s", [0.01, COARSE_FROM_S])
async def test_a_cancelled_callback_is_not_called(delay_s: float) -> None:
    deadlines = Deadlines()
    called: list[Any] = []
    cancelled = deadlines.call_later(delay_s, called.append, "cancelled")
    deadlines.call_later(delay_s, called.append, "due")
    cancelled.cancel()
    cancelled.cancel()
    await wait_until(lambda: called)
    assert called == ["due"]


async def test_a_callback_may_cancel_others_and_set_new_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("gateway.deadlines.COARSE_FROM_S", 0.0)
    deadlines = Deadlines()
    called: list[Any] = []

    def first() -> None:
        called.append("first")
        second.cancel()
        deadlines.call_later(0.01, called.append, "third")

    deadlines.call_later(0.01, first)
    second = deadlines.call_later(0.01, called.append, "second")
    await wait_until(lambda: len(called) > 1)
    assert called == ["first", "third"]


async def test_a_failing_callback_does_not_stop_the_others(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("gateway.deadlines.COARSE_FROM_S", 0.0)
    deadlines = Deadlines()
    called: list[Any] = []
    deadlines.call_later(0.01, lambda: 1 // 0)
    deadlines.call_later(0.01, called.append, "due")
    await wait_until(lambda: called)
    assert [record.message for record in caplog.records] == ["deadline_failed"]


async def test_a_cancelled_deadline_keeps_nothing_alive() -> None:
    class Owner:
        timer: object = None

        def due(self) -> None: ...

    deadlines, owner = Deadlines(), Owner()
    deadline = deadlines.call_later(60.0, owner.due)
    owner.timer = deadline
    deadline.cancel()
    found: Callable[[], object] = weakref.ref(owner)
    del owner, deadline
    assert found() is None
