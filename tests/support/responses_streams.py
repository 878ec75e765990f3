"""Chat streams, and the Responses events that are made of them, for tests."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from gateway.protocols.openai_responses.context import ResponsesContext
from gateway.protocols.openai_responses.request import translate_responses_request
from gateway.protocols.openai_responses.stream import responses_stream

TEXT_ITEM = {"type": "output_text", "annotations": [], "logprobs": []}
DONE = b"data: [DONE]\n\n"
USAGE = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}


def context(**members: Any) -> ResponsesContext:
    body = json.dumps({"model": "m", "input": "Hi", "stream": True} | members).encode()
    made = translate_responses_request(body).context
    return msgspec.structs.replace(made, created=1_700_000_000)


ASKED = context()


def chunk(delta: dict[str, Any] | None, finish: str | None = None, **more: Any) -> bytes:
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish}]
    return b"data: %b\n\n" % json.dumps({"id": "chatcmpl-1", "choices": choices} | more).encode()


def tool(index: int | None, **function: Any) -> dict[str, Any]:
    call_id = function.pop("id", None)
    fragment = {"index": index, "id": call_id, "function": function}
    return {"tool_calls": [{name: value for name, value in fragment.items() if value is not None}]}


def events_in(raw: bytes) -> list[dict[str, Any]]:
    return [json.loads(block.split("data: ")[1]) for block in raw.decode().split("\n\n")[:-1]]


def run(
    *chunks: bytes, asked: ResponsesContext | None = None, clean: bool = True
) -> list[dict[str, Any]]:
    stream = responses_stream(asked or context())
    raw = b"".join(map(stream.feed, chunks)) + stream.end(clean)
    assert stream.done
    assert stream.end(clean) == stream.feed(b"data: {}\n\n") == stream.expire_after_finish() == b""
    events = events_in(raw)
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    return events


def last(*chunks: bytes, asked: ResponsesContext | None = None) -> dict[str, Any]:
    response: dict[str, Any] = run(*chunks, asked=asked)[-1]["response"]
    return response


def kinds(events: list[dict[str, Any]]) -> list[str]:
    return [event["type"].removeprefix("response.") for event in events]


def finished(*deltas: dict[str, Any], finish: str = "stop") -> list[bytes]:
    return [*(chunk(delta) for delta in deltas), chunk({}, finish), chunk(None, usage=USAGE), DONE]
