"""Responses of nearly the right form, on all wires: no response is lost, and none is invented."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.core.model import Endpoint, Usage, Wire
from gateway.protocols.codec.sse import EventDecoder
from tests.support.meters import DONE, chunk, event, text_delta
from tests.support.pipeline_bench import Bench
from tests.support.pipeline_fakes import (
    ANTHROPIC_BODY,
    OPENAI_BODY,
    FakeClient,
    FakeUpstreamResponse,
    a_deployment,
    a_provider,
    asking,
    json_head,
)

REQUESTS = {
    Endpoint.CHAT_COMPLETIONS: OPENAI_BODY,
    Endpoint.MESSAGES: ANTHROPIC_BODY,
    Endpoint.RESPONSES: b'{"model":"m","input":"Hi"}',
    Endpoint.NATIVE_CHAT: b'{"model":"m","input":"Hi"}',
}
STREAMED = [each for each in REQUESTS if each is not Endpoint.NATIVE_CHAT]
USAGE = {"prompt_tokens": 10, "completion_tokens": 4, "total_tokens": 14}
COUNTS = {"input_tokens": 7, "output_tokens": 3}


async def served(
    wire: Wire, endpoint: Endpoint, body: bytes, *, stream: bool = False
) -> tuple[Bench, FakeClient]:
    """Let a client have one response of an upstream."""
    response = FakeUpstreamResponse(body=body, headers=None if stream else json_head(body))
    bench = Bench(response, deployments=[a_deployment(a_provider(wires=(wire,)))])
    request = asking(REQUESTS[endpoint], stream=True) if stream else REQUESTS[endpoint]
    client = FakeClient("/", request)
    _, task = bench.begin(client, endpoint)
    if stream:
        await response.end(body)
    await task
    bench.assert_recorded_once()
    return bench, client


def completion(**choice: Any) -> bytes:
    return json.dumps({"id": "c", "choices": [{"index": 0} | choice], "usage": USAGE}).encode()


def message(content: object, **members: Any) -> bytes:
    given = {"id": "m", "type": "message", "role": "assistant", "content": content}
    return json.dumps(given | {"stop_reason": "end_turn", "usage": COUNTS} | members).encode()


def text_of(client: FakeClient) -> str:
    """Return the text of a whole response of any API."""
    found = json.loads(client.body)
    if "choices" in found:
        return str(found["choices"][0]["message"]["content"])
    if "result" in found:
        return str(found["result"]["text"])
    items = found["output"][0]["content"] if "output" in found else found["content"]
    return str(items[0]["text"])


@pytest.mark.parametrize("endpoint", list(REQUESTS))
@pytest.mark.parametrize(
    ("wire", "body"),
    [
        (Wire.OPENAI, {"choices": None, "usage": USAGE}),
        (Wire.OPENAI, {"choices": [], "usage": USAGE}),
        (Wire.OPENAI, {"usage": USAGE}),
        (Wire.ANTHROPIC, {"type": "message", "usage": COUNTS}),
        (Wire.OPENAI, {"choices": [{"message": None, "finish_reason": "stop"}], "usage": USAGE}),
        (Wire.ANTHROPIC, {"type": "message", "content": None, "usage": COUNTS}),
    ],
)
async def test_usage_without_a_message_is_no_answer_and_costs_nothing(
    wire: Wire, body: dict[str, Any], endpoint: Endpoint
) -> None:
    bench, client = await served(wire, endpoint, json.dumps(body).encode())

    assert client.status == 502
    assert (bench.event.outcome, bench.event.cost_nanousd) == ("insured", 0)


@pytest.mark.parametrize("endpoint", list(REQUESTS))
async def test_response_that_azure_filters_whole_has_no_message(endpoint: Endpoint) -> None:
    bench, client = await served(
        Wire.OPENAI, endpoint, completion(finish_reason="content_filter", message=None)
    )

    assert (client.status, bench.event.outcome) == (200, "completed")


@pytest.mark.parametrize("endpoint", [Endpoint.MESSAGES, Endpoint.RESPONSES, Endpoint.NATIVE_CHAT])
async def test_delta_in_a_whole_response_is_its_message(endpoint: Endpoint) -> None:
    body = completion(delta={"content": "A"}, finish_reason="stop")

    _, client = await served(Wire.OPENAI, endpoint, body)

    assert (client.status, text_of(client)) == (200, "A")


@pytest.mark.parametrize(
    "endpoint", [Endpoint.CHAT_COMPLETIONS, Endpoint.RESPONSES, Endpoint.NATIVE_CHAT]
)
@pytest.mark.parametrize(
    "content",
    [
        "A",
        {"type": "text", "text": "A"},
        [None, {"type": "text", "text": None}, {"type": "text", "text": "A"}, {"text": "B"}],
    ],
)
async def test_content_of_a_message_may_be_a_text_or_a_block(
    content: object, endpoint: Endpoint
) -> None:
    bench, client = await served(Wire.ANTHROPIC, endpoint, message(content))

    assert (client.status, text_of(client)) == (200, "A")
    assert bench.event.usage == Usage(input=7, output=3)


@pytest.mark.parametrize("endpoint", [Endpoint.MESSAGES, Endpoint.RESPONSES])
async def test_message_in_a_stream_is_read_if_there_is_no_delta(endpoint: Endpoint) -> None:
    """Perplexity sends both; there the message repeats the deltas."""
    choice = {"index": 0, "message": {"role": "assistant", "content": "whole"}}
    alone = {"choices": [choice | {"finish_reason": "stop"}], "usage": USAGE}
    both = {"choices": [choice | {"delta": {"content": "delta"}}]}

    _, first = await served(
        Wire.OPENAI, endpoint, b"data: %b\n\n" % json.dumps(alone).encode() + DONE, stream=True
    )
    _, second = await served(
        Wire.OPENAI,
        endpoint,
        b"data: %b\n\ndata: %b\n\n" % (json.dumps(both).encode(), json.dumps(alone).encode())
        + DONE,
        stream=True,
    )

    assert b"whole" in first.body
    assert b'"delta"' in second.body
    assert b"whole" not in second.body


REASONS = [
    ("MAX_TOKENS", "max_tokens", "max_output_tokens"),
    ("model_length", "max_tokens", "max_output_tokens"),
    ("SAFETY", "refusal", "content_filter"),
    ("sensitive", "refusal", "content_filter"),
    ("STOP", "end_turn", None),
    ("something_new", "end_turn", None),
]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("reason", "stop", "incomplete"), REASONS)
async def test_finish_reasons_are_known_in_other_spellings(
    reason: str, stop: str, incomplete: str | None, stream: bool
) -> None:
    body = completion(message={"content": "A"}, finish_reason=reason)
    if stream:
        body = chunk({"content": "A"}) + chunk({}, reason) + chunk(None, usage=USAGE) + DONE

    _, messages = await served(Wire.OPENAI, Endpoint.MESSAGES, body, stream=stream)
    _, responses = await served(Wire.OPENAI, Endpoint.RESPONSES, body, stream=stream)

    assert f'"stop_reason":"{stop}"'.encode() in messages.body
    if incomplete is None:
        assert b'"incomplete_details":null' in responses.body
        assert b'"status":"incomplete"' not in responses.body
    else:
        assert f'"incomplete_details":{{"reason":"{incomplete}"}}'.encode() in responses.body


@pytest.mark.parametrize("stream", [False, True])
async def test_network_error_as_finish_reason_is_an_error(stream: bool) -> None:
    """Z.ai's: the inference failed."""
    body = completion(message={"content": "A"}, finish_reason="network_error")
    if stream:
        body = chunk({"content": "A"}) + chunk({}, "network_error") + DONE

    _, client = await served(Wire.OPENAI, Endpoint.MESSAGES, body, stream=stream)

    assert b'"type":"error"' in client.body


def calls_of(client: FakeClient, endpoint: Endpoint, *, stream: bool) -> list[tuple[str, str]]:
    """Return id and arguments of all calls."""
    if stream:
        events = [
            json.loads(e.data) for e in EventDecoder().feed(client.body) if e.data[:1] == b"{"
        ]
        if endpoint is Endpoint.RESPONSES:
            return _called(next(e for e in events if e["type"] == "response.completed")["response"])
        pieces = [
            piece
            for each in events
            for choice in each["choices"]
            for piece in choice["delta"].get("tool_calls", ())
        ]
        arguments = {piece["index"]: "" for piece in pieces}
        for piece in pieces:
            arguments[piece["index"]] += piece["function"].get("arguments") or ""
        return [(p["id"], arguments[p["index"]]) for p in pieces if p.get("id")]
    return _called(json.loads(client.body))


def _called(response: dict[str, Any]) -> list[tuple[str, str]]:
    if "output" in response:
        return [(item["call_id"], item["arguments"]) for item in response["output"]]
    calls = response["choices"][0]["message"]["tool_calls"]
    return [(call["id"], call["function"]["arguments"]) for call in calls]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("wire", "endpoint"),
    [
        (Wire.OPENAI, Endpoint.RESPONSES),
        (Wire.ANTHROPIC, Endpoint.RESPONSES),
        (Wire.ANTHROPIC, Endpoint.CHAT_COMPLETIONS),
    ],
)
async def test_calls_with_the_same_id_stay_two_calls(
    wire: Wire, endpoint: Endpoint, stream: bool
) -> None:
    """Results could not be distinguished by the ids that the upstream sent."""
    called = [
        {"id": "c", "type": "function", "function": {"name": name, "arguments": '{"a":1}'}}
        for name in ("f", "g")
    ]
    blocks = [{"type": "tool_use", "id": "c", "name": n, "input": {"a": 1}} for n in ("f", "g")]
    if wire is Wire.OPENAI:
        body = completion(message={"tool_calls": called}, finish_reason="tool_calls")
        if stream:  # as Gemini's, without an index
            body = b"".join(chunk({"tool_calls": [call]}) for call in called)
            body += chunk({}, "tool_calls") + DONE
    else:
        body = message(blocks, stop_reason="tool_use")
        if stream:
            body = event("message_start", message={"id": "m", "usage": COUNTS})
            for at, block in enumerate(blocks):
                body += event("content_block_start", index=at, content_block=block)
                body += event("content_block_stop", index=at)
            body += event("message_delta", delta={"stop_reason": "tool_use"}, usage=COUNTS)
            body += event("message_stop")

    _, client = await served(wire, endpoint, body, stream=stream)

    calls = calls_of(client, endpoint, stream=stream)
    assert calls == [("c", '{"a":1}'), ("c_2", '{"a":1}')]


@pytest.mark.parametrize("endpoint", STREAMED)
async def test_input_that_no_event_counts_is_estimated(endpoint: Endpoint) -> None:
    """The stream begins with a message of null, so that only the output is known."""
    body = event("message_start", message=None) + text_delta("A")
    body += event("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 3})

    bench, _ = await served(Wire.ANTHROPIC, endpoint, body + event("message_stop"), stream=True)

    assert bench.event.outcome == "estimated"
    assert bench.event.usage.output == 3
    assert bench.event.usage.input > 0
