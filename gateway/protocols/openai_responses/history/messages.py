"""
The input items of a Responses request as chat messages.

A Responses history is a flat list: text, calls and reasoning of one assistant turn stand in items
of their own. Adjacent ones are collected into one assistant message, since a chat history must hold
a call's results directly after the message with the calls. Reasoning belongs to the assistant
message around it. A call that the provider ran becomes a call and its result. Items without content
that a model could read are left out and named, so that a history never makes a session unusable;
what only the provider can look up or decrypt, and would be missed, is refused.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

import msgspec
from msgspec import Raw

from gateway.errors import ErrorKind, GatewayError
from gateway.protocols.openai_responses.compaction import (
    COMPACTIONS,
    INSTRUCTION,
    TRIGGER,
    summary_message,
)
from gateway.protocols.openai_responses.history.content import (
    ContentPart,
    Part,
    chat_part,
    joined,
    json_text,
    read_content,
    reasoning_text,
    spoken,
)
from gateway.protocols.openai_responses.reasoning import unpack_reasoning
from gateway.protocols.openai_responses.tools import (
    CLIENT_TOOLS,
    ChatTools,
    read_tools,
    upstream_name,
)
from gateway.protocols.translate import tool_order

Message = dict[str, object]

_NULL: Final = Raw(b"null")
_ATTACHED: Final = "[attachment in the next message]"
_CLIENT_CALLS: Final = {
    **{tool.item: name for name, tool in CLIENT_TOOLS.items()},
    "computer_call": "computer",
}
_HOSTED: Final = {
    "mcp_call": ("mcp", "arguments", "output"),
    "code_interpreter_call": ("code_interpreter", "code", "outputs"),
    "file_search_call": ("file_search", "queries", "results"),
}
"""Calls that the provider ran: the function, and the members of its input and its result."""
_OPAQUE: Final = "gAAAA"
"""How content begins that only OpenAI can decrypt: a Fernet token."""
_PARTED: Final = frozenset({"function_call_output", "custom_tool_call_output"})
"""Outputs whose lists are content parts."""
_ROLES: Final = {"user": "user", "system": "system", "developer": "system"}


class Item(msgspec.Struct):
    """An input item of any type; which members count depends on `type`."""

    type: str | None = None
    role: str | None = None
    content: Raw = _NULL
    call_id: str | None = None
    name: str | None = None
    namespace: str | None = None
    arguments: Raw = _NULL
    input: Raw = _NULL
    output: Raw = _NULL
    summary: Raw = _NULL
    encrypted_content: Raw = _NULL
    id: str | None = None
    action: Raw = _NULL
    operation: Raw = _NULL
    tools: Raw = _NULL
    actions: Raw = _NULL
    server_label: str | None = None
    error: Raw = _NULL
    code: Raw = _NULL
    outputs: Raw = _NULL
    queries: Raw = _NULL
    results: Raw = _NULL


class ChatMessages:
    """
    Builds the chat messages of one request.

    Args:
        tools: Of the request; gets those that items bring along.
        carry_reasoning: Old reasoning goes upstream; False for an upstream without a field for it.
    """

    __slots__ = (
        "_assistant",
        "_attachments",
        "_calls",
        "_carry_reasoning",
        "_details",
        "_reasoning",
        "_texts",
        "_tools",
        "compacts",
        "dropped",
        "history_ids",
        "messages",
    )

    def __init__(self, tools: ChatTools, *, carry_reasoning: bool = True) -> None:
        self._tools = tools
        self._carry_reasoning = carry_reasoning
        self.messages: list[Message] = []
        self.dropped: list[str] = []
        self.history_ids: set[str] = set()
        self.compacts = False
        """The input ends with a request to summarize it."""
        self._attachments: list[Part] = []
        self._reasoning: list[str] = []
        self._details: list[Raw] = []
        self._assistant = False
        self._texts: list[str] = []
        self._calls: list[Message] = []

    def add_text(self, role: str, text: str) -> None:
        """Add a message of plain text; an empty one is left out."""
        if text:
            self.messages.append({"role": role, "content": text})

    def add(self, index: int, item: Item) -> None:
        """
        Add one input item.

        Raises:
            GatewayError: UNSUPPORTED for what would have to be fetched, BAD_REQUEST for an item
                without its members; the message or `param` names it.
        """
        where = f"input.{index}"
        if self.compacts:
            message = f"{where}: no item can follow a {TRIGGER}"
            raise GatewayError(ErrorKind.BAD_REQUEST, message, param=where)
        kind = item.type or ("message" if item.role else None)
        if kind is None:
            raise GatewayError(ErrorKind.BAD_REQUEST, f"{where}: type: Field required", param=where)
        if (add := _ADD.get(kind)) is not None:
            add(self, item, where)
        else:
            self.dropped.append(f"input.{kind}")

    def finish(self) -> list[Message]:
        """Return all messages; nothing can be added afterwards."""
        self._end_turn()
        return with_results_after_calls(self.messages)

    def _add_message(self, item: Item, where: str) -> None:
        content = read_content(item.content, where)
        if item.role == "assistant":
            self._open_assistant()
            self._texts.append(content if isinstance(content, str) else spoken(content, where))
            return
        role = _ROLES.get(item.role or "")
        if role is None:
            message = f"{where}: role '{item.role}' is not supported"
            raise GatewayError(ErrorKind.BAD_REQUEST, message, param=where)
        self._end_turn()
        if isinstance(content, str):
            self.messages.append({"role": role, "content": content})
            return
        parts = [chat_part(part, where) for part in self._readable(content)]
        if parts:
            self.messages.append({"role": role, "content": joined(parts)})

    def _readable(self, parts: list[ContentPart]) -> list[ContentPart]:
        """Return the parts without encrypted ones; those of other models are plain text."""
        readable = []
        for part in parts:
            if part.type != "encrypted_content":
                readable.append(part)
                continue
            text = part.encrypted_content or ""
            if text.startswith(_OPAQUE):
                self.dropped.append("input.encrypted_content")
            elif text:
                readable.append(ContentPart("input_text", text))
        return readable

    def _add_agent_message(self, item: Item, where: str) -> None:
        """Add what one of the client's agents wrote to another."""
        self._add_message(msgspec.structs.replace(item, role="user"), where)

    def _add_tools(self, item: Item, where: str) -> None:  # noqa: ARG002
        self._tools.add(read_tools(item.tools))

    def _refuse_reference(self, item: Item, where: str) -> None:  # noqa: ARG002
        message = "item_reference is not supported; send the full input"
        raise GatewayError(ErrorKind.UNSUPPORTED, message, param=where)

    def _add_summary(self, item: Item, where: str) -> None:
        self._end_turn()
        self.add_text("user", summary_message(json_text(item.encrypted_content), where))

    def _ask_for_summary(self, item: Item, where: str) -> None:  # noqa: ARG002
        self._end_turn()
        self.add_text("user", INSTRUCTION)
        self.compacts = True

    def _add_client_call(self, item: Item, where: str) -> None:
        """Add a call of a tool of the API that the client ran."""
        name = _CLIENT_CALLS[item.type or ""]
        call_id = item.call_id or item.id
        if not call_id:
            message = f"{where}: call_id: Field required"
            raise GatewayError(ErrorKind.BAD_REQUEST, message, param=where)
        self._open_assistant()
        self.history_ids.add(call_id)
        members = (item.arguments, item.action, item.actions, item.operation)
        given = next((raw for raw in members if bytes(raw) != b"null"), _NULL)
        function = {"name": name, "arguments": json_text(given) or "{}"}
        self._calls.append({"id": call_id, "type": "function", "function": function})

    def _add_hosted_call(self, item: Item, where: str) -> None:  # noqa: ARG002
        """Add a call that the provider ran, with its result; without one it is left out."""
        name, given, result = _HOSTED[item.type or ""]
        output = json_text(getattr(item, result)) or json_text(item.error)
        if not output or not item.id:
            self.dropped.append(f"input.{item.type}")
            return
        self._open_assistant()
        self.history_ids.add(item.id)
        if item.name:
            name = upstream_name(item.name, item.server_label)
        arguments = json_text(getattr(item, given))
        if given != "arguments":
            arguments = msgspec.json.encode({given: getattr(item, given)}).decode()
        function = {"name": name, "arguments": arguments or "{}"}
        self._calls.append({"id": item.id, "type": "function", "function": function})
        self._close_assistant()
        self.messages.append({"role": "tool", "tool_call_id": item.id, "content": output})

    def _add_call(self, item: Item, where: str) -> None:
        if not item.call_id or not item.name:
            missing = "name" if item.call_id else "call_id"
            message = f"{where}: {missing}: Field required"
            raise GatewayError(ErrorKind.BAD_REQUEST, message, param=where)
        self._open_assistant()
        self.history_ids.add(item.call_id)
        if item.type == "custom_tool_call":
            arguments = msgspec.json.encode({"input": json_text(item.input)}).decode()
        else:
            arguments = json_text(item.arguments) or "{}"
        known = item.namespace is not None and self._tools.knows(item.namespace)
        name = upstream_name(item.name, item.namespace if known else None)
        function = {"name": name, "arguments": arguments}
        self._calls.append({"id": item.call_id, "type": "function", "function": function})

    def _add_output(self, item: Item, where: str) -> None:
        if item.type == "tool_search_output":
            self._tools.add(read_tools(item.tools))
            item = msgspec.structs.replace(item, output=item.tools)
        call_id = item.call_id or item.id
        if not call_id:
            message = f"{where}: call_id: Field required"
            raise GatewayError(ErrorKind.BAD_REQUEST, message, param=where)
        self._close_assistant()
        text = self._output_text(item, where)
        self.messages.append({"role": "tool", "tool_call_id": call_id, "content": text})

    def _output_text(self, item: Item, where: str) -> str:
        if item.type == "computer_call_output":
            item = msgspec.structs.replace(item, output=Raw(b"[%b]" % bytes(item.output)))
        elif bytes(item.output)[:1] != b"[" or item.type not in _PARTED:
            return json_text(item.output)
        lines: list[str] = []
        content = read_content(item.output, where)
        for part in self._readable(content if isinstance(content, list) else []):
            made = chat_part(part, where)
            text = made.get("text")
            if isinstance(text, str):
                lines.append(text)
                continue
            lines.append(_ATTACHED)
            title = f"Attachment returned by tool call {item.call_id}:"
            self._attachments += [{"type": "text", "text": title}, made]
        return "\n".join(lines)

    def _add_reasoning(self, item: Item, where: str) -> None:
        if not self._carry_reasoning:
            return
        encrypted = json_text(item.encrypted_content)
        packed = unpack_reasoning(encrypted)
        if packed is not None:
            self._details += packed.d
            text = packed.r
        else:
            text = reasoning_text(item.summary, where) or reasoning_text(item.content, where)
            if encrypted:
                self.dropped.append("reasoning.encrypted_content")
        if text:
            self._reasoning.append(text)

    def _open_assistant(self) -> None:
        if not self._assistant:
            self._flush_attachments()
            self._assistant = True

    def _close_assistant(self) -> None:
        """End the assistant message; reasoning that no message follows is left out."""
        text = "".join(self._texts)
        if text or self._calls:
            message: Message = {"role": "assistant", "content": text or None}
            if self._reasoning:
                message["reasoning_content"] = "\n".join(self._reasoning)
            if self._details:
                message["reasoning_details"] = self._details
            if self._calls:
                message["tool_calls"] = self._calls
            self.messages.append(message)
        self._assistant = False
        self._texts, self._calls = [], []
        self._reasoning, self._details = [], []

    def _end_turn(self) -> None:
        self._close_assistant()
        self._flush_attachments()

    def _flush_attachments(self) -> None:
        if self._attachments:
            self.messages.append({"role": "user", "content": self._attachments})
            self._attachments = []


_ADD: Final[dict[str, Callable[[ChatMessages, Item, str], None]]] = {
    "message": ChatMessages._add_message,
    "agent_message": ChatMessages._add_agent_message,
    "reasoning": ChatMessages._add_reasoning,
    "additional_tools": ChatMessages._add_tools,
    "item_reference": ChatMessages._refuse_reference,
    "function_call": ChatMessages._add_call,
    "custom_tool_call": ChatMessages._add_call,
    "function_call_output": ChatMessages._add_output,
    "custom_tool_call_output": ChatMessages._add_output,
    TRIGGER: ChatMessages._ask_for_summary,
    **dict.fromkeys(COMPACTIONS, ChatMessages._add_summary),
    **dict.fromkeys(_HOSTED, ChatMessages._add_hosted_call),
    **dict.fromkeys(_CLIENT_CALLS, ChatMessages._add_client_call),
    **{f"{kind}_output": ChatMessages._add_output for kind in _CLIENT_CALLS},
    "tool_search_output": ChatMessages._add_output,
}
"""By the type of an item."""


def with_results_after_calls(messages: list[Message]) -> list[Message]:
    """Return the messages with each tool result behind its calls, see `translate.tool_order`."""
    ordered = tool_order.with_results_after_calls([_Ordered(message) for message in messages])
    return [each.message for each in ordered]


class _Ordered:
    """A message as `tool_order` reads it."""

    __slots__ = ("message", "role", "tool_call_id", "tool_calls")

    def __init__(self, message: Message) -> None:
        self.message = message
        self.role = str(message["role"])
        call_id = message.get("tool_call_id")
        self.tool_call_id = call_id if isinstance(call_id, str) else None
        calls = message.get("tool_calls")
        given = calls if isinstance(calls, list) else []
        self.tool_calls = [_OrderedCall(call["id"]) for call in given]


class _OrderedCall(NamedTuple):
    id: str
