"""Tools and items of the Responses API that the client runs itself, both ways."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.protocols.openai_responses.request import ChatRequest, translate_responses_request
from gateway.protocols.openai_responses.response import translate_responses_response

FUNCTION = {"type": "function", "name": "spawn", "parameters": {"type": "object"}}
SPACE = {"type": "namespace", "name": "agents", "tools": [FUNCTION]}
CALLS = {
    "local_shell": ("local_shell_call", "action", {"type": "exec", "env": {}, "command": ["ls"]}),
    "shell": ("shell_call", "action", {"commands": ["ls"]}),
    "apply_patch": ("apply_patch_call", "operation", {"type": "delete_file", "path": "a"}),
    "tool_search": ("tool_search_call", "arguments", {"query": "events"}),
    "computer": ("computer_call", "action", {"type": "click", "x": 1, "y": 2, "button": "left"}),
}


def translated(**members: Any) -> ChatRequest:
    request = {"model": "m", "input": "Hi"} | members
    return translate_responses_request(json.dumps(request).encode())


def chat(**members: Any) -> dict[str, Any]:
    made: dict[str, Any] = json.loads(translated(**members).body)
    return made


def names(made: dict[str, Any]) -> list[str]:
    return [tool["function"]["name"] for tool in made.get("tools", ())]


def answered(request: ChatRequest, name: str, arguments: str) -> dict[str, Any]:
    """Return the output item of a response that calls a function."""
    call = {"id": "c1", "type": "function", "function": {"name": name, "arguments": arguments}}
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    body = {"id": "x", "choices": [{"message": message, "finish_reason": "tool_calls"}]}
    made = translate_responses_response(json.dumps(body).encode(), request.context)
    (item,) = json.loads(made)["output"]
    return dict(item)


@pytest.mark.parametrize("name", CALLS)
def test_call_comes_back_as_the_item_of_its_tool(name: str) -> None:
    kind, member, value = CALLS[name]
    request = translated(tools=[{"type": name, "execution": "client"}])

    item = answered(request, name, json.dumps(value))

    assert names(json.loads(request.body)) == [name]
    assert (item["type"], item["call_id"], item["status"]) == (kind, "c1", "completed")
    assert item[member] == value
    assert "name" not in item


@pytest.mark.parametrize("name", CALLS)
def test_call_and_output_in_a_history_are_those_of_a_function(name: str) -> None:
    kind, member, value = CALLS[name]
    output = "tool_search_output" if name == "tool_search" else f"{kind}_output"
    result: dict[str, Any] = {"tools": []} if name == "tool_search" else {"output": "done"}
    items = [
        {"type": kind, "call_id": "c1", member: value},
        {"role": "user", "content": "meanwhile"},
        {"type": output, "call_id": "c1", **result},
    ]

    made = chat(input=items)["messages"]

    assert [message["role"] for message in made] == ["assistant", "tool", "user"]
    function = made[0]["tool_calls"][0]["function"]
    assert (function["name"], json.loads(function["arguments"])) == (name, value)
    assert made[1]["tool_call_id"] == "c1"
    assert made[1]["content"] == ("[]" if name == "tool_search" else "done")


def test_search_of_the_provider_is_left_out_and_named() -> None:
    request = translated(tools=[{"type": "tool_search"}])

    assert names(json.loads(request.body)) == []
    assert request.dropped == ("tools.tool_search",)


@pytest.mark.parametrize("kind", ["additional_tools", "tool_search_output"])
def test_tools_of_an_item_can_be_called(kind: str) -> None:
    """Codex sends its tools in the input, and those that a search found."""
    call = {"type": "tool_search_call", "call_id": "c1", "arguments": {"query": "x"}}
    item = {"type": kind, "call_id": "c1", "tools": [SPACE]}
    user = {"role": "user", "content": "go"}
    request = translated(input=[call, item, user] if "search" in kind else [item, user])

    item = answered(request, "agents__spawn", "{}")

    assert names(json.loads(request.body)) == ["agents__spawn"]
    assert (item["name"], item["namespace"]) == ("spawn", "agents")


@pytest.mark.parametrize(("tools", "name"), [([SPACE], "agents__spawn"), ([], "spawn")])
def test_namespace_is_put_before_a_name_only_where_the_tools_have_it(
    tools: list[Any], name: str
) -> None:
    call = {"type": "function_call", "call_id": "c", "name": "spawn", "namespace": "agents"}

    made = chat(tools=tools, input=[call, {"role": "user", "content": "go"}])

    assert made["messages"][0]["tool_calls"][0]["function"]["name"] == name


def test_message_of_an_agent_is_a_users() -> None:
    """Behind a model that is not OpenAI's its encrypted part is plain text."""
    parts = [
        {"type": "input_text", "text": "Payload:"},
        {"type": "encrypted_content", "encrypted_content": "List the files."},
    ]

    made = chat(input=[{"type": "agent_message", "author": "/root", "content": parts}])

    assert made["messages"] == [{"role": "user", "content": "Payload:\n\nList the files."}]


def test_content_that_only_openai_can_read_is_left_out_and_named() -> None:
    parts = [
        {"type": "input_text", "text": "a"},
        {"type": "encrypted_content", "encrypted_content": "gAAAAABo"},
    ]

    request = translated(input=[{"role": "user", "content": parts}])

    assert json.loads(request.body)["messages"] == [{"role": "user", "content": "a"}]
    assert request.dropped == ("input.encrypted_content",)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ('{"input":"*** Begin"}', "*** Begin"),
        ('{"patch":"*** Begin"}', "*** Begin"),
        ('{"input":"a","more":"b"}', "a"),
        ('{"a":"x","b":"y"}', '{"a":"x","b":"y"}'),
        ('{"a":1}', '{"a":1}'),
        ("*** Begin", "*** Begin"),
    ],
)
def test_text_of_a_custom_tool_may_have_any_name(arguments: str, text: str) -> None:
    request = translated(tools=[{"type": "custom", "name": "apply_patch"}])

    assert answered(request, "apply_patch", arguments)["input"] == text
