"""Steps of times to first token, and the percentiles read from their counts."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.latency_histogram import BOUNDS_MS, STEPS, quantile_ms, step_of


def counted(times_ms: list[int]) -> list[int]:
    """Return the histogram of some times."""
    counts = [0] * STEPS
    for ms in times_ms:
        counts[step_of(ms)] += 1
    return counts


@pytest.mark.parametrize(
    ("ms", "step"), [(0, 0), (24, 0), (25, 1), (34, 1), (35, 2), (51_199, 22), (51_200, 23)]
)
def test_step_of_a_time_starts_at_its_lower_bound(ms: int, step: int) -> None:
    """Upper bounds are exclusive; the last step has none."""
    assert step_of(ms) == step


def test_bounds_grow_by_half_an_octave() -> None:
    """23 bounds make 24 steps, each about 1.41 times as long as the one before."""
    assert (len(BOUNDS_MS), STEPS) == (23, 24)
    assert all(1.39 < high / low < 1.44 for low, high in itertools.pairwise(BOUNDS_MS))


def test_quantile_of_nothing_is_none() -> None:
    """No calls have no percentile."""
    assert quantile_ms([0] * STEPS, 0.5) is None


def test_quantile_interpolates_within_its_step() -> None:
    """Of 100 times between 400 and 566 ms, half are below their geometric middle."""
    counts = [0] * STEPS
    counts[step_of(400)] = 100

    assert [quantile_ms(counts, share) for share in (0.0, 0.5, 1.0)] == [400, 476, 566]


def test_quantile_beyond_the_last_bound_is_that_bound() -> None:
    """A time that no step bounds is not invented."""
    assert quantile_ms(counted([90_000]), 0.5) == 51_200


@given(st.lists(st.integers(25, 51_199), min_size=1, max_size=200), st.floats(0.01, 1))
def test_quantile_is_in_the_step_of_the_exact_one(times_ms: list[int], share: float) -> None:
    """The estimate lies within the bounds of the step that holds the exact quantile."""
    ordered = sorted(times_ms)
    rank = next(n for n in range(1, len(ordered) + 1) if n >= share * len(ordered))
    step = step_of(ordered[rank - 1])

    found = quantile_ms(counted(times_ms), share)

    assert found is not None
    assert BOUNDS_MS[step - 1] <= found <= BOUNDS_MS[step]
