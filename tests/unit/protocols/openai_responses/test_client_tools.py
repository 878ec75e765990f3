"""Tools and items of the Responses API that the client runs itself, both ways."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.errors import ErrorKind, GatewayError
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


def test_call_of_a_computer_and_its_screenshot_are_carried() -> None:
    shot = {"type": "computer_screenshot", "image_url": "data:image/png;base64,AAAA"}
    items = [
        {"type": "computer_call", "call_id": "c1", "action": {"type": "wait"}},
        {"type": "computer_call_output", "call_id": "c1", "output": shot},
    ]

    call, result, picture = chat(input=items)["messages"]

    function = call["tool_calls"][0]["function"]
    assert (function["name"], json.loads(function["arguments"])) == ("computer", {"type": "wait"})
    assert result["tool_call_id"] == "c1"
    assert picture["content"][1]["image_url"] == {"url": shot["image_url"]}


@pytest.mark.parametrize(
    ("item", "name", "arguments", "output"),
    [
        (
            {"type": "mcp_call", "server_label": "crm", "name": "find", "arguments": '{"id":1}'}
            | {"output": "Ada"},
            "crm__find",
            {"id": 1},
            "Ada",
        ),
        (
            {"type": "mcp_call", "server_label": "crm", "name": "find", "arguments": "{}"}
            | {"output": None, "error": {"code": 7}},
            "crm__find",
            {},
            '{"code":7}',
        ),
        (
            {"type": "code_interpreter_call", "code": "1+1", "outputs": [{"logs": "2"}]},
            "code_interpreter",
            {"code": "1+1"},
            '[{"logs":"2"}]',
        ),
        (
            {"type": "file_search_call", "queries": ["a"], "results": [{"text": "b"}]},
            "file_search",
            {"queries": ["a"]},
            '[{"text":"b"}]',
        ),
    ],
    ids=["mcp", "mcp-error", "code", "files"],
)
def test_result_of_a_call_by_the_provider_is_kept(
    item: dict[str, Any], name: str, arguments: dict[str, Any], output: str
) -> None:
    """A history from OpenAI's own tools keeps what they found."""
    made = translated(input=[item | {"id": "x1"}, {"role": "assistant", "content": "So."}])

    call, result, words = json.loads(made.body)["messages"]
    function = call["tool_calls"][0]["function"]
    assert (function["name"], json.loads(function["arguments"])) == (name, arguments)
    assert (result["tool_call_id"], result["content"]) == ("x1", output)
    assert words["content"] == "So."
    assert made.dropped == ()


@pytest.mark.parametrize("kind", ["mcp_list_tools", "web_search_call", "file_search_call"])
def test_item_without_a_result_is_left_out_and_named(kind: str) -> None:
    made = translated(input=[{"type": kind, "id": "x1"}, {"role": "user", "content": "Hi"}])

    assert len(json.loads(made.body)["messages"]) == 1
    assert made.dropped == (f"input.{kind}",)


def test_mcp_tool_is_refused_with_a_remedy() -> None:
    """The request is about it: left out, the model would respond without its tools."""
    with pytest.raises(GatewayError) as caught:
        translated(tools=[{"type": "mcp", "server_label": "x"}])

    assert (caught.value.kind, caught.value.param) == (ErrorKind.UNSUPPORTED, "tools")
    assert "send its tools as functions" in caught.value.message


@pytest.mark.parametrize(
    ("members", "dropped"),
    [
        ({"context_management": [{"type": "compaction"}]}, ("context_management",)),
        ({"truncation": "auto", "max_tool_calls": 3}, ("max_tool_calls", "truncation")),
        ({"truncation": "disabled", "context_management": None}, ()),
    ],
)
def test_member_without_effect_is_named(members: dict[str, Any], dropped: tuple[str, ...]) -> None:
    assert translated(**members).dropped == dropped


def test_display_without_a_height_is_not_described() -> None:
    """Half a size says nothing."""
    tool = {"type": "computer", "display_width": 1024}
    body = {"model": "m", "input": "Hi", "tools": [tool]}

    chat = json.loads(translate_responses_request(json.dumps(body).encode()).body)

    assert chat["tools"][0]["function"]["description"] == "Do one action on the user's computer."


def test_ids_of_calls_that_the_client_ran_are_taken() -> None:
    """New calls must not repeat them."""
    items = [
        {"type": "local_shell_call", "call_id": "c1", "action": {"type": "exec"}},
        {"type": "local_shell_call_output", "call_id": "c1", "output": "x"},
    ]

    request = translate_responses_request(json.dumps({"model": "m", "input": items}).encode())

    assert request.context.history_ids == {"c1"}


@pytest.mark.parametrize(
    ("kind", "member"), [("input_image", "image_url"), ("input_file", "file_data or file_url")]
)
def test_part_without_its_content_names_the_member(kind: str, member: str) -> None:
    """A part by file id would have to be fetched."""
    item = {"role": "user", "content": [{"type": kind, "file_id": "f"}]}

    with pytest.raises(GatewayError, match=f"{kind} without {member} is not supported"):
        translate_responses_request(json.dumps({"model": "m", "input": [item]}).encode())
