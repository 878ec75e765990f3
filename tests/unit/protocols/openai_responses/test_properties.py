"""Responses streams of any cut and any content, and as OpenAI's SDK reads them."""

from __future__ import annotations

import itertools
import json
from typing import Any

import httpx2
import msgspec
import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from gateway.protocols.openai_responses.context import ToolName
from gateway.protocols.openai_responses.stream import responses_stream
from tests.support.responses_streams import (
    ASKED,
    DONE,
    chunk,
    events_in,
    finished,
    kinds,
    run,
    tool,
)

STREAM = b"".join(
    finished(
        {"role": "assistant", "content": ""},
        {"reasoning_content": "plän"},
        {"content": "Hé"},
        {"content": "llo"},
        tool(0, id="c1", name="f", arguments='{"q"'),
        tool(1, id="c2", name="g"),
        tool(0, arguments=":1}"),
        finish="tool_calls",
    )
)


@given(st.lists(st.integers(0, len(STREAM)), max_size=12), st.booleans())
def test_any_split_gives_the_same_events(cuts: list[int], crlf: bool) -> None:
    """Where the network cuts the bytes, and which line ends are used, has no meaning."""
    whole = run(STREAM, asked=ASKED)
    raw = STREAM.replace(b"\n", b"\r\n") if crlf else STREAM
    at = sorted({0, len(raw), *(min(cut, len(raw)) for cut in cuts)})

    pieces = [raw[start:end] for start, end in itertools.pairwise(at)]

    assert run(*pieces, asked=ASKED) == whole


texts = st.text(st.characters(), max_size=4) | st.text(st.characters(categories=["Cs"]), max_size=2)
calls = st.fixed_dictionaries(
    {},
    optional={
        "index": st.none() | st.integers(0, 2),
        "id": texts,
        "function": st.fixed_dictionaries({}, optional={"name": texts, "arguments": texts}),
    },
)
deltas = st.fixed_dictionaries(
    {},
    optional={
        "content": st.none() | texts | st.lists(st.dictionaries(texts, texts), max_size=2),
        "reasoning_content": texts,
        "reasoning": texts,
        "reasoning_details": st.lists(
            st.dictionaries(st.sampled_from(["text", "signature", "data", "type"]), texts),
            max_size=2,
        ),
        "refusal": texts,
        "tool_calls": st.lists(calls, max_size=2),
        "function_call": st.fixed_dictionaries({}, optional={"name": texts, "arguments": texts}),
    },
)
odd = st.recursive(
    st.none() | st.booleans() | st.integers() | texts,
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(st.sampled_from(["id", "choices", "usage", "error", "delta"]), inner)
    ),
    max_leaves=6,
)
finishes = st.none() | st.sampled_from(["stop", "length", "tool_calls", "error"])


@given(st.lists(st.tuples(deltas, finishes) | odd, max_size=6), st.booleans(), st.booleans())
def test_arbitrary_chunks_give_well_formed_streams(
    chunks: list[Any], done: bool, clean: bool
) -> None:
    """Whatever an upstream sends, events are whole, numbered, balanced and end once."""
    raw = [
        chunk(*item) if isinstance(item, tuple) else b"data: %b\n\n" % json.dumps(item).encode()
        for item in chunks
    ]
    stream = responses_stream(ASKED)

    written = b"".join(map(stream.feed, [*raw, DONE] if done else raw)) + stream.end(clean)

    events = events_in(written)
    if stream.error_before_commit is not None:
        assert events == []
        return
    assert kinds(events)[:2] == ["created", "in_progress"]
    ends = [kind for kind in kinds(events) if kind in ("completed", "incomplete", "failed")]
    assert ends == kinds(events)[-1:]
    closed = [event["item"] for event in events if event["type"] == "response.output_item.done"]
    output = events[-1]["response"]["output"]
    assert sorted(closed, key=json.dumps) == sorted(output, key=json.dumps)
    told = "".join(
        event["delta"] for event in events if event["type"] == "response.output_text.delta"
    )
    if ends != ["failed"]:
        parts = [part for item in output if item["type"] == "message" for part in item["content"]]
        assert "".join(part.get("text", "") for part in parts) == told


def sdk_events(raw: bytes) -> tuple[list[str], Response | None]:
    """Stream `raw` through the official SDK's accumulator."""
    transport = httpx2.MockTransport(
        lambda _: httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=raw)
    )
    with (
        httpx2.Client(transport=transport) as http,
        openai.OpenAI(api_key="k", base_url="http://x/v1", http_client=http) as client,
        client.responses.stream(model="m", input="x") as stream,
    ):
        seen: list[str] = [event.type for event in stream]
        completed = seen[-1] == "response.completed"
        return seen, stream.get_final_response() if completed else None


def test_openai_sdk_accumulates_the_stream() -> None:
    """The official SDK's accumulator ends up with what the last event holds."""
    stream = responses_stream(ASKED)
    raw = stream.feed(STREAM) + stream.end(clean=True)

    seen, final = sdk_events(raw)

    assert seen == [event["type"] for event in events_in(raw)]
    assert final is not None
    assert final.output_text == "Héllo"
    assert [item.type for item in final.output] == [
        "reasoning",
        "message",
        "function_call",
        "function_call",
    ]
    assert final.usage is not None
    assert final.usage.total_tokens == 15


@pytest.mark.parametrize(
    "chunks",
    [
        [STREAM],
        finished({"content": "a"}, {"refusal": "No"}),
        finished(tool(0, id="c", name="p", arguments='{"input":"x"}')),
        finished({"content": "a"}, finish="length"),
        [chunk({"content": "a"}), b'data: {"error":{"code":429,"message":"Slow"}}\n\n'],
    ],
)
def test_every_event_has_the_sdks_shape(chunks: list[bytes]) -> None:
    """Each event and the final object validate strictly against the SDK's types."""
    asked = msgspec.structs.replace(
        ASKED, tool_names={"p": ToolName("p", custom=True), "g": ToolName("g", "ns")}
    )
    adapter: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)

    for event in run(*chunks, asked=asked, clean=False):
        if event["type"] == "response.failed":
            event["response"]["error"]["code"] = "server_error"  # The SDK lists no other of ours.
        made = adapter.validate_python(event)
        assert made.type == event["type"]
        assert made.to_dict(mode="json").keys() >= event.keys()
