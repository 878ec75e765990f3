"""Renders the demo upstream's responses in Anthropic's dialect."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec

from gateway.demo.script import Script, slices

_encode = msgspec.json.Encoder().encode
_SIGNATURE = "ZGVtbyB1cHN0cmVhbQ=="


def stop_reason(script: Script) -> str:
    """Return the response's stop reason."""
    if script.truncated:
        return "max_tokens"
    return "tool_use" if script.tool else "end_turn"


def _usage(script: Script, output_tokens: int) -> dict[str, int]:
    return {
        "input_tokens": script.input_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "output_tokens": output_tokens,
    }


def message(script: Script, model: str, call_id: str) -> bytes:
    """Return the complete message as JSON."""
    content: list[dict[str, object]] = []
    if script.thinking:
        thinking = "".join(script.thinking)
        content.append({"type": "thinking", "thinking": thinking, "signature": _SIGNATURE})
    if script.text:
        content.append({"type": "text", "text": "".join(script.text)})
    if script.tool:
        arguments = msgspec.json.decode(script.tool[1])
        block = {"type": "tool_use", "id": f"toolu_{call_id}", "name": script.tool[0]}
        content.append({**block, "input": arguments})
    return _encode(
        {
            "id": f"msg_{call_id}",
            "type": "message",
            "role": "assistant",
            "model": model,
            "content": content,
            "stop_reason": stop_reason(script),
            "stop_sequence": None,
            "usage": _usage(script, script.output_tokens),
        }
    )


def chunks(script: Script, model: str, call_id: str) -> Iterator[tuple[bytes, bool]]:
    """Yield each event, and whether it is a token and therefore paced."""
    message_start: dict[str, object] = {
        "id": f"msg_{call_id}",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": _usage(script, 1),
    }
    yield _event("message_start", {"message": message_start}), False
    yield _event("ping", {}), False
    index = 0
    if script.thinking:
        start = {"type": "thinking", "thinking": "", "signature": ""}
        deltas = [{"type": "thinking_delta", "thinking": piece} for piece in script.thinking]
        signature = {"type": "signature_delta", "signature": _SIGNATURE}
        yield from _block(index, start, [*deltas, signature])
        index += 1
    if script.text:
        texts = [{"type": "text_delta", "text": piece} for piece in script.text]
        yield from _block(index, {"type": "text", "text": ""}, texts)
        index += 1
    if script.tool:
        name, arguments = script.tool
        start_tool: dict[str, object] = {
            "type": "tool_use",
            "id": f"toolu_{call_id}",
            "name": name,
            "input": {},
        }
        parts = [{"type": "input_json_delta", "partial_json": p} for p in slices(arguments)]
        yield from _block(index, start_tool, parts)
    ending = {"stop_reason": stop_reason(script), "stop_sequence": None}
    totals = _usage(script, script.output_tokens)
    yield _event("message_delta", {"delta": ending, "usage": totals}), False
    yield _event("message_stop", {}), False


def _block(
    index: int, start: Mapping[str, object], deltas: list[dict[str, str]]
) -> Iterator[tuple[bytes, bool]]:
    yield _event("content_block_start", {"index": index, "content_block": start}), False
    for delta in deltas:
        yield _event("content_block_delta", {"index": index, "delta": delta}), True
    yield _event("content_block_stop", {"index": index}), False


def _event(name: str, members: dict[str, object]) -> bytes:
    return f"event: {name}\ndata: ".encode() + _encode({"type": name, **members}) + b"\n\n"


def error(status: int) -> bytes:
    kinds = {401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error"}
    kind = kinds.get(status, "overloaded_error" if status == 529 else "api_error")
    if status == 400:
        kind = "invalid_request_error"
    text = f"The demo upstream was asked for status {status}."
    return _encode({"type": "error", "error": {"type": kind, "message": text}})


def token_count(input_tokens: int) -> bytes:
    """Return the response of the token counting endpoint."""
    return _encode({"input_tokens": input_tokens})
