"""Percentiles of output tokens, and the estimates made from them."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.output_estimate import ENOUGH, OutputEstimator, OutputQuantile


@given(st.lists(st.integers(0, 300_000), min_size=1, max_size=300))
def test_quantile_is_an_upper_bound_less_than_a_quarter_too_high(tokens: list[int]) -> None:
    """At least 95 of 100 counts are at most the value, which is less than a quarter too high."""
    quantile = OutputQuantile()
    for count in tokens:
        quantile.observe(count)

    value = quantile.value()

    fitting = sum(count <= value for count in tokens)
    assert fitting >= 0.95 * len(tokens)
    ordered = sorted(tokens)
    exact = ordered[math.ceil(0.95 * len(ordered)) - 1]
    assert value < exact * 1.25 + 1 or value <= ordered[-1] * 1.25


def test_quantile_of_nothing_is_nothing() -> None:
    """Without observations the value is 0."""
    assert OutputQuantile().value() == 0


def test_quantile_beyond_its_buckets_is_its_last() -> None:
    """A count beyond the last bucket is counted in it."""
    quantile = OutputQuantile()
    quantile.observe(10**9)
    quantile.observe(-1)

    assert quantile.value() > 1_000_000


def test_quantile_follows_a_change_of_habits() -> None:
    """After a few thousand smaller outputs, the larger ones before them have no effect."""
    quantile = OutputQuantile()
    for _ in range(1000):
        quantile.observe(20_000)
    for _ in range(4000):
        quantile.observe(300)

    assert quantile.value() < 400


def test_learner_expects_the_default_until_it_knows() -> None:
    """The percentile is used from twenty calls on, and never exceeds `at_most`."""
    learner = OutputEstimator(default_tokens=1000)
    for _ in range(ENOUGH - 1):
        learner.observe("key", "model", 50)
    before = learner.expected("key", "model", 32_000)
    learner.observe("key", "model", 50)

    assert before == 1000
    assert 50 <= learner.expected("key", "model", 32_000) < 63
    assert learner.expected("key", "model", 16) == 16
    assert learner.expected("key", "other", 32_000) == 1000
    assert learner.expected("key", "other", 10) == 10


def test_learner_expects_of_a_new_key_what_the_model_does_for_others() -> None:
    """A key without calls of its own gets the model's percentile."""
    learner = OutputEstimator(default_tokens=1000)
    for _ in range(ENOUGH):
        learner.observe("old", "model", 50)

    assert learner.expected("new", "model", 32_000) < 63


def test_learner_expects_no_more_of_a_new_key_because_of_others() -> None:
    """Large responses of one tenant do not raise another's reservations."""
    learner = OutputEstimator(default_tokens=1000)
    for _ in range(ENOUGH):
        learner.observe("old", "model", 20_000)

    assert learner.expected("new", "model", 32_000) == 1000
    assert learner.expected("old", "model", 32_000) >= 20_000


def test_learner_forgets_who_was_not_used_for_longest() -> None:
    """The least recently used pair is evicted."""
    learner = OutputEstimator(default_tokens=1000, entries=2)
    for key in ("a", "b", "a", "c"):
        for _ in range(ENOUGH):
            learner.observe(key, key, 7)

    expected = [learner.expected(key, key, 9999) for key in ("a", "b", "c")]

    assert expected == [7, 1000, 7]


@pytest.mark.parametrize("seed", range(3))
def test_learner_holds_far_less_than_agents_ask_for(seed: int) -> None:
    """An agent that asks for 32,000 and mostly uses hundreds blocks a thousand or so."""
    draw = random.Random(seed)
    learner = OutputEstimator(default_tokens=1024)
    for _ in range(400):
        learner.observe("agent", "m", int(draw.lognormvariate(6, 0.8)))

    assert 800 < learner.expected("agent", "m", 32_000) < 3000
