"""Computes the cost of a call in integer nano-dollars, rounded up once."""

from __future__ import annotations

from gateway.core.model import Prices, TokenPrices, Usage
from gateway.core.money import MAX_AMOUNT_NANOUSD

TOKENS_PER_PRICE = 1_000_000
"""Prices are per million tokens."""

TIER_UNIT = 1_000_000
"""Tier factors are in millionths."""

SEARCHES_PER_PRICE = 1_000


def cost_nanousd(usage: Usage, prices: Prices) -> int:
    """
    Return the cost of a call, at most `MAX_AMOUNT_NANOUSD`.

    The sum over all token classes is exact; it is multiplied by the factors of the reported tiers
    and rounded up once. The result is never below the exact cost, and less than one nano-dollar
    above it.

    Args:
        usage: Counts, not negative.
        prices: Nano-dollars per million tokens.
    """
    total = _token_millionths(usage, token_prices(usage, prices))
    divisor = TOKENS_PER_PRICE
    if usage.tier is not None:
        for tier in usage.tier.split("+"):
            total *= prices.tiers.get(tier, TIER_UNIT)
            divisor *= TIER_UNIT
    if usage.web_searches:
        total += usage.web_searches * prices.web_search * (divisor // SEARCHES_PER_PRICE)
    return min(-(-total // divisor), MAX_AMOUNT_NANOUSD)


def token_prices(usage: Usage, prices: Prices) -> TokenPrices:
    """Return the token prices; above the long-context threshold they apply to all tokens."""
    long_context = prices.long_context
    if long_context is None:
        return prices
    size = usage.input + usage.cache_read + usage.cache_write
    return long_context if size > prices.long_context_above else prices


def _token_millionths(usage: Usage, prices: TokenPrices) -> int:
    total = (
        usage.input * prices.input
        + usage.cache_read * prices.cache_read
        + usage.cache_write * prices.cache_write
        + usage.output * prices.output
        + usage.reasoning * prices.reasoning
    )
    if usage.cache_write_1h:
        total += usage.cache_write_1h * (charged_hour_price(prices) - prices.cache_write)
    return total


def charged_hour_price(prices: TokenPrices) -> int:
    """Return the price of a token that was written to a one-hour cache."""
    hour = prices.cache_write_1h
    return _hour_price(prices) if hour is None else hour


def most_nanousd(input_tokens: int, output_tokens: int, prices: Prices) -> int:
    """
    Return the expected maximum cost of a call with these token counts.

    Output may be reasoning, so the higher of the two prices is used. Input uses the plain price:
    cache reads cost less, cache writes slightly more.
    """
    highest = max(prices.output, prices.reasoning)
    return -(-(input_tokens * prices.input + output_tokens * highest) // TOKENS_PER_PRICE)


def worst_case_nanousd(
    input_tokens: int, output_tokens: int, prices: Prices, *, hour_cache: bool = True
) -> int:
    """
    Return an upper bound on the cost of any usage with at most these token counts.

    Every token is priced at the highest price of its side: input may be written to a cache, output
    may be reasoning, and the request may be served in the most expensive combination of tiers.
    Server tools are not included.

    Args:
        input_tokens: Input of all classes.
        output_tokens: Output, reasoning included.
        prices: The model's prices.
        hour_cache: Whether the input may be written to a one-hour cache.
    """
    scales = [prices] if prices.long_context is None else [prices, prices.long_context]
    highest_output = max(max(scale.output, scale.reasoning) for scale in scales)
    total = input_tokens * dearest_input(prices, hour_cache=hour_cache)
    total += output_tokens * highest_output
    divisor = TOKENS_PER_PRICE
    for factor in prices.tiers.values():
        if factor > TIER_UNIT:
            total *= factor
            divisor *= TIER_UNIT
    return -(-total // divisor)


def dearest_input(prices: Prices, *, hour_cache: bool = True) -> int:
    """Return the highest price of an input token, cached or not, before tier factors."""
    scales = [prices] if prices.long_context is None else [prices, prices.long_context]
    return max(
        max(each.input, each.cache_read, _hour_price(each) if hour_cache else each.cache_write)
        for each in scales
    )


def _hour_price(prices: TokenPrices) -> int:
    """Return the price of a one-hour cache write, at least that of a five-minute one."""
    hour = prices.cache_write_1h
    return max(2 * prices.input if hour is None else hour, prices.cache_write)


def token_count(usage: Usage) -> int:
    """Return the tokens of all classes, as limits per minute count them."""
    return usage.input + usage.cache_read + usage.cache_write + usage.output + usage.reasoning
