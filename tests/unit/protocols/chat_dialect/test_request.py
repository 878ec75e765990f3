"""Chat requests of Responses calls, fitted to upstreams by the rules for Messages requests."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.protocols.openai_responses.request import translate_responses_request
from gateway.protocols.openai_responses.response import translate_responses_response
from gateway.protocols.translate.capabilities import capabilities
from gateway.protocols.translate.chat_dialect.request import fit_chat
from gateway.protocols.translate.stream import TranslationRoute
from tests.support.responses_streams import context

SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}}
CALL = {"type": "function_call", "call_id": "c1", "name": "get", "arguments": "{}"}
OUTPUT = {"type": "function_call_output", "call_id": "c1", "output": "x"}
TOOLS = [{"type": "function", "name": "get", "parameters": SCHEMA, "strict": True}]


def fitted(
    dialect: str,
    *,
    caps: dict[str, Any] | None = None,
    max_output: int | None = None,
    **members: Any,
) -> tuple[dict[str, Any], tuple[str, ...]]:
    request = json.dumps({"model": "m", "input": "Hi", **members}).encode()
    chat: dict[str, Any] = json.loads(translate_responses_request(request).body)
    dropped = fit_chat(chat, TranslationRoute("up", capabilities(dialect, caps or {}), max_output))
    return chat, dropped


def test_geminis_calls_carry_a_signature() -> None:
    chat, _ = fitted("gemini", tools=TOOLS, input=[CALL, OUTPUT])

    google = chat["messages"][0]["tool_calls"][0]["extra_content"]["google"]
    assert google == {"thought_signature": "skip_thought_signature_validator"}


@pytest.mark.parametrize(
    ("dialect", "reasoning"), [("deepseek", " "), ("moonshot", " "), ("generic", None)]
)
def test_call_without_reasoning_gets_the_dialects_filler(
    dialect: str, reasoning: str | None
) -> None:
    chat, _ = fitted(dialect, tools=TOOLS, input=[CALL, OUTPUT])

    assert chat["messages"][0].get("reasoning_content") == reasoning


@pytest.mark.parametrize(
    ("effort", "sent"),
    [
        ("xhigh", {"thinking": {"type": "enabled"}, "reasoning_effort": "high"}),
        ("none", {"thinking": {"type": "disabled"}}),
    ],
)
def test_effort_is_asked_for_in_the_dialects_way(effort: str, sent: dict[str, Any]) -> None:
    chat, dropped = fitted("deepseek", reasoning={"effort": effort})

    assert {name: chat.get(name) for name in sent} == sent
    assert dropped == ()


@pytest.mark.parametrize(
    ("reasoning", "named"),
    [({"effort": "high"}, True), ({}, True), ({"effort": "none"}, False)],
)
def test_forced_tool_switches_thinking_off_at_deepseek(
    reasoning: dict[str, str], named: bool
) -> None:
    """It thinks by default, so that this is named even where the client asks for nothing."""
    chat, dropped = fitted("deepseek", tools=TOOLS, tool_choice="required", reasoning=reasoning)

    assert chat["thinking"] == {"type": "disabled"}
    assert "reasoning_effort" not in chat
    assert dropped == (("tools.strict", "reasoning") if named else ("tools.strict",))


@pytest.mark.parametrize("dialect", ["gemini", "xai", "groq"])
def test_thinking_that_cannot_be_switched_off_is_named(dialect: str) -> None:
    """The lowest effort is asked for instead."""
    chat, dropped = fitted(dialect, reasoning={"effort": "none"})

    assert chat["reasoning_effort"] in ("minimal", "low")
    assert dropped == ("reasoning",)


def test_what_deepseek_refuses_is_left_out_and_named() -> None:
    image = {"type": "input_image", "image_url": "data:image/png;base64,AA=="}
    document = {"type": "input_file", "file_data": "data:application/pdf;base64,AA=="}
    text = {"type": "input_text", "text": "Hi"}
    form = {"type": "json_schema", "name": "r", "schema": SCHEMA}

    chat, dropped = fitted(
        "deepseek",
        input=[{"role": "user", "content": [text, image, document]}],
        text={"verbosity": "low", "format": form},
        service_tier="priority",
        tools=TOOLS,
    )

    assert dropped == (
        "input_image", "input_file", "tools.strict", "text.verbosity", "service_tier"
    )  # fmt: skip
    assert chat["response_format"] == {"type": "json_object"}
    assert chat["messages"][0]["role"] == "system"
    assert json.dumps(SCHEMA, separators=(",", ":")) in chat["messages"][0]["content"]
    assert [part["type"] for part in chat["messages"][1]["content"]] == ["text"] * 3
    assert "strict" not in chat["tools"][0]["function"]


def test_openai_gets_everything() -> None:
    form = {"type": "json_schema", "name": "r", "schema": SCHEMA}
    chat, dropped = fitted(
        "openai",
        text={"verbosity": "low", "format": form},
        service_tier="flex",
        reasoning={"effort": "xhigh"},
        tools=TOOLS,
    )

    assert dropped == ()
    assert (chat["verbosity"], chat["service_tier"]) == ("low", "flex")
    assert chat["reasoning_effort"] == "xhigh"
    assert chat["response_format"]["json_schema"]["schema"] == SCHEMA
    assert chat["tools"][0]["function"]["strict"] is True


def test_moonshots_schemas_are_plain() -> None:
    parameters = {
        "$defs": {"v": {"type": "string"}},
        "type": "object",
        "properties": {
            "a": {"$ref": "#/$defs/v", "type": "string", "description": "x"},
            "b": {"type": "string", "anyOf": [{"type": "string"}, {"type": "null"}]},
            "type": {"type": "string", "default": {"$ref": "kept", "type": 1}},
        },
    }
    tools = [{"type": "function", "name": "g", "parameters": parameters}]

    chat, dropped = fitted("moonshot", tools=tools)

    assert dropped == ()
    assert chat["tools"][0]["function"]["parameters"] == {
        "$defs": {"v": {"type": "string"}},
        "type": "object",
        "properties": {
            "a": {"$ref": "#/$defs/v"},
            "b": {"anyOf": [{"type": "string"}, {"type": "null"}]},
            "type": {"type": "string", "default": {"$ref": "kept", "type": 1}},
        },
    }


@pytest.mark.parametrize(
    ("dialect", "asked", "max_output", "sent"),
    [
        ("openai", 1, None, {"max_completion_tokens": 16}),
        ("deepseek", 90_000, 8_000, {"max_tokens": 8_000}),
        ("generic", None, 8_000, {}),
    ],
)
def test_output_limit_is_within_what_the_upstream_takes(
    dialect: str, asked: int | None, max_output: int | None, sent: dict[str, int]
) -> None:
    chat, _ = fitted(dialect, max_output=max_output, max_output_tokens=asked)

    assert {name: value for name, value in chat.items() if name.startswith("max")} == sent


@pytest.mark.parametrize(
    ("dialect", "sent", "named"),
    [("openai", {}, ("temperature", "top_p")), ("generic", {"temperature": 0.5, "top_p": 1}, ())],
)
def test_sampling_goes_only_where_it_is_accepted(
    dialect: str, sent: dict[str, float], named: tuple[str, ...]
) -> None:
    chat, dropped = fitted(dialect, temperature=0.5, top_p=1)

    assert {name: chat[name] for name in ("temperature", "top_p") if name in chat} == sent
    assert dropped == named


def test_extra_members_of_the_dialect_are_sent() -> None:
    chat, _ = fitted("minimax")

    assert chat["reasoning_split"] is True


@pytest.mark.parametrize(
    ("dialect", "call_id", "sent"),
    [
        ("openai", "x" * 41, "call_"),
        ("openai", "x" * 40, "x" * 40),
        ("mistral", "call_1", None),
        ("mistral", "abcDEF123", "abcDEF123"),
    ],
)
def test_call_ids_are_those_that_the_upstream_takes(
    dialect: str, call_id: str, sent: str | None
) -> None:
    call, output = {**CALL, "call_id": call_id}, {**OUTPUT, "call_id": call_id}

    chat, _ = fitted(dialect, tools=TOOLS, input=[call, output])

    made = chat["messages"][0]["tool_calls"][0]["id"]
    assert chat["messages"][1]["tool_call_id"] == made
    if sent is None:
        assert (len(made), made.isalnum()) == (9, True)
    else:
        assert made.startswith(sent)
        assert len(made) <= 40


@pytest.mark.parametrize(
    ("dialect", "field"),
    [("xai", "user"), ("openai", "safety_identifier"), ("deepseek", None)],
)
@pytest.mark.parametrize("given", ["user", "safety_identifier"])
def test_end_users_id_has_the_upstreams_name(given: str, dialect: str, field: str | None) -> None:
    members: dict[str, Any] = {given: "u"}

    chat, _ = fitted(dialect, **members)

    found = {name: chat[name] for name in ("user", "safety_identifier") if name in chat}
    assert found == ({} if field is None else {field: "u"})


def test_later_developer_messages_are_reminders_where_templates_want_them_first() -> None:
    items = [
        {"role": "developer", "content": "first"},
        {"role": "user", "content": "Hi"},
        {"role": "developer", "content": "later"},
    ]

    chat, _ = fitted("mistral", instructions="rules", input=items)

    assert [(message["role"], message["content"]) for message in chat["messages"]] == [
        ("system", "rules"),
        ("system", "first"),
        ("user", "Hi"),
        ("user", "<system-reminder>\nlater\n</system-reminder>"),
    ]


def test_geminis_own_signatures_come_back_with_their_calls() -> None:
    """They are in the reasoning items before the calls."""
    calls = [
        {
            "index": index,
            "id": f"c{index}",
            "type": "function",
            "function": {"name": "get", "arguments": "{}"},
            "extra_content": {"google": {"thought_signature": f"S{index}"}},
        }
        for index in range(2)
    ]
    choice = {"index": 0, "message": {"tool_calls": calls}, "finish_reason": "tool_calls"}
    answer = json.dumps({"id": "r", "choices": [choice]}).encode()
    output = json.loads(translate_responses_response(answer, context()))["output"]
    results = [{**OUTPUT, "call_id": f"c{index}"} for index in range(2)]

    chat, _ = fitted("gemini", tools=TOOLS, input=[*output, *results])

    assert [item["type"] for item in output] == ["reasoning", "function_call"] * 2
    sent = chat["messages"][0]["tool_calls"]
    assert [call["extra_content"]["google"]["thought_signature"] for call in sent] == ["S0", "S1"]
    assert "reasoning_details" not in chat["messages"][0]


@pytest.mark.parametrize(
    ("dialect", "field"),
    [("deepseek", "reasoning_content"), ("groq", "reasoning"), ("gemini", None), ("openai", None)],
)
def test_old_reasoning_is_where_the_dialect_wants_it(dialect: str, field: str | None) -> None:
    thought = {"type": "reasoning", "summary": [{"type": "summary_text", "text": "why"}]}
    said = {"role": "assistant", "content": "b"}

    chat, _ = fitted(dialect, input=[{"role": "user", "content": "a"}, thought, said])

    expected = {"role": "assistant", "content": "b"} | ({field: "why"} if field else {})
    assert chat["messages"][1] == expected


@pytest.mark.parametrize(("dialect", "key"), [("openai", "k"), ("moonshot", "k"), ("vllm", None)])
def test_cache_key_is_sent_to_dialects_that_know_it(dialect: str, key: str | None) -> None:
    chat, _ = fitted(dialect, prompt_cache_key="k")

    assert chat.get("prompt_cache_key") == key


def test_unknown_effort_is_dropped() -> None:
    chat, dropped = fitted("openai", reasoning={"effort": "tiny"})

    assert "reasoning_effort" not in chat
    assert dropped == ("reasoning",)


def test_file_by_url_is_left_out_of_chat_completions_and_named() -> None:
    """They take data only."""
    document = {"type": "input_file", "file_url": "https://example.com/a.pdf"}

    chat, dropped = fitted("openai", input=[{"role": "user", "content": [document]}])

    assert "example.com" not in json.dumps(chat)
    assert dropped == ("input_file",)
