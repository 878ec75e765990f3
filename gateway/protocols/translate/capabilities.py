"""
The capabilities of each upstream dialect, as data.

A provider names a dialect; a provider or deployment may override single capabilities (`caps` in the
catalogue). The values come from the providers' documentation and SDK code of 2026-11, see
`gateway.protocols.dialects.facts`. They are defaults of the dialect; differences of single models
belong in the catalogue.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

import msgspec

from gateway.protocols.codec.nesting import MOST_LEVELS, is_deep

ToolChoice = Literal["auto", "none", "required", "named"]

_ALL_CHOICES: Final[tuple[ToolChoice, ...]] = ("auto", "none", "required", "named")


class Capabilities(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """
    The capabilities of one dialect. The defaults are those of `generic`, an unknown OpenAI server.

    Fields marked (O) apply to OpenAI-wire upstreams, (A) to Anthropic-wire ones.
    """

    max_tokens_param: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    """(O) Name of the output limit."""
    min_output_tokens: int = 1
    """(O) Smaller limits are raised to this."""
    max_output_tokens: int | None = None
    """Larger limits are lowered to this; None: the model's limit in the catalogue."""
    default_max_tokens: int = 32000
    """(A) The limit if the client sets none."""
    reasoning_in: Literal["reasoning_content", "reasoning", "reasoning_details"] | None = None
    """(O) Member of an assistant message in which its reasoning is sent back."""
    reasoning_fill: str | None = None
    """(O) Sent as the reasoning of a message with tool calls and no reasoning."""
    thinking: (
        Literal[
            "deepseek", "moonshot", "minimax", "zai", "qwen", "openrouter", "vllm",
            "adaptive", "budget",
        ]
        | None
    ) = None  # fmt: skip
    """How thinking is enabled; `adaptive` and `budget` (A), all others (O)."""
    can_disable_thinking: bool = True
    """(A) `thinking: disabled` is accepted."""
    forced_tool_use: bool = True
    """(A) Tool choice `any` and `tool` are accepted."""
    forced_while_thinking: bool = True
    """(O) A forced tool is accepted while thinking is enabled; otherwise thinking is disabled."""
    reasoning_fields: tuple[str, ...] = ()
    """(O) Fields that control reasoning; other dialects' are converted to them. Empty: unknown."""
    signed_reasoning: bool = False
    """(A) Signatures of thinking blocks are verified: reasoning of other models is removed."""
    efforts: tuple[str, ...] = ()
    """Accepted reasoning efforts; empty: unknown, and the field is not sent."""
    sampling: Literal["pass", "drop"] = "pass"
    """Whether temperature and top_p are sent."""
    top_k: bool = False
    stop_max: int = 4
    """(O) Number of stop strings accepted; 0: the field is rejected and therefore dropped."""
    tool_choice: tuple[ToolChoice, ...] = _ALL_CHOICES
    parallel_tool_calls: bool = True
    strict_tools: bool = False
    plain_refs: bool = False
    """(O) In tool schemas, `$ref` must have no siblings, and `anyOf` no `type` next to it."""
    structured: Literal["json_schema", "json_object", "instruction"] | None = "json_schema"
    """How a JSON schema is requested; `instruction`: by a sentence; None: not at all."""
    images: bool = True
    files: bool = False
    """PDF documents are accepted."""
    user_field: Literal["user", "safety_identifier"] | None = None
    """(O) Field for the end user's id."""
    prompt_cache_key: bool = False
    service_tier: bool = False
    verbosity: bool = False
    """(O) `verbosity` is accepted."""
    prefill: Literal["reject", "partial", "prefix", "vllm"] = "reject"
    """(O) How the continuation of a last assistant message is requested."""
    reasoning_apart: bool = False
    """
    (O) Usage reports reasoning only in the details, neither in the completion nor in the total, as
    Gemini's models behind Vercel's AI Gateway do (2026-11).
    """
    think_tags: bool = False
    """(O) The content may start with reasoning in `<think>` tags."""
    think_opened: bool = False
    """(O) The chat template writes the opening tag, so that content begins inside reasoning."""
    extra_body: bytes | None = None
    """(O) The text of a JSON object whose members are set last."""
    stream_options: bool = True
    """(O) `stream_options.include_usage` is accepted."""
    midconv_system: Literal["system", "user"] = "system"
    """System messages within the conversation: kept, or sent as a user's `<system-reminder>`."""
    cache_control: Literal["drop", "keep"] = "drop"
    """(O) Whether cache markers on content parts are sent."""
    auto_cache: bool = False
    """(A) Automatic caching is requested if the client sets no marker."""
    tool_id_max: int | None = None
    """(O) Longer tool-call ids are shortened."""
    tool_id_exact: bool = False
    """(O) Tool-call ids must consist of exactly `tool_id_max` letters and digits."""
    thought_signatures: bool = False
    """(O) Gemini: the first call of a message must carry a thought signature."""


PLAIN: Final = Capabilities()
"""The plain API of a wire."""

DIALECTS: Final[Mapping[str, Capabilities]] = {
    "generic": Capabilities(think_tags=True, verbosity=True),
    "openai": Capabilities(
        max_tokens_param="max_completion_tokens",
        min_output_tokens=16,
        reasoning_fields=("reasoning_effort",),
        efforts=("none", "minimal", "low", "medium", "high", "xhigh", "max"),
        sampling="drop",
        stop_max=0,
        strict_tools=True,
        files=True,
        user_field="safety_identifier",
        prompt_cache_key=True,
        service_tier=True,
        verbosity=True,
        tool_id_max=40,
    ),
    "deepseek": Capabilities(
        reasoning_in="reasoning_content",
        reasoning_fill=" ",
        thinking="deepseek",
        forced_while_thinking=False,
        reasoning_fields=("thinking", "reasoning_effort"),
        efforts=("low", "high", "max"),
        stop_max=16,
        structured="json_object",
        images=False,
    ),
    "moonshot": Capabilities(
        max_tokens_param="max_completion_tokens",
        reasoning_in="reasoning_content",
        reasoning_fill=" ",
        thinking="moonshot",
        forced_while_thinking=False,
        reasoning_fields=("thinking", "reasoning_effort"),
        sampling="drop",
        stop_max=5,
        tool_choice=("auto", "none", "named"),
        user_field="safety_identifier",
        prompt_cache_key=True,
        prefill="partial",
        plain_refs=True,
    ),
    "minimax": Capabilities(
        max_tokens_param="max_completion_tokens",
        reasoning_in="reasoning_details",
        thinking="minimax",
        reasoning_fields=("thinking", "reasoning_effort"),
        tool_choice=("auto",),
        parallel_tool_calls=False,
        structured=None,
        think_tags=True,
        extra_body=b'{"reasoning_split":true}',
    ),
    "gemini": Capabilities(
        reasoning_fields=("reasoning_effort", "extra_body"),
        efforts=("minimal", "low", "medium", "high"),
        thought_signatures=True,
    ),
    # As for OpenAI, without features that depend on the API version: tiers, cache keys, files.
    "azure": Capabilities(
        max_tokens_param="max_completion_tokens",
        min_output_tokens=16,
        reasoning_fields=("reasoning_effort",),
        efforts=("none", "minimal", "low", "medium", "high", "xhigh"),
        sampling="drop",
        stop_max=0,
        strict_tools=True,
        user_field="user",
        verbosity=True,
        tool_id_max=40,
    ),
    "xai": Capabilities(
        max_tokens_param="max_completion_tokens",
        reasoning_fields=("reasoning_effort",),
        # grok-4.5 cannot switch reasoning off (grok-4.3 can).
        efforts=("low", "medium", "high"),
        stop_max=0,
        user_field="user",
    ),
    "zai": Capabilities(
        reasoning_in="reasoning_content",
        thinking="zai",
        reasoning_fields=("thinking", "reasoning_effort"),
        tool_choice=("auto",),
        structured="json_object",
        stream_options=False,
        stop_max=1,
    ),
    "qwen": Capabilities(
        reasoning_in="reasoning_content",
        thinking="qwen",
        reasoning_fields=("enable_thinking", "thinking_budget", "reasoning_effort"),
        forced_while_thinking=False,
        tool_choice=("auto", "none", "named"),
        structured="json_object",
        top_k=True,
    ),
    "mistral": Capabilities(
        tool_id_max=9,
        tool_id_exact=True,
        stream_options=False,
        # Not documented: the form of a prefix, the efforts, system messages after the first.
        prefill="prefix",
        reasoning_fields=("reasoning_effort", "prompt_mode"),
        efforts=("none", "high"),
        midconv_system="user",
    ),
    "groq": Capabilities(
        max_tokens_param="max_completion_tokens",
        reasoning_in="reasoning",
        reasoning_fields=("reasoning_effort", "reasoning_format", "include_reasoning"),
        efforts=("low", "medium", "high"),
        user_field="user",
    ),
    "openrouter": Capabilities(
        reasoning_in="reasoning",
        thinking="openrouter",
        reasoning_fields=("reasoning", "reasoning_effort", "include_reasoning"),
        efforts=("none", "minimal", "low", "medium", "high", "xhigh"),
        top_k=True,
        files=True,
        user_field="user",
        cache_control="keep",
    ),
    "vllm": Capabilities(
        reasoning_in="reasoning_content",
        thinking="vllm",
        top_k=True,
        prefill="vllm",
        # If the server runs without a reasoning parser.
        think_tags=True,
    ),
    "anthropic": Capabilities(
        thinking="adaptive",
        signed_reasoning=True,
        efforts=("low", "medium", "high", "xhigh", "max"),
        sampling="drop",
        top_k=True,
        strict_tools=True,
        files=True,
        service_tier=True,
    ),
    "anthropic-legacy": Capabilities(
        thinking="budget",
        signed_reasoning=True,
        efforts=("low", "medium", "high"),
        top_k=True,
        strict_tools=True,
        files=True,
        service_tier=True,
        midconv_system="user",
    ),
}

_OTHER_NAMES: Final[Mapping[str, str]] = {
    "effort": "efforts",
    "thinking_toggle": "thinking",
    "thinking toggle": "thinking",
    "strict": "strict_tools",
    "strict tools": "strict_tools",
    "vision": "images",
    "pdf": "files",
    "user": "user_field",
    "max_output": "max_output_tokens",
    "gemini_signatures": "thought_signatures",
    "mid-conversation system": "midconv_system",
}
"""Alternative names of capabilities, as in the documentation -> those of the struct."""

_OTHER_VALUES: Final[Mapping[str, str]] = {
    "any": "required",
    "tool": "named",
    "continue_final_message": "vllm",
    "partial: true": "partial",
}

_TRUE: Final = frozenset({"yes", "pass", "keep", "true"})
_FALSE: Final = frozenset({"no", "none", "drop", "false"})
_TYPES: Final[Mapping[str, object]] = {
    field.name: field.type for field in msgspec.structs.fields(Capabilities)
}
_EXTRA_LEVELS: Final = 32
"""Levels of `extra_body`, which is also written as TOML, where few levels can be read."""
_SWITCHES: Final[Mapping[str, tuple[str, str]]] = {
    "sampling": ("pass", "drop"),
    "midconv_system": ("system", "user"),
    "cache_control": ("keep", "drop"),
}
"""Capabilities with two values that may also be written as true and false."""
_OPTIONAL: Final = frozenset(
    {"reasoning_in", "reasoning_fill", "thinking", "structured", "user_field", "extra_body"}
)


def capabilities(dialect: str, overrides: Mapping[str, object]) -> Capabilities:
    """
    Return a dialect's capabilities with single ones overridden.

    Flags may be written as booleans or as yes / no, pass / drop; a missing capability as null,
    false or `none`; lists as a list or as words separated by spaces.

    Raises:
        ValueError: Unknown dialect, unknown capability or invalid value; the message names it.
    """
    base = DIALECTS.get(dialect)
    if base is None:
        known = ", ".join(DIALECTS)
        raise ValueError(f"unknown dialect '{dialect}' (known: {known})")
    if not overrides:
        return base
    values = {field: getattr(base, field) for field in Capabilities.__struct_fields__}
    for written, value in overrides.items():
        name = _OTHER_NAMES.get(written, written)
        if name not in values:
            raise ValueError(f"unknown capability '{written}' (known: {', '.join(sorted(values))})")
        values[name] = _override(name, value)
    return Capabilities(**values)


def _override(name: str, value: object) -> object:
    try:
        return msgspec.convert(_plain(name, value), type=_TYPES[name])
    except msgspec.ValidationError as failure:
        raise ValueError(f"capability '{name}': {failure}") from failure


def _plain(name: str, value: object) -> object:
    """Convert the accepted spellings of a value to the struct's."""
    word = value.strip().lower() if isinstance(value, str) else value
    if _TYPES[name] is bool and isinstance(word, str):
        return word in _TRUE if word in _TRUE | _FALSE else value
    if name in _SWITCHES and isinstance(value, bool):
        return _SWITCHES[name][0 if value else 1]
    if name in _OPTIONAL and (value is False or word in ("none", "no", "drop")):
        return None
    if name in ("efforts", "tool_choice", "reasoning_fields"):
        return _words(value)
    if name == "extra_body" and isinstance(value, Mapping):
        members = msgspec.json.encode(value)
        if is_deep(members, outer=MOST_LEVELS - _EXTRA_LEVELS):
            raise ValueError(f"capability '{name}': more than {_EXTRA_LEVELS} levels")
        return members
    if name == "reasoning_fill" and value is True:
        return " "
    return _OTHER_VALUES.get(word, value) if isinstance(word, str) else value


def _words(value: object) -> object:
    listed = value.replace(",", " ").split() if isinstance(value, str) else value or ()
    if not isinstance(listed, list | tuple):
        return value
    return tuple(_OTHER_VALUES.get(word, word) for word in listed)
