"""
Translates an Anthropic Messages request to an OpenAI Chat Completions request.

Pure and stable: the same history gives the same bytes, since the provider's prompt cache depends on
it. A feature that the upstream lacks is dropped and reported (`dropped`), dropped silently if that
makes no difference to the client, or rejected if the response would not be what the client expects.
`FIELDS` says which for every field; docs/translation-messages.md explains it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Final

import msgspec
from msgspec import Raw

from gateway.errors import ErrorKind, GatewayError
from gateway.protocols.anthropic_messages.request import MessagesRequest, OutputFormat
from gateway.protocols.anthropic_messages.threads import thread_refused
from gateway.protocols.codec.absent import is_filled, is_given
from gateway.protocols.codec.json_decode import decode_or_none, decode_request
from gateway.protocols.translate.capabilities import Capabilities
from gateway.protocols.translate.messages_to_chat.messages import (
    PREFILL_REFUSED,
    Dropped,
    MessageTranslator,
    ToolNames,
)
from gateway.protocols.translate.messages_to_chat.tools import tool_fields
from gateway.protocols.translate.reasoning_effort import (
    keeps_thinking,
    thinking_fields,
    wanted_effort,
)
from gateway.protocols.translate.stream import (
    FieldOutcome,
    ResponseContext,
    TranslatedRequest,
    TranslationRoute,
)
from gateway.protocols.translate.structured_output import is_strict_schema, schema_sentence

FIELDS: Final[Mapping[str, FieldOutcome]] = {
    "model": "map",
    "max_tokens": "map",
    "messages": "map",
    "system": "map",
    "tools": "map or refuse",
    "tool_choice": "map or drop",
    "thinking": "map or drop",
    "output_config": "map or drop",
    "output_format": "map or drop",
    "temperature": "map or drop",
    "top_p": "map or drop",
    "top_k": "map or drop",
    "stop_sequences": "map or drop",
    "stream": "map",
    "metadata": "map or drop",
    "service_tier": "map or drop",
    "cache_control": "drop",
    "context_management": "drop",
    "fallbacks": "drop",
    "speed": "drop",
    "diagnostics": "drop",
    "inference_geo": "drop",
    "container": "refuse",
    "mcp_servers": "refuse",
    "compaction": "refuse",
    "thread": "refuse",
    "betas": "ignore",
    "safeguards": "ignore",
}
"""How each top-level field is handled; fields that are not listed are ignored."""

_REFUSED: Final = tuple(name for name, outcome in FIELDS.items() if outcome == "refuse")
_DROPPED: Final = tuple(name for name, outcome in FIELDS.items() if outcome == "drop")
_LONGEST_KEY: Final = 64
"""Most characters of OpenAI's user ids and cache keys."""

_REQUEST: Final = msgspec.json.Decoder(MessagesRequest)
_SESSION_SUFFIX: Final = re.compile(r"_session_([0-9A-Za-z-]+)\Z")


class _SessionUser(msgspec.Struct):
    session_id: str | None = None


_SESSION_USER: Final = msgspec.json.Decoder(_SessionUser)


def translate_request(
    body: bytes, route: TranslationRoute, session_id: str | None = None
) -> TranslatedRequest:
    """
    Return the upstream's request for a client's Messages request.

    Args:
        body: The client's body, at most 32 MiB.
        route: The upstream's model and capabilities.
        session_id: The client's `x-claude-code-session-id` header.

    Raises:
        GatewayError: BAD_REQUEST: not JSON, nested too deeply, a field missing or of the wrong
            type. UNSUPPORTED: a requested feature that the upstream does not have.
    """
    try:
        body.decode()  # Raw members are copied unchecked, so the whole must be UTF-8.
        return _translate(decode_request(body, _REQUEST), route, session_id)
    except UnicodeDecodeError as error:
        message = "The request body is not valid UTF-8."
        raise GatewayError(ErrorKind.BAD_REQUEST, message) from error


def _translate(
    request: MessagesRequest, route: TranslationRoute, session_id: str | None
) -> TranslatedRequest:
    caps = route.caps
    dropped = Dropped()
    names = ToolNames()
    model, max_tokens = _required(request)
    if is_filled(request.thread):
        raise thread_refused()
    for name in _REFUSED:
        if is_filled(getattr(request, name)):
            raise GatewayError(
                ErrorKind.UNSUPPORTED, f"{name}: not supported by this model", param=name
            )
    format_fields, paragraph = _format_fields(request, caps, dropped)
    chat = MessageTranslator(caps, names, dropped)
    chat.add_system(request.system, paragraph)
    for index, message in enumerate(request.messages or ()):
        chat.add(index, message)
    chat.order_results()
    fields: dict[str, object] = {
        "model": route.upstream_model,
        "messages": chat.messages,
        caps.max_tokens_param: _output_tokens(max_tokens, route),
    }
    fields |= _prefill_fields(chat, caps)
    fields |= _sampling_fields(request, caps, dropped)
    tools = tool_fields(request, caps, names, dropped)
    fields |= tools
    forced = tools.get("tool_choice") not in (None, "auto", "none")
    fields |= _thinking(request, caps, dropped, forced=forced)
    fields |= format_fields
    fields |= _identity_fields(request, caps, session_id)
    if request.stream:
        fields["stream"] = True
        if caps.stream_options:
            fields["stream_options"] = {"include_usage": True}
    if caps.extra_body is not None:
        fields |= msgspec.json.decode(caps.extra_body, type=dict[str, Raw])
    for name in _DROPPED:
        if is_given(getattr(request, name)):
            dropped.add(name)
    context = ResponseContext(
        model=model,
        tool_names=names.originals,
        history_ids=frozenset(chat.history_ids),
        stop_sequences=tuple(request.stop_sequences or ()),
        stream=bool(request.stream),
    )
    return TranslatedRequest(msgspec.json.encode(fields), dropped.names(), context)


def _required(request: MessagesRequest) -> tuple[str, int]:
    if request.model is None:
        raise _missing("model")
    if request.max_tokens is None:
        raise _missing("max_tokens")
    if request.max_tokens < 0:
        raise GatewayError(
            ErrorKind.BAD_REQUEST,
            "max_tokens: Input should be greater than or equal to 0",
            param="max_tokens",
        )
    if request.messages is None:
        raise _missing("messages")
    if not request.messages:
        raise GatewayError(
            ErrorKind.BAD_REQUEST,
            "messages: at least one message is required",
            param="messages",
        )
    return request.model, request.max_tokens


def _missing(name: str) -> GatewayError:
    return GatewayError(ErrorKind.BAD_REQUEST, f"{name}: Field required", param=name)


def _output_tokens(max_tokens: int, route: TranslationRoute) -> int:
    """Raise to the dialect's minimum (agents probe with 1), then lower to the model's limit."""
    tokens = max(max_tokens, route.caps.min_output_tokens, 1)
    limit = route.output_limit
    return tokens if limit is None else min(tokens, limit)


def _prefill_fields(chat: MessageTranslator, caps: Capabilities) -> dict[str, object]:
    if not chat.continues_assistant():
        return {}
    match caps.prefill:
        case "partial":
            chat.messages[-1].partial = True
        case "prefix":
            chat.messages[-1].prefix = True
        case "vllm":
            return {"continue_final_message": True, "add_generation_prompt": False}
        case "reject":
            raise GatewayError(ErrorKind.UNSUPPORTED, PREFILL_REFUSED, param="messages")
    return {}


def _sampling_fields(
    request: MessagesRequest, caps: Capabilities, dropped: Dropped
) -> dict[str, object]:
    fields: dict[str, object] = {}
    accepted = {"temperature": caps.sampling == "pass", "top_p": caps.sampling == "pass"}
    accepted["top_k"] = caps.top_k
    for name, passes in accepted.items():
        value: Raw = getattr(request, name)
        if not is_given(value):
            continue
        if bytes(value)[:1] not in b"-0123456789":
            raise GatewayError(
                ErrorKind.BAD_REQUEST, f"{name}: Input should be a valid number", param=name
            )
        if passes:
            fields[name] = value
        else:
            dropped.add(name)
    stops = request.stop_sequences or []
    if stops and caps.stop_max == 0:
        dropped.add("stop_sequences")
    elif len(stops) > caps.stop_max:
        raise GatewayError(
            ErrorKind.UNSUPPORTED,
            f"stop_sequences: this model accepts at most {caps.stop_max}",
            param="stop_sequences",
        )
    elif stops:
        fields["stop"] = stops
    return fields


def _thinking(
    request: MessagesRequest, caps: Capabilities, dropped: Dropped, *, forced: bool
) -> dict[str, object]:
    want = wanted_effort(request.thinking, request.output_config)
    if forced and not caps.forced_while_thinking:
        # The client requires the call, and these upstreams think by default.
        if want != "none":
            dropped.add("thinking")
        want = "none"
    fields = thinking_fields(want, caps)
    if fields is None or keeps_thinking(want, fields):
        dropped.add("thinking")
    if fields is None:
        return {}
    return fields


def _format_fields(
    request: MessagesRequest, caps: Capabilities, dropped: Dropped
) -> tuple[dict[str, object], str | None]:
    """Return the members that request JSON, and a paragraph for the system prompt."""
    config = request.output_config
    wanted = config.format if config is not None and config.format else request.output_format
    if wanted is None:
        return {}, None
    _check_format(wanted)
    match caps.structured:
        case "json_schema":
            schema = {
                "name": "response",
                "schema": wanted.schema,
                "strict": is_strict_schema(wanted.schema),
            }
            return {"response_format": {"type": "json_schema", "json_schema": schema}}, None
        case "json_object":
            fields: dict[str, object] = {"response_format": {"type": "json_object"}}
            return fields, schema_sentence(wanted.schema)
        case "instruction":
            return {}, schema_sentence(wanted.schema)
        case None:
            dropped.add("output_config.format")
            return {}, None


def _check_format(wanted: OutputFormat) -> None:
    field = "output_config.format"
    if wanted.type != "json_schema":
        raise GatewayError(
            ErrorKind.UNSUPPORTED,
            f"{field}: type '{wanted.type}' is not supported by this model",
            param=field,
        )
    if not is_given(wanted.schema):
        raise GatewayError(ErrorKind.BAD_REQUEST, f"{field}.schema: Field required", param=field)


def _identity_fields(
    request: MessagesRequest, caps: Capabilities, session_id: str | None
) -> dict[str, object]:
    """Return the end user's id and the session for the provider's cache lookup."""
    fields: dict[str, object] = {}
    user_id = request.metadata.user_id if request.metadata is not None else None
    if user_id and caps.user_field is not None:
        fields[caps.user_field] = _bounded(user_id)
    if caps.prompt_cache_key:
        session = session_id or _session_of(user_id)
        if session:
            fields["prompt_cache_key"] = _bounded(session)
    if request.service_tier == "standard_only" and caps.service_tier:
        fields["service_tier"] = "default"
    return fields


def _bounded(text: str) -> str:
    if len(text) <= _LONGEST_KEY:
        return text
    return hashlib.sha256(text.encode()).hexdigest()


def _session_of(user_id: str | None) -> str | None:
    """Return the session in Claude Code's user id: JSON, formerly `..._session_<uuid>`."""
    if not user_id:
        return None
    user = decode_or_none(user_id, _SESSION_USER)
    if user is not None:
        return user.session_id
    suffix = _SESSION_SUFFIX.search(user_id)
    return suffix[1] if suffix else None
