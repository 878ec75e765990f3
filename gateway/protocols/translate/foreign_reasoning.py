"""
Reads the reasoning fields of other dialects in a chat request as one effort.

Clients of the OpenAI wire send OpenRouter's `reasoning`, DeepSeek's `thinking`, Qwen's
`enable_thinking` or vLLM's `chat_template_kwargs` to any provider. They mean the same, and an
upstream that does not know a field ignores it or returns 400.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec
from msgspec import Raw

from gateway.protocols.codec.absent import is_given
from gateway.protocols.codec.json_decode import decode_or_none
from gateway.protocols.translate.reasoning_effort import effort_of_budget

FIELDS: Final = ("reasoning", "thinking", "enable_thinking", "chat_template_kwargs")
"""In order of precedence: the first field with an effort is used."""


class _Switches(msgspec.Struct, gc=False):
    type: object = None
    effort: object = None
    enabled: object = None
    max_tokens: object = None
    budget_tokens: object = None
    enable_thinking: object = None
    thinking: object = None


_SWITCHES: Final = msgspec.json.Decoder(_Switches)
_OFF: Final = ("disabled", "none", "off")
_DEFAULT: Final = "medium"
"""The effort of a request that only enables reasoning, if an effort must be sent."""


def foreign_effort(values: Mapping[str, Raw]) -> str | None:
    """
    Return the effort that a request asks for by fields of other dialects.

    Args:
        values: The request's members by name; only those of `FIELDS` are read.

    Returns:
        `none` if reasoning is disabled; None if no field is set.
    """
    for name in FIELDS:
        value = values.get(name)
        effort = _effort(value) if value is not None and is_given(value) else None
        if effort is not None:
            return effort
    return None


def _effort(value: Raw) -> str | None:
    raw = bytes(value).strip()
    if raw in (b"true", b"false"):
        return _switched(raw == b"true")
    asked = decode_or_none(raw, _SWITCHES)
    if asked is None:
        return None
    if isinstance(asked.effort, str):
        return asked.effort
    for budget in (asked.max_tokens, asked.budget_tokens):
        if isinstance(budget, int) and not isinstance(budget, bool):
            return effort_of_budget(budget)
    if isinstance(asked.type, str):
        # `auto` leaves it to the model, like the absence of the field.
        return None if asked.type == "auto" else _switched(asked.type not in _OFF)
    for switch in (asked.enabled, asked.enable_thinking, asked.thinking):
        if isinstance(switch, bool):
            return _switched(switch)
    return None


def _switched(on: bool) -> str:
    return _DEFAULT if on else "none"
