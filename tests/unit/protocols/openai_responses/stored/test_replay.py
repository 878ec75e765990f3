"""The stream of a stored response: the events that OpenAI's SDK accumulates to the response."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.protocols.openai_responses.stored.replay import replayed

MESSAGE = {
    "id": "msg_1_1",
    "type": "message",
    "status": "completed",
    "role": "assistant",
    "content": [
        {"type": "output_text", "text": "Hi é", "annotations": [], "logprobs": []},
        {"type": "refusal", "refusal": "No."},
    ],
}
REASONING = {
    "id": "rs_1_0",
    "type": "reasoning",
    "summary": [{"type": "summary_text", "text": "Plan"}],
    "encrypted_content": "gw1.x",
}
CALL = {
    "id": "fc_1_2",
    "type": "function_call",
    "status": "completed",
    "call_id": "c",
    "name": "f",
    "arguments": '{"a":1}',
}
CUSTOM = {
    "id": "ctc_1_3",
    "type": "custom_tool_call",
    "status": "completed",
    "call_id": "d",
    "name": "g",
    "input": "text",
}
OTHER = {"id": "cmp_1_4", "type": "compaction", "encrypted_content": "gw1.y"}
WHOLE: dict[str, Any] = {
    "id": "resp_1",
    "object": "response",
    "status": "incomplete",
    "incomplete_details": {"reason": "max_output_tokens"},
    "output": [REASONING, MESSAGE, CALL, CUSTOM, OTHER],
    "usage": {"input_tokens": 3, "output_tokens": 4, "total_tokens": 7},
}


def events(starting_after: int | None = None) -> list[dict[str, Any]]:
    """Return the events' data; each has its type as name, too."""
    found = []
    for block in replayed(json.dumps(WHOLE).encode(), starting_after).split(b"\n\n")[:-1]:
        name, data = block.split(b"\n")
        found.append(json.loads(data.removeprefix(b"data: ")))
        assert name == b"event: " + found[-1]["type"].encode()
    return found


def test_stream_has_the_events_of_each_item_in_order() -> None:
    part = ["content_part.added", "{}.delta", "{}.done", "content_part.done"]

    assert [each["type"].removeprefix("response.") for each in events()] == [
        *("created", "in_progress", "output_item.added", "reasoning_summary_part.added"),
        *("reasoning_summary_text.delta", "reasoning_summary_text.done"),
        *("reasoning_summary_part.done", "output_item.done", "output_item.added"),
        *(name.format("output_text") for name in part),
        *(name.format("refusal") for name in part),
        *("output_item.done", "output_item.added", "function_call_arguments.delta"),
        *("function_call_arguments.done", "output_item.done", "output_item.added"),
        *("custom_tool_call_input.delta", "custom_tool_call_input.done", "output_item.done"),
        *("output_item.added", "output_item.done", "incomplete"),
    ]


def test_items_begin_empty_and_end_as_they_are_stored() -> None:
    added = [each["item"] for each in events() if each["type"].endswith("item.added")]
    done = [each["item"] for each in events() if each["type"].endswith("item.done")]

    assert added[0] == {"id": "rs_1_0", "type": "reasoning", "summary": []}
    assert added[1] == {**MESSAGE, "status": "in_progress", "content": []}
    assert added[2] == {**CALL, "status": "in_progress", "arguments": ""}
    assert added[3] == {**CUSTOM, "status": "in_progress", "input": ""}
    assert done == WHOLE["output"]


def test_deltas_and_places_are_those_of_the_parts() -> None:
    deltas = [each for each in events() if each["type"].endswith(".delta")]

    assert [each["delta"] for each in deltas] == ["Plan", "Hi é", "No.", '{"a":1}', "text"]
    assert [each["output_index"] for each in deltas] == [0, 1, 1, 2, 3]
    assert [each.get("content_index") for each in deltas] == [None, 0, 1, None, None]
    assert [each["item_id"] for each in deltas] == [
        *("rs_1_0", "msg_1_1", "msg_1_1", "fc_1_2", "ctc_1_3")
    ]


def test_stream_begins_without_output_and_ends_with_the_whole_response() -> None:
    found = events()

    begun = {**WHOLE, "status": "in_progress", "output": [], "usage": None}
    assert found[0]["response"] == found[1]["response"] == {**begun, "incomplete_details": None}
    assert found[-1]["response"] == WHOLE
    assert [each["sequence_number"] for each in found] == list(range(len(found)))


@pytest.mark.parametrize("after", [0, 5, 27])
def test_stream_continues_after_an_event(after: int) -> None:
    assert events(after) == [each for each in events() if each["sequence_number"] > after]


@pytest.mark.parametrize("after", [28, 29, 10_000])
def test_last_event_is_always_sent(after: int) -> None:
    """The stream that was interrupted had more events: its client still gets the response."""
    (last,) = events(after)

    assert last["response"] == WHOLE
    assert last["sequence_number"] == max(after + 1, 29)
