"""
Recognises providers' error messages for a prompt that exceeds the model's context.

Few upstreams send a code for it, but agents compact their history only if they recognise the error.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

SCANNED_CHARS: Final = 4096
"""Length of a message's beginning that is searched."""


LLAMA_CPP_FULL: Final = "exceeds the available context size"
"""llama.cpp's message; its older versions send it with status 500."""


class Excess(NamedTuple):
    """How far a prompt exceeds the context; None: the upstream does not say."""

    tokens: int | None = None
    limit: int | None = None


class Wording(NamedTuple):
    """One provider's message for a full context: a pattern, in which `{max}` is `_CONTEXT`."""

    source: str
    seen: str
    pattern: str


# Groups: `n` is the prompt's number of tokens, `max` the limit. The first match counts, so
# wordings with numbers precede their short forms.
WORDINGS: Final = (
    Wording(
        "Anthropic", "2026-11", r"prompt is too long: (?P<n>\d{1,12}) tokens > (?P<max>\d{1,12})"
    ),
    Wording(  # github.com/ogx-ai/ogx/issues/697
        "Fireworks",
        "2024-12",
        r"prompt is too long: (?P<n>\d{1,12}), model maximum context length: (?P<max>\d{1,12})",
    ),
    Wording(  # github.com/bytedance/UI-TARS-desktop/issues/626, with status 422
        "Hugging Face",
        "2025-05",
        r"max_new_tokens`? must be <= (?P<max>\d{1,12})\. Given: (?P<n>\d{1,12}) `?inputs",
    ),
    Wording(
        "vLLM",
        "2026-11",
        r"{max} tokens\b.{0,60}?request has (?P<n>\d{1,12}) input tokens",
    ),
    Wording("Anthropic", "2025-06", r"input length and `?max_tokens`? exceed context limit"),
    Wording("OpenAI", "2024-06", r"{max} tokens\b.{0,200}?resulted in (?P<n>\d{1,12}) tokens"),
    Wording("vLLM", "2026-04", r"{max} tokens\b.{0,200}?a total of at least (?P<n>\d{1,12})"),
    Wording(
        "OpenRouter",
        "2026-04",
        r"{max} tokens\b.{0,200}?requested (?:about )?(?P<n>\d{1,12}) tokens",
    ),
    Wording("DeepSeek", "2026-11", r"{max} tokens\b.{0,200}?requested (?P<n>\d{1,12}) tokens"),
    Wording(
        "xAI",
        "2026-11",
        r"maximum prompt length is (?P<max>\d{1,12}).{0,200}?contains (?P<n>\d{1,12})",
    ),
    Wording("xAI", "2026-11", r"maximum prompt length is (?P<max>\d{1,12})"),
    Wording(  # github.com/UKGovernmentBEIS/inspect_ai/pull/5208
        "xAI",
        "2026-09",
        r"\((?P<n>\d{1,12}) tokens\) exceeds budget \((?P<max>\d{1,12}) tokens\)",
    ),
    Wording("xAI", "2026-09", r"\[input_too_large\]"),
    Wording(
        "OpenAI",
        "2026-11",
        r"exceed the configured limit of (?P<max>\d{1,12}).{0,200}?in (?P<n>\d{1,12}) tokens",
    ),
    Wording("OpenAI", "2026-11", r"tokens exceed the configured limit of (?P<max>\d{1,12})"),
    Wording(
        "vLLM",
        "2026-04",
        r"passed (?P<n>\d{1,12}) input tokens.{0,200}?length is only (?P<max>\d{1,12})",
    ),
    Wording(
        "vLLM",
        "2026-11",
        r"prompt \((?:total )?length (?P<n>\d{1,12})\).{0,200}?length (?:of )?(?P<max>\d{1,12})",
    ),
    Wording(
        "SGLang",
        "2026-11",
        r"input \((?P<n>\d{1,12}) tokens\) is longer than.{0,200}?\((?P<max>\d{1,12}) tokens",
    ),
    Wording(
        "SGLang",
        "2026-11",
        r"input length \((?P<n>\d{1,12})\) exceeds.{0,200}?\((?P<max>\d{1,12})\)",
    ),
    Wording(
        "SGLang",
        "2026-11",
        r"exceeds the model's {max} tokens.{0,200}?a total of (?P<n>\d{1,12}) tokens",
    ),
    Wording(
        "Gemini",
        "2026-11",
        r"input token count \(?(?P<n>\d{1,12})\)? exceeds.{0,200}?allowed \(?(?P<max>\d{1,12})",
    ),
    Wording("Gemini", "2026-11", r"input token count exceeds.{0,200}?allowed \(?(?P<max>\d{1,12})"),
    Wording(
        "llama.cpp",
        "2026-11",
        r"\((?P<n>\d{1,12}) tokens\) exceeds the available context size \((?P<max>\d{1,12})",
    ),
    Wording("llama.cpp", "2026-11", r"exceeds the available context size"),
    Wording("LM Studio", "2026-11", r"greater than the context length"),
    Wording(
        "Moonshot",
        "2026-11",
        r"model token limit: (?P<max>\d{1,12})(?: \(requested: (?P<n>\d{1,12}))?",
    ),
    Wording("Moonshot", "2026-11", r"exceeded model token limit"),
    Wording(
        "GLM", "2026-11", r"prompt exceeds max length|prompt 超长|输入(?:内容)?(?:长度)?超(?:长|过)"
    ),
    Wording(
        "GitHub Copilot",
        "2026-11",
        r"token count of (?P<n>\d{1,12}) exceeds the limit of (?P<max>\d{1,12})",
    ),
    Wording(
        "DashScope", "2026-07", r"range of input length should be \[\d{1,12}, ?(?P<max>\d{1,12})\]"
    ),
    Wording("Volcano Ark", "2026-11", r"exceed max message tokens"),
    Wording(
        "Volcano Ark",
        "2026-11",
        r"input (?:length|tokens?) (?P<n>\d{1,12}) exceeds? (?:the )?max\D{1,40}(?P<max>\d{1,12})",
    ),
    Wording("Bedrock", "2026-11", r"input is too long"),
    Wording("MiniMax", "2026-11", r"context window exceeds limit"),
    Wording(
        "Mistral",
        "2026-11",
        r"contains (?P<n>\d{1,12}) tokens.{0,200}?with (?P<max>\d{1,12}) maximum context",
    ),
    Wording("Mistral", "2026-11", r"too large for model with (?P<max>\d{1,12}) maximum context"),
    Wording("Ollama", "2026-11", r"prompt too long; exceeded (?:max )?context length"),
    Wording(
        "ds4",
        "2026-11",
        r"prompt has (?P<n>\d{1,12}) tokens.{0,200}?context size is (?P<max>\d{1,12}) tokens",
    ),
    Wording(
        "Cerebras", "2026-11", r"current length is (?P<n>\d{1,12}) while limit is (?P<max>\d{1,12})"
    ),
    Wording("Groq", "2026-11", r"reduce the length of (?:the|your) (?:messages|prompt|input)"),
    # The request alone exceeds a limit of tokens per minute: waiting does not help.
    Wording(
        "Groq",
        "2026-05",
        r"request too large for .{0,200}?limit (?P<max>\d{1,12}), requested (?P<n>\d{1,12})",
    ),
    Wording("Groq", "2026-11", r"request too large for model"),
    # Common to several: the last resort.
    Wording(
        "any",
        "2026-11",
        r"\b(?P<n>\d{1,12}) tokens\b.{1,60}?(?:maximum|limit) of (?P<max>\d{1,12})",
    ),
    Wording(
        "any", "2026-11", r"context(?: |_)(?:length|window|size|limit)|maximum context|上下文长度"
    ),
    Wording("any", "2026-11", r"(?:prompt|input|conversation) (?:is )?too (?:long|large)"),
    Wording("any", "2026-11", r"too many (?:input |prompt )?tokens|token limit exceeded"),
    Wording("Perplexity", "2026-11", r"exceed(?:s|ed)?\b.{0,200}?(?:max|limit).{0,200}?tokens"),
    Wording(
        "any",
        "2026-11",
        r"(?:prompt|input|messages)\b.{0,60}exceed(?:s|ed)?\b.{0,60}(?:length|tokens)",
    ),
)

_CONTEXT: Final = r"(?:context|model) length (?:is|of) (?:only )?(?P<max>\d{1,12})"
_PATTERNS: Final = tuple(
    re.compile(wording.pattern.replace("{max}", _CONTEXT), re.IGNORECASE | re.DOTALL)
    for wording in WORDINGS
)

# A limit on output is not a prompt that is too long: compacting the history would not help.
_OUTPUT: Final = re.compile(r"\bmax_?(?:completion_|output_)?tokens\b|output tokens", re.IGNORECASE)
# vLLM (issues/4667, 2024-05): the number is the context minus a prompt that is too long.
_NO_ROOM: Final = re.compile(r"max_(?:completion_)?tokens must be at least 1, got -\d")
_PROMPT: Final = re.compile(r"prompt|input|context|messages", re.IGNORECASE)
_SEPARATED: Final = re.compile(r"(?<=\d),(?=\d{3}\b)")


def read_excess(message: str) -> Excess | None:
    """Return what a message says about a full context; None: it is about something else."""
    text = _SEPARATED.sub("", message[:SCANNED_CHARS])
    if _NO_ROOM.search(text) is not None:
        return Excess()
    if _OUTPUT.search(text) is not None and _PROMPT.search(text) is None:
        return None
    for pattern in _PATTERNS:
        found = pattern.search(text)
        if found is not None:
            groups = found.groupdict()
            tokens, limit = _number(groups.get("n")), _number(groups.get("max"))
            fits = tokens is not None and limit is not None and tokens <= limit
            return Excess(None if fits else tokens, limit)  # the prompt fits, but not with output
    return None


def _number(digits: str | None) -> int | None:
    return None if digits is None else int(digits)
