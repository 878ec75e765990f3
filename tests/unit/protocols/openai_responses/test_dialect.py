"""Chat requests of Responses calls, fitted to upstreams by the rules for Messages requests."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.protocols.openai_responses.dialect import fit_chat
from gateway.protocols.openai_responses.request import translate_responses_request
from gateway.protocols.translate.capabilities import capabilities

SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}}
CALL = {"type": "function_call", "call_id": "c1", "name": "get", "arguments": "{}"}
OUTPUT = {"type": "function_call_output", "call_id": "c1", "output": "x"}
TOOLS = [{"type": "function", "name": "get", "parameters": SCHEMA, "strict": True}]


def fitted(dialect: str, **members: Any) -> tuple[dict[str, Any], tuple[str, ...]]:
    request = json.dumps({"model": "m", "input": "Hi", **members}).encode()
    chat: dict[str, Any] = json.loads(translate_responses_request(request).body)
    dropped = fit_chat(chat, capabilities(dialect, {}))
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


def test_forced_tool_switches_thinking_off_at_deepseek() -> None:
    chat, dropped = fitted(
        "deepseek", tools=TOOLS, tool_choice="required", reasoning={"effort": "high"}
    )

    assert chat["thinking"] == {"type": "disabled"}
    assert "reasoning_effort" not in chat
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

    assert dropped == ("input_image", "input_file", "text.verbosity", "service_tier")
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
