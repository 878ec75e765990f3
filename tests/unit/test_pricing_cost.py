"""What calls cost: exact, rounded once, up."""

from __future__ import annotations

import math
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from gateway.core.model import Prices, Usage
from gateway.core.pricing import cost_nanousd, most_nanousd, token_count, worst_case_nanousd

COUNTS = st.integers(0, 10_000_000)
PRICE = st.integers(0, 10**15)
USAGES = st.builds(Usage, *[COUNTS] * 5)
PRICES = st.builds(Prices, *[PRICE] * 5)


def exact(usage: Usage, prices: Prices) -> Fraction:
    """The sum over the classes, in nano-dollars, as a fraction."""
    return sum(
        (
            Fraction(getattr(usage, name) * getattr(prices, name), 1_000_000)
            for name in ("input", "output", "cache_read", "cache_write", "reasoning")
        ),
        Fraction(0),
    )


def test_cost_of_a_known_call_is_known() -> None:
    """0.07 dollars a million in, 0.28 out, a tenth for cached input: as on the price list."""
    prices = Prices(
        input=70_000_000, output=280_000_000, cache_read=7_000_000, cache_write=70_000_000,
        reasoning=280_000_000,
    )  # fmt: skip
    usage = Usage(input=1000, cache_read=20_000, output=500, reasoning=100)

    assert cost_nanousd(usage, prices) == 70_000 + 140_000 + 140_000 + 28_000


def test_cost_below_a_nano_dollar_is_one() -> None:
    """A tenth of a nano-dollar for each class is one nano-dollar together, not five."""
    tenth = Prices(*[100_000] * 5)

    assert cost_nanousd(Usage(1, 1, 1, 1, 1), tenth) == 1
    assert cost_nanousd(Usage(), tenth) == 0


@given(USAGES, PRICES)
def test_cost_is_the_exact_sum_rounded_up_once(usage: Usage, prices: Prices) -> None:
    """Never below the exact value, and less than a nano-dollar above it."""
    assert cost_nanousd(usage, prices) == math.ceil(exact(usage, prices))


@given(USAGES, USAGES, PRICES)
def test_cost_of_two_calls_apart_is_at_most_one_more(a: Usage, b: Usage, prices: Prices) -> None:
    """Splitting a call neither saves money nor costs more than its own rounding."""
    both = Usage(*[getattr(a, name) + getattr(b, name) for name in Usage.__struct_fields__])

    apart = cost_nanousd(a, prices) + cost_nanousd(b, prices)

    assert cost_nanousd(both, prices) <= apart <= cost_nanousd(both, prices) + 1


@given(COUNTS, COUNTS, COUNTS, PRICES)
def test_most_covers_every_way_the_output_may_turn_out(
    given_tokens: int, output: int, reasoning: int, prices: Prices
) -> None:
    """Whatever part of the output is reasoning, the hold for it is enough."""
    usage = Usage(input=given_tokens, output=output, reasoning=reasoning)

    assert cost_nanousd(usage, prices) <= most_nanousd(given_tokens, output + reasoning, prices)


@given(USAGES)
def test_token_count_is_the_sum_of_the_classes(usage: Usage) -> None:
    """A class that is added to the usage cannot be forgotten here."""
    assert token_count(usage) == sum(getattr(usage, name) for name in Usage.__struct_fields__)


def test_worst_case_counts_every_token_at_the_dearest_price() -> None:
    """Input may be written into a cache, output may be reasoning; rounded up."""
    prices = Prices(input=3, output=10, cache_read=1, cache_write=4, reasoning=12)

    assert worst_case_nanousd(1_000_000, 2_000_000, prices) == 4 + 24
    assert worst_case_nanousd(1, 0, prices) == 1


@given(st.tuples(*[COUNTS] * 5), st.tuples(*[PRICE] * 5))
def test_no_usage_within_its_limits_costs_more_than_the_worst_case(
    counts: tuple[int, ...], prices: tuple[int, ...]
) -> None:
    """However its input is cached and however much of its output is reasoning."""
    usage, priced = Usage(*counts), Prices(*prices)
    given_tokens = usage.input + usage.cache_read + usage.cache_write

    worst = worst_case_nanousd(given_tokens, usage.output + usage.reasoning, priced)

    assert cost_nanousd(usage, priced) <= worst
