"""Streams of responses to be stored: the last event waits, and says whether it was stored."""

from __future__ import annotations

import json

import msgspec
import pytest

from gateway.protocols.openai_responses.output import without_store
from gateway.protocols.openai_responses.response import translate_responses_response
from gateway.protocols.openai_responses.stream import responses_stream
from tests.support.responses_streams import chunk, context, events_in, finished

STORED = msgspec.structs.replace(
    context(metadata={"store": "true"}), token="t0", store=True, previous_response_id="resp_p"
)
CHUNKS = finished({"reasoning_content": "plan"}, {"content": "Hello"})
WHOLE = json.dumps(
    {
        "id": "chatcmpl-1",
        "choices": [
            {
                "index": 0,
                "message": {"content": "Hello", "reasoning_content": "plan"},
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
    }
).encode()


@pytest.mark.parametrize("stored", [True, False])
def test_last_event_waits_and_says_whether_the_response_is_stored(stored: bool) -> None:
    """Everything before it has been written; its object is what was to be stored."""
    stream = responses_stream(STORED)
    called: list[bytes | None] = []
    stream.when_held(lambda: called.append(stream.held))

    before = events_in(b"".join(map(stream.feed, CHUNKS)) + stream.end(clean=True))
    held = stream.held
    assert called == [held]
    assert held is not None
    assert not stream.wrote_end(upstream_ended=True)
    (last,) = events_in(stream.complete(stored=stored))
    assert stream.wrote_end(upstream_ended=True)

    assert before[-1]["type"] == "response.output_item.done"
    assert (last["type"], last["sequence_number"]) == ("response.completed", len(before))
    assert last["response"] == json.loads(held) | {"store": stored}
    assert stream.complete(stored=stored) == b""


def test_ids_contain_the_token_and_the_object_its_previous_response() -> None:
    stream = responses_stream(STORED)
    first = events_in(b"".join(map(stream.feed, CHUNKS)))[0]["response"]
    assert stream.held is not None
    response = json.loads(stream.held)

    assert first["id"] == response["id"] == "resp_t0"
    assert [item["id"] for item in response["output"]] == ["rs_t0_0", "msg_t0_1"]
    assert response["previous_response_id"] == "resp_p"


def test_whole_response_equals_the_stored_object_of_the_stream() -> None:
    stream = responses_stream(STORED)
    for piece in CHUNKS:
        stream.feed(piece)

    assert translate_responses_response(WHOLE, STORED) == stream.held


def test_response_that_is_not_stored_says_so_in_its_last_member() -> None:
    """No other member of this name is changed, be it the client's own."""
    made = without_store(translate_responses_response(WHOLE, STORED))

    response = json.loads(made)
    assert response == json.loads(translate_responses_response(WHOLE, STORED)) | {"store": False}
    assert response["metadata"] == {"store": "true"}


def test_failed_stream_holds_nothing() -> None:
    """Its last event is written at once."""
    stream = responses_stream(STORED)
    raw = stream.feed(chunk({"content": "Hel"})) + stream.end(clean=False)

    assert events_in(raw)[-1]["type"] == "response.failed"
    assert stream.held is None


def test_incomplete_response_is_held_too() -> None:
    """A response cut by its output limit can be continued."""
    stream = responses_stream(STORED)
    for piece in finished({"content": "Hel"}, finish="length"):
        stream.feed(piece)

    assert stream.held is not None
    assert json.loads(stream.held)["status"] == "incomplete"
