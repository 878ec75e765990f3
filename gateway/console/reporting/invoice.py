"""
Explains the cost of a call line by line, by the rules of `core.pricing`.

The lines are exact products. Their sum, multiplied by the factors of the tiers and rounded up once,
is the cost at these prices. A call that was charged at other prices is recognised by its cost.
"""

from __future__ import annotations

from fractions import Fraction

import msgspec

from gateway.core.model import Prices, Usage
from gateway.core.pricing import (
    SEARCHES_PER_PRICE,
    TIER_UNIT,
    TOKENS_PER_PRICE,
    charged_hour_price,
    cost_nanousd,
    token_prices,
)


class InvoiceLine(msgspec.Struct, frozen=True):
    """A count of one kind, times its price."""

    item: str
    """A field of `Usage`; `cache_write` without the part that is `cache_write_1h`."""
    count: int
    price_nanousd: int
    """For `per` of them."""
    per: int
    amount_nanousd: Fraction


class Invoice(msgspec.Struct, frozen=True):
    lines: tuple[InvoiceLine, ...]
    """Lines with a count."""
    factors: tuple[tuple[str, Fraction], ...]
    """Reported tiers and their factors on all token prices."""
    is_long_context: bool
    """All tokens have the prices of long contexts."""
    total_nanousd: int
    """The cost of the call at these prices, rounded up to a nano-dollar."""
    cache_saved_nanousd: int
    """What cache reads cost less than plain input; negative: they cost more."""


def invoice(usage: Usage, prices: Prices) -> Invoice:
    """Return the lines of a call's cost at these prices."""
    tokens = token_prices(usage, prices)
    plain_writes = usage.cache_write - usage.cache_write_1h
    counted = (
        ("input", usage.input, tokens.input),
        ("cache_read", usage.cache_read, tokens.cache_read),
        ("cache_write", plain_writes, tokens.cache_write),
        ("cache_write_1h", usage.cache_write_1h, charged_hour_price(tokens)),
        ("output", usage.output, tokens.output),
        ("reasoning", usage.reasoning, tokens.reasoning),
    )
    lines = [_line(item, count, price, TOKENS_PER_PRICE) for item, count, price in counted if count]
    factors = tuple(
        (tier, Fraction(prices.tiers[tier], TIER_UNIT))
        for tier in (usage.tier or "").split("+")
        if tier in prices.tiers
    )
    if usage.web_searches:
        searches = usage.web_searches
        lines.append(_line("web_searches", searches, prices.web_search, SEARCHES_PER_PRICE))
    saved = Fraction(usage.cache_read * (tokens.input - tokens.cache_read), TOKENS_PER_PRICE)
    for _, factor in factors:
        saved *= factor
    return Invoice(
        lines=tuple(lines),
        factors=factors,
        is_long_context=tokens is not prices,
        total_nanousd=cost_nanousd(usage, prices),
        cache_saved_nanousd=int(saved),
    )


def _line(item: str, count: int, price_nanousd: int, per: int) -> InvoiceLine:
    return InvoiceLine(item, count, price_nanousd, per, Fraction(count * price_nanousd, per))
