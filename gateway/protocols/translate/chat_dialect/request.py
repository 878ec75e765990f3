"""
Adapts a chat request that the gateway has built to its upstream's dialect.

Members are decoded JSON. Members that the upstream does not accept are dropped and reported.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
from msgspec import Raw

from gateway.protocols.translate.capabilities import Capabilities
from gateway.protocols.translate.chat_dialect.history import GOOGLE_FORMAT, fit_history
from gateway.protocols.translate.closed_schema import plain_refs
from gateway.protocols.translate.messages_to_chat.content import NO_FILES, NO_IMAGES
from gateway.protocols.translate.reasoning_effort import keeps_thinking, thinking_fields
from gateway.protocols.translate.stream import TranslationRoute
from gateway.protocols.translate.structured_output import schema_sentence

Json = dict[str, Any]

_FREE_CHOICES: Final = (None, "auto", "none")
_SAMPLING: Final = ("temperature", "top_p")
_NAMES: Final = {"verbosity": "text.verbosity"}
"""Members with another name in the Responses API -> that name."""
_USER_FIELDS: Final = ("safety_identifier", "user")
_EXTRA: Final = msgspec.json.Decoder(Json)


def fit_chat(chat: Json, route: TranslationRoute) -> tuple[str, ...]:
    """
    Change a chat request in place for an upstream.

    Args:
        chat: The request; its output limit, if any, is in `max_completion_tokens`.
        route: The upstream's model and capabilities.

    Returns:
        The dropped members, by their names in the Responses API.
    """
    caps = route.caps
    dropped: list[str] = []
    chat["model"] = route.upstream_model
    _fit_messages(chat, caps, dropped)
    _fit_limits(chat, route)
    _fit_sampling(chat, caps, dropped)
    _fit_tools(chat, caps, dropped)
    _fit_reasoning(chat, caps, dropped)
    _fit_format(chat, caps, dropped)
    for name, accepted in (("verbosity", caps.verbosity), ("service_tier", caps.service_tier)):
        if not accepted and chat.pop(name, None) is not None:
            dropped.append(_NAMES.get(name, name))
    _fit_hints(chat, caps)
    if not caps.stream_options:
        chat.pop("stream_options", None)
    if caps.extra_body is not None:
        chat |= _EXTRA.decode(caps.extra_body)
    return tuple(dict.fromkeys(dropped))


def _fit_messages(chat: Json, caps: Capabilities, dropped: list[str]) -> None:
    for message in chat["messages"]:
        content = message.get("content")
        if isinstance(content, list):
            message["content"] = [_fit_part(part, caps, dropped) for part in content]
    chat["messages"] = fit_history(chat["messages"], caps)
    begun = False
    for message in chat["messages"]:
        if message["role"] == "assistant":
            _fit_old_reasoning(message, caps)
        if begun and message["role"] == "system" and caps.midconv_system == "user":
            message["role"] = "user"
            message["content"] = _reminder(message["content"])
        begun = begun or message["role"] != "system"


def _reminder(content: str | list[Json]) -> str:
    parts = [content] if isinstance(content, str) else [part.get("text", "") for part in content]
    return "<system-reminder>\n{}\n</system-reminder>".format("\n\n".join(parts))


def _fit_part(part: Json, caps: Capabilities, dropped: list[str]) -> Json:
    if part["type"] == "image_url" and not caps.images:
        dropped.append("input_image")
        return {"type": "text", "text": NO_IMAGES}
    if part["type"] == "file" and not (caps.files and _is_data(part)):
        dropped.append("input_file")
        return {"type": "text", "text": NO_FILES}
    return part


def _is_data(part: Json) -> bool:
    """Return whether a file is sent as data: chat completions take no URL of one."""
    return not str(part["file"].get("file_data")).lower().startswith(("https://", "http://"))


def _fit_old_reasoning(message: Json, caps: Capabilities) -> None:
    """Move the reasoning of earlier messages to the dialect's member, or drop it."""
    field = caps.reasoning_in
    text = message.pop("reasoning_content", None)
    details = message.pop("reasoning_details", None)
    if field == "reasoning_details":
        own = [entry for entry in details or () if entry.get("format") != GOOGLE_FORMAT]
        if own:
            message["reasoning_details"] = own
    elif field is not None and text and not message.get(field):
        message[field] = text


def _fit_limits(chat: Json, route: TranslationRoute) -> None:
    limit = chat.pop("max_completion_tokens", None)
    if limit is not None:
        limit = max(limit, route.caps.min_output_tokens)
        most = route.output_limit
        chat[route.caps.max_tokens_param] = limit if most is None else min(limit, most)


def _fit_sampling(chat: Json, caps: Capabilities, dropped: list[str]) -> None:
    if caps.sampling == "drop":
        dropped += [name for name in _SAMPLING if chat.pop(name, None) is not None]


def _fit_hints(chat: Json, caps: Capabilities) -> None:
    """Drop hints that the upstream does not know: a strict one would return 400."""
    if not caps.prompt_cache_key:
        chat.pop("prompt_cache_key", None)
    given = [chat.pop(name, None) for name in _USER_FIELDS]
    user = next((value for value in given if value is not None), None)
    if user is not None and caps.user_field is not None:
        chat[caps.user_field] = user


def _fit_tools(chat: Json, caps: Capabilities, dropped: list[str]) -> None:
    for tool in chat.get("tools", ()):
        function = tool["function"]
        if not caps.strict_tools and function.pop("strict", None):
            dropped.append("tools.strict")
        if caps.plain_refs and "parameters" in function:
            function["parameters"] = plain_refs(function["parameters"])
    choice = chat.get("tool_choice")
    kind = "named" if isinstance(choice, dict) else choice
    if kind is not None and kind not in caps.tool_choice:
        dropped.append("tool_choice")
        del chat["tool_choice"]
        if "auto" in caps.tool_choice:
            chat["tool_choice"] = "auto"
    if not caps.parallel_tool_calls and chat.pop("parallel_tool_calls", None) is not None:
        dropped.append("parallel_tool_calls")


def _fit_reasoning(chat: Json, caps: Capabilities, dropped: list[str]) -> None:
    if not caps.efforts and caps.thinking is None:
        return  # nothing is known of the upstream
    want = chat.pop("reasoning_effort", None)
    if chat.get("tool_choice") not in _FREE_CHOICES and not caps.forced_while_thinking:
        if want != "none":
            dropped.append("reasoning")
        want = "none"
    fields = thinking_fields(want, caps)
    if fields is None or keeps_thinking(want, fields):
        dropped.append("reasoning")
    chat |= fields or {}


def _fit_format(chat: Json, caps: Capabilities, dropped: list[str]) -> None:
    wanted = chat.get("response_format") or {}
    if wanted.get("type") != "json_schema" or caps.structured == "json_schema":
        return
    del chat["response_format"]
    if caps.structured is None:
        dropped.append("text.format")
        return
    if caps.structured == "json_object":
        chat["response_format"] = {"type": "json_object"}
    schema = wanted["json_schema"].get("schema") or {}
    sentence = schema_sentence(Raw(msgspec.json.encode(schema)))
    first = chat["messages"][0] if chat["messages"] else None
    if first is not None and first["role"] == "system" and isinstance(first["content"], str):
        first["content"] += f"\n\n{sentence}"
    else:
        chat["messages"].insert(0, {"role": "system", "content": sentence})
