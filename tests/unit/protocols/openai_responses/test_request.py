"""Responses requests as chat requests."""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from gateway.errors import ErrorKind, GatewayError
from gateway.protocols.openai_responses.reasoning import pack_reasoning, unpack_reasoning
from gateway.protocols.openai_responses.request import ChatRequest, translate_responses_request

IMAGE = {"type": "input_image", "image_url": "data:image/png;base64,AA=="}
CHAT_IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
FUNCTION = {"type": "function", "name": "f", "parameters": {"type": "object"}}


def translated(**members: Any) -> ChatRequest:
    request = {"model": "m", "input": "Hi"} | members
    return translate_responses_request(json.dumps(request).encode())


def chat(**members: Any) -> dict[str, Any]:
    made: dict[str, Any] = json.loads(translated(**members).body)
    return made


def messages(*items: dict[str, Any]) -> list[dict[str, Any]]:
    made: list[dict[str, Any]] = chat(input=list(items))["messages"]
    return made


def user(content: Any) -> dict[str, Any]:
    return {"type": "message", "role": "user", "content": content}


def said(*texts: str) -> dict[str, Any]:
    parts = [{"type": "output_text", "text": text, "annotations": []} for text in texts]
    return {"type": "message", "role": "assistant", "content": parts, "id": "msg_1"}


def call(call_id: str, name: str = "f", **more: Any) -> dict[str, Any]:
    called = {"type": "function_call", "call_id": call_id, "name": name, "arguments": "{}"}
    return called | more


def output(call_id: str, value: Any) -> dict[str, Any]:
    return {"type": "function_call_output", "call_id": call_id, "output": value}


def chat_call(call_id: str, name: str = "f", arguments: str = "{}") -> dict[str, Any]:
    function = {"name": name, "arguments": arguments}
    return {"id": call_id, "type": "function", "function": function}


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        ({"temperature": 0.5, "top_p": 0.9}, {"temperature": 0.5, "top_p": 0.9}),
        ({"temperature": None, "user": None}, {}),
        ({"user": "u", "safety_identifier": "s"}, {"user": "u", "safety_identifier": "s"}),
        (
            {"prompt_cache_key": "k", "service_tier": "flex"},
            {"prompt_cache_key": "k", "service_tier": "flex"},
        ),
        ({"max_output_tokens": 7}, {"max_completion_tokens": 7}),
        ({"reasoning": {"effort": "high", "summary": "auto"}}, {"reasoning_effort": "high"}),
        ({"reasoning": {"summary": "auto"}}, {}),
        ({"text": {"verbosity": "low"}}, {"verbosity": "low"}),
        ({"text": {"format": {"type": "text"}}}, {}),
        (
            {"text": {"format": {"type": "json_object"}}},
            {"response_format": {"type": "json_object"}},
        ),
        (
            {"text": {"format": {"type": "json_schema", "name": "n", "schema": {"a": 1.0}}}},
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "n", "schema": {"a": 1.0}},
                }
            },
        ),
        ({"stream": True}, {"stream": True, "stream_options": {"include_usage": True}}),
        ({"stream": False, "store": True, "truncation": "auto", "client_metadata": {}}, {}),
        ({"parallel_tool_calls": False, "tool_choice": "auto"}, {}),
        ({"previous_response_id": None, "background": False, "top_logprobs": 0}, {}),
    ],
)
def test_member_is_carried_under_its_chat_name(
    members: dict[str, Any], expected: dict[str, Any]
) -> None:
    """Each member has its chat name, or none where it has no effect."""
    made = chat(**members)

    assert made.pop("model") == "m"
    assert made.pop("messages") == [{"role": "user", "content": "Hi"}]
    assert made == expected


@pytest.mark.parametrize(
    ("members", "param"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"conversation": {"id": "c"}}, "conversation"),
        ({"prompt": {"id": "p"}}, "prompt"),
        ({"background": True}, "background"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"tools": [{"type": "mcp", "server_label": "x"}]}, "tools"),
        ({"tools": [{"type": "function"}]}, "tools"),
        ({"tool_choice": {"type": "web_search"}}, "tool_choice"),
        ({"tool_choice": "required", "tools": [{"type": "web_search"}]}, "tool_choice"),
        ({"text": {"format": {"type": "grammar"}}}, "text.format"),
        ({"input": None}, "input"),
        ({"model": None}, "model"),
        ({"input": [{"content": "x"}]}, "input.0"),
        ({"input": [{"role": "robot", "content": "x"}]}, "input.0"),
        ({"input": [user([{"type": "input_audio"}])]}, "input.0"),
        ({"input": [user([{"type": "input_image", "file_id": "f"}])]}, "input.0"),
        ({"input": [user([{"type": "input_file", "file_id": "file-1"}])]}, "input.0"),
        ({"input": [user("x"), user(5)]}, "input.1"),
        ({"input": [{"type": "function_call", "name": "f"}]}, "input.0"),
        ({"input": [{"type": "function_call", "call_id": "c"}]}, "input.0"),
        ({"input": [{"type": "function_call_output", "output": "x"}]}, "input.0"),
        ({"input": [{"type": 1}]}, "input.0.type"),
    ],
)
def test_what_cannot_be_served_is_refused_by_name(members: dict[str, Any], param: str) -> None:
    """What needs state or fetching, and what makes no sense, is a 400 that names it."""
    with pytest.raises(GatewayError) as caught:
        translated(**members)

    assert caught.value.param == param
    assert caught.value.surface.openai_status == 400


@pytest.mark.parametrize(
    ("members", "remedy"),
    [
        ({"conversation": "conv_1"}, "previous_response_id"),
        ({"prompt": {"id": "pmpt_1"}}, "send instructions and input"),
        ({"background": True}, "leave it out"),
        ({"top_logprobs": 2}, "/v1/chat/completions"),
    ],
)
def test_refusal_names_the_remedy(members: dict[str, Any], remedy: str) -> None:
    with pytest.raises(GatewayError, match=remedy):
        translated(**members)


def test_codex_request_becomes_one_system_prompt_and_functions() -> None:
    """What Codex sends: developer text, a namespace, web search, encrypted reasoning, no store."""
    find = {"type": "function", "name": "find", "description": "d", "parameters": {}}
    made = translated(
        instructions="Be brief",
        input=[
            {"type": "message", "role": "developer", "content": [
                {"type": "input_text", "text": "a"}, {"type": "input_text", "text": "b"}]},
            user([{"type": "input_text", "text": "Hi"}]),
        ],
        tools=[
            FUNCTION | {"strict": False},
            {"type": "namespace", "name": "mcp", "description": "x", "tools": [find]},
            {"type": "web_search", "external_web_access": True},
        ],
        tool_choice="auto",
        parallel_tool_calls=False,
        include=["reasoning.encrypted_content"],
        stream=True,
        store=False,
    )  # fmt: skip

    assert json.loads(made.body) == {
        "model": "m",
        "messages": [
            {"role": "system", "content": "Be brief"},
            {"role": "system", "content": "a\n\nb"},
            {"role": "user", "content": "Hi"},
        ],
        "tools": [
            {
                "type": "function",
                "function": {"name": "f", "parameters": {"type": "object"}, "strict": False},
            },
            {
                "type": "function",
                "function": {"name": "mcp__find", "description": "d", "parameters": {}},
            },
        ],
        "tool_choice": "auto",
        "parallel_tool_calls": False,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    assert made.dropped == ("tools.web_search",)
    assert made.context.stream
    assert [(up, name.namespace) for up, name in made.context.tool_names.items()] == [
        ("mcp__find", "mcp")
    ]


def test_tool_turn_is_one_assistant_message_with_its_thoughts() -> None:
    """Adjacent items of one turn are collected; results follow directly."""
    packed = pack_reasoning(
        "plan", [Raw(b'{"type":"reasoning.text","text":"plan","signature":"s"}')]
    )
    items = [
        user("x"),
        {"type": "reasoning", "id": "rs", "summary": [], "encrypted_content": packed},
        said("a", "b"),
        call("c1", "find", namespace="mcp"),
        {"type": "web_search_call", "id": "ws", "status": "completed"},
        {"type": "custom_tool_call", "call_id": "c2", "name": "patch", "input": 'say "x"'},
        output("c1", "1"),
        {"type": "custom_tool_call_output", "call_id": "c2", "output": "2"},
        said("done"),
    ]

    assert messages(*items) == [
        {"role": "user", "content": "x"},
        {
            "role": "assistant",
            "content": "ab",
            "reasoning_content": "plan",
            "reasoning_details": [{"type": "reasoning.text", "text": "plan", "signature": "s"}],
            "tool_calls": [
                chat_call("c1", "find"),
                chat_call("c2", "patch", '{"input":"say \\"x\\""}'),
            ],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "1"},
        {"role": "tool", "tool_call_id": "c2", "content": "2"},
        {"role": "assistant", "content": "done"},
    ]
    made = translated(input=items)
    assert made.dropped == ("input.web_search_call",)
    assert made.context.history_ids == {"c1", "c2"}


@pytest.mark.parametrize(
    ("reasoning", "expected"),
    [
        ({"summary": [{"type": "summary_text", "text": "a"}]}, "a"),
        ({"summary": [], "content": [{"type": "reasoning_text", "text": "b"}]}, "b"),
        ({"summary": [{"type": "summary_text", "text": "a"}], "encrypted_content": "gAAA"}, "a"),
        ({"summary": [], "encrypted_content": "gw1.!!"}, None),
        ({"summary": [], "encrypted_content": "gw1."}, None),
    ],
)
def test_reasoning_of_others_is_carried_as_text(
    reasoning: dict[str, Any], expected: str | None
) -> None:
    """Without our packing only the visible text of reasoning can be carried."""
    made = messages(user("x"), {"type": "reasoning"} | reasoning, said("y"))

    assert made[1].get("reasoning_content") == expected
    assert "reasoning_details" not in made[1]


def test_reasoning_without_an_answer_is_left_out() -> None:
    """Reasoning that no assistant message followed belongs to nobody."""
    thought = {"type": "reasoning", "summary": [{"type": "summary_text", "text": "a"}]}

    assert messages(user("x"), thought, user("y"), said("z")) == [
        {"role": "user", "content": "x"},
        {"role": "user", "content": "y"},
        {"role": "assistant", "content": "z"},
    ]


def test_user_parts_keep_their_order_and_detail() -> None:
    """Text, image and file parts become their chat forms."""
    content = [
        {"type": "input_text", "text": "a"},
        IMAGE | {"detail": "high"},
        IMAGE | {"detail": "auto"},
        {"type": "input_file", "filename": "a.pdf", "file_data": "data:application/pdf;base64,AA"},
    ]

    assert messages(user(content))[0]["content"] == [
        {"type": "text", "text": "a"},
        {"type": "image_url", "image_url": CHAT_IMAGE["image_url"] | {"detail": "high"}},  # type: ignore[operator]
        CHAT_IMAGE,
        {
            "type": "file",
            "file": {"file_data": "data:application/pdf;base64,AA", "filename": "a.pdf"},
        },
    ]


def test_images_in_outputs_move_behind_all_tool_messages() -> None:
    """Tool messages take text only: images follow in one user message that names their call."""
    made = messages(
        call("c1"),
        call("c2"),
        output("c1", [{"type": "input_text", "text": "a"}, IMAGE]),
        output("c2", [{"type": "input_text", "text": "b"}, {"type": "input_text", "text": "c"}]),
        user("next"),
    )

    assert made[1:] == [
        {
            "role": "tool",
            "tool_call_id": "c1",
            "content": "a\n[attachment in the next message]",
        },
        {"role": "tool", "tool_call_id": "c2", "content": "b\nc"},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "Attachment returned by tool call c1:"},
                CHAT_IMAGE,
            ],
        },
        {"role": "user", "content": "next"},
    ]


@pytest.mark.parametrize(
    ("value", "text"), [("a", "a"), ("", ""), (None, ""), ({"b": 1}, '{"b":1}'), ([], "")]
)
def test_output_of_any_shape_is_text(value: Any, text: str) -> None:
    """An output that is no string is carried as its JSON."""
    assert messages(call("c"), output("c", value))[1]["content"] == text


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ("none", "none"),
        ("required", "required"),
        ({"type": "function", "name": "f"}, {"type": "function", "function": {"name": "f"}}),
        (
            {"type": "allowed_tools", "mode": "required", "tools": [{"type": "x", "name": "f"}]},
            "required",
        ),
        (
            {"type": "allowed_tools", "tools": [{"type": "namespace", "name": "ns"}]},
            "auto",
        ),
        (None, None),
    ],
)  # fmt: skip
def test_tool_choice_in_the_chat_form(choice: Any, expected: Any) -> None:
    """Choices are named as in chat; allowed tools filter the list and give their mode."""
    inner = {"type": "function", "name": "g"}
    tools = [FUNCTION, {"type": "namespace", "name": "ns", "tools": [inner]}]

    made = chat(tools=tools, tool_choice=choice)

    assert made.get("tool_choice") == expected
    names = [tool["function"]["name"] for tool in made["tools"]]
    if isinstance(choice, dict) and choice["type"] == "allowed_tools":
        assert names == (["f"] if expected == "required" else ["ns__g"])
    else:
        assert names == ["f", "ns__g"]


def test_long_names_are_shortened_the_same_way_everywhere() -> None:
    """Definition, choice and history get one legal name; the client's is remembered."""
    name = "a.b" * 40
    body = {
        "tools": [{"type": "namespace", "name": "ns", "tools": [FUNCTION | {"name": name}]}],
        "tool_choice": {"type": "function", "name": name, "namespace": "ns"},
        "input": [call("c", name, namespace="ns"), output("c", "x")],
    }

    made = translated(**body)

    request = json.loads(made.body)
    short = request["tools"][0]["function"]["name"]
    assert len(short) == 64
    assert request["tool_choice"]["function"]["name"] == short
    assert request["messages"][0]["tool_calls"][0]["function"]["name"] == short
    assert made.context.tool_names[short].name == name
    assert made.context.tool_names[short].namespace == "ns"


def test_custom_tool_without_grammar_or_description() -> None:
    """A plain custom tool is a function with one string and no invented description."""
    plain = {"type": "custom", "name": "a", "format": {"type": "text"}}
    ruled = {
        "type": "custom",
        "name": "b",
        "format": {"type": "grammar", "syntax": "regex", "definition": "x+"},
    }

    first, second = (tool["function"] for tool in chat(tools=[plain, ruled])["tools"])

    assert "description" not in first
    assert first["parameters"]["required"] == ["input"]
    assert second["description"] == "The input must match this grammar:\nx+"


def test_schema_bytes_are_untouched() -> None:
    """A schema's numbers and order survive: providers and caches see what the client wrote."""
    schema = '{"maximum":1.0,"x":12345678901234567890123,"b":1,"a":1e5}'
    body = (
        '{"model":"m","input":"x","tools":[{"type":"function","name":"f","parameters":'
        + schema
        + "}]}"
    )

    assert schema.encode() in translate_responses_request(body.encode()).body


def test_same_history_gives_the_same_bytes() -> None:
    """Nothing in the body depends on time or chance."""
    items = [user("x"), said("y"), call("c"), output("c", "z")]

    assert translated(input=items).body == translated(input=items).body


def test_a_longer_history_starts_with_the_bytes_of_the_shorter() -> None:
    """The provider's prefix cache is kept from turn to turn."""
    items = [user("x"), said("y"), call("c"), output("c", "z")]
    shorter = translated(input=items).body
    longer = translated(input=[*items, said("done"), user("more")]).body

    assert longer.startswith(shorter.removesuffix(b"]}"))


@given(
    st.text(st.characters(exclude_categories=["Cs"])),
    st.lists(st.fixed_dictionaries({"type": st.just("reasoning.text"), "text": st.text("ab")})),
)
def test_packed_thought_comes_back(text: str, details: list[dict[str, object]]) -> None:
    """Packing and unpacking reasoning gives the same reasoning."""
    raws = [Raw(json.dumps(entry).encode()) for entry in details]

    packed = unpack_reasoning(pack_reasoning(text, raws))

    assert packed is not None
    assert (packed.r, packed.d) == (text, raws)


@given(st.text())
def test_unpacking_any_text_never_fails(text: str) -> None:
    """Foreign or damaged encrypted content is None."""
    unpack_reasoning("gw1." + text)
    unpack_reasoning(text)


keys = st.sampled_from(
    ["model", "input", "tools", "type", "role", "content", "text", "name", "call_id", "arguments",
     "output", "summary", "encrypted_content", "format", "tool_choice", "mode", "include", "stream",
     "reasoning", "effort", "image_url", "namespace", "metadata", "instructions"]
)  # fmt: skip
values = st.sampled_from(
    ["message", "function_call", "function_call_output", "custom_tool_call", "reasoning", "user",
     "assistant", "function", "custom", "namespace", "input_text", "input_image", "allowed_tools",
     "grammar", "x", ""]
)  # fmt: skip
junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3) | values,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(keys, junk, max_size=5), st.booleans())
def test_arbitrary_requests_raise_only_gateway_errors(
    request: dict[str, Any], complete: bool
) -> None:
    """Whatever JSON comes, the outcome is a chat request or a 400."""
    body = json.dumps({"model": "m", "input": []} | request if complete else request).encode()

    try:
        made = translate_responses_request(body)
    except GatewayError as error:
        assert error.kind in (ErrorKind.BAD_REQUEST, ErrorKind.UNSUPPORTED)
    else:
        json.loads(made.body)


@pytest.mark.parametrize("levels", range(900, 1010, 7))
def test_deep_nesting_is_carried_or_refused(levels: int) -> None:
    """Nesting near the decoder's limit never fails in an unforeseen way."""
    deep = '{"a":' * levels + "1" + "}" * levels
    packed = urlsafe_b64encode(f'{{"r":"x","d":[{deep}]}}'.encode()).rstrip(b"=")
    for body in (
        f'{{"model":"m","input":"x","metadata":{deep}}}'.encode(),
        f'{{"model":"m","input":[{{"type":"odd","content":{deep}}}]}}'.encode(),
        b'{"model":"m","input":[{"type":"reasoning","encrypted_content":"gw1.'
        + packed
        + b'"},{"role":"assistant","content":"x"}]}',
    ):
        try:
            translate_responses_request(body)
        except GatewayError as error:
            assert error.kind is ErrorKind.BAD_REQUEST
