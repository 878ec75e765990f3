"""Which calls a worker refuses while its loop's turns are long."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from gateway.pipeline.overload.loop_turns import (
    ENDING,
    JUDGED_S,
    SHORTER,
    STANDING_S,
    LoopTurns,
    TurnLimit,
)
from tests.support.waiting import wait_until

LIMIT_S = 0.02
LONG_S = 0.03
SHORT_S = 0.005
BETWEEN_S = 0.01
"""Short enough to begin no overload, and too long while there is one."""
ENTERED = 10.0 + STANDING_S + 0.01


def observed(*turns: tuple[float, float], limit_s: float = LIMIT_S) -> TurnLimit:
    """Return a limit that has seen some turns, each with the time at which it ended."""
    limit = TurnLimit(limit_s)
    for turn_s, now in turns:
        limit.observe(turn_s, now)
    return limit


def standing(began: float = 10.0) -> list[tuple[float, float]]:
    """Return the turns of a queue that stands since `began`, the last just long enough."""
    return [(LONG_S, began), (LONG_S, began + STANDING_S / 2), (LONG_S, began + STANDING_S + 0.01)]


@pytest.mark.parametrize(
    "turns",
    [
        [],
        [(LIMIT_S, 10.0), (LIMIT_S, 11.0), (LIMIT_S, 12.0)],
        [(9.0, 10.0)],
        standing()[:2],
        [(LONG_S, 10.0), (SHORT_S, 10.1), (LONG_S, 10.2), (LONG_S, 10.2 + STANDING_S / 2)],
    ],
    ids=["none", "at the limit", "one long task", "for a short time", "with a short turn between"],
)
def test_nothing_is_refused_without_a_standing_queue(turns: list[tuple[float, float]]) -> None:
    """Neither in the turn after these nor far into it."""
    limit = observed(*turns)

    assert not limit.overloaded
    assert not limit.refuses(9.0)


def test_call_in_or_after_a_long_turn_is_refused_while_overloaded() -> None:
    """And is accepted as soon as the queue is short, without waiting for the overload's end."""
    limit = observed(*standing())
    after_long = limit.refuses(0.0)

    limit.observe(SHORT_S, 10.3)

    assert after_long
    assert limit.overloaded
    found = [limit.refuses(age_s) for age_s in (0.0, LIMIT_S * SHORTER, BETWEEN_S)]
    assert found == [False, False, True]


def test_turns_are_kept_shorter_while_overloaded() -> None:
    """A call passes through several, and one that begins no overload may be too long in it."""
    assert not observed((BETWEEN_S, 10.0)).refuses(BETWEEN_S)
    assert observed(*standing(), (BETWEEN_S, 10.3)).refuses(0.0)


@pytest.mark.parametrize(
    ("asked", "refused", "ended"),
    [(0, 0, True), (100, 0, True), (100, 25, True), (100, 26, False), (100, 100, False)],
)
def test_overload_ends_when_few_calls_are_refused(asked: int, refused: int, ended: bool) -> None:
    """Then turns must stand again before a call is refused."""
    assert ENDING == 0.25
    limit = observed(*standing(), (SHORT_S, 10.3))
    for number in range(asked):
        assert limit.refuses(BETWEEN_S if number < refused else 0.0) is (number < refused)

    limit.observe(LONG_S, ENTERED + JUDGED_S - 0.01)
    assert limit.overloaded
    limit.observe(LONG_S, ENTERED + JUDGED_S + 0.01)

    assert limit.overloaded is not ended
    assert limit.refuses(LONG_S) is not ended
    limit.observe(LONG_S, ENTERED + JUDGED_S + 0.1)
    assert limit.overloaded is not ended


def test_overload_is_judged_again_and_again() -> None:
    """Each time by what was refused since the last time."""
    limit = observed(*standing())
    assert limit.refuses(0.0)
    limit.observe(LONG_S, ENTERED + JUDGED_S + 0.01)
    assert limit.overloaded
    limit.observe(SHORT_S, ENTERED + JUDGED_S + 0.02)
    assert not limit.refuses(0.0)

    limit.observe(LONG_S, ENTERED + 2 * JUDGED_S + 0.02)

    assert not limit.overloaded


def test_zero_refuses_nothing() -> None:
    """However long the turns are."""
    limit = observed(*standing(), limit_s=0.0)

    assert not limit.overloaded
    assert not limit.refuses(9.0)


def cpu_times(*values: float) -> Iterator[float]:
    """Return readings of a clock."""
    return iter(values)


async def test_turn_is_the_cpu_time_to_the_same_place_in_the_next_turn() -> None:
    """Of several calls in a turn, only the first reads the clock."""
    readings = cpu_times(5.0, 5.25)
    turns = LoopTurns(LIMIT_S, lambda: next(readings))

    assert not turns.refuses()
    assert not turns.refuses()
    await asyncio.sleep(0)

    assert turns.limit.turn_s == 0.25


async def test_age_of_the_turn_counts_before_it_has_ended() -> None:
    """The calls that arrive late in a long turn are refused in it."""
    readings = cpu_times(1.0, 1.0 + SHORT_S, 1.0 + LONG_S, 2.0)
    turns = LoopTurns(LIMIT_S, lambda: next(readings))
    turns.limit = observed(*standing(), (SHORT_S, 10.3))

    assert [turns.refuses(), turns.refuses()] == [False, True]
    await asyncio.sleep(0)


async def test_begin_and_end_of_an_overload_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Once each, with the turn that caused it."""
    clock = 0.0
    step_s = LONG_S

    def cpu_time() -> float:
        nonlocal clock
        clock += step_s
        return clock

    turns = LoopTurns(LIMIT_S, cpu_time)

    def is_logged(event: str) -> bool:
        turns.begin()
        return event in caplog.text

    await wait_until(lambda: is_logged("overload_started"))
    step_s = SHORT_S
    await wait_until(lambda: is_logged("overload_ended"))

    events = [(record.message, record.__dict__["turn_ms"]) for record in caplog.records]
    assert events == [("overload_started", 30), ("overload_ended", 5)]
