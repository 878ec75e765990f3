"""
Translates the tools of a Responses request to functions of a chat request, and back.

A namespace's functions become `<namespace>__<name>`, a custom tool becomes a function with the one
string `input`, and tools of the API that the client runs (shell, patches, tool search, a computer)
become functions with their arguments. Hosted tools (web search, code interpreter, ...) run at the
provider and have no counterpart: since coding agents always list them, they are dropped and
reported. MCP servers are rejected, since the client relies on the gateway to call them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

import msgspec
from msgspec import Raw

from gateway.errors import ErrorKind, GatewayError
from gateway.protocols.codec.json_decode import decode_request
from gateway.protocols.ids import short_name
from gateway.protocols.openai_responses.context import ToolName

_NULL: Final = b"null"
_NO_MCP: Final = (
    "tools: tool type 'mcp' is not supported by this model;"
    " connect to the server in your program and send its tools as functions"
)
_INPUT_SCHEMA: Final = Raw(
    b'{"type":"object","properties":{"input":{"type":"string"}},"required":["input"],'
    b'"additionalProperties":false}'
)


_STRINGS: Final = {"type": "array", "items": {"type": "string"}}
_EXEC: Final = {
    "type": "object",
    "properties": {
        "command": _STRINGS,
        "working_directory": {"type": "string"},
        "timeout_ms": {"type": "integer"},
    },
    "required": ["command"],
}
_SHELL: Final = {
    "type": "object",
    "properties": {"commands": _STRINGS, "timeout_ms": {"type": "integer"}},
    "required": ["commands"],
}
_PATCH: Final = {
    "type": "object",
    "properties": {
        "type": {"type": "string", "enum": ["create_file", "update_file", "delete_file"]},
        "path": {"type": "string"},
        "diff": {"type": "string", "description": "In the V4A diff format; none to delete."},
    },
    "required": ["type", "path"],
}
_SEARCH: Final = {
    "type": "object",
    "properties": {"query": {"type": "string"}},
    "required": ["query"],
}
_ACTIONS: Final = (
    *("click", "double_click", "drag", "keypress", "move", "screenshot", "scroll", "type", "wait"),
)
_COMPUTER: Final = {
    "type": "object",
    "properties": {
        "type": {"type": "string", "enum": list(_ACTIONS)},
        **{name: {"type": "integer"} for name in ("x", "y", "scroll_x", "scroll_y")},
        "button": {"type": "string", "enum": ["left", "right", "wheel", "back", "forward"]},
        "keys": _STRINGS,
        "text": {"type": "string"},
        "path": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"x": {"type": "integer"}, "y": {"type": "integer"}},
            },
        },
    },
    "required": ["type"],
}


class ClientTool(NamedTuple):
    """A tool of the API that the client runs: the item type of its calls, and its function."""

    item: str
    description: str
    parameters: Mapping[str, object]


CLIENT_TOOLS: Final[dict[str, ClientTool]] = {
    "local_shell": ClientTool("local_shell_call", "Run a command on the user's machine.", _EXEC),
    "shell": ClientTool("shell_call", "Run shell commands.", _SHELL),
    "apply_patch": ClientTool("apply_patch_call", "Create, change or delete one file.", _PATCH),
    "tool_search": ClientTool("tool_search_call", "Search for further tools.", _SEARCH),
    "computer": ClientTool("computer_call", "Do one action on the user's computer.", _COMPUTER),
}
"""The tool's type, which is also its name upstream -> the tool."""
_OLD_TYPES: Final = {"computer_use_preview": "computer"}


class Tool(msgspec.Struct):
    """A tool of any type; which members apply depends on `type`."""

    type: str
    name: str | None = None
    description: str | None = None
    parameters: Raw = Raw(_NULL)
    strict: bool | None = None
    format: Raw = Raw(_NULL)
    tools: Raw = Raw(_NULL)
    execution: str | None = None
    display_width: float | None = None
    display_height: float | None = None
    environment: str | None = None


class _Grammar(msgspec.Struct):
    type: str
    definition: str | None = None


class _Choice(msgspec.Struct):
    type: str
    name: str | None = None
    namespace: str | None = None
    mode: str | None = None
    tools: list[_Choice] | None = None


_TOOLS: Final = msgspec.json.Decoder(list[Tool] | None)
_FORMAT: Final = msgspec.json.Decoder(_Grammar | None)
_CHOICE: Final = msgspec.json.Decoder(str | _Choice | None)


def upstream_name(name: str, namespace: str | None) -> str:
    """Return the name of a tool's function upstream, which is also used in the history."""
    return short_name(f"{namespace}__{name}" if namespace else name)


def read_tools(raw: Raw) -> list[Tool]:
    """
    Return the tools that an item defines.

    Raises:
        GatewayError: BAD_REQUEST.
    """
    return decode_request(bytes(raw), _TOOLS) or []


class ChatTools:
    """Builds `tools` and `tool_choice` of one request, and maps names back."""

    __slots__ = ("_functions", "_namespaces", "dropped", "names")

    def __init__(self) -> None:
        self._functions: dict[str, dict[str, object]] = {}
        self._namespaces: dict[str, str | None] = {}
        self.names: dict[str, ToolName] = {}
        """Upstream name -> the client's, only if they differ."""
        self.dropped: list[str] = []

    def add(self, tools: list[Tool], namespace: str | None = None) -> None:
        """
        Add the request's tools.

        Raises:
            GatewayError: UNSUPPORTED for an MCP server or a computer, BAD_REQUEST for a tool
                without a name.
        """
        for tool in tools:
            match _OLD_TYPES.get(tool.type, tool.type):
                case "function":
                    self._add_function(tool, namespace)
                case "custom":
                    self._add_custom(tool, namespace)
                case "namespace" if namespace is None:
                    inner = decode_request(bytes(tool.tools), _TOOLS)
                    self.add(inner or [], _named(tool))
                case "tool_search" if tool.execution != "client":
                    self.dropped.append("tools.tool_search")
                case kind if kind in CLIENT_TOOLS:
                    self._add_client_tool(tool, kind)
                case "mcp":
                    raise GatewayError(ErrorKind.UNSUPPORTED, _NO_MCP, param="tools")
                case hosted:
                    self.dropped.append(f"tools.{hosted}")

    def chat_members(self, choice: Raw, parallel: bool | None) -> dict[str, object]:
        """
        Return the chat request's members for tools; none if there are no tools.

        Raises:
            GatewayError: UNSUPPORTED: the choice is a hosted tool; BAD_REQUEST: a call is required,
                but no tool is left.
        """
        wanted = self._chat_choice(choice)
        if not self._functions:
            if wanted not in (None, "auto", "none"):
                message = "tool_choice: a tool call is required, but no tool can be called"
                raise GatewayError(ErrorKind.BAD_REQUEST, message, param="tool_choice")
            return {}
        members: dict[str, object] = {"tools": list(self._functions.values())}
        if wanted is not None:
            members["tool_choice"] = wanted
        if parallel is False:
            members["parallel_tool_calls"] = False
        return members

    def _add_function(self, tool: Tool, namespace: str | None) -> None:
        name = _named(tool)
        function: dict[str, object] = {"name": upstream_name(name, namespace)}
        if tool.description is not None:
            function["description"] = tool.description
        if bytes(tool.parameters) != _NULL:
            function["parameters"] = tool.parameters
        if tool.strict is not None:
            function["strict"] = tool.strict
        self._put(function, ToolName(name, namespace))

    def _add_custom(self, tool: Tool, namespace: str | None) -> None:
        name = _named(tool)
        description = tool.description or ""
        grammar = decode_request(bytes(tool.format), _FORMAT)
        if grammar is not None and grammar.type == "grammar":
            rule = f"The input must match this grammar:\n{grammar.definition or ''}"
            description = f"{description}\n\n{rule}" if description else rule
        function: dict[str, object] = {"name": upstream_name(name, namespace)}
        if description:
            function["description"] = description
        function["parameters"] = _INPUT_SCHEMA
        self._put(function, ToolName(name, namespace, custom=True))

    def _add_client_tool(self, tool: Tool, kind: str) -> None:
        known = CLIENT_TOOLS[kind]
        given = bytes(tool.parameters) != _NULL
        description = tool.description or known.description
        if tool.display_width and tool.display_height:
            size = f"{tool.display_width:g}x{tool.display_height:g}"
            description += f" The display has {size} pixels ({tool.environment or 'any system'})."
        function: dict[str, object] = {
            "name": kind,
            "description": description,
            "parameters": tool.parameters if given else known.parameters,
        }
        self._put(function, ToolName(kind, item=known.item))

    def knows(self, namespace: str) -> bool:
        """Return whether the request has tools of this namespace."""
        return namespace in self._namespaces.values()

    def _put(self, function: dict[str, object], original: ToolName) -> None:
        name = upstream_name(original.name, original.namespace)
        self._functions[name] = {"type": "function", "function": function}
        self._namespaces[name] = original.namespace
        if original != ToolName(name):
            self.names[name] = original

    def _chat_choice(self, raw: Raw) -> object:
        choice = decode_request(bytes(raw), _CHOICE)
        if choice is None or isinstance(choice, str):
            return choice
        match _OLD_TYPES.get(choice.type, choice.type):
            case kind if kind in CLIENT_TOOLS and kind in self._functions:
                return {"type": "function", "function": {"name": kind}}
            case "function" | "custom" if choice.name:
                name = upstream_name(choice.name, choice.namespace)
                return {"type": "function", "function": {"name": name}}
            case "allowed_tools":
                self._keep_only(choice.tools or [])
                return choice.mode or "auto"
            case other:
                message = f"tool_choice: type '{other}' is not supported"
                raise _unsupported("tool_choice", message)

    def _keep_only(self, allowed: list[_Choice]) -> None:
        names = {upstream_name(tool.name, tool.namespace) for tool in allowed if tool.name}
        spaces = {tool.name for tool in allowed if tool.type == "namespace"}
        self._functions = {
            name: function
            for name, function in self._functions.items()
            if name in names or self._namespaces[name] in spaces
        }


def _named(tool: Tool) -> str:
    if not tool.name:
        message = f"tools: a tool of type '{tool.type}' needs a name"
        raise GatewayError(ErrorKind.BAD_REQUEST, message, param="tools")
    return tool.name


def _unsupported(param: str, message: str) -> GatewayError:
    return GatewayError(ErrorKind.UNSUPPORTED, f"{message} by this model", param=param)
