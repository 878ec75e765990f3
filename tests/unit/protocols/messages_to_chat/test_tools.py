"""Rules of tools and tool choice, Anthropic Messages to OpenAI Chat Completions."""

from __future__ import annotations

import json

import pytest

from tests.support.messages_to_chat import USER, sent, translate, use


def test_tool_input_survives_byte_for_byte_but_for_white_space():
    """Big integers and floats keep their digits."""
    body = (
        b'{"model":"m","max_tokens":9,"messages":[{"role":"assistant","content":[{"type":"tool_use",'
        b'"id":"c","name":"f","input":{ "n": 12345678901234567890123, "f": 1.0 }}]},'
        b'{"role":"user","content":"x"}]}'
    )

    call = sent(body)["messages"][0]["tool_calls"][0]

    assert call["function"]["arguments"] == '{"n":12345678901234567890123,"f":1.0}'


def test_tool_schema_bytes_are_untouched():
    """Key order, white space and numbers of a schema are the client's."""
    schema = b'{ "type":"object", "$schema":"s","x":1.0,"properties":{"b":{},"a":{}} }'
    body = (
        b'{"model":"m","max_tokens":9,"tools":[{"name":"f","input_schema":%b}],'
        b'"messages":[{"role":"user","content":"x"}]}' % schema
    )

    assert b'"parameters":' + schema in translate(body).body


def test_long_tool_name_is_shortened_everywhere_and_remembered():
    """Definitions, choice and history agree, and the response can be restored."""
    long = "mcp__server.with.dots__" + "x" * 60
    answer = translate(
        {
            "tools": [{"name": long, "input_schema": {}}],
            "tool_choice": {"type": "tool", "name": long},
            "messages": [USER, {"role": "assistant", "content": [use(name=long)]}, USER],
        },
        "openai",
    )
    body = json.loads(answer.body)
    short = body["tools"][0]["function"]["name"]

    assert len(short) == 64
    assert short.startswith("mcp__server_with_dots__xxx")
    assert body["tool_choice"]["function"]["name"] == short
    assert body["messages"][1]["tool_calls"][0]["function"]["name"] == short
    assert answer.context.tool_names == {short: long}
    assert answer.context.history_ids == {"c1"}


def test_tools_empty_omit_the_choice_too():
    """Upstreams refuse an empty list and a choice without tools."""
    body = sent({"tools": [], "tool_choice": {"type": "auto"}})

    assert "tools" not in body
    assert "tool_choice" not in body


def test_tool_options_without_counterpart_vanish():
    """Strictness passes where it is known; the rest has no effect."""
    tool = {
        "type": "custom",
        "name": "f",
        "strict": True,
        "input_examples": [{}],
        "defer_loading": True,
        "allowed_callers": ["direct"],
    }

    assert sent({"tools": [tool]})["tools"] == [
        {
            "type": "function",
            "function": {"name": "f", "parameters": {"type": "object", "properties": {}}},
        }
    ]
    assert sent({"tools": [tool]}, "openai")["tools"][0]["function"]["strict"] is True


@pytest.mark.parametrize(
    ("choice", "dialect", "expected", "dropped"),
    [
        ({"type": "none"}, "generic", {"tool_choice": "none"}, ()),
        ({"type": "any"}, "minimax", {"tool_choice": "auto"}, ("tool_choice",)),
        (
            {"type": "auto", "disable_parallel_tool_use": True},
            "minimax",
            {"tool_choice": "auto"},
            ("disable_parallel_tool_use",),
        ),
        (
            {"type": "auto", "disable_parallel_tool_use": True},
            "generic",
            {"tool_choice": "auto", "parallel_tool_calls": False},
            (),
        ),
        (
            {"type": "none", "disable_parallel_tool_use": True},
            "generic",
            {"tool_choice": "none"},
            (),
        ),
    ],
)
def test_tool_choice_is_mapped_or_falls_back_to_auto(choice, dialect, expected, dropped):
    """A kind the dialect lacks is listed and becomes auto."""
    answer = translate({"tools": [{"name": "f"}], "tool_choice": choice}, dialect)
    body = json.loads(answer.body)

    chosen = {name: body[name] for name in ("tool_choice", "parallel_tool_calls") if name in body}
    assert chosen == expected
    assert answer.dropped == dropped


@pytest.mark.parametrize(
    ("given", "arguments"),
    [
        ('{"x": 1}', '{"x": 1}'),
        ('"{\\"x\\": 1}"', '{"x": 1}'),
        ("null", "{}"),
        ('""', "{}"),
        ('"null"', "{}"),
        ('"x"', '{"INVALID_JSON":"x"}'),
        ("[1]", '{"INVALID_JSON":"[1]"}'),
    ],
)
def test_arguments_are_always_an_object(given, arguments):
    """Clients that resume a broken stream write the input as a string."""
    body = (
        '{"model":"m","max_tokens":1,"messages":[{"role":"assistant","content":[{"type":"tool_use",'
        '"id":"c","name":"f","input":%s}]},{"role":"user","content":"Hi"}]}'
    )

    call = sent((body % given).encode())["messages"][0]["tool_calls"][0]

    assert json.loads(call["function"]["arguments"]) == json.loads(arguments)
