"""Translates Anthropic's reasoning fields to those of each OpenAI-wire dialect."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from gateway.protocols.anthropic_messages.request import OutputConfig, Thinking
from gateway.protocols.translate.capabilities import Capabilities

LEVELS: Final = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
"""All efforts of both wires, in ascending order."""

LOW_BUDGET: Final = 4096
"""Thinking budgets up to this many tokens mean `low`."""
MEDIUM_BUDGET: Final = 16384
"""Up to this `medium`, above it `high`; Claude Code's three levels are 4000, 10000 and 31999."""

_DEEPSEEK: Final = {"minimal": "low", "low": "low", "max": "max"}


def wanted_effort(thinking: Thinking | None, config: OutputConfig | None) -> str | None:
    """
    Return the effort that a Messages request asks for; None: the upstream's default.

    Disabled thinking takes precedence over an effort, and an effort over a token budget. Adaptive
    thinking without an effort sets none: it must not raise the cost silently.
    """
    kind = thinking.type if thinking is not None else None
    if kind == "disabled":
        return "none"
    if config is not None and config.effort:
        return config.effort
    if kind == "between_tools":
        return "low"
    if thinking is None or kind != "enabled":
        return None
    return effort_of_budget(thinking.budget_tokens or 0)


def effort_of_budget(tokens: int) -> str:
    """Return the effort that corresponds to a budget of thinking tokens."""
    if tokens <= LOW_BUDGET:
        return "low"
    return "medium" if tokens <= MEDIUM_BUDGET else "high"


def nearest_effort(want: str, accepted: Sequence[str]) -> str | None:
    """
    Return the accepted effort nearest to `want`, but `none` only if `want` is `none`.

    Lower ones are preferred to higher ones. None: `want` is unknown, or no effort is accepted.
    """
    if want in accepted:
        return want
    if want not in LEVELS:
        return None
    wanted = LEVELS.index(want)
    usable = [level for level in LEVELS if level in accepted and level != "none"]
    lower = [level for level in usable if LEVELS.index(level) < wanted]
    if lower:
        return lower[-1]
    return usable[0] if usable else None


def keeps_thinking(want: str | None, fields: Mapping[str, object]) -> bool:
    """Return whether an upstream thinks despite `none`: it only has higher efforts."""
    return want == "none" and fields.get("reasoning_effort", "none") != "none"


def thinking_fields(want: str | None, caps: Capabilities) -> dict[str, object] | None:
    """
    Return the request members by which a dialect sets an effort; None: it has no such members.

    Args:
        want: From `wanted_effort`; None returns no members.
        caps: The upstream's capabilities.
    """
    if want is None:
        return {}
    off = want == "none"
    match caps.thinking:
        case "deepseek":
            if off:
                return {"thinking": {"type": "disabled"}}
            effort = _DEEPSEEK.get(want, "high")
            return {"thinking": {"type": "enabled"}, "reasoning_effort": effort}
        case "qwen":
            return {"enable_thinking": not off}
        case "openrouter":
            level = nearest_effort(want, caps.efforts)
            return {"reasoning": {"effort": level}} if level is not None else None
        case "moonshot" | "zai" if not caps.efforts:
            return {"thinking": {"type": "disabled" if off else "enabled"}}
        case "minimax":
            switch: dict[str, object] = {"thinking": {"type": "disabled" if off else "adaptive"}}
        case "vllm":
            switch = {"chat_template_kwargs": {"enable_thinking": not off}}
        case _:
            switch = {}
    effort_level = None if off and switch else nearest_effort(want, caps.efforts)
    if effort_level is not None:
        switch["reasoning_effort"] = effort_level
    return switch or None
