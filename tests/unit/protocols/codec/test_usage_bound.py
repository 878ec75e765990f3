"""The largest usage that is believed of one call."""

from __future__ import annotations

import msgspec
import pytest

from gateway.core.model import Model, Prices, Usage
from gateway.protocols.codec.usage_bound import MOST_SEARCHES, UNBOUNDED, usage_bound

MODEL = Model(
    name="m", aliases=(), display_name="m", created=0, context=200_000, max_output=64_000,
    prices=Prices(1, 1, 1, 1, 1), deployments=(),
)  # fmt: skip
MOST = 330_000
"""1.25 times context and longest output."""


@pytest.mark.parametrize("name", ["input", "cache_read", "cache_write", "output", "reasoning"])
def test_a_model_bounds_the_tokens_of_a_call(name: str) -> None:
    """Whichever class they are of, and whatever is spread over several."""
    bound = usage_bound(MODEL, 10)
    half = msgspec.convert({name: MOST // 2}, Usage)

    assert bound.allows(msgspec.convert({name: MOST}, Usage))
    assert not bound.allows(msgspec.convert({name: MOST + 1}, Usage))
    assert bound.allows(msgspec.structs.replace(half, input=MOST // 2))
    assert not bound.allows(Usage(input=1, output=500_000_000))
    assert not bound.allows(Usage(input=MOST // 2, output=MOST // 2, cache_read=1))


def test_each_choice_may_be_as_long() -> None:
    """Of eight choices each has the longest output; a longer one that is asked for counts."""
    assert usage_bound(MODEL, 10, None, 8).tokens == (200_000 + 8 * 64_000) * 5 // 4
    assert usage_bound(MODEL, 10, 100, 8).tokens == (200_000 + 8 * 64_000) * 5 // 4
    assert usage_bound(MODEL, 10, 100_000).tokens == (200_000 + 100_000) * 5 // 4
    assert usage_bound(MODEL, 10, 10**12).tokens == (200_000 + 200_000) * 5 // 4


def test_a_request_larger_than_the_recorded_context_counts_by_its_size() -> None:
    """A batch of embeddings, or a catalogue with the context of an older model."""
    assert usage_bound(MODEL, 100_000).tokens == MOST
    assert usage_bound(MODEL, 500_000).tokens == (1_000_000 + 64_000) * 5 // 4


def test_tools_of_the_upstream_count_the_conversation_many_times() -> None:
    """Each of their rounds reads it again."""
    rounds = Usage(input=3_000_000, output=10)

    assert not usage_bound(MODEL, 10).allows(rounds)
    assert usage_bound(MODEL, 10, runs_tools=True).allows(rounds)
    assert usage_bound(MODEL, 10).allows(msgspec.structs.replace(rounds, web_searches=9))
    assert not usage_bound(MODEL, 10, runs_tools=True).allows(Usage(input=500_000_000))


def test_searches_are_bounded() -> None:
    """A thousand million of them would cost as many cents."""
    assert usage_bound(MODEL, 10).allows(Usage(input=1, web_searches=MOST_SEARCHES))
    assert not usage_bound(MODEL, 10).allows(Usage(input=1, web_searches=MOST_SEARCHES + 1))


def test_unbounded_allows_every_count() -> None:
    """Each class may be at its largest count."""
    most = 1_000_000_000
    assert UNBOUNDED.allows(Usage(most, most, most, most, most))
