"""Chat responses and chunks whose members are almost of the right type."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.core.model import Usage, Wire
from gateway.errors import ErrorKind, GatewayError
from gateway.protocols.openai_chat.lenient import (
    coerced_json,
    decode_chunk,
    decode_completion,
    is_error_object,
    named_reason,
    read_response,
)
from gateway.protocols.streams.json_meter import JsonMeter
from gateway.protocols.streams.meter import StreamMeter
from gateway.protocols.translate.capabilities import capabilities
from gateway.protocols.translate.messages_to_chat.response import translate_response
from gateway.protocols.translate.messages_to_chat.stream import messages_stream
from gateway.protocols.translate.stream import ResponseContext

GENERIC = capabilities("generic", {})
CALL = {"index": 0, "id": "c", "function": {"name": "get", "arguments": "{}"}}


def chunk(delta: object, finish: object = None, **members: object) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return json.dumps({"id": "c1", "choices": [choice], **members}).encode()


def whole(message: object, finish: object = "stop", **members: object) -> bytes:
    choice = {"index": 0, "message": message, "finish_reason": finish}
    return json.dumps({"id": "c1", "choices": [choice], **members}).encode()


@pytest.mark.parametrize("reason", [None, "", "  ", "null", "NULL", "None"])
def test_no_reason_finishes_nothing(reason: str | None) -> None:
    assert named_reason(reason) is None


@pytest.mark.parametrize("reason", ["stop", "length", "tool_calls", "eos", "abort"])
def test_any_named_reason_finishes(reason: str) -> None:
    assert named_reason(reason) == reason


@pytest.mark.parametrize(
    "members",
    [
        {"id": 123},
        {"usage": ""},
        {"usage": []},
        {"created": "now"},
        {"choices": [{"index": "0", "delta": {"content": "Hi"}}]},
        {"choices": {"index": 0, "delta": {"content": "Hi"}}},
        {"choices": ["", {"index": 0, "delta": {"content": "Hi"}, "finish_reason": 0}]},
    ],
)
def test_member_that_is_not_needed_loses_no_text(members: dict[str, Any]) -> None:
    read = decode_chunk(chunk({"content": "Hi"}, **members))

    assert read is not None
    choice = read.first_choice
    assert choice is not None
    assert choice.delta is not None
    assert choice.delta.content == "Hi"


@pytest.mark.parametrize(
    ("delta", "content"),
    [
        ({"content": "Hi", "reasoning": {}}, "Hi"),
        ({"content": "Hi", "reasoning_content": 7}, "Hi"),
        ({"content": "Hi", "tool_calls": {}}, "Hi"),
        ({"content": "Hi", "tool_calls": ""}, "Hi"),
        ({"content": "Hi", "reasoning_details": "x"}, "Hi"),
        ({"content": "Hi", "function_call": ""}, "Hi"),
        ({"content": {"a": [1]}}, '{"a":[1]}'),  # Cloudflare
        ({"content": 7}, "7"),
    ],
)
def test_members_of_a_delta(delta: dict[str, Any], content: str) -> None:
    read = decode_completion(whole(delta))

    assert read.first_choice is not None
    assert read.first_choice.message is not None
    assert read.first_choice.message.content == content


@pytest.mark.parametrize("delta", ["", None, [], 0])
def test_delta_that_is_no_object_is_none(delta: object) -> None:
    read = decode_chunk(chunk(delta, "stop"))

    assert read is not None
    assert read.first_choice is not None
    assert (read.first_choice.delta, read.first_choice.finish_reason) == (None, "stop")


@pytest.mark.parametrize(
    ("function", "tool_input"),
    [
        ({"name": "get", "arguments": {"x": 1}}, {"x": 1}),
        ({"name": "get", "arguments": '{"x": 1}'}, {"x": 1}),
        ({"name": "get", "arguments": "null"}, {}),
        ({"name": "get", "arguments": None}, {}),
        ({"name": "get", "arguments": ""}, {}),
        ({"name": "get"}, {}),
    ],
)
@pytest.mark.parametrize("index", [0, "0", None])
def test_arguments_become_an_object(
    function: dict[str, Any], tool_input: dict[str, Any], index: object
) -> None:
    calls = [{"index": index, "id": "call_1", "function": function}]

    body = translate_response(
        whole({"content": None, "tool_calls": calls}, "tool_calls"),
        ResponseContext(model="m"),
        GENERIC,
    )
    streamed = messages_stream(ResponseContext(model="m"), GENERIC)
    out = streamed.feed(b"data: " + chunk({"tool_calls": calls}) + b"\n\n")
    out += streamed.feed(b"data: " + chunk({}, "tool_calls") + b"\n\ndata: [DONE]\n\n")

    (block,) = json.loads(body)["content"]
    assert (block["name"], block["input"]) == ("get", tool_input)
    assert json.loads(json_deltas(out) or "{}") == tool_input


def json_deltas(stream: bytes) -> str:
    """Return the arguments in a Messages stream."""
    events = [json.loads(line[6:]) for line in stream.split(b"\n") if line.startswith(b"data: ")]
    deltas = [event["delta"] for event in events if event["type"] == "content_block_delta"]
    return "".join(delta.get("partial_json", "") for delta in deltas)


def test_call_continues_over_chunks_with_an_empty_finish_reason() -> None:
    """SenseNova and GLM name one on every chunk."""
    stream = messages_stream(ResponseContext(model="m"), GENERIC)
    first = {"index": 0, "id": "c", "function": {"name": "get", "arguments": '{"x":'}}
    second = {"index": 0, "function": {"arguments": '"1"}'}}

    out = b"".join(
        stream.feed(b"data: " + data + b"\n\n")
        for data in (
            chunk({"tool_calls": [first]}, ""),
            chunk({"tool_calls": [second]}, "null"),
            chunk({}, "tool_calls"),
            b"[DONE]",
        )
    )

    assert json_deltas(out) == '{"x":"1"}'
    assert out.count(b"content_block_start") == 2  # the event's name and type
    assert b'"stop_reason":"tool_use"' in out


def test_azures_content_filter_without_a_message_is_a_refusal() -> None:
    body = json.dumps({"id": "c1", "choices": [{"finish_reason": "content_filter"}]}).encode()

    made = json.loads(translate_response(body, ResponseContext(model="m"), GENERIC))

    assert (made["stop_reason"], made["content"]) == ("refusal", [])


@pytest.mark.parametrize("body", [b"null", b"[]", b"", b"<html>", b'{"choices": []}', b"{}"])
def test_body_without_a_message_is_malformed(body: bytes) -> None:
    with pytest.raises(GatewayError) as caught:
        read_response(body)

    assert caught.value.kind is ErrorKind.UPSTREAM_MALFORMED


def test_meters_read_beside_wrong_types() -> None:
    """Usage and finish reason count whatever else the chunk has."""
    usage = {"prompt_tokens": 3, "completion_tokens": 2}
    stream, body = StreamMeter(Wire.OPENAI), JsonMeter(Wire.OPENAI)

    stream.feed(b"data: " + chunk({"content": "Hi"}, "") + b"\n\n")
    finished = stream.finish_reason
    stream.feed(b"data: " + chunk("", "stop", usage=usage) + b"\n\n")
    body.feed(whole("", "stop", id=7, usage=usage))

    assert finished is None
    assert (stream.finish_reason, stream.usage) == ("stop", Usage(input=3, output=2))
    assert (body.finish_reason, body.usage) == ("stop", Usage(input=3, output=2))


@pytest.mark.parametrize(
    ("given", "read"),
    [("0", 0), (" 1 ", 1), ("999999999", 999_999_999), ("1000000000", None), (2, 2), (True, None)],
)
def test_index_is_a_number_of_at_most_nine_digits(given: object, read: int | None) -> None:
    """An index may be a string; an invalid one counts as missing."""
    decoded = decode_chunk(chunk({"tool_calls": [CALL | {"index": given}]}, usage=""))

    assert decoded is not None
    choice = decoded.first_choice
    assert choice is not None
    assert choice.delta is not None
    assert choice.delta.tool_calls is not None
    assert choice.delta.tool_calls[0].index == read


@pytest.mark.parametrize(("given", "read"), [("c1", "c1"), (123, "123"), (True, None), ([], None)])
def test_id_of_a_coerced_chunk_is_text(given: object, read: str | None) -> None:
    """A number becomes text; the id of a chunk with another invalid member is kept."""
    decoded = decode_chunk(chunk({"content": "Hi"}, usage="", id=given))

    assert decoded is not None
    assert decoded.id == read


def test_arguments_object_keeps_its_characters() -> None:
    """Arguments that were an object become JSON without escapes."""
    call = {"index": 0, "id": "c", "function": {"name": "get", "arguments": {"city": "Köln"}}}

    decoded = decode_completion(whole({"tool_calls": [call]}))

    choice = decoded.first_choice
    assert choice is not None
    assert choice.message is not None
    assert choice.message.tool_calls is not None
    function = choice.message.tool_calls[0].function
    assert function is not None
    assert function.arguments == '{"city":"Köln"}'


@pytest.mark.parametrize(
    ("data", "is_error"),
    [
        (b'{"object": "error", "message": "m"}', True),
        (b' {"detail": "CUDA out of memory"}', True),
        (b'{"choices": [], "detail": 1}', False),
    ],
)
def test_error_objects_of_a_stream_are_recognised(data: bytes, is_error: bool) -> None:
    """VLLM's own form, and that of its web framework."""
    assert is_error_object(data) is is_error


@pytest.mark.parametrize("surrogate", [b"\xed\xa0\x80", b"\xed\xb0\x80", b"\xff"])
def test_invalid_utf8_is_malformed_however_lenient(surrogate: bytes) -> None:
    """`json.loads` takes bytes of surrogates for text, which could not be sent on."""
    body = b'{"choices":[{"index":"0","message":{"content":"%b"}}]}' % surrogate

    with pytest.raises(GatewayError) as caught:
        decode_completion(body)

    assert caught.value.kind is ErrorKind.UPSTREAM_MALFORMED
    assert coerced_json(body) is None
