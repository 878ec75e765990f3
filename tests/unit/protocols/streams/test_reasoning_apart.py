"""Providers whose usage states reasoning beside the completion and the total."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.core.model import Endpoint, Usage, Wire
from gateway.protocols.openai_chat.usage import read_openai_usage
from gateway.protocols.streams.json_meter import JsonMeter
from gateway.protocols.streams.meter import StreamMeter
from tests.support.meters import DONE, chunk
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

# Gemini behind Vercel's AI Gateway, 2026-11: it charges 155 tokens of output.
VERCEL = {
    "prompt_tokens": 12,
    "completion_tokens": 18,
    "total_tokens": 30,
    "completion_tokens_details": {"reasoning_tokens": 137},
}
BILLED = Usage(input=12, output=18, reasoning=137)
WHOLE = {
    "id": "c",
    "choices": [{"index": 0, "message": {"content": "Hi"}, "finish_reason": "stop"}],
    "usage": VERCEL,
}


@pytest.mark.parametrize(
    ("changes", "usage"),
    [
        ({}, BILLED),
        ({"total_tokens": None}, BILLED),
        ({"total_tokens": 167}, BILLED),
        ({"completion_tokens_details": None}, Usage(input=12, output=18)),
    ],
)
def test_reasoning_is_counted_once(changes: dict[str, Any], usage: Usage) -> None:
    raw = json.dumps(VERCEL | changes).encode()

    assert read_openai_usage(raw, reasoning_apart=True) == usage


def test_reasoning_is_within_the_completion_elsewhere() -> None:
    assert read_openai_usage(json.dumps(VERCEL).encode()) == Usage(input=12, reasoning=18)


def test_meters_count_it_in_streams_and_whole_responses() -> None:
    stream = StreamMeter(Wire.OPENAI, reasoning_apart=True)
    held = JsonMeter(Wire.OPENAI, reasoning_apart=True)
    scanned = JsonMeter(Wire.OPENAI, 10, reasoning_apart=True)

    stream.feed(chunk({"content": "Hi"}, "stop") + chunk(None, usage=VERCEL) + DONE)
    for meter in (held, scanned):
        meter.feed(json.dumps(WHOLE).encode())

    assert stream.usage == held.usage == scanned.usage == BILLED


REQUESTS = {
    Endpoint.CHAT_COMPLETIONS: OPENAI_BODY,
    Endpoint.MESSAGES: ANTHROPIC_BODY,
    Endpoint.RESPONSES: b'{"model":"m","input":"Hi"}',
    Endpoint.NATIVE_CHAT: b'{"model":"m","input":"Hi"}',
}
STREAMED = tuple(endpoint for endpoint in REQUESTS if endpoint is not Endpoint.NATIVE_CHAT)


@pytest.mark.parametrize(
    ("endpoint", "streamed"),
    [*((endpoint, False) for endpoint in REQUESTS), *((endpoint, True) for endpoint in STREAMED)],
)
async def test_what_is_shown_is_what_is_billed(endpoint: Endpoint, streamed: bool) -> None:
    body = json.dumps(WHOLE).encode()
    response = FakeUpstreamResponse(body=body, headers=None if streamed else json_head(body))
    provider = a_provider(caps={"reasoning_apart": True})
    bench = Bench(response, deployments=[a_deployment(provider)])
    request = asking(REQUESTS[endpoint], stream=True) if streamed else REQUESTS[endpoint]
    client = FakeClient("/", request)
    _, task = bench.begin(client, endpoint)

    if streamed:
        await response.end(chunk({"content": "Hi"}, "stop") + chunk(None, usage=VERCEL) + DONE)
    await task

    assert bench.event.usage == BILLED
    if endpoint is not Endpoint.CHAT_COMPLETIONS:  # relayed unchanged
        assert b'"output_tokens":155' in client.body
