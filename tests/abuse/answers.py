"""What the scripted upstream says: honest, huge, absurd and slow responses on both wires."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

from tests.support.bodies import (
    BLOCK_START,
    BLOCK_STOP,
    DONE,
    MESSAGE_STOP,
    anthropic_event,
    openai_event,
    text_delta,
)
from tests.support.raw_upstream import SSE, Exchange, Script

INPUT, OUTPUT, REASONING = 1000, 30_000, 29_990
"""The usage of `REAL`: $0.301 at $1 and $10 a million."""
REAL: Mapping[str, Any] = {
    "openai": {
        "prompt_tokens": INPUT,
        "completion_tokens": OUTPUT,
        "total_tokens": INPUT + OUTPUT,
        "completion_tokens_details": {"reasoning_tokens": REASONING},
    },
    "anthropic": {"input_tokens": INPUT, "output_tokens": OUTPUT},
}


def wire_of(exchange: Exchange) -> str:
    """Return the wire that a request came on."""
    return "anthropic" if "/messages" in exchange.target else "openai"


def is_stream(exchange: Exchange) -> bool:
    """Whether a stream was asked for; the body is searched, not parsed, for it may be huge."""
    return any(mark in exchange.body for mark in (b'"stream":true', b'"stream": true'))


def openai_usage(prompt: int, completion: int) -> dict[str, int]:
    """Return a usage object of the OpenAI wire."""
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }


def completion(usage: object, text: str = "hi", **members: object) -> dict[str, Any]:
    """Return a chat completion, its usage last."""
    message = {"role": "assistant", "content": text}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "up",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        **members,
        "usage": usage,
    }


def message(usage: object, text: str = "hi") -> dict[str, Any]:
    """Return a Messages response, its usage last."""
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "up",
        "content": [{"type": "text", "text": text}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": usage,
    }


async def send_json(exchange: Exchange, body: object, status: int = 200) -> None:
    """Send a JSON response; bytes go out as they are."""
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    head = b"HTTP/1.1 %d Status\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    await exchange.send(head % (status, len(text)) + text)


def usage_chunk(usage: object) -> bytes:
    """Return the usage chunk of an OpenAI stream."""
    return b"data: " + json.dumps({"choices": [], "usage": usage}).encode() + b"\n\n"


def stream_start(wire: str) -> bytes:
    """Return everything up to the first content."""
    if wire == "openai":
        return openai_event("word ")
    usage = {"input_tokens": INPUT, "output_tokens": 1}
    started = {**message(usage), "content": [], "stop_reason": None}
    return anthropic_event("message_start", message=started) + BLOCK_START + text_delta("word ")


def stream_end(wire: str, usage: Mapping[str, Any]) -> bytes:
    """Return what follows the finish reason: usage and the wire's last event."""
    if wire == "openai":
        return usage_chunk(usage) + DONE
    delta = {"stop_reason": "end_turn", "stop_sequence": None}
    told = {"output_tokens": usage["output_tokens"]}
    return anthropic_event("message_delta", delta=delta, usage=told) + MESSAGE_STOP


def finish(wire: str) -> bytes:
    """Return the finish of the text."""
    return openai_event(finish="stop") if wire == "openai" else BLOCK_STOP


def honest(
    usage: Mapping[str, Any] = REAL, *, wait_s: float = 0.0, pieces: int = 3, pace_s: float = 0.0
) -> Script:
    """
    Return a script that serves any endpoint, reporting usage as real upstreams do.

    Args:
        usage: By wire. A chat stream tells it only when asked.
        wait_s: Between the finish reason and the usage of a stream, or before a whole response.
        pieces, pace_s: Of a stream's text.
    """

    async def play(exchange: Exchange) -> None:
        wire = wire_of(exchange)
        if exchange.target.endswith("/count_tokens"):
            await send_json(exchange, {"input_tokens": INPUT})
        elif exchange.target.endswith("/embeddings"):
            await send_json(exchange, {"object": "list", "data": [], "usage": usage["openai"]})
        elif is_stream(exchange):
            await _stream(exchange, wire)
        else:
            await asyncio.sleep(wait_s)
            make = completion if wire == "openai" else message
            await send_json(exchange, make(usage[wire]))

    async def _stream(exchange: Exchange, wire: str) -> None:
        await exchange.send(SSE + b"\r\n")
        await exchange.chunk(stream_start(wire))
        for _ in range(pieces):
            await asyncio.sleep(pace_s)
            await exchange.chunk(openai_event("word ") if wire == "openai" else text_delta("word "))
        await exchange.chunk(finish(wire))
        await asyncio.sleep(wait_s)
        if wire == "anthropic" or usage_is_wanted(exchange.body):
            await exchange.chunk(stream_end(wire, usage[wire]))
        else:
            await exchange.chunk(DONE)
        await exchange.send(b"0\r\n\r\n")

    return play


def usage_is_wanted(body: bytes) -> bool:
    """Whether a parser that takes the last of two members finds usage asked for."""
    options = json.loads(body).get("stream_options") or {}
    return bool(options.get("include_usage"))


def says(body: object, status: int = 200) -> Script:
    """Return a script that responds with one JSON document."""

    async def play(exchange: Exchange) -> None:
        await send_json(exchange, body, status)

    return play


def says_raw(sent: bytes) -> Script:
    """Return a script that sends bytes, head included, and closes."""

    async def play(exchange: Exchange) -> None:
        await exchange.send(sent)
        exchange.close()

    return play
