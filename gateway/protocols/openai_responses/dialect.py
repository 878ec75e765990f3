"""
Fits the chat request of a Responses call to its upstream, by the rules for Messages requests.

Members are decoded JSON. What cannot be carried is left out and named.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
from msgspec import Raw

from gateway.protocols.translate.capabilities import Capabilities
from gateway.protocols.translate.closed_schema import plain_refs
from gateway.protocols.translate.messages_to_chat.content import NO_FILES, NO_IMAGES
from gateway.protocols.translate.messages_to_chat.messages import NO_SIGNATURE
from gateway.protocols.translate.reasoning_effort import thinking_fields
from gateway.protocols.translate.structured_output import schema_sentence

Json = dict[str, Any]

_FREE_CHOICES: Final = (None, "auto", "none")


def fit_chat(chat: Json, caps: Capabilities) -> tuple[str, ...]:
    """
    Change a chat request in place for an upstream with these abilities.

    Returns:
        What was left out, by the names that the Responses API has for it.
    """
    dropped: list[str] = []
    _fit_messages(chat["messages"], caps, dropped)
    _fit_tools(chat, caps, dropped)
    _fit_reasoning(chat, caps, dropped)
    _fit_format(chat, caps, dropped)
    for name, accepted in (("verbosity", caps.verbosity), ("service_tier", caps.service_tier)):
        if not accepted and chat.pop(name, None) is not None:
            dropped.append("text.verbosity" if name == "verbosity" else name)
    if not caps.stream_options:
        chat.pop("stream_options", None)
    return tuple(dict.fromkeys(dropped))


def _fit_messages(messages: list[Json], caps: Capabilities, dropped: list[str]) -> None:
    for message in messages:
        content = message.get("content")
        if isinstance(content, list):
            message["content"] = [_fit_part(part, caps, dropped) for part in content]
        if message["role"] == "assistant":
            _fit_assistant(message, caps)


def _fit_part(part: Json, caps: Capabilities, dropped: list[str]) -> Json:
    if part["type"] == "image_url" and not caps.images:
        dropped.append("input_image")
        return {"type": "text", "text": NO_IMAGES}
    if part["type"] == "file" and not caps.files:
        dropped.append("input_file")
        return {"type": "text", "text": NO_FILES}
    return part


def _fit_assistant(message: Json, caps: Capabilities) -> None:
    calls = message.get("tool_calls")
    if calls and caps.thought_signatures:
        google = {"google": {"thought_signature": NO_SIGNATURE}}
        calls[0].setdefault("extra_content", google)
    field = caps.reasoning_in
    text = message.pop("reasoning_content", None)
    if field != "reasoning_details":
        message.pop("reasoning_details", None)
        if not text and calls:
            text = caps.reasoning_fill
    if text and field in ("reasoning_content", "reasoning"):
        message[field] = text


def _fit_tools(chat: Json, caps: Capabilities, dropped: list[str]) -> None:
    for tool in chat.get("tools", ()):
        function = tool["function"]
        if not caps.strict_tools:
            function.pop("strict", None)
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
        if want not in (None, "none"):
            dropped.append("reasoning")
        want = "none"
    fields = thinking_fields(want, caps)
    if fields is None:
        dropped.append("reasoning")
    else:
        chat |= fields


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
