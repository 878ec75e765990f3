"""A conversation is summarized on request, and the summary takes its place."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.errors import ErrorKind, GatewayError
from gateway.protocols.openai_responses.compaction import INSTRUCTION, NO_SUMMARY
from gateway.protocols.openai_responses.reasoning import pack_reasoning
from gateway.protocols.openai_responses.request import ChatRequest, translate_responses_request
from gateway.protocols.openai_responses.response import translate_responses_response
from tests.support.responses_streams import (
    DONE,
    USAGE,
    chunk,
    context,
    finished,
    kinds,
    run,
    tool,
)

HISTORY = [
    {"role": "user", "content": "Build it"},
    {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"},
    {"type": "function_call_output", "call_id": "c1", "output": "built"},
]
TRIGGER = {"type": "compaction_trigger"}
TOOLS = [{"type": "function", "name": "f", "parameters": {}}]
FORMAT = {"format": {"type": "json_schema", "name": "x", "schema": {}}, "verbosity": "low"}
SUMMARIZED = context(input=[*HISTORY, TRIGGER], tools=TOOLS)


def translated(*items: dict[str, Any], **members: Any) -> ChatRequest:
    request = {"model": "m", "input": items} | members
    return translate_responses_request(json.dumps(request).encode())


def whole(message: dict[str, Any], finish: str = "stop") -> dict[str, Any]:
    """Return the response object for a whole chat response."""
    choice = {"message": {"role": "assistant"} | message, "finish_reason": finish}
    body = json.dumps({"id": "chatcmpl-1", "choices": [choice], "usage": USAGE}).encode()
    made: dict[str, Any] = json.loads(translate_responses_response(body, SUMMARIZED))
    return made


def test_trigger_asks_the_model_for_a_summary() -> None:
    """Tools stay for the prompt cache, but no call and no format is asked for."""
    made = translated(*HISTORY, TRIGGER, tools=TOOLS, tool_choice="required", text=FORMAT)

    chat = json.loads(made.body)
    assert [message["role"] for message in chat["messages"]] == [
        "user",
        "assistant",
        "tool",
        "user",
    ]
    assert chat["messages"][-1]["content"] == INSTRUCTION
    assert chat["tool_choice"] == "none"
    assert len(chat["tools"]) == 1
    assert not {"response_format", "verbosity"} & chat.keys()
    assert made.context.compacts
    assert made.dropped == ()


def test_nothing_may_follow_a_trigger() -> None:
    with pytest.raises(GatewayError) as caught:
        translated(TRIGGER, HISTORY[0])

    assert (caught.value.kind, caught.value.param) == (ErrorKind.BAD_REQUEST, "input.1")


def test_summary_streams_as_one_compaction_item() -> None:
    """A call that the model makes nevertheless is not part of it."""
    events = run(
        chunk({"reasoning_content": "Hm."}),
        chunk({"content": "All is "}),
        chunk(tool(0, id="c2", name="f", arguments="{}")),
        chunk({"content": "built."}),
        chunk({}, "stop"),
        chunk(None, usage=USAGE),
        DONE,
        asked=SUMMARIZED,
    )

    done = [event["item"]["type"] for event in events if event["type"].endswith("item.done")]
    assert done == ["reasoning", "compaction"]
    response = events[-1]["response"]
    assert kinds(events)[-1] == "completed"
    assert response["usage"]["output_tokens"] == USAGE["completion_tokens"]
    item = response["output"][-1]
    assert item == {
        "id": item["id"],
        "type": "compaction",
        "encrypted_content": pack_reasoning("All is built.", []),
    }


@pytest.mark.parametrize("kind", ["compaction", "compaction_summary", "context_compaction"])
def test_summary_comes_back_as_the_users_words(kind: str) -> None:
    """The item of a response is readable in the next request, under each of its names."""
    (item,) = whole({"content": "All is built."})["output"]

    made = translated(HISTORY[0], item | {"type": kind}, {"role": "user", "content": "Go on"})

    messages = json.loads(made.body)["messages"]
    assert [message["role"] for message in messages] == ["user"] * 3
    assert messages[1]["content"].endswith("\n\nAll is built.")
    assert not made.context.compacts


@pytest.mark.parametrize("encrypted", ["gAAAAABo", "", "gw1.!"])
def test_foreign_summary_is_refused_with_a_remedy(encrypted: str) -> None:
    """Left out, it would take the whole conversation with it."""
    with pytest.raises(GatewayError) as caught:
        translated({"type": "compaction", "encrypted_content": encrypted})

    assert (caught.value.kind, caught.value.param) == (ErrorKind.UNSUPPORTED, "input.0")
    assert "send the conversation itself" in caught.value.message


@pytest.mark.parametrize(
    "message",
    [
        {"content": None, "reasoning_content": "Hm."},
        {"content": " \n"},
        {"content": None, "refusal": "No."},
    ],
    ids=["nothing", "blanks", "refusal"],
)
def test_missing_summary_is_a_failure(message: dict[str, Any]) -> None:
    """A client that replaced its history by nothing would have lost it."""
    response = whole(message)

    assert response["status"] == "failed"
    assert response["error"] == {"code": "server_error", "message": NO_SUMMARY}


def test_missing_summary_fails_the_stream() -> None:
    events = run(*finished({"reasoning_content": "Hm."}), asked=SUMMARIZED)

    assert kinds(events)[-1] == "failed"
    assert events[-1]["response"]["error"]["message"] == NO_SUMMARY


def test_cut_summary_is_incomplete() -> None:
    response = whole({"content": "All"}, "length")

    assert response["status"] == "incomplete"
