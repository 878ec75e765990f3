"""Tools, reasoning and sampling in the spellings of other providers, as Anthropic takes them."""

from __future__ import annotations

import json

import pytest

from gateway.protocols.translate.capabilities import capabilities
from gateway.protocols.translate.chat_to_messages.request import translate_request
from gateway.protocols.translate.stream import TranslationRoute

WEATHER = {"type": "function", "function": {"name": "w", "parameters": {"type": "object"}}}


def translated(dialect="anthropic", **fields):
    """Return body and dropped fields for a request with one user message and `fields`."""
    route = TranslationRoute("up", capabilities(dialect, {}))
    request = {"model": "mine", "messages": [{"role": "user", "content": "Hi"}], **fields}
    made = translate_request(json.dumps(request).encode(), route)
    return json.loads(made.body), made.dropped


@pytest.mark.parametrize("choice", ["any", {"function": {"name": "w"}}])
def test_tool_choice_in_other_spellings(choice):
    """Clients of several providers write Anthropic's word, or leave the type out."""
    expected = {"type": "any"} if choice == "any" else {"type": "tool", "name": "w"}

    assert translated(tools=[WEATHER], tool_choice=choice)[0]["tool_choice"] == expected


@pytest.mark.parametrize(
    ("parameters", "keeps"),
    [
        ({"type": "object", "properties": {"a": {"type": "string"}}}, False),
        ({"type": "object", "properties": {"a": {}}, "additionalProperties": False}, True),
        (
            {"type": "object", "properties": {"a": {"minimum": 1}}, "additionalProperties": False},
            False,
        ),
        ({"type": "object"}, False),
    ],
)
def test_strict_needs_a_closed_schema(parameters, keeps):
    """Anthropic refuses the whole request otherwise; the schema itself is not changed."""
    function = {"name": "f", "strict": True, "parameters": parameters}

    body, dropped = translated(tools=[{"type": "function", "function": function}])

    assert body["tools"][0].get("strict", False) is keeps
    assert body["tools"][0]["input_schema"] == parameters
    assert dropped == (() if keeps else ("tools.strict",))


@pytest.mark.parametrize(
    ("fields", "effort"),
    [
        ({"reasoning": {"effort": "high"}}, "high"),
        ({"reasoning": {"max_tokens": 1000}}, "low"),
        ({"reasoning": {"enabled": True}}, "medium"),
        ({"enable_thinking": True}, "medium"),
        ({"chat_template_kwargs": {"enable_thinking": True}}, "medium"),
        ({"thinking": {"type": "enabled"}}, "medium"),
        ({"thinking": {"type": "enabled"}, "reasoning_effort": "low"}, "low"),
        ({"thinking": {"type": "enabled", "budget_tokens": 5}}, "low"),
        ({"thinking": {"type": "enabled", "budget_tokens": 99_999}}, "high"),
    ],
)
def test_reasoning_fields_of_other_providers_ask_for_an_effort(fields, effort):
    """Only what Anthropic itself accepts is sent as it is."""
    body, dropped = translated(**fields)

    assert body["output_config"] == {"effort": effort}
    assert body["thinking"] == {"type": "adaptive", "display": "summarized"}
    assert dropped == ()


@pytest.mark.parametrize("fields", [{"reasoning": {"enabled": False}}, {"enable_thinking": False}])
def test_reasoning_switched_off_in_another_spelling(fields):
    """It costs the client tokens otherwise."""
    assert translated(**fields)[0]["thinking"] == {"type": "disabled"}


@pytest.mark.parametrize(
    "fields", [{"reasoning": {"x": 1}}, {"thinking": {"type": "auto"}}, {"reasoning": "high"}]
)
def test_reasoning_that_asks_for_nothing_is_named_as_dropped(fields):
    """The model's default applies."""
    body, dropped = translated(**fields)

    assert ("thinking" in body, dropped) == (False, tuple(fields))


@pytest.mark.parametrize(
    ("dialect", "more", "sent"),
    [
        ("anthropic-legacy", {}, 5),
        ("anthropic-legacy", {"reasoning_effort": "low"}, None),
        ("anthropic", {}, None),
    ],
)
def test_top_k_is_sent_where_the_model_samples(dialect, more, sent):
    """Anthropic refuses it while thinking, and on models without sampling."""
    body, dropped = translated(dialect, top_k=5, **more)

    assert body.get("top_k") == sent
    assert ("top_k" in dropped) is (sent is None)
