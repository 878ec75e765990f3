"""Whole responses as streams and the reverse: both mean the same."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.model import Wire
from gateway.errors import ErrorKind, GatewayError
from gateway.protocols.streams.json_meter import JsonMeter
from gateway.protocols.streams.meter import StreamMeter
from gateway.protocols.streams.refold import begins_stream, folded, unfolded

NAMES = st.sampled_from(
    [
        *("type", "choices", "delta", "message", "content", "tool_calls", "function", "usage"),
        *("content_block", "index", "text", "partial_json", "arguments", "error"),
    ]
)
CALLS = [
    {"id": "a", "type": "function", "function": {"name": "f", "arguments": '{"x":1}'}},
    {"id": "b", "type": "function", "function": {"name": "g", "arguments": "{}"}},
]
CHAT: dict[str, Any] = {
    "id": "c1",
    "object": "chat.completion",
    "created": 1,
    "model": "up",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "Hi \u00fc", "tool_calls": CALLS},
            "finish_reason": "tool_calls",
        }
    ],
    "usage": {"prompt_tokens": 10, "completion_tokens": 4},
}
MESSAGE: dict[str, Any] = {
    "id": "m1",
    "type": "message",
    "role": "assistant",
    "model": "up",
    "content": [
        {"type": "thinking", "thinking": "Hm", "signature": "c2ln"},
        {"type": "text", "text": "Hi"},
        {"type": "tool_use", "id": "t", "name": "f", "input": {"x": 1}},
        {"type": "redacted_thinking", "data": "eHg="},
    ],
    "stop_reason": "tool_use",
    "stop_sequence": None,
    "usage": {"input_tokens": 10, "output_tokens": 4},
}
WHOLE = {Wire.OPENAI: CHAT, Wire.ANTHROPIC: MESSAGE}


@pytest.mark.parametrize("wire", list(Wire))
def test_folding_what_was_unfolded_gives_the_response(wire: Wire) -> None:
    body = json.dumps(WHOLE[wire]).encode()

    made = json.loads(folded(wire, unfolded(wire, body)))

    for choice in made.get("choices", ()):
        for call in choice["message"]["tool_calls"]:
            del call["index"]
    assert made == WHOLE[wire]


@pytest.mark.parametrize("wire", list(Wire))
def test_meters_read_the_same_of_both(wire: Wire) -> None:
    body = json.dumps(WHOLE[wire]).encode()
    stream, whole, streamed_whole = StreamMeter(wire), JsonMeter(wire), JsonMeter(wire)

    stream.feed(unfolded(wire, body))
    stream.end()
    whole.feed(body)
    streamed_whole.feed(unfolded(wire, body))

    assert stream.usage == whole.usage == streamed_whole.usage
    assert stream.finish_reason == whole.finish_reason == streamed_whole.finish_reason
    assert stream.saw_end


def test_pieces_of_a_stream_are_joined() -> None:
    def chunk(delta: dict[str, Any], finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        return b"data: %b\n\n" % json.dumps({"id": "c1", "choices": [choice]}).encode()

    first = {"index": 0, "id": "a", "function": {"name": "f", "arguments": '{"x"'}}
    stream = (
        b": wait\n\n"
        + chunk({"role": "assistant", "content": ""})
        + chunk({"reasoning_content": "H"})
        + chunk({"reasoning_content": "m"})
        + chunk({"content": "H"})
        + chunk({"content": "i"})
        + chunk({"tool_calls": [first]})
        + chunk({"tool_calls": [{"index": 0, "function": {"arguments": ":1}"}}]})
        + chunk({}, "tool_calls")
        + b"data: [DONE]\n\n"
    )

    (choice,) = json.loads(folded(Wire.OPENAI, stream))["choices"]

    call = {"index": 0, "type": "function", "id": "a"}
    call |= {"function": {"name": "f", "arguments": '{"x":1}'}}
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"] == {
        "role": "assistant",
        "content": "Hi",
        "reasoning_content": "Hm",
        "tool_calls": [call],
    }


def test_usage_of_a_message_is_that_of_both_events() -> None:
    stream = (
        b'event: message_start\ndata: {"type":"message_start","message":{"id":"m","usage":'
        b'{"input_tokens":10,"cache_read_input_tokens":3,"output_tokens":1}}}\n\n'
        b'data: {"type":"message_delta","delta":{"stop_reason":"end_turn"},'
        b'"usage":{"output_tokens":4,"input_tokens":null}}\n\n'
    )

    usage = json.loads(folded(Wire.ANTHROPIC, stream))["usage"]

    assert usage == {"input_tokens": 10, "cache_read_input_tokens": 3, "output_tokens": 4}


@pytest.mark.parametrize("wire", list(Wire))
def test_error_in_a_stream_is_the_response(wire: Wire) -> None:
    error = b'{"type":"error","error":{"type":"overloaded_error","message":"full"}}'

    assert folded(wire, b"event: error\ndata: " + error + b"\n\n") == error


@pytest.mark.parametrize("wire", list(Wire))
@pytest.mark.parametrize("body", [b"", b": ping\n\n", b"data: [DONE]\n\n", b"data: {\n\n"])
def test_stream_without_a_response_is_malformed(wire: Wire, body: bytes) -> None:
    with pytest.raises(GatewayError):
        folded(wire, body)


@pytest.mark.parametrize("body", [b"null", b"[]", b"<html>", b"", b"{"])
def test_body_that_is_no_object_is_malformed(body: bytes) -> None:
    with pytest.raises(GatewayError):
        unfolded(Wire.OPENAI, body)


@pytest.mark.parametrize(
    ("body", "is_stream"),
    [
        (b"data: x", True),
        (b"event: x", True),
        (b": ping", True),
        (b"\xef\xbb\xbf\n data: {}", True),
        (b"id: 3", True),
        (b"retry: 3", True),
        (b"error: {}", True),
        (b'{"a":1}', False),
        (b"[1]", False),
        (b" <html>", False),
        (b"some words", False),
        (b"da", None),
        (b"", None),
        (b"  ", None),
    ],
)
def test_first_bytes_tell_a_stream(body: bytes, is_stream: bool | None) -> None:
    assert begins_stream(body) is is_stream


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(0, 9) | st.sampled_from(["", "a", "text"]),
        lambda inner: st.lists(inner, max_size=2) | st.dictionaries(NAMES, inner, max_size=4),
        max_leaves=12,
    ),
    st.sampled_from(Wire),
)
def test_members_of_any_type_are_read_or_malformed(value: Any, wire: Wire) -> None:
    body = json.dumps(value).encode()
    for make, given_body in ((unfolded, body), (folded, b"data: %b\n\n" % body)):
        try:
            assert make(wire, given_body)
        except GatewayError as error:
            assert error.kind is ErrorKind.UPSTREAM_MALFORMED
