"""Rules of the top-level fields, Anthropic Messages to OpenAI Chat Completions."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.errors import ErrorKind, GatewayError
from gateway.protocols.codec.nesting import TOO_DEEP
from gateway.protocols.translate.messages_to_chat.messages import PREFILL_REFUSED
from tests.support.messages_to_chat import USER, refusal, sent, translate, use


@pytest.mark.parametrize(
    ("asked", "dialect", "expected"),
    [(0, "generic", 1), (1, "openai", 16), (5000, "generic", 4096), (100, "generic", 100)],
)
def test_max_tokens_is_raised_and_clamped(asked, dialect, expected):
    """The limit is raised to the dialect's floor and lowered to the model's maximum."""
    body = sent({"max_tokens": asked}, dialect, max_output=4096)

    assert body.get("max_tokens", body.get("max_completion_tokens")) == expected


def test_max_tokens_limit_of_the_route_wins_over_the_catalogue():
    """A capability overrides the model's limit."""
    assert sent({"max_tokens": 99}, max_output=80, max_output_tokens=50)["max_tokens"] == 50


@pytest.mark.parametrize("field", ["container", "mcp_servers", "compaction", "thread"])
def test_server_side_feature_is_refused_unless_empty(field):
    """What the client relies on is refused; null and empty values are not."""
    assert refusal({field: {"a": 1}}) == f"{field}: not supported by this model"
    empties: tuple[Any, ...] = (None, "", [], {})
    for empty in empties:
        assert field not in sent({field: empty})


@pytest.mark.parametrize(
    "field",
    ["fallbacks", "speed", "diagnostics", "inference_geo", "context_management", "cache_control"],
)
def test_hint_is_dropped_and_listed(field):
    """Hints are left out and listed, null ones silently."""
    answer = translate({field: {"type": "x"}})

    assert answer.dropped == (field,)
    assert field not in json.loads(answer.body)
    assert translate({field: None}).dropped == ()


def test_unknown_member_is_ignored_silently():
    """Members of a later API version have no effect."""
    answer = translate({"safeguards": [{"type": "x"}], "brand_new": 1})

    assert answer.dropped == ()
    assert json.loads(answer.body).keys() == {"model", "messages", "max_tokens"}


def test_sampling_is_passed_byte_for_byte():
    """Numbers keep their spelling."""
    body = (
        b'{"model":"m","max_tokens":9,"temperature":1.0,"top_p":0.50,'
        b'"messages":[{"role":"user","content":"x"}]}'
    )

    assert b'"temperature":1.0,"top_p":0.50' in translate(body).body


def test_sampling_is_dropped_where_the_dialect_refuses_it():
    """Reasoning models refuse temperature, top_p and stop; top_k is vLLM's."""
    fields = {"temperature": 1, "top_p": 0.5, "top_k": 4, "stop_sequences": ["X"]}

    assert translate(fields, "openai").dropped == (
        "temperature",
        "top_p",
        "top_k",
        "stop_sequences",
    )
    assert sent(fields, "vllm")["top_k"] == 4
    assert sent(fields, "vllm")["stop"] == ["X"]


def test_temperature_that_is_no_number_is_refused():
    """The type is checked although the bytes are copied."""
    assert refusal({"temperature": "hot"}) == "temperature: Input should be a valid number"


SESSION = "0fa1e2b3-f291-4c91-9917-96b457950e81"


@pytest.mark.parametrize(
    ("user_id", "header", "key"),
    [
        (f'{{"session_id":"{SESSION}"}}', None, SESSION),
        (f"user_abc_account__session_{SESSION}", None, SESSION),
        (f'{{"session_id":"{SESSION}"}}', "from-header", "from-header"),
        ("plain", None, None),
        ("{}", None, None),
    ],
)
def test_session_becomes_the_cache_key(user_id, header, key):
    """The header wins over the session inside the user id."""
    body = sent({"metadata": {"user_id": user_id}}, "openai", session_id=header)

    assert body.get("prompt_cache_key") == key


def test_user_id_is_hashed_beyond_64_characters():
    """OpenAI's limit; the same user keeps the same id."""
    short, long = "u" * 64, "u" * 65

    assert sent({"metadata": {"user_id": short}}, "openai")["safety_identifier"] == short
    hashed = sent({"metadata": {"user_id": long}}, "openai")["safety_identifier"]
    assert len(hashed) == 64
    assert hashed != short
    assert "metadata" not in sent({"metadata": {"user_id": short}})


def test_service_tier_standard_only_is_default_where_supported():
    """`auto` is the default anyway."""
    assert sent({"service_tier": "standard_only"}, "openai")["service_tier"] == "default"
    assert "service_tier" not in sent({"service_tier": "auto"}, "openai")
    assert "service_tier" not in sent({"service_tier": "standard_only"})


def test_stream_asks_for_usage_unless_the_dialect_does_not_know_how():
    """The final usage is what is billed."""
    assert sent({"stream": True})["stream_options"] == {"include_usage": True}
    assert "stream_options" not in sent({"stream": True}, stream_options=False)
    assert "stream" not in sent({"stream": False})


def test_extra_body_is_merged_last():
    """An operator's members win."""
    assert sent({}, "minimax")["reasoning_split"] is True
    assert sent({}, extra_body={"max_tokens": 7})["max_tokens"] == 7


PREFILLED = {"messages": [USER, {"role": "assistant", "content": "{"}]}


def test_prefill_is_refused_with_the_sentence_clients_know():
    """The default: most models refuse or ignore it."""
    assert refusal(PREFILLED) == PREFILL_REFUSED


def test_prefill_sets_the_dialects_switch():
    """Kimi, DeepSeek's beta and vLLM can continue a message."""
    assert sent(PREFILLED, "moonshot")["messages"][-1]["partial"] is True
    assert sent(PREFILLED, prefill="prefix")["messages"][-1]["prefix"] is True
    assert sent(PREFILLED, "vllm")["continue_final_message"] is True
    assert sent(PREFILLED, "vllm")["add_generation_prompt"] is False


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "The request body is empty; send a JSON object."),
        (b"\xff", "The request body is not valid UTF-8."),
        (b'{"max_tokens":1,"messages":[]}', "model: Field required"),
        (b'{"model":"m","max_tokens":1}', "messages: Field required"),
        (
            b'{"model":"m","max_tokens":-1,"messages":[{"role":"user","content":"x"}]}',
            "max_tokens: Input should be greater than or equal to 0",
        ),
        (
            b'{"model":"m","max_tokens":1,"messages":[{"role":"robot","content":"x"}]}',
            'messages: Unexpected role "robot"',
        ),
        (b'{"model":"m","x":' + b"[" * 5000 + b"]" * 5000 + b"}", TOO_DEEP),
    ],
)
def test_bad_body_is_named(body, message):
    """The message says what to mend."""
    assert refusal(body) == message


def test_nesting_of_200_levels_works():
    """Deep schemas are legal."""
    schema: dict[str, Any] = {}
    for _ in range(200):
        schema = {"type": "object", "properties": {"a": schema}}
    wanted = {"format": {"type": "json_schema", "schema": schema}}

    body = sent({"tools": [{"name": "f", "input_schema": schema}], "output_config": wanted})

    assert body["tools"][0]["function"]["parameters"] == schema


def test_history_of_one_more_turn_begins_with_the_same_bytes():
    """A provider's prefix cache lives from that."""
    turns = [
        USER,
        {"role": "assistant", "content": [{"type": "text", "text": "a"}, use()]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c1", "content": "r"}]},
    ]
    first = translate({"messages": turns, "system": "S"}, "deepseek").body
    more = [*turns, {"role": "assistant", "content": "b"}, USER]
    second = translate({"messages": more, "system": "S"}, "deepseek").body

    shared = first[: first.index(b'"content":"r"')]
    assert second.startswith(shared)


def test_refusal_kind_tells_a_missing_feature_from_a_bad_request():
    """The metric label differs."""
    for fields, kind in (({"container": "x"}, ErrorKind.UNSUPPORTED),
                         ({"messages": []}, ErrorKind.BAD_REQUEST)):  # fmt: skip
        with pytest.raises(GatewayError) as caught:
            translate(fields)
        assert caught.value.kind is kind
