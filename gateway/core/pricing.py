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


def worst_case_nanousd(
    input_tokens: int, output_tokens: int, prices: Prices, *, hour_cache: bool = True
) -> int:
    """
    Return a bound on the cost of every usage with at most so many tokens of input and of output.

    Each token counts at the dearest price of its side: input may be written into a cache, output
    may be reasoning, and the request may be served in the dearest combination of tiers. Server
    tools are not tokens and are not counted.

    Args:
        input_tokens: Of all classes.
        output_tokens: Reasoning included.
        prices: Of the model.
        hour_cache: Whether the input may be written into a cache of an hour.
    """
    scales = [prices] if prices.long_context is None else [prices, prices.long_context]
    dearest_output = max(max(scale.output, scale.reasoning) for scale in scales)
    total = (
        input_tokens * dearest_input(prices, hour_cache=hour_cache) + output_tokens * dearest_output
    )
    divisor = TOKENS_PER_PRICE
    for factor in prices.tiers.values():
        if factor > TIER_UNIT:
            total *= factor
            divisor *= TIER_UNIT
    return -(-total // divisor)


def dearest_input(prices: Prices, *, hour_cache: bool = True) -> int:
    """Return the highest price of a token of input, cached or not, before the factors of tiers."""
    scales = [prices] if prices.long_context is None else [prices, prices.long_context]
    return max(
        max(each.input, each.cache_read, _hour_price(each) if hour_cache else each.cache_write)
        for each in scales
    )


def _hour_price(prices: TokenPrices) -> int:
    """Return the price of a write into the cache of an hour, never below that of five minutes."""
    hour = prices.cache_write_1h
    return -(-prices.cache_write * 8 // 5) if hour is None else max(hour, prices.cache_write)


def token_count(usage: Usage) -> int:
    """Return the tokens of all classes: what limits of tokens a minute count."""
    return usage.input + usage.cache_read + usage.cache_write + usage.output + usage.reasoning
