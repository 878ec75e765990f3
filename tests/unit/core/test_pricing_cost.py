"""What calls cost: exact, rounded once, up."""

from __future__ import annotations

import math
from fractions import Fraction

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.model import TOKEN_COLUMNS, Prices, TokenPrices, Usage
from gateway.core.money import MAX_AMOUNT_NANOUSD
from gateway.core.pricing import (
    cost_nanousd,
    dearest_input,
    most_nanousd,
    token_count,
    worst_case_nanousd,
)

COUNTS = st.integers(0, 10_000_000)
PRICE = st.integers(0, 10**13)
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
    tenth = Prices(100_000, 100_000, 100_000, 100_000, 100_000)

    assert cost_nanousd(Usage(1, 1, 1, 1, 1), tenth) == 1
    assert cost_nanousd(Usage(), tenth) == 0


@given(USAGES, PRICES)
def test_cost_is_the_exact_sum_rounded_up_once(usage: Usage, prices: Prices) -> None:
    """Never below the exact value, and less than a nano-dollar above it."""
    assert cost_nanousd(usage, prices) == math.ceil(exact(usage, prices))


@given(USAGES, USAGES, PRICES)
def test_cost_of_two_calls_apart_is_at_most_one_more(a: Usage, b: Usage, prices: Prices) -> None:
    """Splitting a call neither saves money nor costs more than its own rounding."""
    both = Usage(*[getattr(a, name) + getattr(b, name) for name in TOKEN_COLUMNS])

    apart = cost_nanousd(a, prices) + cost_nanousd(b, prices)

    assert cost_nanousd(both, prices) <= apart <= cost_nanousd(both, prices) + 1


@given(COUNTS, COUNTS, COUNTS, PRICES)
def test_most_covers_every_way_the_output_may_turn_out(
    given_tokens: int, output: int, reasoning: int, prices: Prices
) -> None:
    """The bound holds for any part of the output that is reasoning."""
    usage = Usage(input=given_tokens, output=output, reasoning=reasoning)

    assert cost_nanousd(usage, prices) <= most_nanousd(given_tokens, output + reasoning, prices)


@given(USAGES)
def test_token_count_is_the_sum_of_the_classes(usage: Usage) -> None:
    """A class that is added to the usage cannot be forgotten here."""
    assert token_count(usage) == sum(getattr(usage, name) for name in TOKEN_COLUMNS)


PLAIN = Prices(
    input=3_000_000_000, output=15_000_000_000, cache_read=300_000_000, cache_write=3_750_000_000,
    reasoning=15_000_000_000,
)  # fmt: skip


def test_cost_of_an_hours_cache_is_twice_the_input_price() -> None:
    """Without a price of its own: 6 for an input of 3, and at least that of five minutes."""
    usage = Usage(cache_write=1_000_000, cache_write_1h=400_000)

    assert cost_nanousd(usage, PLAIN) == 2_250_000_000 + 2_400_000_000


@pytest.mark.parametrize(("cache_write", "hour"), [(3, 6), (0, 6), (9, 9)])
def test_price_of_an_hours_cache_follows_the_inputs(cache_write: int, hour: int) -> None:
    """Also where no price of cache writes is known: it is then that of input."""
    prices = Prices(input=3, output=0, cache_read=0, cache_write=cache_write, reasoning=0)

    assert cost_nanousd(Usage(cache_write=10**6, cache_write_1h=10**6), prices) == hour


def test_cost_of_an_hours_cache_with_its_own_price() -> None:
    """The price replaces that of five minutes for those tokens alone."""
    prices = msgspec.structs.replace(PLAIN, cache_write_1h=5_000_000_000)

    assert cost_nanousd(Usage(cache_write=10, cache_write_1h=4), prices) == 22_500 + 20_000


def test_cost_of_searches_is_by_the_thousand() -> None:
    """Ten dollars a thousand: one cent each, beside the tokens."""
    prices = msgspec.structs.replace(PLAIN, web_search=10_000_000_000)

    assert cost_nanousd(Usage(input=1000, web_searches=3), prices) == 3_000_000 + 30_000_000
    assert cost_nanousd(Usage(input=1000, web_searches=3), PLAIN) == 3_000_000


def test_cost_of_tiers_multiplies_tokens_and_not_searches() -> None:
    """Every tier that was reported and has a factor counts; an unknown one changes nothing."""
    prices = msgspec.structs.replace(
        PLAIN, web_search=10_000_000_000, tiers={"priority": 2_000_000, "us": 1_100_000}
    )

    assert cost_nanousd(Usage(input=1000, tier="priority"), prices) == 6_000_000
    assert cost_nanousd(Usage(input=1000, tier="priority+us"), prices) == 6_600_000
    assert cost_nanousd(Usage(input=1000, tier="scale"), prices) == 3_000_000
    assert cost_nanousd(Usage(input=1000, web_searches=1, tier="us"), prices) == 13_300_000


def test_cost_of_a_tier_is_rounded_once() -> None:
    """A third of a nano-dollar times three is one nano-dollar, not three."""
    prices = Prices(333_333, 0, 0, 0, 0, tiers={"priority": 3_000_000})

    assert cost_nanousd(Usage(input=1, tier="priority"), prices) == 1


def test_cost_beyond_the_threshold_is_that_of_long_context_for_all_tokens() -> None:
    """Cache reads and writes count towards the threshold; at it nothing changes."""
    long = TokenPrices(6_000_000_000, 22_500_000_000, 600_000_000, 7_500_000_000, 22_500_000_000)
    prices = msgspec.structs.replace(PLAIN, long_context=long, long_context_above=200_000)

    at = Usage(input=100_000, cache_read=100_000, output=1000)
    above = Usage(input=100_001, cache_read=100_000, output=1000)
    written = Usage(cache_read=100_000, cache_write=100_001)

    assert cost_nanousd(at, prices) == 300_000_000 + 30_000_000 + 15_000_000
    assert cost_nanousd(above, prices) == 600_006_000 + 60_000_000 + 22_500_000
    assert cost_nanousd(written, prices) == 60_000_000 + 750_007_500


@given(
    st.builds(Usage, *[st.integers(0, 10**9)] * 5), st.builds(Prices, *[st.integers(0, 10**14)] * 5)
)
def test_cost_stays_within_what_one_entry_of_the_ledger_moves(usage: Usage, prices: Prices) -> None:
    """The largest counts that are believed at the largest prices that settings take."""
    assert cost_nanousd(usage, prices) == min(math.ceil(exact(usage, prices)), MAX_AMOUNT_NANOUSD)


def test_worst_case_counts_every_token_at_the_dearest_price() -> None:
    """Input may be written into a cache for an hour, output may be reasoning; rounded up."""
    prices = Prices(input=3, output=10, cache_read=1, cache_write=5, reasoning=12)

    assert worst_case_nanousd(1_000_000, 2_000_000, prices) == 6 + 24
    assert worst_case_nanousd(1_000_000, 2_000_000, prices, hour_cache=False) == 5 + 24
    assert worst_case_nanousd(1, 0, prices) == 1


def test_worst_case_multiplies_by_every_tier_above_one() -> None:
    """A request may be served in several tiers at once; a cheaper tier does not lower the bound."""
    tiers = {"priority": 2_000_000, "us": 1_100_000, "flex": 500_000, "same": 1_000_000}
    prices = Prices(input=10, output=20, cache_read=0, cache_write=0, reasoning=0, tiers=tiers)

    assert worst_case_nanousd(1_000_000, 2_000_000, prices) == 132
    assert worst_case_nanousd(1_000_000, 2_000_000, prices, hour_cache=False) == 110
    assert worst_case_nanousd(1, 0, prices) == 1


def test_worst_case_is_that_of_the_dearer_scale() -> None:
    """Long context may cost more or less than the plain prices, for input and output apart."""
    plain = Prices(input=3, output=10, cache_read=1, cache_write=0, reasoning=12)
    long = TokenPrices(input=6, output=11, cache_read=1, cache_write=0, reasoning=5)
    both = msgspec.structs.replace(plain, long_context=long, long_context_above=200_000)

    assert worst_case_nanousd(1_000_000, 0, both) == 12
    assert worst_case_nanousd(0, 1_000_000, both) == 12
    assert dearest_input(both) == 12
    assert dearest_input(plain) == 6


@pytest.mark.parametrize(
    ("cache_write_1h", "hour_cache", "highest"),
    [(None, True, 10), (None, False, 10), (30, True, 30), (30, False, 10), (9, True, 10)],
)
def test_dearest_input_includes_cache_writes(
    cache_write_1h: int | None, hour_cache: bool, highest: int
) -> None:
    """An hour's cache costs at least as much as one of five minutes, where it may be used."""
    prices = Prices(
        input=3, output=0, cache_read=1, cache_write=10, reasoning=0, cache_write_1h=cache_write_1h
    )

    assert dearest_input(prices, hour_cache=hour_cache) == highest


@given(st.builds(Usage, *[COUNTS] * 5), st.builds(Prices, *[PRICE] * 5))
def test_no_usage_within_its_limits_costs_more_than_the_worst_case(
    usage: Usage, priced: Prices
) -> None:
    """The bound holds for any split of the input by cache and of the output by reasoning."""
    given_tokens = usage.input + usage.cache_read + usage.cache_write

    worst = worst_case_nanousd(given_tokens, usage.output + usage.reasoning, priced)

    assert cost_nanousd(usage, priced) <= worst


def test_most_counts_output_at_the_dearer_of_its_prices_and_rounds_up() -> None:
    """Input counts at its plain price, output at that of reasoning if that is dearer."""
    prices = Prices(input=3, output=10, cache_read=1, cache_write=5, reasoning=12)

    assert most_nanousd(1_000_000, 2_000_000, prices) == 3 + 24
    assert most_nanousd(1, 0, prices) == 1
    assert most_nanousd(0, 0, prices) == 0
