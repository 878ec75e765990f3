"""Renders the demo upstream's responses in OpenAI's dialect."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from gateway.demo.script import Script, slices

_encode = msgspec.json.Encoder().encode


def usage(script: Script) -> dict[str, object]:
    return {
        "prompt_tokens": script.input_tokens,
        "completion_tokens": script.output_tokens,
        "total_tokens": script.input_tokens + script.output_tokens,
        "prompt_tokens_details": {"cached_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": len(script.thinking)},
    }


def finish_reason(script: Script) -> str:
    """Return the response's finish reason."""
    if script.truncated:
        return "length"
    return "tool_calls" if script.tool else "stop"


def completion(script: Script, model: str, call_id: str, created: int) -> bytes:
    """Return the complete response as JSON."""
    message: dict[str, object] = {"role": "assistant", "content": "".join(script.text) or None}
    if script.thinking:
        message["reasoning_content"] = "".join(script.thinking)
    if script.tool:
        message["tool_calls"] = [_tool_call(script.tool, call_id)]
    choice = {"index": 0, "message": message, "finish_reason": finish_reason(script)}
    return _encode(
        {
            "id": f"chatcmpl-{call_id}",
            "object": "chat.completion",
            "created": created,
            "model": model,
            "choices": [choice],
            "usage": usage(script),
        }
    )


def chunks(
    script: Script, model: str, call_id: str, created: int, *, with_usage: bool
) -> Iterator[tuple[bytes, bool]]:
    """Yield each event, and whether it is a token and therefore paced."""
    head = {
        "id": f"chatcmpl-{call_id}",
        "object": "chat.completion.chunk",
        "created": created,
        "model": model,
    }

    def event(delta: dict[str, object], finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        return b"data: " + _encode({**head, "choices": [choice]}) + b"\n\n"

    yield event({"role": "assistant", "content": ""}), False
    for piece in script.thinking:
        yield event({"reasoning_content": piece}), True
    for piece in script.text:
        yield event({"content": piece}), True
    if script.tool:
        first = {**_tool_call((script.tool[0], ""), call_id), "index": 0}
        yield event({"tool_calls": [first]}), True
        for piece in slices(script.tool[1]):
            yield event({"tool_calls": [{"index": 0, "function": {"arguments": piece}}]}), True
    yield event({}, finish_reason(script)), False
    if with_usage:
        yield b"data: " + _encode({**head, "choices": [], "usage": usage(script)}) + b"\n\n", False
    yield b"data: [DONE]\n\n", False


def error(status: int) -> bytes:
    kind = "rate_limit_error" if status == 429 else "invalid_request_error"
    return _encode(
        {
            "error": {
                "message": f"The demo upstream was asked for status {status}.",
                "type": kind if status < 500 else "server_error",
                "param": None,
                "code": None,
            }
        }
    )


def embeddings(model: str, raw_input: bytes) -> bytes:
    """Return one small vector per input, computed from its bytes."""
    values = msgspec.json.decode(raw_input)
    inputs = values if isinstance(values, list) else [values]
    rows = []
    for index, value in enumerate(inputs):
        text = str(value).encode()
        vector = [round(sum(text[offset::8]) % 997 / 997, 6) for offset in range(8)]
        rows.append({"object": "embedding", "index": index, "embedding": vector})
    tokens = len(raw_input) // 4 + 1
    return _encode(
        {
            "object": "list",
            "data": rows,
            "model": model,
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        }
    )


def _tool_call(tool: tuple[str, str], call_id: str) -> dict[str, object]:
    return {
        "id": f"call_{call_id}",
        "type": "function",
        "function": {"name": tool[0], "arguments": tool[1]},
    }
