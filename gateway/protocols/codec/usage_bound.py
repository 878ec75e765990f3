"""
The largest usage that one call can have; a response that reports more is charged by an estimate.

The bound is 1.25 times the sum of the model's context and, for each choice, its longest output. If
the request may be larger than the context in the catalogue, its size replaces the context: the
catalogue may be wrong, and a batch of embeddings may have many inputs of a full context.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from gateway.core.model import Model, Usage

MOST_SEARCHES: Final = 1_000
"""Searches that one call can plausibly run."""
_ROUNDS: Final = 20
"""Most rounds of tools that the upstream runs; each counts the conversation again."""
_UNDERESTIMATE: Final = 2
"""Largest ratio of actual to estimated tokens, as for digits and rare scripts."""


class UsageBound(NamedTuple):
    """
    Bounds of one call's usage.

    Attributes:
        tokens: Of all classes together.
        runs_tools: The upstream may run tools, whether or not it reports them.
    """

    tokens: int = 5_000_000_000
    runs_tools: bool = False

    def allows(self, usage: Usage) -> bool:
        """Return whether a call can have used this much."""
        tokens = usage.input + usage.cache_read + usage.cache_write + usage.output + usage.reasoning
        if usage.web_searches > MOST_SEARCHES:
            return False
        if tokens <= self.tokens:
            return True
        return (self.runs_tools or usage.web_searches > 0) and tokens <= _ROUNDS * self.tokens


UNBOUNDED: Final = UsageBound()
"""Allows any token counts that are plausible at all, see `protocols.codec.usage_counts`."""


def usage_bound(
    model: Model,
    input_estimate: int,
    output_limit: int | None = None,
    choices: int = 1,
    *,
    runs_tools: bool = False,
) -> UsageBound:
    """
    Return the bounds of a call.

    Args:
        model: The model that serves it.
        input_estimate: The estimated tokens of its input.
        output_limit: The output limit that it requests; some upstreams apply it even if it exceeds
            the model's.
        choices: The number of choices that it requests; each may have the longest output.
        runs_tools: See `UsageBound`.
    """
    read = max(model.context, input_estimate * _UNDERESTIMATE)
    written = max(model.max_output, min(output_limit or 0, model.context))
    return UsageBound((read + choices * written) * 5 // 4, runs_tools)
