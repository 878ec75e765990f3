"""Translates tools and tool choice of an Anthropic request to OpenAI's."""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec import Raw

from gateway.errors import ErrorKind, GatewayError
from gateway.protocols.anthropic_messages.request import MessagesRequest, Tool, ToolChoice
from gateway.protocols.codec.absent import is_given
from gateway.protocols.translate.capabilities import Capabilities
from gateway.protocols.translate.capabilities import ToolChoice as ChoiceKind
from gateway.protocols.translate.closed_schema import plain_refs
from gateway.protocols.translate.messages_to_chat.messages import Dropped, ToolNames

_NO_PARAMETERS: Final = Raw(b'{"type":"object","properties":{}}')
_CHOICES: Final[dict[str, ChoiceKind]] = {
    "auto": "auto",
    "none": "none",
    "any": "required",
    "tool": "named",
}


def tool_fields(
    request: MessagesRequest, caps: Capabilities, names: ToolNames, dropped: Dropped
) -> dict[str, object]:
    """
    Return `tools`, `tool_choice` and `parallel_tool_calls`, if needed.

    Schemas are the client's bytes. Deferred tools are all sent, and the search tool is dropped,
    since the upstream has no tool search. Without tools, the tool choice is dropped.

    Raises:
        GatewayError: UNSUPPORTED for a tool that the provider would have to run, BAD_REQUEST for a
            tool without a name.
    """
    tools: list[dict[str, object]] = []
    for tool in request.tools or ():
        if (tool.type or "").startswith("tool_search_tool_"):
            dropped.add("tool_search")
        else:
            tools.append(_function(tool, caps, names, dropped))
    if not tools:
        return {}
    fields: dict[str, object] = {"tools": tools}
    if request.tool_choice is not None:
        fields |= _choice(request.tool_choice, caps, names, dropped)
    return fields


def _function(
    tool: Tool, caps: Capabilities, names: ToolNames, dropped: Dropped
) -> dict[str, object]:
    if tool.type not in (None, "custom"):
        raise GatewayError(
            ErrorKind.UNSUPPORTED,
            f"tools: tool type '{tool.type}' is not supported by this model",
            param="tools",
        )
    if tool.name is None:
        raise GatewayError(ErrorKind.BAD_REQUEST, "tools: name: Field required", param="tools")
    function: dict[str, object] = {"name": names.shorten(tool.name)}
    if tool.description is not None:
        function["description"] = tool.description
    given = is_given(tool.input_schema)
    function["parameters"] = tool.input_schema if given else _NO_PARAMETERS
    if given and caps.plain_refs:
        function["parameters"] = plain_refs(msgspec.json.decode(bytes(tool.input_schema)))
    if tool.strict and caps.strict_tools:
        function["strict"] = True
    elif tool.strict:
        dropped.add("tools.strict")
    return {"type": "function", "function": function}


def _choice(
    choice: ToolChoice, caps: Capabilities, names: ToolNames, dropped: Dropped
) -> dict[str, object]:
    kind = _CHOICES.get(choice.type)
    if kind is None:
        raise GatewayError(
            ErrorKind.UNSUPPORTED,
            f"tool_choice: type '{choice.type}' is not supported by this model",
            param="tool_choice",
        )
    fields: dict[str, object] = {}
    if kind not in caps.tool_choice:
        dropped.add("tool_choice")
        if "auto" in caps.tool_choice:
            fields["tool_choice"] = "auto"
    elif kind == "named":
        fields["tool_choice"] = _named(choice, names)
    else:
        fields["tool_choice"] = kind
    if choice.disable_parallel_tool_use and kind != "none":
        if caps.parallel_tool_calls:
            fields["parallel_tool_calls"] = False
        else:
            dropped.add("disable_parallel_tool_use")
    return fields


def _named(choice: ToolChoice, names: ToolNames) -> dict[str, object]:
    if choice.name is None:
        raise GatewayError(
            ErrorKind.BAD_REQUEST, "tool_choice: name: Field required", param="tool_choice"
        )
    return {"type": "function", "function": {"name": names.shorten(choice.name)}}
