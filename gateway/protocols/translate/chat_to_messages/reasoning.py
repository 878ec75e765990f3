"""Translates OpenAI's `reasoning_effort` to Anthropic's fields."""

from __future__ import annotations

from typing import Final, NamedTuple

import msgspec
from msgspec import Raw

from gateway.errors import ErrorKind, GatewayError
from gateway.protocols.codec.absent import is_given
from gateway.protocols.openai_chat.request import ChatRequest
from gateway.protocols.translate.capabilities import Capabilities
from gateway.protocols.translate.foreign_reasoning import FIELDS, foreign_effort
from gateway.protocols.translate.messages_to_chat.messages import Dropped
from gateway.protocols.translate.reasoning_effort import LEVELS, nearest_effort

_BUDGETS: Final = {
    "minimal": 1024,
    "low": 4096,
    "medium": 10240,
    "high": 24576,
    "xhigh": 32000,
    "max": 32000,
}
"""Effort -> thinking tokens, for models with a budget."""
_LEAST_OUTPUT: Final = 1024
"""Least tokens left for the response besides thinking, and Anthropic's least budget."""

_DISABLED: Final = Raw(b'{"type":"disabled"}')
_ADAPTIVE: Final = Raw(b'{"type":"adaptive","display":"summarized"}')
"""Newer models omit reasoning from the response by default."""


class _Thinking(msgspec.Struct, gc=False):
    type: str | None = None
    budget_tokens: object = None


_THINKING: Final = msgspec.json.Decoder(_Thinking)


class Reasoning(NamedTuple):
    """The fields to send; `is_on`: whether the model will think."""

    thinking: Raw | None = None
    effort: str | None = None
    is_on: bool = False


def reasoning_of(
    request: ChatRequest,
    caps: Capabilities,
    max_tokens: int,
    *,
    may_think: bool,
    dropped: Dropped,
) -> Reasoning:
    """
    Return the fields for the requested reasoning.

    A `thinking` object in Anthropic's form takes precedence over `reasoning_effort` and is sent as
    it is. Without `reasoning_effort`, fields of other dialects are read as an effort.

    Args:
        request: The client's request.
        caps: The upstream's capabilities.
        max_tokens: The output limit that will be sent.
        may_think: False if a token budget would be rejected: with a forced tool, or if the last
            tool turn lacks its signed thinking.
        dropped: Collects the names of dropped fields.

    Raises:
        GatewayError: BAD_REQUEST: `thinking` is not an object.
    """
    if is_given(request.thinking):
        own = _verbatim(request.thinking, max_tokens, caps, dropped)
        if own is not None:
            return own
    field = "reasoning_effort"
    want = request.reasoning_effort
    if want is None:
        asked = {name: value for name in FIELDS if is_given(value := getattr(request, name))}
        if not asked:
            return Reasoning()
        field = next(iter(asked))
        want = foreign_effort(asked)
    if want is None:
        dropped.add(field)
        return Reasoning()
    reasoning: Reasoning | None = None
    if want in LEVELS and caps.thinking == "adaptive":
        reasoning = _adaptive(want, caps, field, dropped)
    elif want in LEVELS and caps.thinking == "budget":
        reasoning = _budget(want, max_tokens, may_think=may_think)
    if reasoning is None:
        dropped.add(field)
        return Reasoning()
    return reasoning


def _verbatim(
    thinking: Raw, max_tokens: int, caps: Capabilities, dropped: Dropped
) -> Reasoning | None:
    """Return the client's `thinking`; None if it is another provider's."""
    try:
        asked = _THINKING.decode(thinking)
    except msgspec.ValidationError as error:
        message = "Invalid value for 'thinking': expected an object with a type."
        raise GatewayError(ErrorKind.BAD_REQUEST, message, param="thinking") from error
    if caps.thinking is None:
        dropped.add("thinking")
        return Reasoning()
    if asked.type == "disabled":
        return _off(caps, thinking, "thinking", dropped)
    budget = asked.budget_tokens
    if asked.type == "enabled" and isinstance(budget, int):
        # Anthropic's conditions: the least budget, and tokens left for the response.
        return Reasoning(thinking, is_on=True) if _LEAST_OUTPUT <= budget < max_tokens else None
    return Reasoning(thinking, is_on=True) if asked.type == "adaptive" else None


def _off(caps: Capabilities, thinking: Raw, field: str, dropped: Dropped) -> Reasoning:
    """Disable thinking, or set it as low as the model allows."""
    if caps.can_disable_thinking:
        return Reasoning(thinking)
    dropped.add(field)
    return Reasoning(effort=nearest_effort("low", caps.efforts))


def _adaptive(want: str, caps: Capabilities, field: str, dropped: Dropped) -> Reasoning:
    if want == "none":
        return _off(caps, _DISABLED, field, dropped)
    effort = nearest_effort("low" if want == "minimal" else want, caps.efforts)
    return Reasoning(_ADAPTIVE, effort, is_on=True)


def _budget(want: str, max_tokens: int, *, may_think: bool) -> Reasoning | None:
    if want == "none":
        return Reasoning()
    if not may_think or max_tokens <= 2 * _LEAST_OUTPUT:
        return None
    tokens = min(_BUDGETS[want], max_tokens - _LEAST_OUTPUT)
    return Reasoning(Raw(b'{"type":"enabled","budget_tokens":%d}' % tokens), is_on=True)
