"""A whole Anthropic message as a chat completion."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.chat import ChatCompletion

from gateway.errors import ErrorKind, GatewayError
from gateway.protocols.translate.chat_to_messages.response import translate_response
from gateway.protocols.translate.stream import ResponseContext

WORDS = st.text(st.characters(codec="utf-8"), max_size=6)
CONTEXT = ResponseContext(model="mine", tool_names={"short": "the/long/name"}, created=7)


def answered(**fields):
    """Return the chat completion for an Anthropic message with `fields`."""
    message = {"id": "msg_1", "type": "message", "content": [], "stop_reason": "end_turn", **fields}
    completion = json.loads(translate_response(json.dumps(message).encode(), CONTEXT))
    ChatCompletion.model_validate(completion)
    return completion


def message_of(*blocks, **fields):
    """Return the response's message."""
    return answered(content=list(blocks), **fields)["choices"][0]["message"]


def call(tool_input, name="f"):
    """Return a tool_use block."""
    return {"type": "tool_use", "id": "toolu_1", "name": name, "input": tool_input}


def test_lone_surrogate_in_content_of_another_form_is_replaced():
    """`json.dumps` escapes it, as an upstream does that cuts a text inside an emoji."""
    assert answered(content="a\ud83d")["choices"][0]["message"]["content"] == "a\ufffd"


@pytest.mark.parametrize(
    ("blocks", "content"),
    [
        ([], ""),
        ([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "ab"),
        ([call({})], None),
        ([{"type": "text", "text": ""}, call({})], None),
        ([{"type": "text", "text": "a"}, call({})], "a"),
        ([{"type": "thinking", "thinking": "t", "signature": "s"}], ""),
        ([{"type": "server_tool_use", "text": "no"}, {"type": "text", "text": "x"}], "x"),
    ],
)
def test_content_is_all_text_and_null_only_beside_calls(blocks, content):
    """A response with nothing has an empty string."""
    assert message_of(*blocks)["content"] == content


@pytest.mark.parametrize(
    ("stop_reason", "finish"),
    [
        ("end_turn", "stop"), ("stop_sequence", "stop"), ("pause_turn", "stop"),
        ("compaction", "stop"), (None, "stop"), ("of the future", "stop"),
        ("max_tokens", "length"), ("model_context_window_exceeded", "length"),
        ("tool_use", "tool_calls"), ("refusal", "content_filter"),
    ],
)  # fmt: skip
def test_stop_reason_becomes_finish_reason(stop_reason, finish):
    """By the table; what is unknown is `stop`."""
    assert answered(stop_reason=stop_reason)["choices"][0]["finish_reason"] == finish


def test_thoughts_are_shown_and_kept_with_their_signatures():
    """Reasoning is text, and details to send back; unsigned reasoning has no details."""
    message = message_of(
        {"type": "thinking", "thinking": "a", "signature": "S"},
        {"type": "redacted_thinking", "data": "zz"},
        {"type": "thinking", "thinking": "b"},
        {"type": "thinking", "thinking": "", "signature": "T"},
    )

    assert message["reasoning_content"] == "a\n\nb"
    known = {"format": "anthropic-claude-v1"}
    assert message["reasoning_details"] == [
        {"index": 0, "type": "reasoning.text", "text": "a", "signature": "S", **known},
        {"index": 1, "type": "reasoning.encrypted", "data": "zz", **known},
        {"index": 3, "type": "reasoning.text", "text": "", "signature": "T", **known},
    ]


def test_answer_without_thoughts_or_calls_has_no_such_members():
    """They are absent, not null."""
    assert set(message_of()) == {"role", "content", "refusal"}


def test_call_keeps_its_id_its_own_name_and_its_numbers():
    """The shortened name is undone; arguments are compact, numbers as they were written."""
    body = (
        b'{"type":"message","content":[{"type":"tool_use","id":"toolu_1","name":"short",'
        b'"input":{ "a": 1.0, "b": 12345678901234567890123 }}],"stop_reason":"tool_use"}'
    )

    answer = json.loads(translate_response(body, CONTEXT))

    assert answer["choices"][0]["message"]["tool_calls"] == [
        {
            "id": "toolu_1",
            "type": "function",
            "function": {
                "name": "the/long/name",
                "arguments": '{"a":1.0,"b":12345678901234567890123}',
            },
        }
    ]
    assert answer["id"] == "chatcmpl-unknown"


def test_refusal_tells_its_explanation():
    """It may be null."""
    details = {"type": "refusal", "explanation": "No."}

    assert message_of(stop_reason="refusal", stop_details=details)["refusal"] == "No."
    assert message_of(stop_reason="refusal")["refusal"] is None


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        (None, (0, 0, 0, 0, None)),
        ({"input_tokens": 1, "output_tokens": 2}, (1, 2, 0, 0, None)),
        ({"input_tokens": 1, "cache_read_input_tokens": 10, "cache_creation_input_tokens": 100,
          "output_tokens": 5, "output_tokens_details": {"thinking_tokens": 3}},
         (111, 5, 10, 100, 3)),
        ({"input_tokens": None, "output_tokens": -4, "cache_read_input_tokens": "x",
          "output_tokens_details": {"thinking_tokens": 0}}, (0, 0, 0, 0, None)),
        ({"input_tokens": None, "output_tokens": 0,
          "output_tokens_details": {"thinking_tokens": 0}}, (0, 0, 0, 0, 0)),
    ],
)  # fmt: skip
def test_usage_adds_the_cache_to_the_prompt(usage, expected):
    """OpenAI's prompt includes what Anthropic counts apart."""
    told = answered(usage=usage)["usage"]

    prompt, output, read, written, thought = expected
    assert told["prompt_tokens"] == prompt
    assert told["completion_tokens"] == output
    assert told["total_tokens"] == prompt + output
    assert told["prompt_tokens_details"] == {"cached_tokens": read, "cache_write_tokens": written}
    details = None if thought is None else {"reasoning_tokens": thought}
    assert told.get("completion_tokens_details") == details


@pytest.mark.parametrize(
    "body",
    [
        b"", b"<html>", b"[]", b"{}", b'{"choices":[]}', b'{"content":5}',
        b'{"content":[{"type":"tool_use","input":{"a":"\xff"}}]}',
    ],
)  # fmt: skip
def test_answer_that_is_no_message_is_the_upstreams_fault(body):
    """The error is a 502."""
    with pytest.raises(GatewayError) as caught:
        translate_response(body, CONTEXT)

    assert caught.value.kind is ErrorKind.UPSTREAM_MALFORMED


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("overloaded_error", ErrorKind.OVERLOADED),
        ("authentication_error", ErrorKind.UPSTREAM_AUTH),
        ("billing_error", ErrorKind.UPSTREAM_QUOTA),
        ("api_error", ErrorKind.UPSTREAM_REFUSED),
    ],
)
def test_error_with_status_200_is_an_error(kind, expected):
    """Some servers deny their own status."""
    body = json.dumps({"type": "error", "error": {"type": kind, "message": "sk-secret"}}).encode()

    with pytest.raises(GatewayError) as caught:
        translate_response(body, CONTEXT)

    assert caught.value.kind is expected
    if expected in (ErrorKind.UPSTREAM_AUTH, ErrorKind.UPSTREAM_QUOTA):
        assert "secret" not in caught.value.message


def test_half_emoji_becomes_a_replacement_character():
    """The response stays readable."""
    body = rb'{"type":"message","content":[{"type":"text","text":"a\ud83d"}]}'

    assert json.loads(translate_response(body, CONTEXT))["choices"][0]["message"]["content"] == "a�"


@given(
    st.lists(
        st.sampled_from(["text", "thinking", "tool_use", "redacted_thinking"]).flatmap(
            lambda kind: st.fixed_dictionaries(
                {"type": st.just(kind), "text": WORDS, "thinking": WORDS, "signature": WORDS,
                 "data": WORDS, "id": WORDS, "name": WORDS,
                 "input": st.dictionaries(WORDS, st.integers() | WORDS, max_size=2)}
            )
        ),
        max_size=4,
    )
)  # fmt: skip
def test_words_and_arguments_are_conserved(blocks):
    """Whatever the blocks, their texts and inputs arrive complete and in order."""
    message = message_of(*blocks)

    spoken = [block["text"] for block in blocks if block["type"] == "text"]
    thought = [block["thinking"] for block in blocks if block["type"] == "thinking"]
    inputs = [block["input"] for block in blocks if block["type"] == "tool_use"]
    assert (message["content"] or "") == "".join(spoken)
    assert message.get("reasoning_content", "") == "\n\n".join(filter(None, thought))
    found = [json.loads(call["function"]["arguments"]) for call in message.get("tool_calls", ())]
    assert found == inputs


@given(st.binary(max_size=80))
def test_any_bytes_are_the_upstreams_fault(body):
    """Nothing but a gateway error comes out."""
    with pytest.raises(GatewayError):
        translate_response(body, CONTEXT)


def test_error_under_a_success_status_is_classified_by_its_message():
    """Its type alone would blame the request."""
    error = {"type": "invalid_request_error", "message": "insufficient balance"}
    body = json.dumps({"type": "error", "error": error}).encode()

    with pytest.raises(GatewayError) as caught:
        translate_response(body, CONTEXT)

    assert caught.value.kind is ErrorKind.UPSTREAM_QUOTA
