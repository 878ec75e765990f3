"""
Translates an OpenAI Chat Completions request to an Anthropic Messages request.

Pure and stable: the same history gives the same bytes, since the provider's prompt cache depends on
it. A feature that the upstream lacks is dropped and reported (`dropped`), dropped silently if that
makes no difference to the client, or rejected if the response would not be what the client expects.
`FIELDS` says which for every field; docs/translation-chat.md explains it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Final

import msgspec
from msgspec import Raw

from gateway.errors import ErrorKind, GatewayError
from gateway.protocols.anthropic_messages.message import Block, text_block
from gateway.protocols.codec.absent import is_filled, is_given
from gateway.protocols.codec.json_decode import decode_request
from gateway.protocols.openai_chat.request import ChatRequest, ResponseFormat
from gateway.protocols.translate.capabilities import Capabilities
from gateway.protocols.translate.chat_to_messages.messages import MessageTranslator
from gateway.protocols.translate.chat_to_messages.reasoning import Reasoning, reasoning_of
from gateway.protocols.translate.chat_to_messages.tools import ToolUse, translate_tools
from gateway.protocols.translate.closed_schema import close_schema
from gateway.protocols.translate.messages_to_chat.messages import Dropped, ToolNames
from gateway.protocols.translate.stream import (
    FieldOutcome,
    ResponseContext,
    TranslatedRequest,
    TranslationRoute,
)
from gateway.protocols.translate.structured_output import schema_sentence

FIELDS: Final[Mapping[str, FieldOutcome]] = {
    "model": "map",
    "messages": "map or refuse",
    "max_completion_tokens": "map",
    "max_tokens": "map",
    "stop": "map",
    "temperature": "map or drop",
    "top_p": "map or drop",
    "top_k": "map or drop",
    "tools": "map or refuse",
    "tool_choice": "map or drop",
    "parallel_tool_calls": "map or drop",
    "reasoning_effort": "map or drop",
    "thinking": "map or drop",
    "reasoning": "map or drop",
    "enable_thinking": "map or drop",
    "chat_template_kwargs": "map or drop",
    "response_format": "map or drop",
    "user": "map",
    "safety_identifier": "map",
    "service_tier": "map or drop",
    "stream": "map",
    "stream_options": "map",
    "cache_control": "map",
    "n": "refuse",
    "logprobs": "refuse",
    "functions": "refuse",
    "function_call": "refuse",
    "modalities": "refuse",
    "audio": "refuse",
    "web_search_options": "refuse",
    "top_logprobs": "drop",
    "logit_bias": "drop",
    "seed": "drop",
    "presence_penalty": "drop",
    "frequency_penalty": "drop",
    "prediction": "drop",
    "verbosity": "drop",
    "moderation": "drop",
    "store": "ignore",
    "metadata": "ignore",
    "prompt_cache_key": "ignore",
    "prompt_cache_options": "ignore",
    "prompt_cache_retention": "ignore",
}
"""How each top-level field is handled; fields that are not listed are ignored."""

_DROPPED: Final = tuple(name for name, outcome in FIELDS.items() if outcome == "drop")
_LONGEST_USER: Final = 256
_ONLY_JSON: Final = "Respond only with a valid JSON object."
_AUTO_CACHE: Final = Raw(b'{"type":"ephemeral"}')

_REQUEST: Final = msgspec.json.Decoder(ChatRequest)
_NUMBER: Final = msgspec.json.Decoder(float)
_EMAIL: Final = re.compile(r"[^@\s]@[^@\s]+\.[^@\s.]")
_PHONE: Final = re.compile(r"\+?[0-9 ().\-/]{7,32}")


def translate_request(
    body: bytes, route: TranslationRoute, *, carry_reasoning: bool = True
) -> TranslatedRequest:
    """
    Return the upstream's request for a client's chat completion request.

    Args:
        body: The client's body, at most 32 MiB.
        route: The upstream's model and capabilities.
        carry_reasoning: False drops all reasoning of the history, for the one retry after an
            upstream rejected its signature.

    Raises:
        GatewayError: BAD_REQUEST: not JSON, nested too deeply, a field missing or of the wrong
            type. UNSUPPORTED: a requested feature that the upstream does not have. Both name the
            field in `param`.
    """
    try:
        body.decode()  # Raw members are copied unchecked, so the whole must be UTF-8.
        return _translate(decode_request(body, _REQUEST), route, carry_reasoning=carry_reasoning)
    except UnicodeDecodeError as error:
        message = "The request body is not valid UTF-8."
        raise GatewayError(ErrorKind.BAD_REQUEST, message) from error


def _translate(
    request: ChatRequest, route: TranslationRoute, *, carry_reasoning: bool
) -> TranslatedRequest:
    caps = route.caps
    dropped = Dropped()
    names = ToolNames()
    _refuse(request)
    tool_use = translate_tools(request, caps, names, dropped)
    translator = MessageTranslator(caps, names, dropped, carry_reasoning=carry_reasoning)
    conversation = translator.translate(request.messages or [])
    max_tokens = _output_tokens(request, route)
    may_think = conversation.may_think() and not tool_use.forced
    reasoning = reasoning_of(request, caps, max_tokens, may_think=may_think, dropped=dropped)
    output_format = _output_format(request.response_format, caps, conversation.system, dropped)

    fields: dict[str, object] = {"model": route.upstream_model, "max_tokens": max_tokens}
    if conversation.system:
        fields["system"] = conversation.system
    fields["messages"] = conversation.turns
    fields |= _tool_fields(tool_use)
    if reasoning.thinking is not None:
        fields["thinking"] = reasoning.thinking
    if reasoning.effort is not None:
        output_format = {"effort": reasoning.effort} | output_format
    if output_format:
        fields["output_config"] = output_format
    fields |= _sampling_fields(request, caps, reasoning, dropped)
    fields |= _identity_fields(request, caps, dropped)
    if request.stream:
        fields["stream"] = True
    if is_given(request.cache_control):
        fields["cache_control"] = request.cache_control
    elif caps.auto_cache and not (conversation.has_cache_control() or tool_use.has_cache_control()):
        fields["cache_control"] = _AUTO_CACHE
    for name in _DROPPED:
        if _has_effect(getattr(request, name)):
            dropped.add(name)
    options = request.stream_options
    context = ResponseContext(
        model=request.model,
        tool_names=names.originals,
        include_usage=bool(options is not None and options.include_usage),
        stream=bool(request.stream),
    )
    return TranslatedRequest(msgspec.json.encode(fields), dropped.names(), context)


def _refuse(request: ChatRequest) -> None:
    """Raise for features that would be missing from the response without notice."""
    asked = {
        "n": request.n is not None and request.n > 1,
        "logprobs": bool(request.logprobs),
        "functions": is_filled(request.functions),
        "function_call": is_filled(request.function_call),
        "modalities": "audio" in (request.modalities or ()),
        "audio": is_given(request.audio),
        "web_search_options": is_given(request.web_search_options),
    }
    for name, is_asked in asked.items():
        if is_asked:
            hint = "; use tools" if name in ("functions", "function_call") else ""
            message = f"{name} is not supported by this model{hint}"
            raise GatewayError(ErrorKind.UNSUPPORTED, message, param=name)


def _output_tokens(request: ChatRequest, route: TranslationRoute) -> int:
    tokens = request.max_completion_tokens or request.max_tokens or route.caps.default_max_tokens
    limit = route.output_limit
    return tokens if limit is None else min(tokens, limit)


def _tool_fields(tool_use: ToolUse) -> dict[str, object]:
    fields: dict[str, object] = {}
    if tool_use.tools:
        fields["tools"] = tool_use.tools
    if tool_use.choice is not None:
        fields["tool_choice"] = tool_use.choice
    return fields


def _output_format(
    wanted: ResponseFormat | None, caps: Capabilities, system: list[Block], dropped: Dropped
) -> dict[str, object]:
    """Return the format for `output_config`, or add a sentence to `system` in its place."""
    if wanted is None or wanted.type == "text":
        return {}
    if wanted.type not in ("json_object", "json_schema"):
        raise GatewayError(
            ErrorKind.UNSUPPORTED,
            f"response_format: type '{wanted.type}' is not supported by this model",
            param="response_format",
        )
    if caps.structured is None:
        dropped.add("response_format")
        return {}
    named = wanted.json_schema if wanted.type == "json_schema" else None
    if named is None or not is_given(named.schema):
        system.append(text_block(_ONLY_JSON))
        return {}
    closed = close_schema(named.schema) if caps.structured == "json_schema" else None
    if closed is not None:
        return {"format": {"type": "json_schema", "schema": closed}}
    system.append(text_block(schema_sentence(named.schema)))
    return {}


def _sampling_fields(
    request: ChatRequest, caps: Capabilities, reasoning: Reasoning, dropped: Dropped
) -> dict[str, object]:
    fields: dict[str, object] = {}
    for name in ("temperature", "top_p"):
        value: Raw = getattr(request, name)
        if not is_given(value):
            continue
        clamped = _clamped(value, name)
        if caps.sampling == "drop" or reasoning.is_on or fields:
            dropped.add(name)  # Anthropic rejects top_p with temperature, and both while thinking.
        else:
            fields[name] = clamped
    if is_given(request.top_k):
        if caps.top_k and caps.sampling == "pass" and not reasoning.is_on:
            fields["top_k"] = request.top_k
        else:
            dropped.add("top_k")
    stops = [request.stop] if isinstance(request.stop, str) else request.stop or []
    stops = [stop for stop in stops if stop.strip()]
    if stops:
        fields["stop_sequences"] = stops
    return fields


def _clamped(value: Raw, name: str) -> Raw:
    """Return a number clamped to Anthropic's range of 0 to 1; one in range is unchanged."""
    try:
        number = _NUMBER.decode(value)
    except msgspec.DecodeError as error:
        message = f"Invalid value for '{name}': expected a number."
        raise GatewayError(ErrorKind.BAD_REQUEST, message, param=name) from error
    if 0 <= number <= 1:
        return value
    return Raw(b"1" if number > 1 else b"0")


def _identity_fields(
    request: ChatRequest, caps: Capabilities, dropped: Dropped
) -> dict[str, object]:
    fields: dict[str, object] = {}
    user = request.safety_identifier or request.user
    if user:
        fields["metadata"] = {"user_id": _anonymous(user)}
    match request.service_tier:
        case None | "auto":
            pass  # This is Anthropic's default, too.
        case "default":
            if caps.service_tier:
                fields["service_tier"] = "standard_only"
        case _:
            dropped.add("service_tier")
    return fields


def _anonymous(user: str) -> str:
    """Return a user's id, hashed if it looks like an e-mail address or a telephone number."""
    if _EMAIL.search(user) or _is_phone(user.strip()):
        return hashlib.sha256(user.encode()).hexdigest()
    return user[:_LONGEST_USER]


def _is_phone(user: str) -> bool:
    if _PHONE.fullmatch(user) is None:
        return False
    digits = sum(character.isdigit() for character in user)
    return 7 <= digits <= 15 and (digits >= 10 or digits < len(user))


def _has_effect(value: Raw) -> bool:
    """Return whether a member would have changed the response: not null, empty, false or zero."""
    if not is_filled(value) or bytes(value).strip() == b"false":
        return False
    try:
        return _NUMBER.decode(value) != 0
    except msgspec.DecodeError:
        return True
