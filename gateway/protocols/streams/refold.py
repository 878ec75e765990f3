"""
Converts whole responses to streams, and streams to whole responses, within one API.

Some upstreams send a stream where a whole response was requested, or the reverse.
"""

from __future__ import annotations

import json
from typing import Any, Final

from gateway.core.model import Wire
from gateway.errors import ErrorKind, GatewayError
from gateway.protocols.codec.json_decode import BOM
from gateway.protocols.codec.nesting import TOO_DEEP, is_deep
from gateway.protocols.codec.sse import EventDecoder

_SSE_STARTS: Final = (b"data:", b"event:", b":", b"id:", b"retry:", b"error:")
_JSON_STARTS: Final = (b"", b"{", b"[")
_WRONG_TYPES: Final = (AttributeError, KeyError, TypeError, ValueError)
"""The exceptions that members of wrong types raise."""
SNIFFED_BYTES: Final = 9
"""Bytes after white space that distinguish an event stream from other bodies."""


def begins_stream(body: bytes) -> bool | None:
    """Return whether a body begins as an event stream; None: it is too short to tell."""
    start = body.removeprefix(BOM).lstrip(b" \t\r\n")
    if start.startswith(_SSE_STARTS):
        return True
    return None if len(start) < SNIFFED_BYTES and start[:1] not in (b"{", b"[", b"<") else False


def begins_document(body: bytes) -> bool:
    """Return whether a body begins as JSON, or with white space or a byte order mark."""
    if len(body) < len(BOM) and BOM.startswith(body):
        return True
    return body.removeprefix(BOM).lstrip(b" \t\r\n")[:1] in _JSON_STARTS


def whole_body(wire: Wire, body: bytes) -> bytes:
    """Return a stream as a whole response; other or malformed bodies only lose their BOM."""
    if not begins_stream(body):
        return body.removeprefix(BOM)
    try:
        return folded(wire, body)
    except GatewayError:
        return body


def unfolded(wire: Wire, body: bytes) -> bytes:
    """
    Return a whole response as the stream of its API.

    Raises:
        GatewayError: UPSTREAM_MALFORMED: not a JSON object.
    """
    response = _decoded(body)
    try:
        unfold = _unfolded_message if wire is Wire.ANTHROPIC else _unfolded_chat
        return unfold(response)
    except _WRONG_TYPES as error:
        raise _malformed(str(error)) from error


def _unfolded_chat(response: dict[str, Any]) -> bytes:
    choices = []
    for choice in _dicts(response.get("choices")):
        delta = dict(choice.get("message") or {})
        calls = [dict(call, index=at) for at, call in enumerate(_dicts(delta.get("tool_calls")))]
        if calls:
            delta["tool_calls"] = calls
        choices.append({**choice, "delta": delta})
        choices[-1].pop("message", None)
    head = {name: value for name, value in response.items() if name not in ("choices", "usage")}
    head["object"] = "chat.completion.chunk"
    events: list[dict[str, Any]] = [{**head, "choices": choices}]
    if response.get("usage"):
        events.append({**head, "choices": [], "usage": response["usage"]})
    return b"".join(_data(event) for event in events) + b"data: [DONE]\n\n"


def folded(wire: Wire, body: bytes) -> bytes:
    """
    Return a complete stream as the whole response of its API.

    Raises:
        GatewayError: UPSTREAM_MALFORMED: an event is not JSON, or the stream is empty. An error in
            the stream is returned as the error response of its API.
    """
    decoder = EventDecoder(len(body) + 1)
    events = [*decoder.feed(body), *decoder.end()]
    read = [_decoded(each.data) for each in events if each.data.strip() not in (b"", b"[DONE]")]
    for event, value in zip(events, read, strict=False):
        if event.event == b"error" or value.get("error") or value.get("type") == "error":
            return event.data
    if not read:
        raise _malformed("an empty stream")
    try:
        made = _folded_message(read) if wire is Wire.ANTHROPIC else _folded_chat(read)
    except _WRONG_TYPES as error:
        raise _malformed(str(error)) from error
    return json.dumps(made, separators=(",", ":")).encode()


def _folded_chat(chunks: list[dict[str, Any]]) -> dict[str, Any]:
    response: dict[str, Any] = {}
    choices: dict[int, dict[str, Any]] = {}
    for chunk in chunks:
        for name, value in chunk.items():
            if name != "choices" and (value or name not in response):
                response[name] = value
        for choice in _dicts(chunk.get("choices")):
            index = choice.get("index") or 0
            kept = choices.setdefault(index, {"index": index, "message": {"role": "assistant"}})
            _add_delta(kept["message"], choice.get("delta") or choice.get("message") or {})
            for name, value in choice.items():
                if name not in ("delta", "message") and (value or name not in kept):
                    kept[name] = value
    for choice in choices.values():
        choice["message"].setdefault("content", None)
    response["object"] = "chat.completion"
    response["choices"] = [choices[index] for index in sorted(choices)]
    return response


def _add_delta(message: dict[str, Any], delta: dict[str, Any]) -> None:
    for name, value in delta.items():
        known = message.get(name)
        joins = type(known) is type(value) and isinstance(value, str | list)
        if name == "tool_calls":
            _add_calls(message.setdefault("tool_calls", []), _dicts(value))
        elif joins and name not in ("role", "id"):
            message[name] += value
        elif value is not None:
            message[name] = value


def _add_calls(calls: list[dict[str, Any]], pieces: list[dict[str, Any]]) -> None:
    for piece in pieces:
        index = piece.get("index")
        call = next((each for each in calls if index is not None and each["index"] == index), None)
        if call is None:
            call = {"index": len(calls) if index is None else index, "type": "function"}
            call["function"] = {"name": "", "arguments": ""}
            calls.append(call)
        function = piece.get("function") or {}
        kept = call["function"]
        kept["name"] = kept["name"] or function.get("name") or ""
        arguments = function.get("arguments") or ""
        kept["arguments"] += arguments if isinstance(arguments, str) else json.dumps(arguments)
        call.update({k: v for k, v in piece.items() if k not in ("function", "index") and v})


def _folded_message(events: list[dict[str, Any]]) -> dict[str, Any]:
    message: dict[str, Any] = {}
    blocks: dict[int, dict[str, Any]] = {}
    for event in events:
        match event.get("type"):
            case "message_start":
                message = dict(event.get("message") or {})
            case "content_block_start":
                blocks[event.get("index", 0)] = dict(event.get("content_block") or {})
            case "content_block_delta":
                block = blocks.setdefault(event.get("index", 0), {"type": "text"})
                _add_block_delta(block, event.get("delta") or {})
            case "message_delta":
                message.update(event.get("delta") or {})
                known = message.get("usage") or {}
                reported = event.get("usage") or {}
                message["usage"] = known | {k: v for k, v in reported.items() if v is not None}
    for block in blocks.values():
        partial = block.pop("partial_json", None)
        if partial is not None:
            block["input"] = _decoded(partial.encode()) if partial.strip() else {}
    if not message:
        raise _malformed("a stream without message_start")
    return message | {"content": [blocks[index] for index in sorted(blocks)]}


def _add_block_delta(block: dict[str, Any], delta: dict[str, Any]) -> None:
    for name, value in delta.items():
        if name == "citation":
            block.setdefault("citations", []).append(value)
        elif name != "type" and isinstance(value, str):
            block[name] = (block.get(name) or "") + value


def _unfolded_message(message: dict[str, Any]) -> bytes:
    blocks = _dicts(message.get("content"))
    usage = message.get("usage") or {}
    start = {**message, "content": [], "stop_reason": None, "stop_sequence": None}
    events: list[dict[str, Any]] = [{"type": "message_start", "message": start}]
    for index, block in enumerate(blocks):
        at = {"index": index}
        opened, deltas = _opened(block)
        events.append({"type": "content_block_start", **at, "content_block": opened})
        events += [{"type": "content_block_delta", **at, "delta": delta} for delta in deltas]
        events.append({"type": "content_block_stop", **at})
    stop = {name: message.get(name) for name in ("stop_reason", "stop_sequence")}
    events.append({"type": "message_delta", "delta": stop, "usage": usage})
    events.append({"type": "message_stop"})
    return b"".join(b"event: %b\n%b" % (each["type"].encode(), _data(each)) for each in events)


def _opened(block: dict[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return a block as it starts, and the deltas that complete it."""
    match block.get("type"):
        case "text":
            return {**block, "text": ""}, [{"type": "text_delta", "text": block.get("text") or ""}]
        case "thinking":
            deltas = [{"type": "thinking_delta", "thinking": block.get("thinking") or ""}]
            if block.get("signature"):
                deltas.append({"type": "signature_delta", "signature": block["signature"]})
            return {**block, "thinking": "", "signature": ""}, deltas
        case "tool_use":
            partial = json.dumps(block.get("input") or {})
            return {**block, "input": {}}, [{"type": "input_json_delta", "partial_json": partial}]
    return block, []


def _data(event: dict[str, Any]) -> bytes:
    return b"data: %b\n\n" % json.dumps(event, separators=(",", ":")).encode()


def _dicts(value: object) -> list[dict[str, Any]]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _decoded(data: bytes) -> dict[str, Any]:
    if is_deep(data):
        raise _malformed(TOO_DEEP)
    try:
        value = json.loads(data.removeprefix(BOM))
    except ValueError as error:
        raise _malformed(str(error)) from error
    if not isinstance(value, dict):
        raise _malformed("not an object")
    return value


def _malformed(detail: str) -> GatewayError:
    return GatewayError(ErrorKind.UPSTREAM_MALFORMED, "Upstream sent malformed data", detail=detail)
