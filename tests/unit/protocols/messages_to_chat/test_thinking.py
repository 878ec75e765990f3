"""Rules of thinking, effort and structured output, Anthropic Messages to OpenAI."""

from __future__ import annotations

import json

import pytest

from tests.support.messages_to_chat import sent, translate


@pytest.mark.parametrize(
    ("dialect", "caps", "fields", "expected"),
    [
        ("openai", {}, {"output_config": {"effort": "xhigh"}}, {"reasoning_effort": "xhigh"}),
        ("openai", {"efforts": ["low", "high"]}, {"output_config": {"effort": "max"}},
         {"reasoning_effort": "high"}),
        ("openai", {"efforts": ["none", "medium"]}, {"output_config": {"effort": "low"}},
         {"reasoning_effort": "medium"}),
        ("gemini", {}, {"thinking": {"type": "disabled"}}, {"reasoning_effort": "minimal"}),
        ("openai", {}, {"thinking": {"type": "enabled", "budget_tokens": 4096}},
         {"reasoning_effort": "low"}),
        ("openai", {}, {"thinking": {"type": "enabled", "budget_tokens": 16385}},
         {"reasoning_effort": "high"}),
        ("openai", {}, {"thinking": {"type": "between_tools"}}, {"reasoning_effort": "low"}),
        ("openai", {}, {"thinking": {"type": "adaptive", "display": "omitted"}}, {}),
        ("openai", {}, {"thinking": {"type": "enabled", "budget_tokens": 9},
                        "output_config": {"effort": "high"}}, {"reasoning_effort": "high"}),
        ("deepseek", {}, {"output_config": {"effort": "medium"}},
         {"thinking": {"type": "enabled"}, "reasoning_effort": "high"}),
        ("deepseek", {}, {"output_config": {"effort": "max"}},
         {"thinking": {"type": "enabled"}, "reasoning_effort": "max"}),
        ("moonshot", {}, {"output_config": {"effort": "low"}}, {"thinking": {"type": "enabled"}}),
        ("moonshot", {}, {"thinking": {"type": "disabled"}}, {"thinking": {"type": "disabled"}}),
        ("moonshot", {"efforts": ["low", "high", "max"]}, {"thinking": {"type": "disabled"}},
         {"reasoning_effort": "low"}),
        ("minimax", {}, {"output_config": {"effort": "low"}}, {"thinking": {"type": "adaptive"}}),
        ("minimax", {}, {"thinking": {"type": "disabled"}}, {"thinking": {"type": "disabled"}}),
        ("vllm", {}, {"thinking": {"type": "disabled"}},
         {"chat_template_kwargs": {"enable_thinking": False}}),
        ("vllm", {}, {"output_config": {"effort": "high"}},
         {"chat_template_kwargs": {"enable_thinking": True}}),
    ],
)  # fmt: skip
def test_thinking_is_asked_for_in_the_dialects_way(dialect, caps, fields, expected):
    """
    Off wins over an effort, an effort over a budget; adaptive alone asks for nothing.

    Where it cannot be switched off, that is named.
    """
    answer = translate(fields, dialect, **caps)
    body = json.loads(answer.body)
    names = ("thinking", "reasoning_effort", "chat_template_kwargs")

    assert {name: body[name] for name in names if name in body} == expected
    off = fields.get("thinking") == {"type": "disabled"}
    stays_on = off and expected.get("reasoning_effort", "none") != "none"
    assert answer.dropped == (("thinking",) if stays_on else ())


def test_thinking_is_listed_where_it_cannot_be_asked_for():
    """A dialect without any switch drops it."""
    assert translate({"output_config": {"effort": "high"}}).dropped == ("thinking",)
    assert translate({"thinking": {"type": "disabled"}}).dropped == ("thinking",)
    assert translate({"thinking": {"type": "adaptive"}}).dropped == ()


OPEN_SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}}
CLOSED_SCHEMA = {
    "type": "object",
    "properties": {"a": {"anyOf": [{"type": "null"}, {"type": "string"}]}},
    "required": ["a"],
    "additionalProperties": False,
}


@pytest.mark.parametrize(
    ("schema", "strict"),
    [
        (OPEN_SCHEMA, False),
        (CLOSED_SCHEMA, True),
        (CLOSED_SCHEMA | {"required": []}, False),
        (CLOSED_SCHEMA | {"$defs": {"x": OPEN_SCHEMA}}, False),
        ({"type": "array", "items": CLOSED_SCHEMA}, True),
    ],
)
@pytest.mark.parametrize("field", ["output_config", "output_format"])
def test_json_schema_is_strict_only_if_closed(schema, strict, field):
    """The schema is never changed; strict says whether OpenAI's condition holds."""
    wanted = {"type": "json_schema", "schema": schema}
    fields = {field: wanted if field == "output_format" else {"format": wanted}}

    assert sent(fields)["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "response", "schema": schema, "strict": strict},
    }


def test_json_schema_becomes_a_sentence_where_only_json_is_known():
    """The schema is the last paragraph of the system prompt."""
    wanted = {"type": "json_schema", "schema": {"type": "object"}}
    sentence = (
        'Respond only with a JSON object that conforms to this JSON Schema:\n{"type":"object"}'
    )

    body = sent({"output_config": {"format": wanted}, "system": "S"}, "deepseek")

    assert body["response_format"] == {"type": "json_object"}
    assert body["messages"][0]["content"] == f"S\n\n{sentence}"
    instructed = sent({"output_config": {"format": wanted}}, structured="instruction")
    assert "response_format" not in instructed
    assert instructed["messages"][0] == {"role": "system", "content": sentence}


def test_json_schema_is_listed_where_it_is_not_supported():
    """Without support it is dropped."""
    wanted = {"type": "json_schema", "schema": {}}

    assert translate({"output_config": {"format": wanted}}, "minimax").dropped == (
        "output_config.format",
    )


@pytest.mark.parametrize("dialect", ["deepseek", "moonshot"])
@pytest.mark.parametrize(
    ("thinking", "dropped"),
    [
        (None, ("thinking",)),
        ({"type": "disabled"}, ()),
        ({"type": "enabled", "budget_tokens": 9000}, ("thinking",)),
    ],
)
def test_a_forced_tool_switches_thinking_off_where_both_are_refused(dialect, thinking, dropped):
    """These upstreams think unless they are asked not to."""
    tool = {"name": "f", "input_schema": {"type": "object"}}
    fields = {"tools": [tool], "tool_choice": {"type": "tool", "name": "f"}, "thinking": thinking}

    made = translate(fields, dialect)

    assert json.loads(made.body)["thinking"] == {"type": "disabled"}
    assert made.dropped == dropped
