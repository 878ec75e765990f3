"""The few edits of relayed chat requests."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.core.model import Wire
from gateway.protocols.http.request.fields import decode_call
from gateway.protocols.translate.capabilities import capabilities
from gateway.protocols.translate.chat_dialect.relayed import AdaptedChat, adapt_chat

OFF = {"type": "disabled"}
FUNCTION = {"type": "function", "function": {"name": "f"}}


def adapted(fields: dict[str, Any] | bytes, dialect: str = "deepseek") -> AdaptedChat:
    """Return the adapted request."""
    if isinstance(fields, bytes):
        body = fields
    else:
        body = json.dumps({"model": "m", "messages": []} | fields).encode()
    return adapt_chat(body, decode_call(body, Wire.OPENAI), capabilities(dialect, {}))


def rest(result: AdaptedChat) -> dict[str, Any]:
    """Return the request without model and messages."""
    body = json.loads(result.body)
    del body["model"], body["messages"]
    return body


@pytest.mark.parametrize(
    "choice",
    ["required", "any", FUNCTION, {"type": "allowed_tools", "allowed_tools": {"mode": "required"}}],
)
def test_a_forced_tool_switches_thinking_off(choice):
    """DeepSeek thinks by default, and refuses a forced tool while it does."""
    result = adapted({"tool_choice": choice})

    assert rest(result)["thinking"] == OFF
    assert result.dropped == ("thinking",)


@pytest.mark.parametrize(
    "choice",
    ["auto", "none", None, {"type": "allowed_tools", "allowed_tools": {"mode": "auto"}}],
)
def test_a_free_choice_leaves_the_request_alone(choice):
    """Nothing is copied."""
    body = json.dumps({"model": "m", "messages": [], "tool_choice": choice}).encode()

    assert adapted(body).body is body


def test_thinking_that_was_asked_for_is_named_as_dropped():
    """The call wins, since the client's program depends on it."""
    result = adapted(
        {"tool_choice": "required", "thinking": {"type": "enabled"}, "reasoning_effort": "high"}
    )

    assert rest(result) == {"tool_choice": "required", "thinking": OFF}
    assert result.dropped == ("thinking",)


def test_thinking_that_is_off_stays_as_it_is():
    """The client did it itself."""
    body = b'{"model":"m","messages":[],"tool_choice":"required","thinking":{ "type":"disabled"}}'

    assert adapted(body) == (body, ())


@pytest.mark.parametrize("dialect", ["generic", "openai", "vllm"])
def test_other_dialects_take_both(dialect):
    """Only what an upstream refuses is changed."""
    body = b'{"model":"m","messages":[],"tool_choice":"required","reasoning_effort":"high"}'

    assert adapted(body, dialect).body is body


def test_tool_choice_in_other_spellings():
    """All other bytes are kept."""
    body = b'{"model":"m", "tool_choice":%b , "x":1.0}'

    assert adapted(body % b'"any"', "generic").body == body % b'"required"'
    assert adapted(body % b'{"function":{"name":"f"}}', "generic").body == (
        body % b'{"type":"function","function":{"name":"f"}}'
    )


@pytest.mark.parametrize(
    ("fields", "sent"),
    [
        ({"reasoning": {"effort": "low"}}, {"reasoning_effort": "low"}),
        ({"reasoning": {"max_tokens": 2000}}, {"reasoning_effort": "low"}),
        ({"reasoning": {"enabled": True}}, {"reasoning_effort": "medium"}),
        ({"reasoning": {"enabled": False}}, {"reasoning_effort": "none"}),
        ({"enable_thinking": False}, {"reasoning_effort": "none"}),
        ({"enable_thinking": True}, {"reasoning_effort": "medium"}),
        ({"chat_template_kwargs": {"enable_thinking": False}}, {"reasoning_effort": "none"}),
        ({"thinking": {"type": "disabled"}}, {"reasoning_effort": "none"}),
        ({"thinking": {"type": "enabled", "budget_tokens": 20000}}, {"reasoning_effort": "high"}),
    ],
)
def test_reasoning_fields_of_other_dialects_become_the_upstreams(fields, sent):
    """OpenAI returns 400 to a field that it does not know."""
    result = adapted(fields, "openai")

    assert (rest(result), result.dropped) == (sent, ())


def test_qwens_switch_becomes_deepseeks():
    """Each dialect has its own."""
    assert rest(adapted({"enable_thinking": False})) == {"thinking": OFF}


def test_the_upstreams_own_field_wins():
    """The other one is named as dropped."""
    result = adapted({"reasoning_effort": "low", "enable_thinking": True}, "openai")

    assert rest(result) == {"reasoning_effort": "low"}
    assert result.dropped == ("enable_thinking",)


@pytest.mark.parametrize("fields", [{"reasoning": {"x": 1}}, {"chat_template_kwargs": {"a": 1}}])
def test_what_has_no_counterpart_is_named_as_dropped(fields):
    """It is left out, since the upstream would refuse it."""
    result = adapted(fields, "openai")

    assert (rest(result), result.dropped) == ({}, tuple(fields))


def test_an_unknown_dialect_gets_all_fields():
    """Nothing is known of what it accepts."""
    body = b'{"model":"m","messages":[],"reasoning":{"effort":"low"},"enable_thinking":true}'

    assert adapted(body, "generic").body is body


def test_history_is_fitted_and_everything_else_kept():
    """Only the value of `messages` is replaced."""
    call = {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    turn = [
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "user", "content": "x"},
        {"role": "tool", "tool_call_id": "a", "content": "y"},
    ]
    body = json.dumps({"model": "m", "messages": turn, "seed": 1.50}, indent=1).encode()

    made = adapted(body, "generic").body

    assert json.loads(made)["messages"] == [turn[0], turn[2], turn[1]]
    assert made.startswith(b'{\n "model": "m",')
    assert made.endswith(b' "seed": 1.5\n}')


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ({"$ref": "#/x", "title": "T"}, {"$ref": "#/x"}),
        ({"type": "object", "anyOf": [{"type": "object"}]}, {"anyOf": [{"type": "object"}]}),
    ],
)
def test_either_keyword_makes_moonshots_schemas_plain(
    given: dict[str, Any], sent: dict[str, Any]
) -> None:
    """A schema has one of them or the other."""
    function = {"name": "f", "parameters": given}

    result = adapted({"tools": [{"type": "function", "function": function}]}, "moonshot")

    assert rest(result)["tools"][0]["function"]["parameters"] == sent


def test_request_without_tools_may_mention_the_keywords() -> None:
    """Only schemas are changed."""
    body = b'{"model":"m","messages":[{"role":"user","content":["$ref"]}]}'

    assert adapted(body, "moonshot") == (body, ())


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ({"type": "any"}, "required"),
        ({"type": "auto"}, "auto"),
        ({"type": "none"}, "none"),
        ({"type": "tool", "name": "f"}, FUNCTION),
    ],
)
def test_tool_choice_in_anthropics_form_is_converted(given, sent):
    """Clients send it to models of Anthropic's behind a chat endpoint."""
    result = adapted({"tool_choice": given}, "openai")

    assert rest(result) == {"tool_choice": sent}
    assert result.dropped == ()


@pytest.mark.parametrize(
    ("dialect", "is_dropped"),
    [("openai", True), ("groq", True), ("gemini", True), ("openrouter", False), ("generic", False)],
)
def test_top_k_is_dropped_where_the_dialect_does_not_have_it(dialect, is_dropped):
    """OpenAI refuses it; an unknown server gets what the client sends."""
    result = adapted({"top_k": 5}, dialect)

    assert ("top_k" in rest(result)) is not is_dropped
    assert result.dropped == (("top_k",) if is_dropped else ())
