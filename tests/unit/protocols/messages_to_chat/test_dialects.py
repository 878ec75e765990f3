"""What the request of one client becomes in each provider's dialect."""

from __future__ import annotations

import json
import re

import pytest

from tests.support.messages_to_chat import USER, sent, translate, use

TOOL = {"name": "f", "input_schema": {"type": "object"}}
SCHEMA = {"type": "object", "properties": {}}
THINKING = {"type": "enabled", "budget_tokens": 3000}


@pytest.mark.parametrize(
    ("dialect", "on", "off"),
    [
        ("azure", {"reasoning_effort": "low"}, {"reasoning_effort": "none"}),
        ("xai", {"reasoning_effort": "low"}, {"reasoning_effort": "low"}),
        ("zai", {"thinking": {"type": "enabled"}}, {"thinking": {"type": "disabled"}}),
        ("qwen", {"enable_thinking": True}, {"enable_thinking": False}),
        ("mistral", {"reasoning_effort": "high"}, {"reasoning_effort": "none"}),
        ("groq", {"reasoning_effort": "low"}, {"reasoning_effort": "low"}),
        ("openrouter", {"reasoning": {"effort": "low"}}, {"reasoning": {"effort": "none"}}),
    ],
)
def test_thinking_is_switched_in_the_dialects_way(dialect, on, off):
    """A small budget is the lowest effort; off is off, or as low as it can be."""
    plain = sent({}, dialect)

    assert sent({"thinking": THINKING}, dialect) == plain | on
    assert sent({"thinking": {"type": "disabled"}}, dialect) == plain | off


@pytest.mark.parametrize(
    ("dialect", "limit"),
    [
        ("azure", "max_completion_tokens"),
        ("xai", "max_completion_tokens"),
        ("groq", "max_completion_tokens"),
        ("zai", "max_tokens"),
        ("qwen", "max_tokens"),
        ("mistral", "max_tokens"),
        ("openrouter", "max_tokens"),
    ],
)
def test_output_limit_has_the_dialects_name(dialect, limit):
    """Only one of the two is sent."""
    assert {"max_tokens", "max_completion_tokens"} & sent({}, dialect).keys() == {limit}


@pytest.mark.parametrize(
    ("dialect", "choice", "dropped"),
    [
        ("azure", "required", ()),
        ("xai", "required", ()),
        ("zai", "auto", ("tool_choice",)),
        ("qwen", "auto", ("tool_choice",)),
        ("mistral", "required", ()),
        ("groq", "required", ()),
        ("openrouter", "required", ()),
    ],
)
def test_a_forced_tool(dialect, choice, dropped):
    """A choice that the dialect lacks becomes `auto`, and is named."""
    made = translate({"tools": [TOOL], "tool_choice": {"type": "any"}}, dialect)

    assert json.loads(made.body)["tool_choice"] == choice
    assert made.dropped == dropped


def test_qwen_takes_a_named_tool_only_without_thinking():
    """Both together are refused."""
    body = sent({"tools": [TOOL], "tool_choice": {"type": "tool", "name": "f"}}, "qwen")

    assert body["enable_thinking"] is False
    assert body["tool_choice"] == {"type": "function", "function": {"name": "f"}}


@pytest.mark.parametrize(
    ("dialect", "kind"),
    [
        ("azure", "json_schema"),
        ("xai", "json_schema"),
        ("zai", "json_object"),
        ("qwen", "json_object"),
        ("mistral", "json_schema"),
        ("groq", "json_schema"),
        ("openrouter", "json_schema"),
    ],
)
def test_a_response_schema(dialect, kind):
    """Without schemas the model is asked in a sentence, and for JSON."""
    body = sent({"output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}}, dialect)

    assert body["response_format"]["type"] == kind


@pytest.mark.parametrize("dialect", ["zai", "mistral"])
def test_usage_of_a_stream_needs_no_option(dialect):
    """These refuse `stream_options`, and always send the usage."""
    assert "stream_options" not in sent({"stream": True}, dialect)


@pytest.mark.parametrize(
    ("dialect", "field"),
    [("zai", "reasoning_content"), ("qwen", "reasoning_content"), ("groq", "reasoning")],
)
def test_old_reasoning_goes_back(dialect, field):
    """In the field in which the dialect sent it."""
    content = [{"type": "thinking", "thinking": "hm", "signature": "gw1."}, use("c1")]
    history = [USER, {"role": "assistant", "content": content}]

    assert sent({"messages": history}, dialect)["messages"][1][field] == "hm"


def test_mistral_gets_ids_of_nine_characters():
    """The call and its result keep the same one."""
    result = {"type": "tool_result", "tool_use_id": "toolu_01", "content": "r"}
    history = [
        {"role": "assistant", "content": [use("toolu_01")]},
        {"role": "user", "content": [result]},
    ]

    call, answer = sent({"messages": history}, "mistral")["messages"]

    assert re.fullmatch("[A-Za-z0-9]{9}", answer["tool_call_id"])
    assert call["tool_calls"][0]["id"] == answer["tool_call_id"]
