"""Tool results directly behind their calls, in chat histories from either kind of client."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.protocols.openai_chat.message import ChatMessage, FunctionCall, ToolCall
from gateway.protocols.translate.tool_order import with_results_after_calls
from tests.support.chat_to_messages import result as tool_message
from tests.support.chat_to_messages import turns
from tests.support.messages_to_chat import sent, use


def said(role: str) -> ChatMessage:
    """Return a message without calls."""
    return ChatMessage(role, role)


def calls(*ids: str) -> ChatMessage:
    """Return an assistant's message with calls."""
    made = [ToolCall(id=call, type="function", function=FunctionCall("f", "{}")) for call in ids]
    return ChatMessage("assistant", None, tool_calls=made)


def result(call_id: str, content: str = "r") -> ChatMessage:
    """Return a tool's message."""
    return ChatMessage("tool", content, tool_call_id=call_id)


def order(*messages: ChatMessage) -> list[str]:
    """Return the ordered messages: a result by its id, the calls by theirs, others by role."""
    return [
        f"={message.tool_call_id}"
        if message.role == "tool"
        else "+".join(call.id for call in message.tool_calls or ()) or message.role
        for message in with_results_after_calls(list(messages))
    ]


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        ((calls("a", "b"), result("b"), result("a")), ["a+b", "=a", "=b"]),
        (
            (calls("a", "b"), result("a"), said("user"), result("b")),
            ["a+b", "=a", "=b", "user"],
        ),
        ((calls("a"), said("system"), said("user"), result("a")), ["a", "=a", "system", "user"]),
        (
            (calls("a", "b"), result("a"), said("assistant"), result("b")),
            ["a+b", "=a", "=b", "assistant"],
        ),
        ((calls("a"), calls("b"), result("a"), result("b")), ["a", "=a", "b", "=b"]),
        ((calls("a"), result("a"), calls("a"), result("a")), ["a", "=a", "a", "=a"]),
        ((calls("a", "a"), result("a"), result("a")), ["a+a", "=a", "=a"]),
        ((said("user"), result("x"), said("user")), ["user", "=x", "user"]),
        ((calls("a", "b"), said("user"), result("b")), ["a+b", "=b", "user"]),
    ],
)
def test_results_follow_their_calls_in_the_calls_order(messages, expected):
    """Everything else follows after them and keeps its order."""
    assert order(*messages) == expected


def test_repeated_ids_keep_each_result_with_its_own_call():
    """A server that counts from call_0 in each response repeats ids."""
    messages = [calls("a"), result("a", "1"), calls("a"), said("user"), result("a", "2")]

    ordered = with_results_after_calls(messages)

    assert [message.content for message in ordered] == [None, "1", None, "2", "user"]


def roles(*history: dict[str, Any]) -> list[str]:
    """Return the roles that an OpenAI upstream gets for a Messages history."""
    return [message["role"] for message in sent({"messages": list(history)})["messages"]]


def block_result(call_id: str) -> dict[str, Any]:
    """Return a tool_result block."""
    return {"type": "tool_result", "tool_use_id": call_id, "content": "r"}


CALLS = {"role": "assistant", "content": [use("t1"), use("t2")]}
NOTE = {"type": "text", "text": "note"}


def test_messages_history_with_text_between_results():
    """Text after the first result follows the second one."""
    first = {"role": "user", "content": [block_result("t1"), NOTE]}
    second = {"role": "user", "content": [block_result("t2")]}

    assert roles(CALLS, first, second) == ["assistant", "tool", "tool", "user"]


@pytest.mark.parametrize("between", ["system", "user"])
def test_messages_history_with_a_message_between_results(between):
    """Claude Code puts a system message behind the first result."""
    first = {"role": "user", "content": [block_result("t1")]}
    second = {"role": "user", "content": [block_result("t2")]}
    middle = {"role": between, "content": "note"}

    assert roles(CALLS, first, middle, second) == ["assistant", "tool", "tool", between]


def test_messages_history_with_an_image_in_the_first_result():
    """The image's own message follows both results."""
    png = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AA=="}}
    first = {"role": "user", "content": [block_result("t1") | {"content": [png]}]}
    second = {"role": "user", "content": [block_result("t2")]}

    assert roles(CALLS, first, second) == ["assistant", "tool", "tool", "user"]


def test_chat_history_with_an_assistant_text_between_results():
    """Anthropic wants the results of a turn in the next one."""
    functions = [
        {"id": call, "type": "function", "function": {"name": "f", "arguments": "{}"}}
        for call in ("a", "b")
    ]
    history = turns(
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "tool_calls": functions},
        tool_message("1", "a"),
        {"role": "assistant", "content": "wait"},
        tool_message("2", "b"),
    )

    assert [block["tool_use_id"] for block in history[2]["content"]] == ["a", "b"]
    assert history[3]["content"][0]["text"] == "wait"
