"""Items of tools that a provider runs, of computers, and compactions, in a history."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.errors import ErrorKind, GatewayError
from gateway.protocols.openai_responses.request import ChatRequest, translate_responses_request
from gateway.protocols.openai_responses.response import translate_responses_response

SHOT = {"type": "computer_screenshot", "image_url": "data:image/png;base64,AA=="}
FIND = {"type": "function", "name": "find", "parameters": {"type": "object"}}
SPACE = {"type": "namespace", "name": "ns", "tools": [FIND]}


def translated(*items: dict[str, Any], **members: Any) -> ChatRequest:
    request = {"model": "m", "input": list(items) or "Hi"} | members
    return translate_responses_request(json.dumps(request).encode())


def messages(*items: dict[str, Any], **members: Any) -> list[dict[str, Any]]:
    made: list[dict[str, Any]] = json.loads(translated(*items, **members).body)["messages"]
    return made


def refusal(*items: dict[str, Any], **members: Any) -> GatewayError:
    with pytest.raises(GatewayError) as caught:
        translated(*items, **members)
    assert caught.value.kind is ErrorKind.UNSUPPORTED
    return caught.value


@pytest.mark.parametrize(
    ("action", "arguments"),
    [
        ({"action": {"type": "screenshot"}}, {"type": "screenshot"}),
        ({"actions": [{"type": "wait"}]}, {"actions": [{"type": "wait"}]}),
    ],
)
def test_screenshot_follows_the_call_of_a_computer(
    action: dict[str, Any], arguments: dict[str, Any]
) -> None:
    made = messages(
        {"type": "computer_call", "call_id": "c1", "status": "completed", **action},
        {"type": "computer_call_output", "call_id": "c1", "output": SHOT},
    )

    function = made[0]["tool_calls"][0]["function"]
    assert (function["name"], json.loads(function["arguments"])) == ("computer", arguments)
    assert (made[1]["role"], made[1]["tool_call_id"]) == ("tool", "c1")
    assert made[2]["content"][1] == {"type": "image_url", "image_url": {"url": SHOT["image_url"]}}


@pytest.mark.parametrize("kind", ["computer_use_preview", "computer"])
def test_computer_is_a_function_of_its_actions(kind: str) -> None:
    tool = {"type": kind, "display_width": 800, "display_height": 600, "environment": "linux"}
    request = translated(tools=[tool])
    call = {"id": "c1", "function": {"name": "computer", "arguments": '{"type":"wait"}'}}
    choice = {"index": 0, "message": {"tool_calls": [call]}, "finish_reason": "tool_calls"}
    answer = json.dumps({"id": "x", "choices": [choice]}).encode()

    (item,) = json.loads(translate_responses_response(answer, request.context))["output"]
    (function,) = (tool["function"] for tool in json.loads(request.body)["tools"])

    assert function["name"] == "computer"
    assert "800x600 pixels (linux)" in function["description"]
    assert (item["type"], item["call_id"], item["action"]) == (
        "computer_call",
        "c1",
        {"type": "wait"},
    )
    assert item["pending_safety_checks"] == []


@pytest.mark.parametrize(
    ("result", "text"), [({"output": "5"}, "5"), ({"error": "gone", "output": None}, "gone")]
)
def test_call_of_an_mcp_server_is_a_call_with_its_result(result: dict[str, Any], text: str) -> None:
    call = {"type": "mcp_call", "id": "mcp_1", "name": "sum", "server_label": "calc"}

    made = messages({**call, "arguments": '{"a":1}', **result}, {"role": "user", "content": "?"})

    function = made[0]["tool_calls"][0]["function"]
    assert function == {"name": "calc__sum", "arguments": '{"a":1}'}
    assert made[1] == {"role": "tool", "tool_call_id": "mcp_1", "content": text}
    assert made[2]["role"] == "user"


def test_server_of_the_provider_is_refused_with_a_remedy() -> None:
    assert "send its tools as functions" in refusal(tools=[{"type": "mcp"}]).message


@pytest.mark.parametrize("kind", ["compaction", "compaction_summary"])
@pytest.mark.parametrize("content", ["gAAAAAxyz", None])
def test_compaction_that_nobody_else_can_read_is_refused(kind: str, content: str | None) -> None:
    """Without it the model would not know what the conversation is about."""
    error = refusal({"type": kind, "id": "cmp_1", "encrypted_content": content})

    assert error.param == "input.0"
    assert "send the conversation itself" in error.message


def test_readable_compaction_is_a_message() -> None:
    made = messages({"type": "compaction", "encrypted_content": "We agreed on A."})

    assert made == [{"role": "user", "content": "We agreed on A."}]


def test_namespaces_count_from_where_they_are_loaded() -> None:
    """What stands before stays as it was sent, or the prefix of the prompt would change."""
    call = {"type": "function_call", "name": "find", "namespace": "ns", "arguments": "{}"}
    output = {"type": "function_call_output", "output": "x"}

    made = messages(
        {**call, "call_id": "c1"},
        {**output, "call_id": "c1"},
        {"type": "additional_tools", "tools": [SPACE]},
        {**call, "call_id": "c2"},
        {**output, "call_id": "c2"},
    )

    called = [message["tool_calls"][0]["function"]["name"] for message in made[::2]]
    assert called == ["find", "ns__find"]
