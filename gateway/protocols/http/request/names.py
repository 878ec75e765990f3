"""
Rejects member names that the gateway and an upstream could interpret differently.

Go's `encoding/json` ignores case and uses the last of several matching members, so for a name in
another case, or a repeated one, the upstream could serve a different request from the one that was
authorised, reserved for and metered. Only names that affect the gateway or prices are checked; all
others are relayed.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

from msgspec import Raw

from gateway.core.model import Wire
from gateway.errors import ErrorKind, GatewayError
from gateway.protocols.codec.json_spans import LONGEST_NAME, unrepeated

ACTED_ON: Final = frozenset(
    {
        "audio", "background", "best_of", "cache_control", "container", "context_management",
        "conversation", "fallbacks", "frequency_penalty", "function_call", "functions",
        "include", "inference_geo", "input", "instructions", "logit_bias", "logprobs",
        "max_completion_tokens", "max_output_tokens", "max_retries", "max_tokens", "mcp_servers",
        "messages", "metadata", "modalities", "model", "models", "n", "output_config",
        "output_format", "parallel_tool_calls", "prediction", "presence_penalty",
        "previous_response_id", "prompt", "prompt_cache_key", "provider", "reasoning",
        "reasoning_effort", "response_format", "safety_identifier", "seed", "service_tier",
        "speed", "stop", "stop_sequences", "store", "stream", "stream_options", "system",
        "temperature", "text", "thinking", "thread", "timeout", "tool_choice", "tools", "top_k",
        "top_logprobs", "top_p", "usage", "user", "verbosity", "web_search", "web_search_options",
    }
)  # fmt: skip
"""Checked top-level members of all dialects."""

OPTIONS: Final[Mapping[str, frozenset[str]]] = {
    "audio": frozenset({"format", "voice"}),
    "cache_control": frozenset({"type", "ttl"}),
    "context_management": frozenset({"edits"}),
    "output_config": frozenset({"effort", "format"}),
    "output_format": frozenset({"type", "schema"}),
    "provider": frozenset(),
    "reasoning": frozenset({"effort", "enabled", "exclude", "max_tokens", "summary"}),
    "response_format": frozenset({"type", "json_schema"}),
    "stream_options": frozenset({"include_usage"}),
    "text": frozenset({"format", "verbosity"}),
    "thinking": frozenset({"type", "budget_tokens"}),
    "thread": frozenset({"type"}),
    "tool_choice": frozenset(
        {"type", "name", "function", "allowed_tools", "disable_parallel_tool_use", "mode", "tools"}
    ),
    "usage": frozenset({"include"}),
    "web_search_options": frozenset({"search_context_size", "user_location"}),
}
"""Top-level objects whose members affect the output -> the checked names in them."""

_METADATA: Final = frozenset({"user_id"})
_INNER: Final[Mapping[str, frozenset[str]]] = {
    "allowed_tools": frozenset({"mode", "tools"}),
    "format": frozenset({"type", "name", "schema", "strict"}),
    "function": frozenset({"name"}),
    "json_schema": frozenset({"name", "schema", "strict"}),
}
"""Objects nested in `OPTIONS` -> the checked names in them."""

_INNER_NAMES: Final = frozenset(_INNER)
_USUAL: Final = frozenset({b'{"include_usage":true}', b'{"include_usage": true}'})
"""The value in nearly every streamed chat request, known to be valid."""

_LONGEST: Final = max(map(len, ACTED_ON))
CHECKED: Final = frozenset(OPTIONS) | {"metadata"}
"""Top-level members that `check_options` checks."""


def check_names(
    names: Collection[str], acted_on: frozenset[str] = ACTED_ON, path: str = ""
) -> None:
    """
    Check that no name differs only in case from one in `acted_on`.

    Args:
        names: The decoded names of an object's members.
        acted_on: The names that have an effect in it.
        path: The object's path in the request.

    Raises:
        GatewayError: BAD_REQUEST, with the member and its correct spelling.
    """
    if acted_on.issuperset(names):
        return
    for name in names:
        if name in acted_on or len(name) > _LONGEST:
            continue
        expected = folded(name)
        if expected in acted_on:
            param = f"{path}.{name}" if path else name
            message = f"Unknown parameter: '{param}'; member names are lower case: '{expected}'."
            raise GatewayError(ErrorKind.BAD_REQUEST, message, param=param[:LONGEST_NAME])


def check_options(name: str, value: bytes | Raw, wire: Wire, most: int | None) -> None:
    """
    Check the names inside a top-level member that is an object with options.

    Args:
        name: Name of the member.
        value: Its JSON; anything but an object is accepted.
        wire: The dialect; on the OpenAI wire, `metadata` has no fixed names.
        most: Most members of an object.

    Raises:
        GatewayError: BAD_REQUEST: a repeated name, a name in another case, or too many members.
    """
    raw = bytes(value)
    if raw[:1] != b"{" or raw in _USUAL:
        return
    values = unrepeated(raw, name, most)
    if name == "metadata":
        acted_on = _METADATA if wire is Wire.ANTHROPIC else frozenset[str]()
    else:
        acted_on = OPTIONS[name]
    if acted_on and not acted_on.issuperset(values):
        check_names(values, acted_on, name)
    if _INNER_NAMES.isdisjoint(values) or name == "metadata":
        return
    for inner in _INNER_NAMES.intersection(values):
        inside = bytes(values[inner])
        if inside[:1] == b"{":
            path = f"{name}.{inner}"
            check_names(unrepeated(inside, path, most), _INNER[inner], path)


def folded(name: str) -> str:
    """Return a name with case folded as in Go, which also folds U+017F and U+212A."""
    return name.lower().replace("\u017f", "s")  # lower() maps U+212A to k
