"""Events of streams, and meters that were fed with them."""

from __future__ import annotations

import json
from typing import Any

from gateway.core.model import Wire
from gateway.protocols.streams.meter import StreamMeter

DONE = b"data: [DONE]\n\n"


def chunk(delta: dict[str, Any] | None, finish: str | None = None, **more: Any) -> bytes:
    """Return an OpenAI stream's event; without delta it has no choices."""
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish}]
    return (
        b"data: %b\n\n"
        % json.dumps(
            {"id": "c", "model": "m", "choices": choices, **more}, separators=(",", ":")
        ).encode()
    )


def event(kind: str, **more: Any) -> bytes:
    """Return an Anthropic stream's event."""
    body = json.dumps({"type": kind, **more}, separators=(",", ":"))
    return f"event: {kind}\ndata: {body}\n\n".encode()


def text_delta(text: str) -> bytes:
    """Return an Anthropic text delta."""
    return event("content_block_delta", index=0, delta={"type": "text_delta", "text": text})


def metered(wire: Wire, *chunks: bytes) -> StreamMeter:
    """Feed the chunks and end."""
    meter = StreamMeter(wire)
    for piece in chunks:
        meter.feed(piece)
    meter.end()
    return meter
