"""Translates tools and tool choice of an OpenAI request to Anthropic's."""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

from msgspec import UNSET, Raw, UnsetType

from gateway.errors import ErrorKind, GatewayError
from gateway.protocols.anthropic_messages.message import Tool, ToolChoice
from gateway.protocols.codec.absent import is_given
from gateway.protocols.openai_chat.request import AllowedTools, ChatRequest
from gateway.protocols.openai_chat.request import Tool as ClientTool
from gateway.protocols.openai_chat.request import ToolChoice as ClientChoice
from gateway.protocols.translate.capabilities import Capabilities
from gateway.protocols.translate.chat_to_messages.tool_schema import is_closed, object_schema
from gateway.protocols.translate.messages_to_chat.messages import Dropped, ToolNames

_NO_PARAMETERS: Final = Raw(b'{"type":"object","properties":{}}')
_CLOSED: Final = Raw(b'{"type":"object","properties":{},"additionalProperties":false}')
_MODES: Final[dict[str, Literal["auto", "none", "any"]]] = {
    "auto": "auto",
    "none": "none",
    "required": "any",
    "any": "any",
}


class ToolUse(NamedTuple):
    """A request's tools in Anthropic's form; `choice` is None for the default."""

    tools: list[Tool]
    choice: ToolChoice | None

    @property
    def forced(self) -> bool:
        """Whether the model must call a tool."""
        return self.choice is not None and self.choice.type in ("any", "tool")

    def has_cache_control(self) -> bool:
        """Return whether any tool has a cache marker."""
        return any(tool.cache_control is not UNSET for tool in self.tools)


def translate_tools(
    request: ChatRequest, caps: Capabilities, names: ToolNames, dropped: Dropped
) -> ToolUse:
    """
    Return the tools and the tool choice.

    Without tools, the choice is dropped: it has no meaning and Anthropic rejects it.

    Raises:
        GatewayError: UNSUPPORTED: a tool or a choice without counterpart. BAD_REQUEST: an invalid
            one.
    """
    asked = request.tool_choice
    tools = [
        _tool(tool, index, caps, names, dropped) for index, tool in enumerate(request.tools or ())
    ]
    if isinstance(asked, ClientChoice) and asked.type == "allowed_tools":
        allowed = asked.allowed_tools or AllowedTools()
        kept = {names.shorten(tool.function.name) for tool in allowed.tools if tool.function}
        tools = [tool for tool in tools if tool.name in kept]
        asked = allowed.mode
    if not tools:
        return ToolUse([], None)
    choice = _choice(asked, names)
    if choice is not None and choice.type in ("any", "tool") and not caps.forced_tool_use:
        dropped.add("tool_choice")
        choice = ToolChoice("auto")
    if request.parallel_tool_calls is False:
        choice = _one_at_a_time(choice, caps, dropped)
    return ToolUse(tools, choice)


def _tool(
    tool: ClientTool, index: int, caps: Capabilities, names: ToolNames, dropped: Dropped
) -> Tool:
    if tool.type != "function":
        raise GatewayError(
            ErrorKind.UNSUPPORTED,
            f"tools: tool type '{tool.type}' is not supported by this model",
            param="tools",
        )
    function = tool.function
    if function is None:
        param = f"tools.{index}.function"
        message = f"Missing required parameter: '{param}'."
        raise GatewayError(ErrorKind.BAD_REQUEST, message, param=param)
    schema = _input_schema(function.parameters, index)
    strict = bool(function.strict) and caps.strict_tools
    if function.strict and not strict:
        dropped.add("tools.strict")
    if strict and schema is _NO_PARAMETERS:
        schema = _CLOSED
    elif strict and not is_closed(schema):
        dropped.add("tools.strict")
        strict = False
    return Tool(
        name=names.shorten(function.name),
        description=UNSET if function.description is None else function.description,
        input_schema=schema,
        strict=True if strict else UNSET,
        cache_control=_first_given(tool.cache_control, function.cache_control),
    )


def _input_schema(parameters: Raw, index: int) -> Raw:
    """Return the schema, converted if its root is not a plain object, see `tool_schema`."""
    if not is_given(parameters):
        return _NO_PARAMETERS
    schema = bytes(parameters).strip()
    if schema[:1] != b"{":
        param = f"tools.{index}.function.parameters"
        message = f"Invalid value for '{param}': expected an object."
        raise GatewayError(ErrorKind.BAD_REQUEST, message, param=param)
    return object_schema(schema)


def _first_given(*candidates: Raw) -> Raw | UnsetType:
    for candidate in candidates:
        if is_given(candidate):
            return candidate
    return UNSET


def _choice(asked: str | ClientChoice | None, names: ToolNames) -> ToolChoice | None:
    if asked is None:
        return None
    if isinstance(asked, str):
        if asked in _MODES:
            return ToolChoice(_MODES[asked])
    elif asked.type in (None, "function") and asked.function is not None:
        return ToolChoice("tool", name=names.shorten(asked.function.name))
    elif asked.type == "tool" and asked.name is not None:
        return ToolChoice("tool", name=names.shorten(asked.name))
    elif asked.type in _MODES:
        return ToolChoice(_MODES[asked.type])
    wanted = asked if isinstance(asked, str) else asked.type
    raise GatewayError(
        ErrorKind.UNSUPPORTED,
        f"tool_choice: '{wanted}' is not supported by this model",
        param="tool_choice",
    )


def _one_at_a_time(
    choice: ToolChoice | None, caps: Capabilities, dropped: Dropped
) -> ToolChoice | None:
    if choice is not None and choice.type == "none":
        return choice
    if not caps.parallel_tool_calls:
        dropped.add("parallel_tool_calls")
        return choice
    choice = choice or ToolChoice("auto")
    choice.disable_parallel_tool_use = True
    return choice
