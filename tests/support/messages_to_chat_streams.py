"""Feeding OpenAI-wire chunks to the translator in tests, and reading what comes out."""

from __future__ import annotations

import json
from typing import Any

from gateway.protocols.translate.capabilities import capabilities
from gateway.protocols.translate.messages_to_chat.stream import messages_stream
from gateway.protocols.translate.stream import ResponseContext, StreamTranslator
from tests.support.anthropic_streams import accumulate, check_invariants, read_events

DONE = b"data: [DONE]\n\n"
USAGE = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
USAGE_CHUNK = {"choices": [], "usage": USAGE}


def new_stream(
    dialect: str = "generic", *, caps: dict[str, Any] | None = None, **context: Any
) -> StreamTranslator:
    """Return a translator for a dialect."""
    return messages_stream(
        ResponseContext(model="client-model", stream=True, **context),
        capabilities(dialect, caps or {}),
    )


def sse(value: Any) -> bytes:
    """Return one event."""
    return b"data: " + json.dumps(value).encode() + b"\n\n"


def delta(finish: str | None = None, **fields: Any) -> bytes:
    """Return a chunk with a delta of choice 0."""
    choice = {"index": 0, "delta": fields, "finish_reason": finish}
    return sse({"id": "chatcmpl-1", "choices": [choice]})


def call(arguments: str | None = None, index: int | None = 0, **fields: Any) -> dict[str, Any]:
    """Return a fragment of a tool call; `name` goes into the function."""
    function = {"name": fields.pop("name")} if "name" in fields else {}
    if arguments is not None:
        function["arguments"] = arguments
    return fields | {"function": function} | ({} if index is None else {"index": index})


def run(stream: StreamTranslator, *chunks: bytes, clean: bool = True) -> bytes:
    """Feed everything, end, check the shape of the output and return it."""
    written = b"".join(stream.feed(chunk) for chunk in chunks) + stream.end(clean)
    check_invariants(written)
    return written


def names(written: bytes) -> list[str]:
    """Return the events' names."""
    return [event["event"] for event in read_events(written)]


def deltas(written: bytes) -> list[str]:
    """Return what each delta adds, without signatures."""
    values = [
        event["data"]["delta"]
        for event in read_events(written)
        if event["event"] == "content_block_delta"
    ]
    return [
        value.get("text") or value.get("thinking") or value.get("partial_json")
        for value in values
        if value["type"] != "signature_delta"
    ]


def blocks(written: bytes) -> list[dict[str, Any]]:
    """Return the content blocks as the SDK sees them, without signatures."""
    content = accumulate(written)["content"]
    return [
        {k: v for k, v in block.items() if k not in ("signature", "caller")} for block in content
    ]
