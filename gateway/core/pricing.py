"""What a call costs: integer nano-dollars, rounded once, up."""

from __future__ import annotations

from gateway.core.model import Prices, Usage

TOKENS_PER_PRICE = 1_000_000
"""Prices are for a million tokens."""


def cost_nanousd(usage: Usage, prices: Prices) -> int:
    """
    Return what the tokens cost.

    The five classes are added up exactly, in nano-dollars per million tokens, and divided once:
    what is left of a nano-dollar counts as a whole one. So a cost is never below the exact value,
    and less than one nano-dollar above it.

    Args:
        usage: Counts, none negative.
        prices: Nano-dollars per million tokens.
    """
    millionths = (
        usage.input * prices.input
        + usage.cache_read * prices.cache_read
        + usage.cache_write * prices.cache_write
        + usage.output * prices.output
        + usage.reasoning * prices.reasoning
    )
    return -(-millionths // TOKENS_PER_PRICE)


def most_nanousd(input_tokens: int, output_tokens: int, prices: Prices) -> int:
    """
    Return what a call of so many tokens costs at most.

    Output may turn out to be reasoning, so the dearer of the two prices counts. Input counts at
    its plain price: what a cache holds is cheaper, what goes into one may be a little dearer.
    """
    dearest = max(prices.output, prices.reasoning)
    return -(-(input_tokens * prices.input + output_tokens * dearest) // TOKENS_PER_PRICE)


def worst_case_nanousd(input_tokens: int, output_tokens: int, prices: Prices) -> int:
    """
    Return a bound on the cost of every usage with at most so many tokens of input and of output.

    Each token counts at the dearest price of its side: input may be written into a cache, output
    may be reasoning.
    """
    dearest = max(prices.output, prices.reasoning)
    millionths = input_tokens * dearest_input(prices) + output_tokens * dearest
    return -(-millionths // TOKENS_PER_PRICE)


def dearest_input(prices: Prices) -> int:
    """Return the highest price of a token of input, cached or not."""
    return max(prices.input, prices.cache_read, prices.cache_write)


def token_count(usage: Usage) -> int:
    """Return the tokens of all classes: what limits of tokens a minute count."""
    return usage.input + usage.cache_read + usage.cache_write + usage.output + usage.reasoning
