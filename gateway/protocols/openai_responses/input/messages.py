"""
Translates the input items of a Responses request to chat messages.

A Responses history is a flat list: the text, calls and reasoning of one assistant turn are separate
items. Adjacent ones are merged into one assistant message, since in a chat history a call's results
must directly follow the message with the calls. Reasoning belongs to the assistant message around
it. Items without a counterpart are dropped, so that no history makes a session unusable. An item is
rejected only if the conversation makes no sense without it, such as a reference to something stored
at the provider, or a compaction that only its provider can read.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec
from msgspec import Raw

from gateway.errors import ErrorKind, GatewayError
from gateway.protocols.openai_responses.compaction import (
    COMPACTIONS,
    INSTRUCTION,
    TRIGGER,
    summary_message,
)
from gateway.protocols.openai_responses.input.content import (
    ContentPart,
    Part,
    chat_part,
    joined,
    read_content,
    reasoning_text,
    screenshot,
    spoken,
    text_of,
)
from gateway.protocols.openai_responses.input.tools import (
    CLIENT_TOOLS,
    ChatTools,
    read_tools,
    upstream_name,
)
from gateway.protocols.openai_responses.reasoning import OPENAI_ENCRYPTED, unpack_reasoning
from gateway.protocols.translate.chat_dialect.history import in_order

Message = dict[str, object]

_NULL: Final = Raw(b"null")
_ATTACHED: Final = "[attachment in the next message]"
_CALLS: Final = frozenset({"function_call", "custom_tool_call"})
_CLIENT_CALLS: Final = {tool.item: name for name, tool in CLIENT_TOOLS.items()}
_OUTPUTS: Final = frozenset(
    {
        *("function_call_output", "custom_tool_call_output", "local_shell_call_output"),
        *("shell_call_output", "apply_patch_call_output", "tool_search_output"),
        "computer_call_output",
    }
)
_HOSTED: Final = {
    "code_interpreter_call": ("code_interpreter", "code", "outputs"),
    "file_search_call": ("file_search", "queries", "results"),
}
"""Calls that the provider ran -> the function, and the members of its input and its result."""
_PARTED: Final = frozenset({"function_call_output", "custom_tool_call_output"})
"""Outputs in which a list consists of content parts."""
_ROLES: Final = {"user": "user", "system": "system", "developer": "system"}


class Item(msgspec.Struct):
    """An input item of any type; which members apply depends on `type`."""

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
    actions: Raw = _NULL
    operation: Raw = _NULL
    server_label: str | None = None
    error: Raw = _NULL
    tools: Raw = _NULL
    code: Raw = _NULL
    outputs: Raw = _NULL
    queries: Raw = _NULL
    results: Raw = _NULL


class ChatMessages:
    """
    Builds the chat messages of one request.

    Args:
        tools: The request's; tools that items define are added to it.
    """

    __slots__ = (
        "_assistant",
        "_attachments",
        "_calls",
        "_details",
        "_reasoning",
        "_texts",
        "_tools",
        "compacts",
        "dropped",
        "history_ids",
        "messages",
    )

    def __init__(self, tools: ChatTools) -> None:
        self._tools = tools
        self.messages: list[Message] = []
        self.dropped: list[str] = []
        self.history_ids: set[str] = set()
        self.compacts = False
        """The input ends with a request for a summary."""
        self._attachments: list[Part] = []
        self._reasoning: list[str] = []
        self._details: list[Raw] = []
        self._assistant = False
        self._texts: list[str] = []
        self._calls: list[Message] = []

    def add_text(self, role: str, text: str) -> None:
        """Add a message of plain text; an empty one is dropped."""
        if text:
            self.messages.append({"role": role, "content": text})

    def add(self, index: int, item: Item) -> None:
        """
        Add one input item.

        Raises:
            GatewayError: UNSUPPORTED for items that would have to be fetched, BAD_REQUEST for an
                item without required members; the message or `param` names it.
        """
        where = f"input.{index}"
        if self.compacts:
            message = f"{where}: no item can follow a {TRIGGER}"
            raise GatewayError(ErrorKind.BAD_REQUEST, message, param=where)
        kind = item.type or ("message" if item.role else None)
        if kind is None:
            raise GatewayError(ErrorKind.BAD_REQUEST, f"{where}: type: Field required", param=where)
        add = _ADDERS.get(kind)
        if add is None:
            self.dropped.append(f"input.{kind}")
        else:
            add(self, item, where)

    def finish(self) -> list[Message]:
        """Return all messages; nothing can be added afterwards."""
        self._end_turn()
        return in_order(self.messages)

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

    def _add_agent_message(self, item: Item, where: str) -> None:
        self._add_message(msgspec.structs.replace(item, role="user"), where)

    def _add_tools(self, item: Item, where: str) -> None:  # noqa: ARG002
        self._tools.add(read_tools(item.tools))

    def _refuse_reference(self, item: Item, where: str) -> None:  # noqa: ARG002
        message = "item_reference is not supported; send the full input"
        raise GatewayError(ErrorKind.UNSUPPORTED, message, param=where)

    def _readable(self, parts: list[ContentPart]) -> list[ContentPart]:
        """Return the parts without encrypted ones; those of other models are plain text."""
        readable = []
        for part in parts:
            if part.type != "encrypted_content":
                readable.append(part)
                continue
            text = part.encrypted_content or ""
            if text.startswith(OPENAI_ENCRYPTED):
                self.dropped.append("input.encrypted_content")
            elif text:
                readable.append(ContentPart("input_text", text))
        return readable

    def _add_client_call(self, item: Item, where: str) -> None:
        """Add a call of a tool of the API that the client ran."""
        name = _CLIENT_CALLS[item.type or ""]
        call_id = item.call_id or item.id
        if not call_id:
            message = f"{where}: call_id: Field required"
            raise GatewayError(ErrorKind.BAD_REQUEST, message, param=where)
        self._open_assistant()
        self.history_ids.add(call_id)
        given = next(
            (raw for raw in (item.arguments, item.action, item.operation) if bytes(raw) != b"null"),
            _NULL,
        )
        arguments = text_of(given) or "{}"
        if bytes(item.actions) != b"null":
            arguments = f'{{"actions":{text_of(item.actions)}}}'
        self._put_call(call_id, name, arguments)

    def _put_call(self, call_id: str, name: str, arguments: str) -> None:
        function = {"name": name, "arguments": arguments}
        self._calls.append({"id": call_id, "type": "function", "function": function})

    def _add_mcp_call(self, item: Item, where: str) -> None:
        """Add a call that another provider ran on an MCP server, with its result."""
        if not item.id or not item.name:
            missing = "name" if item.id else "id"
            message = f"{where}: {missing}: Field required"
            raise GatewayError(ErrorKind.BAD_REQUEST, message, param=where)
        self._open_assistant()
        self.history_ids.add(item.id)
        name = upstream_name(item.name, item.server_label)
        self._put_call(item.id, name, text_of(item.arguments) or "{}")
        self._close_assistant()
        text = text_of(item.output) or text_of(item.error)
        self.messages.append({"role": "tool", "tool_call_id": item.id, "content": text})

    def _add_hosted_call(self, item: Item, where: str) -> None:  # noqa: ARG002
        """Add a call that the provider ran, with its result; a call without one is dropped."""
        name, given, result = _HOSTED[item.type or ""]
        output = text_of(getattr(item, result))
        if not output or not item.id:
            self.dropped.append(f"input.{item.type}")
            return
        self._open_assistant()
        self.history_ids.add(item.id)
        arguments = msgspec.json.encode({given: getattr(item, given)}).decode()
        self._put_call(item.id, name, arguments)
        self._close_assistant()
        self.messages.append({"role": "tool", "tool_call_id": item.id, "content": output})

    def _add_summary(self, item: Item, where: str) -> None:
        self._end_turn()
        self.add_text("user", summary_message(text_of(item.encrypted_content), where))

    def _ask_for_summary(self, item: Item, where: str) -> None:  # noqa: ARG002
        self._end_turn()
        self.add_text("user", INSTRUCTION)
        self.compacts = True

    def _add_call(self, item: Item, where: str) -> None:
        if not item.call_id or not item.name:
            missing = "name" if item.call_id else "call_id"
            message = f"{where}: {missing}: Field required"
            raise GatewayError(ErrorKind.BAD_REQUEST, message, param=where)
        self._open_assistant()
        self.history_ids.add(item.call_id)
        if item.type == "custom_tool_call":
            arguments = msgspec.json.encode({"input": text_of(item.input)}).decode()
        else:
            arguments = text_of(item.arguments) or "{}"
        known = item.namespace is not None and self._tools.knows(item.namespace)
        name = upstream_name(item.name, item.namespace if known else None)
        self._put_call(item.call_id, name, arguments)

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
            return self._screenshot(item, where)
        if bytes(item.output)[:1] != b"[" or item.type not in _PARTED:
            return text_of(item.output)
        lines: list[str] = []
        content = read_content(item.output, where)
        for part in self._readable(content if isinstance(content, list) else []):
            made = chat_part(part, where)
            text = made.get("text")
            if isinstance(text, str):
                lines.append(text)
                continue
            lines.append(self._attached(made, item.call_id))
        return "\n".join(lines)

    def _screenshot(self, item: Item, where: str) -> str:
        shot = screenshot(item.output, where)
        return text_of(item.output) if shot is None else self._attached(shot, item.call_id)

    def _attached(self, part: Part, call_id: str | None) -> str:
        title = f"Attachment returned by tool call {call_id}:"
        self._attachments += [{"type": "text", "text": title}, part]
        return _ATTACHED

    def _add_reasoning(self, item: Item, where: str) -> None:
        encrypted = text_of(item.encrypted_content)
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
        """End the assistant message; reasoning without a message is dropped."""
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


_ADDERS: Final[dict[str, Callable[[ChatMessages, Item, str], None]]] = {
    **dict.fromkeys(_CALLS, ChatMessages._add_call),
    **dict.fromkeys(_CLIENT_CALLS, ChatMessages._add_client_call),
    **dict.fromkeys(_OUTPUTS, ChatMessages._add_output),
    **dict.fromkeys(COMPACTIONS, ChatMessages._add_summary),
    **dict.fromkeys(_HOSTED, ChatMessages._add_hosted_call),
    TRIGGER: ChatMessages._ask_for_summary,
    "message": ChatMessages._add_message,
    "agent_message": ChatMessages._add_agent_message,
    "additional_tools": ChatMessages._add_tools,
    "mcp_call": ChatMessages._add_mcp_call,
    "reasoning": ChatMessages._add_reasoning,
    "item_reference": ChatMessages._refuse_reference,
}
"""Item type -> its method; items of other types are dropped."""
