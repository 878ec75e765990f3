"""What a call costs: integer nano-dollars, rounded once, up."""

from __future__ import annotations

from gateway.core.model import Prices, TokenPrices, Usage
from gateway.core.money import MAX_AMOUNT_NANOUSD

TOKENS_PER_PRICE = 1_000_000
"""Prices are for a million tokens."""

TIER_UNIT = 1_000_000
"""Factors of tiers are in millionths."""

_SEARCHES_PER_PRICE = 1_000


def cost_nanousd(usage: Usage, prices: Prices) -> int:
    """
    Return what a call costs.

    All classes are added up exactly, in nano-dollars per million tokens, multiplied by the factors
    of the tiers reported, and divided once: what is left of a nano-dollar counts as a whole one. So
    a cost is never below the exact value, and less than one nano-dollar above it. No call costs
    more than `MAX_AMOUNT_NANOUSD`, the most that one entry of the ledger moves.

    Args:
        usage: Counts, none negative.
        prices: Nano-dollars per million tokens.
    """
    total = _token_millionths(usage, _token_prices(usage, prices))
    divisor = TOKENS_PER_PRICE
    if usage.tier is not None:
        for tier in usage.tier.split("+"):
            total *= prices.tiers.get(tier, TIER_UNIT)
            divisor *= TIER_UNIT
    if usage.web_searches:
        total += usage.web_searches * prices.web_search * (divisor // _SEARCHES_PER_PRICE)
    return min(-(-total // divisor), MAX_AMOUNT_NANOUSD)


def _token_prices(usage: Usage, prices: Prices) -> TokenPrices:
    """Return the prices of the call's tokens: beyond the threshold all of them cost more."""
    dearer = prices.long_context
    if dearer is None:
        return prices
    size = usage.input + usage.cache_read + usage.cache_write
    return dearer if size > prices.long_context_above else prices


def _token_millionths(usage: Usage, prices: TokenPrices) -> int:
    total = (
        usage.input * prices.input
        + usage.cache_read * prices.cache_read
        + usage.cache_write * prices.cache_write
        + usage.output * prices.output
        + usage.reasoning * prices.reasoning
    )
    if usage.cache_write_1h:
        hour = prices.cache_write_1h
        if hour is None:
            hour = -(-prices.cache_write * 8 // 5)
        total += usage.cache_write_1h * (hour - prices.cache_write)
    return total


def most_nanousd(input_tokens: int, output_tokens: int, prices: Prices) -> int:
    """
    Return what a call of so many tokens costs at most.

    Output may turn out to be reasoning, so the dearer of the two prices counts. Input counts at
    its plain price: what a cache holds is cheaper, what goes into one may be a little dearer.
    """
    dearest = max(prices.output, prices.reasoning)
    return -(-(input_tokens * prices.input + output_tokens * dearest) // TOKENS_PER_PRICE)


def token_count(usage: Usage) -> int:
    """Return the tokens of all classes: what limits of tokens a minute count."""
    return usage.input + usage.cache_read + usage.cache_write + usage.output + usage.reasoning
