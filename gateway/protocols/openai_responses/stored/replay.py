"""
Writes the stream of a stored response.

Only the response object is stored, so each text and each call's arguments are one delta, and the
events do not have the numbers of the original stream.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from gateway.protocols.openai_responses.items import EventWriter, encode

_RESPONSE: Final = msgspec.json.Decoder(dict[str, Any])

_ARGUMENTS: Final = {
    "function_call": ("arguments", b"response.function_call_arguments"),
    "custom_tool_call": ("input", b"response.custom_tool_call_input"),
}
"""Type of a call -> the member that is streamed, and its events."""

Item = dict[str, Any]


class _Events(EventWriter):
    """All events of a stream, until it is taken."""

    __slots__ = ()

    def skip_to(self, number: int) -> None:
        """Remove the events before `number`; later events get this number or higher ones."""
        del self._events[:number]
        self._number = max(self._number, number)


def replayed(response: bytes, starting_after: int | None = None) -> bytes:
    """
    Return the events of a stored response.

    Args:
        response: Its object.
        starting_after: Leave out the events up to this number; the last one is always returned,
            since it has the whole response.
    """
    whole = _RESPONSE.decode(response)
    writer = _Events()
    begun = b'"response":' + encode(
        {**whole, "status": "in_progress", "output": [], "usage": None, "incomplete_details": None}
    )
    writer.write(b"response.created", begun)
    writer.write(b"response.in_progress", begun)
    for index, item in enumerate(whole["output"]):
        _write_item(writer, index, item)
    if starting_after is not None:
        writer.skip_to(starting_after + 1)
    writer.write(b"response.%b" % whole["status"].encode(), b'"response":' + response)
    return writer.take()


def _write_item(writer: EventWriter, index: int, item: Item) -> None:
    position = b'"output_index":%d,' % index
    named = b'"item_id":%b,' % encode(item.get("id")) + position
    kind = item.get("type")
    added = {**item, "status": "in_progress"} if "status" in item else dict(item)
    if kind == "message":
        added["content"] = []
    elif kind == "reasoning":
        added["summary"] = []
        added.pop("encrypted_content", None)
    elif kind in _ARGUMENTS:
        added[_ARGUMENTS[kind][0]] = ""
    writer.write(b"response.output_item.added", position + b'"item":' + encode(added))
    if kind == "message":
        for number, part in enumerate(item["content"]):
            _write_content(writer, named + b'"content_index":%d,' % number, part)
    elif kind == "reasoning":
        for number, part in enumerate(item["summary"]):
            _write_summary(writer, named + b'"summary_index":%d,' % number, part)
    elif kind in _ARGUMENTS:
        member, events = _ARGUMENTS[kind]
        value = encode(item[member])
        writer.write(events + b".delta", named + b'"delta":' + value)
        writer.write(events + b".done", named + b'"%b":%b' % (member.encode(), value))
    writer.write(b"response.output_item.done", position + b'"item":' + encode(item))


def _write_content(writer: EventWriter, at: bytes, part: Item) -> None:
    member = "refusal" if part["type"] == "refusal" else "text"
    events = b"response.refusal" if member == "refusal" else b"response.output_text"
    tail = b"" if member == "refusal" else b',"logprobs":[]'
    _write_part(writer, at, part, member, events, b"response.content_part", tail)


def _write_summary(writer: EventWriter, at: bytes, part: Item) -> None:
    events = b"response.reasoning_summary_text"
    _write_part(writer, at, part, "text", events, b"response.reasoning_summary_part", b"")


def _write_part(
    writer: EventWriter,
    at: bytes,
    part: Item,
    member: str,
    events: bytes,
    frame: bytes,
    tail: bytes,
) -> None:
    text = encode(part[member])
    writer.write(frame + b".added", at + b'"part":' + encode({**part, member: ""}))
    writer.write(events + b".delta", at + b'"delta":' + text + tail)
    writer.write(events + b".done", at + b'"%b":%b' % (member.encode(), text) + tail)
    writer.write(frame + b".done", at + b'"part":' + encode(part))
