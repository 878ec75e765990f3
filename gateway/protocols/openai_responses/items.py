"""
The output items of a response under construction, and the events that report them.

Every item is opened, extended by deltas and closed once; `done` is its final form. Events name the
output index, so that several calls may be open at once. The constant parts of delta events are
built once per item.
"""

from __future__ import annotations

import json
from typing import Any, Final

import msgspec

from gateway.protocols.codec.json_decode import (
    SurrogateJoiner,
    decode_or_none,
    join_surrogates,
    replace_lone_surrogates,
)
from gateway.protocols.openai_responses.context import ToolName
from gateway.protocols.openai_responses.reasoning import pack_reasoning, signed_entries

Json = dict[str, object]

encode: Final = msgspec.json.Encoder().encode

_TEXT: Final = "output_text"


class EventWriter:
    """Numbers and frames the events of one response."""

    __slots__ = ("_events", "_number")

    def __init__(self) -> None:
        self._events: list[bytes] = []
        self._number = 0

    def write(self, kind: bytes, members: bytes) -> None:
        """Add an event; `members` are its JSON members except type and sequence number."""
        self._events.append(
            b'event: %b\ndata: {"type":"%b","sequence_number":%d,%b}\n\n'
            % (kind, kind, self._number, members)
        )
        self._number += 1

    def take(self) -> bytes:
        """Return what was written since the last call."""
        events, self._events = self._events, []
        return events[0] if len(events) == 1 else b"".join(events)


class OutputItem:
    """The position and the state that all items have."""

    __slots__ = ("_at", "_writer", "done", "index", "item_id")

    def __init__(self, writer: EventWriter, item_id: str, index: int) -> None:
        self._writer = writer
        self.item_id = item_id
        self.index = index
        self.done: Json | None = None
        """The complete item; None while it is open."""
        self._at = b'"item_id":"%b","output_index":%d,' % (item_id.encode(), index)

    def _opened(self, item: Json) -> None:
        members = b'"output_index":%d,"item":%b' % (self.index, encode(item))
        self._writer.write(b"response.output_item.added", members)

    def _completed(self, item: Json) -> None:
        self.done = item
        members = b'"output_index":%d,"item":%b' % (self.index, encode(item))
        self._writer.write(b"response.output_item.done", members)


class MessageItem(OutputItem):
    """Text and refusal; each run of one kind is a content part."""

    __slots__ = ("_content", "_delta", "_joiner", "_kind", "_part_at", "_pieces", "_tail")

    def __init__(self, writer: EventWriter, base_id: str, index: int) -> None:
        super().__init__(writer, f"msg_{base_id}_{index}", index)
        self._content: list[Json] = []
        self._pieces: list[str] = []
        self._joiner = SurrogateJoiner()
        self._kind = ""
        self._part_at = self._delta = self._tail = b""
        self._opened(self._form("in_progress"))

    def add(self, kind: str, text: str) -> None:
        """Add text; `kind` is `output_text` or `refusal`."""
        if kind != self._kind:
            self._close_part()
            self._open_part(kind)
        text = self._joiner.feed(text)
        if text:
            self._write_delta(text)

    def close(self) -> None:
        """Complete the item."""
        self._close_part()
        self._completed(self._form("completed"))

    def _open_part(self, kind: str) -> None:
        self._kind = kind
        self._part_at = self._at + b'"content_index":%d,' % len(self._content)
        self._delta = b"response.%b.delta" % kind.encode()
        self._tail = b',"logprobs":[]' if kind == _TEXT else b""
        part = encode(_part(kind, ""))
        self._writer.write(b"response.content_part.added", self._part_at + b'"part":' + part)

    def _write_delta(self, text: str) -> None:
        self._pieces.append(text)
        self._writer.write(self._delta, self._part_at + b'"delta":' + encode(text) + self._tail)

    def _close_part(self) -> None:
        if not self._kind:
            return
        if rest := self._joiner.flush():
            self._write_delta(rest)
        text = "".join(self._pieces)
        part = _part(self._kind, text)
        name = b"text" if self._kind == _TEXT else b"refusal"
        members = self._part_at + b'"%b":%b' % (name, encode(text)) + self._tail
        self._writer.write(b"response.%b.done" % self._kind.encode(), members)
        members = self._part_at + b'"part":' + encode(part)
        self._writer.write(b"response.content_part.done", members)
        self._content.append(part)
        self._pieces = []
        self._kind = ""

    def _form(self, status: str) -> Json:
        return {
            "id": self.item_id,
            "type": "message",
            "status": status,
            "role": "assistant",
            "content": self._content,
        }


class ReasoningItem(OutputItem):
    """Reasoning, shown as a summary, and its parts that must be sent back unchanged."""

    __slots__ = ("_details", "_joiner", "_pieces")

    def __init__(self, writer: EventWriter, base_id: str, index: int) -> None:
        super().__init__(writer, f"rs_{base_id}_{index}", index)
        self._pieces: list[str] = []
        self._details: list[msgspec.Raw] = []
        self._joiner = SurrogateJoiner()
        self._at += b'"summary_index":0,'
        self._opened({"id": self.item_id, "type": "reasoning", "summary": []})

    @property
    def has_text(self) -> bool:
        """Whether any text was added."""
        return bool(self._pieces)

    def add(self, text: str) -> None:
        """Add text of the reasoning."""
        text = self._joiner.feed(text)
        if text:
            self._write_delta(text)

    def add_details(self, details: list[Json]) -> None:
        """Keep signed and encrypted parts; a signature without text gets the text before it."""
        for entry in signed_entries(details):
            if entry.get("signature") and not entry.get("text"):
                entry["text"] = "".join(self._pieces)
            self._details.append(_raw(entry))

    def close(self) -> None:
        """Complete the item."""
        if rest := self._joiner.flush():
            self._write_delta(rest)
        text = "".join(self._pieces)
        item: Json = {"id": self.item_id, "type": "reasoning", "summary": []}
        if text:
            part = {"type": "summary_text", "text": text}
            members = self._at + b'"text":' + encode(text)
            self._writer.write(b"response.reasoning_summary_text.done", members)
            members = self._at + b'"part":' + encode(part)
            self._writer.write(b"response.reasoning_summary_part.done", members)
            item["summary"] = [part]
        # Sent even if not requested: some clients that keep their own history do not `include` it.
        item["encrypted_content"] = pack_reasoning(text, self._details)
        self._completed(item)

    def _write_delta(self, text: str) -> None:
        if not self._pieces:
            members = self._at + b'"part":{"type":"summary_text","text":""}'
            self._writer.write(b"response.reasoning_summary_part.added", members)
        self._pieces.append(text)
        members = self._at + b'"delta":' + encode(text)
        self._writer.write(b"response.reasoning_summary_text.delta", members)


class CompactionItem(OutputItem):
    """A summary of the conversation."""

    __slots__ = ("_pieces",)

    def __init__(self, writer: EventWriter, base_id: str, index: int) -> None:
        super().__init__(writer, f"cmp_{base_id}_{index}", index)
        self._pieces: list[str] = []
        self._opened(self._form(""))

    @property
    def has_text(self) -> bool:
        """Whether any text other than white space was added."""
        return any(not piece.isspace() for piece in self._pieces)

    def add(self, text: str) -> None:
        """Add text of the summary."""
        self._pieces.append(text)

    def close(self) -> None:
        """Complete the item."""
        self._completed(self._form(pack_reasoning(join_surrogates("".join(self._pieces)), [])))

    def _form(self, encrypted: str) -> Json:
        return {"id": self.item_id, "type": "compaction", "encrypted_content": encrypted}


class CallItem(OutputItem):
    """A tool call: its arguments are streamed, those of a custom tool in one piece at the end."""

    __slots__ = ("_call_id", "_name")

    def __init__(
        self, writer: EventWriter, base_id: str, index: int, name: ToolName, call_id: str
    ) -> None:
        prefix = _PREFIXES.get(name.item) or ("ctc" if name.custom else "fc")
        super().__init__(writer, f"{prefix}_{base_id}_{index}", index)
        self._name = name
        self._call_id = call_id
        self._opened(self._form("in_progress", ""))

    def add(self, arguments: str) -> None:
        """Report more arguments; those of a custom tool are held until the end."""
        if arguments and not (self._name.custom or self._name.item):
            members = self._at + b'"delta":' + encode(arguments)
            self._writer.write(b"response.function_call_arguments.delta", members)

    def close(self, arguments: str) -> None:
        """Complete the item with all its arguments."""
        if self._name.item:
            value = arguments
        elif self._name.custom:
            value = _custom_input(arguments)
            encoded = encode(value)
            members = self._at + b'"delta":' + encoded
            self._writer.write(b"response.custom_tool_call_input.delta", members)
            members = self._at + b'"input":' + encoded
            self._writer.write(b"response.custom_tool_call_input.done", members)
        else:
            value = arguments or "{}"
            if not arguments:
                self.add(value)
            members = self._at + b'"arguments":' + encode(value)
            self._writer.write(b"response.function_call_arguments.done", members)
        self._completed(self._form("completed", value))

    def _form(self, status: str, value: str) -> Json:
        if self._name.item:
            return self._client_form(status, value)
        custom = self._name.custom
        item: Json = {
            "id": self.item_id,
            "type": "custom_tool_call" if custom else "function_call",
            "status": status,
            "call_id": self._call_id,
            "name": self._name.name,
            "input" if custom else "arguments": value,
        }
        if self._name.namespace is not None:
            item["namespace"] = self._name.namespace
        return item

    def _client_form(self, status: str, value: str) -> Json:
        """Return the item of a tool of the API that the client runs."""
        kind = self._name.item
        item: Json = {"id": self.item_id, "type": kind, "status": status, "call_id": self._call_id}
        arguments = _arguments(value)
        if kind == "tool_search_call":
            return item | {"execution": "client", "arguments": arguments}
        if kind == "apply_patch_call":
            return item | {"operation": arguments}
        if kind == "local_shell_call":
            arguments = {"type": "exec", "env": {}, **arguments}
        if kind == "computer_call":
            item["pending_safety_checks"] = []
        return item | {"action": arguments}


_PREFIXES: Final = {
    "tool_search_call": "tsc",
    "local_shell_call": "lsh",
    "shell_call": "sh",
    "apply_patch_call": "apc",
    "computer_call": "cu",
}
_CUSTOM: Final = msgspec.json.Decoder(dict[str, str])
_ARGUMENTS: Final = msgspec.json.Decoder(dict[str, Any])


def _arguments(text: str) -> Json:
    found = decode_or_none(text or "{}", _ARGUMENTS)
    return {"INVALID_JSON": text} if found is None else found


def _custom_input(arguments: str) -> str:
    """Return the only string in the arguments, under any name; otherwise the arguments as is."""
    members = decode_or_none(arguments, _CUSTOM)
    if members is None:
        return arguments
    if "input" in members:
        return members["input"]
    return next(iter(members.values())) if len(members) == 1 else arguments


def _raw(entry: Json) -> msgspec.Raw:
    try:
        return msgspec.Raw(encode(entry))
    except UnicodeEncodeError:  # Half an emoji, which only the standard library can write.
        return msgspec.Raw(replace_lone_surrogates(json.dumps(entry).encode()))


def _part(kind: str, text: str) -> Json:
    if kind == _TEXT:
        return {"type": _TEXT, "text": text, "annotations": [], "logprobs": []}
    return {"type": "refusal", "refusal": text}
