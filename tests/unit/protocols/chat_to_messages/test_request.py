"""OpenAI chat completion requests as Anthropic Messages requests: the top level."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import pytest
from openai.types.chat import completion_create_params

from gateway.errors import ErrorKind, GatewayError
from gateway.protocols.translate.capabilities import capabilities
from gateway.protocols.translate.chat_to_messages.request import FIELDS, translate_request
from gateway.protocols.translate.stream import TranslationRoute

PAGE = Path(__file__).parents[4] / "docs" / "translation-chat.md"
ROW = re.compile(r"^\| `(\w+)` \| ([a-z ]+) \|", re.MULTILINE)
WEATHER = {"type": "function", "function": {"name": "w", "parameters": {"type": "object"}}}


def translated(dialect="anthropic", caps=None, max_output=None, **fields):
    """Return body and dropped fields for a request with one user message and `fields`."""
    route = TranslationRoute("up", capabilities(dialect, caps or {}), max_output)
    request = {"model": "mine", "messages": [{"role": "user", "content": "Hi"}], **fields}
    answer = translate_request(json.dumps(request).encode(), route)
    return json.loads(answer.body), answer.dropped


def refusal(**fields):
    """Return the error a request with `fields` is refused with."""
    with pytest.raises(GatewayError) as caught:
        translated(**fields)
    assert caught.value.surface.openai_status == 400
    return caught.value


def test_field_table_of_the_documentation_is_the_codes():
    """The reader's table names every field with the outcome that the code gives it."""
    assert dict(ROW.findall(PAGE.read_text())) == dict(FIELDS)


def test_field_table_names_every_field_of_the_official_sdk():
    """No field of the public API is left to chance."""
    base = completion_create_params.CompletionCreateParamsBase
    known = set(base.__annotations__) | {"stream"}

    assert known <= set(FIELDS)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, 32000),
        ({"max_tokens": 10}, 10),
        ({"max_completion_tokens": 20, "max_tokens": 10}, 20),
        ({"max_tokens": 99_999}, 64000),
        ({"max_completion_tokens": None, "max_tokens": 7}, 7),
    ],
)
def test_output_limit_is_the_first_one_set_and_at_most_the_models(fields, expected):
    """Without one the default is sent, since Anthropic requires it."""
    body, _ = translated(max_output=64000, **fields)

    assert body["max_tokens"] == expected


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_output_limit_below_one_is_refused_by_name(name):
    """An impossible limit is an error of the client."""
    assert refusal(**{name: 0}).param == name


@pytest.mark.parametrize(
    ("stop", "expected"),
    [("END", ["END"]), (["a", " ", "", "b"], ["a", "b"]), ([" \n"], None), (None, None)],
)
def test_stop_strings_of_white_space_are_left_out(stop, expected):
    """Anthropic refuses them."""
    assert translated(stop=stop)[0].get("stop_sequences") == expected


@pytest.mark.parametrize(
    ("fields", "expected", "dropped"),
    [
        ({"temperature": 0.50}, {"temperature": 0.5}, ()),
        ({"temperature": 2}, {"temperature": 1}, ()),
        ({"temperature": -1}, {"temperature": 0}, ()),
        ({"top_p": 0.9}, {"top_p": 0.9}, ()),
        ({"temperature": 1, "top_p": 1}, {"temperature": 1}, ("top_p",)),
        ({"temperature": 1, "thinking": {"type": "enabled", "budget_tokens": 2000}}, {},
         ("temperature",)),
        ({"temperature": 1, "thinking": {"type": "disabled"}}, {"temperature": 1}, ()),
    ],
)  # fmt: skip
def test_sampling_is_clamped_and_given_up_while_thinking(fields, expected, dropped):
    """Anthropic's range ends at 1, and it takes one of the two at most."""
    body, left_out = translated("anthropic-legacy", **fields)

    assert {name: body[name] for name in ("temperature", "top_p") if name in body} == expected
    assert left_out == dropped


def test_temperature_keeps_its_spelling():
    """A number in range is copied as it was written."""
    route = TranslationRoute("up", capabilities("anthropic-legacy", {}))
    body = b'{"model":"m","messages":[{"role":"user","content":"x"}],"temperature":1.0}'

    assert b'"temperature":1.0' in translate_request(body, route).body


@pytest.mark.parametrize("value", ["warm", True, {}])
def test_temperature_that_is_no_number_is_refused(value):
    """The error names the field."""
    assert refusal(temperature=value).param == "temperature"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"n": 2}, "n"),
        ({"logprobs": True}, "logprobs"),
        ({"functions": [{"name": "f"}]}, "functions"),
        ({"function_call": "auto"}, "function_call"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"audio": {"voice": "a"}}, "audio"),
        ({"web_search_options": {}}, "web_search_options"),
        ({"tools": [{"type": "web_search"}]}, "tools"),
        ({"tools": [WEATHER], "tool_choice": {"type": "custom", "custom": {"name": "x"}}},
         "tool_choice"),
        ({"response_format": {"type": "grammar"}}, "response_format"),
    ],
)  # fmt: skip
def test_feature_without_counterpart_is_refused_by_name(fields, param):
    """What would silently be missing from the response is a 400 before any upstream call."""
    error = refusal(**fields)

    assert error.kind is ErrorKind.UNSUPPORTED
    assert error.param == param


@pytest.mark.parametrize(
    "fields",
    [
        {"n": 1}, {"logprobs": False}, {"functions": []}, {"function_call": None},
        {"modalities": ["text"]}, {"audio": None}, {"web_search_options": None},
        {"store": True, "metadata": {"a": "b"}, "prompt_cache_key": "k", "unheard_of": [1]},
        {"seed": 0, "presence_penalty": 0.0, "logit_bias": {}, "verbosity": None},
    ],
)  # fmt: skip
def test_field_without_effect_vanishes_silently(fields):
    """Nothing is sent and nothing is listed."""
    body, dropped = translated(**fields)

    assert set(body) == {"model", "max_tokens", "messages"}
    assert dropped == ()


def test_fields_that_change_the_answer_are_listed_when_dropped():
    """Each is named once, in a fixed order."""
    fields = {
        "verbosity": "low", "seed": 1, "logit_bias": {"1": 2}, "presence_penalty": 0.5,
        "frequency_penalty": -1, "prediction": {"type": "content"}, "moderation": {"model": "m"},
        "top_logprobs": 2,
    }  # fmt: skip

    assert translated(**fields)[1] == (
        "top_logprobs", "logit_bias", "seed", "presence_penalty", "frequency_penalty",
        "prediction", "verbosity", "moderation",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "user_id"),
    [
        ({"user": "u1"}, "u1"),
        ({"user": "u1", "safety_identifier": "s1"}, "s1"),
        ({"user": "x" * 300}, "x" * 256),
        ({"user": "1234567"}, "1234567"),
        ({"user": "jo@example.com"}, hashlib.sha256(b"jo@example.com").hexdigest()),
        ({"user": "+49 (170) 1234567"}, hashlib.sha256(b"+49 (170) 1234567").hexdigest()),
        ({"user": "555-123-4567"}, hashlib.sha256(b"555-123-4567").hexdigest()),
    ],
)
def test_user_becomes_an_id_that_identifies_nobody(fields, user_id):
    """Anthropic forbids e-mail addresses and telephone numbers."""
    assert translated(**fields)[0]["metadata"] == {"user_id": user_id}


@pytest.mark.parametrize(
    ("tier", "expected", "dropped"),
    [
        ("default", "standard_only", ()),
        ("auto", None, ()),
        ("flex", None, ("service_tier",)),
        ("priority", None, ("service_tier",)),
    ],
)
def test_service_tier_is_carried_where_it_has_a_counterpart(tier, expected, dropped):
    """Faster and cheaper tiers of OpenAI have none."""
    body, left_out = translated(service_tier=tier)

    assert body.get("service_tier") == expected
    assert left_out == dropped


@pytest.mark.parametrize(
    ("caps", "effort", "thinking", "sent"),
    [
        ({}, "none", {"type": "disabled"}, None),
        ({}, "minimal", {"type": "adaptive", "display": "summarized"}, "low"),
        ({}, "max", {"type": "adaptive", "display": "summarized"}, "max"),
        ({"efforts": ["low", "medium", "high"]}, "xhigh",
         {"type": "adaptive", "display": "summarized"}, "high"),
        ({"can_disable_thinking": False}, "none", None, "low"),
    ],
)  # fmt: skip
def test_effort_on_an_adaptive_model_asks_for_visible_thoughts(caps, effort, thinking, sent):
    """The effort is the nearest the model knows; off becomes low where it must, and is named."""
    body, dropped = translated(caps=caps, reasoning_effort=effort)

    assert body.get("thinking") == thinking
    assert body.get("output_config", {}).get("effort") == sent
    assert dropped == (("reasoning_effort",) if caps.get("can_disable_thinking") is False else ())


@pytest.mark.parametrize(
    ("fields", "budget"),
    [
        ({"reasoning_effort": "none"}, None),
        ({"reasoning_effort": "minimal"}, 1024),
        ({"reasoning_effort": "low"}, 4096),
        ({"reasoning_effort": "medium"}, 10240),
        ({"reasoning_effort": "high"}, 24576),
        ({"reasoning_effort": "max", "max_tokens": 64000}, 32000),
        ({"reasoning_effort": "max", "max_tokens": 2049}, 1025),
    ],
)
def test_effort_on_a_budget_model_becomes_tokens_that_leave_room(fields, budget):
    """1024 tokens stay for the response."""
    body, dropped = translated("anthropic-legacy", **fields)

    expected = None if budget is None else {"type": "enabled", "budget_tokens": budget}
    assert body.get("thinking") == expected
    assert dropped == ()


@pytest.mark.parametrize(
    "fields",
    [
        {"max_tokens": 2048},
        {"tools": [WEATHER], "tool_choice": "required"},
        {"tools": [WEATHER], "tool_choice": {"type": "function", "function": {"name": "w"}}},
    ],
)
def test_effort_on_a_budget_model_is_dropped_where_thinking_is_refused(fields):
    """Small limits and forced tools exclude a budget."""
    body, dropped = translated("anthropic-legacy", reasoning_effort="low", **fields)

    assert "thinking" not in body
    assert dropped == ("reasoning_effort",)


def test_unknown_effort_is_dropped():
    """A level of the future must not break the call."""
    assert translated(reasoning_effort="ultra")[1] == ("reasoning_effort",)


def test_thinking_of_the_client_wins_over_effort():
    """It is sent as it is."""
    thinking = {"type": "enabled", "budget_tokens": 5000, "new": 1.0}

    body, _ = translated("anthropic-legacy", thinking=thinking, reasoning_effort="high")

    assert body["thinking"] == thinking
    assert "output_config" not in body


def test_thinking_off_becomes_low_effort_where_it_cannot_be_switched_off():
    """An agent that always sends `disabled` works with every model."""
    body, _ = translated(caps={"can_disable_thinking": False}, thinking={"type": "disabled"})

    assert "thinking" not in body
    assert body["output_config"] == {"effort": "low"}


def test_thinking_that_is_no_object_is_refused():
    """The error names the field."""
    assert refusal(thinking="on").param == "thinking"


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ("auto", {"type": "auto"}),
        ("none", {"type": "none"}),
        ("required", {"type": "any"}),
        ({"type": "function", "function": {"name": "w"}}, {"type": "tool", "name": "w"}),
        ({"type": "any"}, {"type": "any"}),
        ({"type": "tool", "name": "w"}, {"type": "tool", "name": "w"}),
        (None, None),
    ],
)
def test_tool_choice_is_carried(choice, expected):
    """Each kind has its counterpart."""
    assert translated(tools=[WEATHER], tool_choice=choice)[0].get("tool_choice") == expected


def test_forced_tool_choice_becomes_auto_where_the_model_refuses_it():
    """The change is listed."""
    body, dropped = translated(
        caps={"forced_tool_use": False}, tools=[WEATHER], tool_choice="required"
    )

    assert body["tool_choice"] == {"type": "auto"}
    assert dropped == ("tool_choice",)


def test_tool_choice_without_tools_is_left_out():
    """Anthropic refuses a choice among nothing; empty tools are none."""
    body, dropped = translated(tools=[], tool_choice="auto", parallel_tool_calls=False)

    assert set(body) == {"model", "max_tokens", "messages"}
    assert dropped == ()


def test_allowed_tools_filter_the_list_and_bring_their_mode():
    """Only the named tools are offered."""
    other = {"type": "function", "function": {"name": "other"}}
    allowed = {"mode": "required", "tools": [{"type": "function", "function": {"name": "w"}}]}

    body, _ = translated(
        tools=[WEATHER, other],
        tool_choice={"type": "allowed_tools", "allowed_tools": allowed},
    )

    assert [tool["name"] for tool in body["tools"]] == ["w"]
    assert body["tool_choice"] == {"type": "any"}


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (None, {"type": "auto", "disable_parallel_tool_use": True}),
        ("required", {"type": "any", "disable_parallel_tool_use": True}),
        ("none", {"type": "none"}),
    ],
)
def test_parallel_calls_are_switched_off_on_the_choice(choice, expected):
    """Anthropic has no field of its own for it."""
    body, _ = translated(tools=[WEATHER], tool_choice=choice, parallel_tool_calls=False)

    assert body["tool_choice"] == expected


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        (b'{"type":"object","x":1.0,"big":12345678901234567890123}', None),
        (b'{ "properties":{} }', b'{"type":"object", "properties":{} }'),
        (b"{}", b'{"type":"object"}'),
        (b"null", b'{"type":"object","properties":{}}'),
    ],
)
def test_tool_schema_keeps_its_bytes(parameters, expected):
    """Only a missing `type` at the root is added."""
    route = TranslationRoute("up", capabilities("anthropic", {}))
    body = (
        b'{"model":"m","messages":[{"role":"user","content":"x"}],"tools":[{"type":"function",'
        b'"function":{"name":"f","parameters":%b}}]}' % parameters
    )

    sent = translate_request(body, route).body

    assert b'"input_schema":%b}' % (expected or parameters) in sent


def test_tool_without_parameters_gets_an_empty_schema():
    """Anthropic requires one."""
    body, _ = translated(tools=[{"type": "function", "function": {"name": "f"}}])

    assert body["tools"] == [{"name": "f", "input_schema": {"type": "object", "properties": {}}}]


@pytest.mark.parametrize(
    "function", [None, {"name": "f", "parameters": [1]}, {"name": "f", "parameters": "x"}]
)
def test_broken_tool_is_refused(function):
    """The error names the tool."""
    error = refusal(tools=[{"type": "function", "function": function}])

    assert error.param is not None
    assert error.param.startswith("tools.0.function")


def test_tool_keeps_strict_and_cache_marker():
    """Both have the same meaning on the other wire."""
    marker = {"type": "ephemeral"}
    tool = {"type": "function", "function": {"name": "f", "strict": True}, "cache_control": marker}

    kept = translated(tools=[tool])[0]["tools"][0]
    without = translated(caps={"strict_tools": False}, tools=[tool])[0]["tools"][0]

    assert kept["strict"] is True
    assert kept["cache_control"] == marker
    assert "strict" not in without


def test_long_tool_name_is_shortened_everywhere_and_remembered():
    """Definition, choice and history use the same short name; the way back is in the context."""
    name = "mcp.server/" + "x" * 80
    request = {
        "model": "mine",
        "messages": [
            {"role": "user", "content": "x"},
            {"role": "assistant",
             "tool_calls": [{"id": "c", "function": {"name": name, "arguments": "{}"}}]},
            {"role": "tool", "tool_call_id": "c", "content": "1"},
        ],
        "tools": [{"type": "function", "function": {"name": name}}],
        "tool_choice": {"type": "function", "function": {"name": name}},
    }  # fmt: skip
    route = TranslationRoute("up", capabilities("anthropic", {}))

    answer = translate_request(json.dumps(request).encode(), route)

    body = json.loads(answer.body)
    short = body["tools"][0]["name"]
    assert len(short) == 64
    assert body["tool_choice"]["name"] == short
    assert body["messages"][1]["content"][0]["name"] == short
    assert answer.context.tool_names == {short: name}


def test_automatic_caching_is_asked_for_only_where_no_marker_is():
    """The operator's switch never overrules the client's own markers."""
    marked = {"role": "user", "content": [
        {"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}}]}  # fmt: skip
    caps = {"auto_cache": True}

    assert translated(caps=caps)[0]["cache_control"] == {"type": "ephemeral"}
    assert "cache_control" not in translated(caps=caps, messages=[marked])[0]
    assert "cache_control" not in translated()[0]
    assert translated(cache_control={"type": "ephemeral", "ttl": "1h"})[0]["cache_control"] == {
        "type": "ephemeral", "ttl": "1h",
    }  # fmt: skip


def test_context_of_the_answer_is_taken_from_the_request():
    """The client's model name, streaming and `include_usage` are passed on to the response."""
    route = TranslationRoute("up", capabilities("anthropic", {}))
    request = {
        "model": "capio/mine", "messages": [{"role": "user", "content": "x"}],
        "stream": True, "stream_options": {"include_usage": True},
    }  # fmt: skip

    answer = translate_request(json.dumps(request).encode(), route)

    assert json.loads(answer.body)["stream"] is True
    assert (answer.context.model, answer.context.stream) == ("capio/mine", True)
    assert answer.context.include_usage


def test_nesting_of_200_levels_works():
    """Deep schemas are legal."""
    deep: dict[str, object] = {"type": "string"}
    for _ in range(65):
        deep = {"type": "object", "properties": {"x": deep}}
    schema = {"type": "json_schema", "json_schema": {"name": "n", "schema": deep}}

    body, _ = translated(response_format=schema)

    assert body["output_config"]["format"]["type"] == "json_schema"


def test_parallel_calls_that_the_upstream_cannot_switch_off_are_dropped():
    """The client learns of it."""
    body, dropped = translated(
        caps={"parallel_tool_calls": False}, tools=[WEATHER], parallel_tool_calls=False
    )

    assert "tool_choice" not in body
    assert dropped == ("parallel_tool_calls",)


@pytest.mark.parametrize("marked", [True, False])
def test_automatic_caching_is_left_to_clients_that_mark_a_tool(marked):
    """A marker anywhere shows that the client caches by itself."""
    tool = WEATHER | ({"cache_control": {"type": "ephemeral"}} if marked else {})

    body, _ = translated(caps={"auto_cache": True}, tools=[tool])

    assert ("cache_control" in body) is not marked
