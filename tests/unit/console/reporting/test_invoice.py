"""The cost of a call, line by line."""

from __future__ import annotations

import math
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from gateway.console.reporting.invoice import Invoice, InvoiceLine, invoice
from gateway.core.model import Prices, TokenPrices, Usage
from gateway.core.pricing import cost_nanousd

PRICES = Prices(
    input=300_000_000, output=1_500_000_000, cache_read=30_000_000, cache_write=375_000_000,
    reasoning=1_500_000_000, web_search=10_000_000_000, tiers={"priority": 2_000_000},
)  # fmt: skip


def test_invoice_has_a_line_for_each_count() -> None:
    """A class without tokens has none; a cache hit shows what it saved."""
    found = invoice(Usage(input=6_440, cache_read=15_025, output=165), PRICES)

    assert found == Invoice(
        lines=(
            InvoiceLine("input", 6_440, 300_000_000, 1_000_000, Fraction(1_932_000)),
            InvoiceLine("cache_read", 15_025, 30_000_000, 1_000_000, Fraction(450_750)),
            InvoiceLine("output", 165, 1_500_000_000, 1_000_000, Fraction(247_500)),
        ),
        factors=(),
        is_long_context=False,
        total_nanousd=2_630_250,
        cache_saved_nanousd=4_056_750,
    )


def test_invoice_shows_hour_writes_searches_and_tiers() -> None:
    """The part of cache writes that lives for an hour has its own price."""
    usage = Usage(cache_write=1000, cache_write_1h=400, web_searches=3, tier="priority+eu")

    found = invoice(usage, PRICES)

    assert [(line.item, line.count, line.price_nanousd) for line in found.lines] == [
        ("cache_write", 600, 375_000_000),
        ("cache_write_1h", 400, 600_000_000),
        ("web_searches", 3, 10_000_000_000),
    ]
    assert found.factors == (("priority", Fraction(2)),)
    assert found.total_nanousd == 2 * (225_000 + 240_000) + 30_000_000


tokens = st.integers(0, 10**6)
price = st.integers(0, 10**11)


@given(
    usage=st.builds(
        lambda total, hour, **fields: Usage(cache_write=total, cache_write_1h=hour * total // 4,
                                            **fields),
        total=tokens, hour=st.integers(0, 4), input=tokens, cache_read=tokens, output=tokens,
        reasoning=tokens, web_searches=st.integers(0, 9),
        tier=st.sampled_from([None, "priority", "flex", "priority+flex", "other"]),
    ),
    prices=st.builds(
        Prices, input=price, output=price, cache_read=price, cache_write=price, reasoning=price,
        cache_write_1h=st.one_of(st.none(), price), web_search=price,
        tiers=st.just({"priority": 1_250_000, "flex": 500_000}), long_context_above=tokens,
        long_context=st.one_of(
            st.none(),
            st.builds(TokenPrices, input=price, output=price, cache_read=price, cache_write=price,
                      reasoning=price),
        ),
    ),
)  # fmt: skip
def test_lines_add_up_to_the_cost(usage: Usage, prices: Prices) -> None:
    """Tokens times factors, plus searches, rounded up once, is what the call is charged."""
    found = invoice(usage, prices)

    total = sum((line.amount_nanousd for line in found.lines if line.per == 10**6), Fraction(0))
    for _, factor in found.factors:
        total *= factor
    total += sum((line.amount_nanousd for line in found.lines if line.per != 10**6), Fraction(0))
    cost = cost_nanousd(usage, prices)
    assert found.total_nanousd == cost
    assert cost == min(math.ceil(total), 10**15)
