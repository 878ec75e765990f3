"""
The input items of a Responses request as chat messages.

A Responses history is a flat list: text, calls and reasoning of one assistant turn stand in items
of their own. Adjacent ones are collected into one assistant message, since a chat history must hold
a call's results directly after the message with the calls. Reasoning belongs to the assistant
message around it. Items that have no counterpart are left out, so that a history never makes a
session unusable; only a reference to something stored at the provider is refused.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import msgspec
from msgspec import Raw

from gateway.errors import ErrorKind, GatewayError
from gateway.protocols.codec.json_decode import decode_request
from gateway.protocols.openai_responses.reasoning import unpack_reasoning
from gateway.protocols.openai_responses.tools import (
    CLIENT_TOOLS,
    ChatTools,
    read_tools,
    upstream_name,
)
from gateway.protocols.translate import tool_order

Message = dict[str, object]
Part = dict[str, object]

_NULL: Final = Raw(b"null")
_ATTACHED: Final = "[attachment in the next message]"
_CALLS: Final = frozenset({"function_call", "custom_tool_call"})
_CLIENT_CALLS: Final = {tool.item: name for name, tool in CLIENT_TOOLS.items()}
_OUTPUTS: Final = frozenset(
    {
        *("function_call_output", "custom_tool_call_output", "local_shell_call_output"),
        *("shell_call_output", "apply_patch_call_output", "tool_search_output"),
    }
)
_OPAQUE: Final = "gAAAA"
"""How content begins that only OpenAI can decrypt: a Fernet token."""
_TEXTS: Final = frozenset({"input_text", "output_text", "text", "summary_text", "reasoning_text"})
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


class ContentPart(msgspec.Struct):
    type: str
    text: str | None = None
    refusal: str | None = None
    image_url: str | None = None
    detail: str | None = None
    file_data: str | None = None
    filename: str | None = None
    encrypted_content: str | None = None


_STRING: Final = msgspec.json.Decoder(str | None)
_CONTENT: Final = msgspec.json.Decoder(str | list[ContentPart] | None)


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
        kind = item.type or ("message" if item.role else None)
        if kind == "message":
            self._add_message(item, where)
        elif kind in _CALLS:
            self._add_call(item, where)
        elif kind in _CLIENT_CALLS:
            self._add_client_call(item, _CLIENT_CALLS[kind], where)
        elif kind in _OUTPUTS:
            self._add_output(item, where)
        elif kind == "agent_message":
            self._add_message(msgspec.structs.replace(item, role="user"), where)
        elif kind == "additional_tools":
            self._tools.add(read_tools(item.tools))
        elif kind == "reasoning":
            self._add_reasoning(item, where)
        elif kind == "item_reference":
            message = "item_reference is not supported; send the full input"
            raise GatewayError(ErrorKind.UNSUPPORTED, message, param=where)
        elif kind is None:
            raise GatewayError(ErrorKind.BAD_REQUEST, f"{where}: type: Field required", param=where)
        else:
            self.dropped.append(f"input.{kind}")

    def finish(self) -> list[Message]:
        """Return all messages; nothing can be added afterwards."""
        self._end_turn()
        return with_results_after_calls(self.messages)

    def _add_message(self, item: Item, where: str) -> None:
        content = _content(item.content, where)
        if item.role == "assistant":
            self._open_assistant()
            self._texts.append(content if isinstance(content, str) else _spoken(content, where))
            return
        role = _ROLES.get(item.role or "")
        if role is None:
            message = f"{where}: role '{item.role}' is not supported"
            raise GatewayError(ErrorKind.BAD_REQUEST, message, param=where)
        self._end_turn()
        if isinstance(content, str):
            self.messages.append({"role": role, "content": content})
            return
        parts = [_part(part, where) for part in self._readable(content)]
        if parts:
            self.messages.append({"role": role, "content": _joined(parts)})

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

    def _add_client_call(self, item: Item, name: str, where: str) -> None:
        """Add a call of a tool of the API that the client ran."""
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
        function = {"name": name, "arguments": _text(given) or "{}"}
        self._calls.append({"id": call_id, "type": "function", "function": function})

    def _add_call(self, item: Item, where: str) -> None:
        if not item.call_id or not item.name:
            missing = "name" if item.call_id else "call_id"
            message = f"{where}: {missing}: Field required"
            raise GatewayError(ErrorKind.BAD_REQUEST, message, param=where)
        self._open_assistant()
        self.history_ids.add(item.call_id)
        if item.type == "custom_tool_call":
            arguments = msgspec.json.encode({"input": _text(item.input)}).decode()
        else:
            arguments = _text(item.arguments) or "{}"
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
        if bytes(item.output)[:1] != b"[" or item.type not in _PARTED:
            return _text(item.output)
        lines: list[str] = []
        content = _content(item.output, where)
        for part in self._readable(content if isinstance(content, list) else []):
            made = _part(part, where)
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
        encrypted = _text(item.encrypted_content)
        packed = unpack_reasoning(encrypted)
        if packed is not None:
            self._details += packed.d
            text = packed.r
        else:
            text = _reasoning_text(item.summary, where) or _reasoning_text(item.content, where)
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


def _content(raw: Raw, where: str) -> str | list[ContentPart]:
    try:
        return decode_request(bytes(raw), _CONTENT) or ""
    except GatewayError as error:
        raise GatewayError(error.kind, f"{where}: {error.message}", param=where) from error


def _part(part: ContentPart, where: str) -> Part:
    """Return a content part in the chat form."""
    match part.type:
        case "input_image" if part.image_url:
            image: dict[str, object] = {"url": part.image_url}
            if part.detail in ("low", "high"):
                image["detail"] = part.detail
            return {"type": "image_url", "image_url": image}
        case "input_file" if part.file_data:
            document: dict[str, object] = {"file_data": part.file_data}
            if part.filename:
                document["filename"] = part.filename
            return {"type": "file", "file": document}
        case "input_image" | "input_file":
            needed = "image_url" if part.type == "input_image" else "file_data"
            message = f"{part.type} without {needed} is not supported by this model"
            raise GatewayError(ErrorKind.UNSUPPORTED, message, param=where)
        case "refusal":
            return {"type": "text", "text": part.refusal or ""}
        case kind if kind in _TEXTS:
            return {"type": "text", "text": part.text or ""}
        case other:
            message = f"content part type '{other}' is not supported by this model"
            raise GatewayError(ErrorKind.UNSUPPORTED, message, param=where)


def _spoken(parts: list[ContentPart], where: str) -> str:
    """Return an assistant's text; its parts were one stream."""
    texts = (_part(part, where).get("text") for part in parts)
    return "".join(text for text in texts if isinstance(text, str))


def _joined(parts: list[Part]) -> str | list[Part]:
    """Return a string if all parts are text: many chat templates take strings only."""
    texts = [part["text"] for part in parts if part["type"] == "text"]
    if len(texts) == len(parts):
        return "\n\n".join(text for text in texts if isinstance(text, str) and text)
    return parts


def _reasoning_text(raw: Raw, where: str) -> str:
    content = _content(raw, where)
    if isinstance(content, str):
        return content
    return "\n".join(part.text for part in content if part.text)


def _text(raw: Raw) -> str:
    """Return a string's value; any other JSON as its text, null as nothing."""
    if bytes(raw)[:1] == b'"':
        return decode_request(bytes(raw), _STRING) or ""
    if bytes(raw) == b"null":
        return ""
    return msgspec.json.format(bytes(raw), indent=-1).decode()


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
