"""Rules of the whole response's translation, OpenAI-wire to Anthropic."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.errors import GatewayError
from gateway.protocols.translate.capabilities import capabilities
from gateway.protocols.translate.messages_to_chat.response import translate_response
from gateway.protocols.translate.stream import ResponseContext


def translated(
    message: dict[str, Any],
    finish: str | None = "stop",
    dialect: str = "generic",
    usage: dict[str, Any] | None = None,
    **context: Any,
) -> dict[str, Any]:
    """Return the Anthropic message for an upstream's message."""
    body = {"id": "chatcmpl-9", "choices": [{"message": message, "finish_reason": finish}]}
    answer = translate_response(
        json.dumps(body | ({"usage": usage} if usage else {})).encode(),
        ResponseContext(model="client-model", **context),
        capabilities(dialect, {}),
    )
    return json.loads(answer)


def call(name: str = "f", arguments: str | None = "{}", **more: Any) -> dict[str, Any]:
    """Return a tool call."""
    return {"type": "function", "function": {"name": name, "arguments": arguments}} | more


def test_content_comes_in_the_order_thought_text_refusal_calls():
    """Whatever the order of the members."""
    message = {
        "tool_calls": [call(id="c1")],
        "refusal": "no",
        "content": "text",
        "reasoning_content": "thought",
        "reasoning": "the same thought",
    }

    content = translated(message)["content"]

    assert content == [
        {"type": "thinking", "thinking": "thought", "signature": "gw1."},
        {"type": "text", "text": "text"},
        {"type": "text", "text": "no"},
        {"type": "tool_use", "id": "c1", "name": "f", "input": {}},
    ]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("<think>\nwhy\n</think>\n\nanswer", ["why", "answer"]),
        ("<mm:think>why</mm:think>answer", ["why", "answer"]),
        ("<think></think>answer", ["answer"]),
        ("<think>never closed", ["never closed"]),
        ("a <think>b</think>", ["a <think>b</think>"]),
        (" <thin", [" <thin"]),
        ("why\n</think>\n\nanswer", ["why", "answer"]),
        ("why</mm:think>answer", ["why", "answer"]),
        ("why</think>answer </think>", ["why", "answer </think>"]),
        ("</think>\n\nanswer", ["answer"]),
        ("write `</think>` there", ["write `</think>` there"]),
    ],
)
def test_think_tags_are_cut_at_the_start_only(content, expected):
    """A tag that is no tag is text, unchanged."""
    blocks = translated({"content": content})["content"]

    assert [block.get("thinking") or block.get("text") for block in blocks] == expected


def test_think_tags_are_text_where_the_dialect_has_none():
    """OpenAI's models do not write them."""
    content = "<think>x</think>y"

    assert translated({"content": content}, dialect="openai")["content"][0]["text"] == content


@pytest.mark.parametrize(
    ("finish", "calls", "stop_reason"),
    [
        ("stop", False, "end_turn"),
        (None, False, "end_turn"),
        ("odd", False, "end_turn"),
        ("stop", True, "tool_use"),
        (None, True, "tool_use"),
        ("tool_calls", True, "tool_use"),
        ("function_call", True, "tool_use"),
        ("tool_calls", False, "end_turn"),
        ("length", True, "max_tokens"),
        ("length", False, "max_tokens"),
        ("content_filter", True, "refusal"),
    ],
)
def test_stop_reason_follows_finish_reason_and_calls(finish, calls, stop_reason):
    """Several upstreams finish with stop although tools were called."""
    message = {"content": "x"} | ({"tool_calls": [call(id="c")]} if calls else {})

    assert translated(message, finish)["stop_reason"] == stop_reason


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("", "{}"),
        (None, "{}"),
        ('{"n":12345678901234567890123,"f":1.0}', '{"n":12345678901234567890123,"f":1.0}'),
        ('"{\\"a\\":1}"', '{"a":1}'),
        ("[1]", '{"INVALID_JSON":"[1]"}'),
        ('{"a":', '{"INVALID_JSON":"{\\"a\\":"}'),
    ],
)
def test_arguments_become_an_object(arguments, expected):
    """An empty object would run the tool with defaults, so nonsense is wrapped, not dropped."""
    body = json.dumps(
        {"choices": [{"message": {"tool_calls": [call(arguments=arguments, id="c")]}}]}
    ).encode()

    answer = translate_response(body, ResponseContext(model="m"), capabilities("generic", {}))

    assert b'"input":' + expected.encode() + b"}]" in answer


def test_ids_are_made_legal_unique_and_never_missing():
    """Kimi's ids are encoded, repeated ones numbered, missing ones made from the message's."""
    calls = [call(id="functions.f:0"), call(id="call_0"), call(), call(id="call_0")]

    blocks = translated({"tool_calls": calls}, history_ids=frozenset({"call_0"}))["content"]

    assert [block["id"] for block in blocks] == [
        "gwid_ZnVuY3Rpb25zLmY6MA",
        "call_0_2",
        "toolu_chatcmpl-9_2",
        "call_0_3",
    ]


def test_gemini_signature_becomes_an_empty_thought_before_its_call():
    """The client sends it back with the history."""
    signed = call(id="c", extra_content={"google": {"thought_signature": "SIG=="}})

    assert translated({"tool_calls": [signed]})["content"][0] == {
        "type": "thinking",
        "thinking": "",
        "signature": "gw1.eyJnIjoiU0lHPT0ifQ",
    }


def test_legacy_function_call_is_a_call():
    """The field before tool_calls."""
    content = translated({"function_call": {"name": "f", "arguments": "{}"}})["content"]

    assert content[0]["id"] == "toolu_chatcmpl-9_0"


def test_usage_is_disjoint():
    """OpenAI's prompt tokens include what was read from and written to the cache."""
    usage = {
        "prompt_tokens": 100,
        "completion_tokens": 7,
        "total_tokens": 107,
        "prompt_tokens_details": {"cached_tokens": 60, "cache_write_tokens": 30},
        "completion_tokens_details": {"reasoning_tokens": 3},
    }

    assert translated({"content": "x"}, usage=usage)["usage"] == {
        "input_tokens": 10,
        "cache_creation_input_tokens": 30,
        "cache_read_input_tokens": 60,
        "output_tokens": 7,
        "output_tokens_details": {"thinking_tokens": 3},
    }


def test_answer_without_usage_or_id_has_zeros_and_a_name():
    """Clients need numbers."""
    body = b'{"choices":[{"message":{"content":"x"}}]}'

    answer = json.loads(
        translate_response(body, ResponseContext(model="m"), capabilities("generic", {}))
    )

    assert answer["id"] == "msg_unknown"
    assert answer["usage"] == {
        "input_tokens": 0,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "output_tokens": 0,
    }


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b"{}",
        b'{"choices":[]}',
        b'{"choices":[{"index":0}]}',
        b'{"choices":[{"message":{},"finish_reason":"error"}]}',
        b'{"choices":[{"message":5}]}',
    ],
)
def test_answer_that_is_none_is_an_api_error(body):
    """502: the upstream is at fault, and another one may be tried."""
    with pytest.raises(GatewayError) as caught:
        translate_response(body, ResponseContext(model="m"), capabilities("generic", {}))

    assert caught.value.surface.anthropic_status == 502
    assert caught.value.surface.anthropic_type == "api_error"


def test_half_an_emoji_in_an_answer_is_replaced():
    """What cannot be sent as UTF-8 becomes U+FFFD."""
    assert translated({"content": "a\ud83d"})["content"][0]["text"] == "a\ufffd"
