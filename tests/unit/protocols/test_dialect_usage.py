"""
The `usage` of each provider's dialect, whole and streamed: the counts, the cost, what is shown.

The forms come from the providers' documentation and from public reports, see `USAGE_FACTS`.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import pytest

from gateway.core.model import Endpoint, Prices, Usage, Wire
from gateway.protocols.anthropic_messages.usage import UsageCounters
from gateway.protocols.dialects.facts import USAGE_FACTS
from gateway.protocols.streams.json_meter import JsonMeter
from gateway.protocols.streams.meter import StreamMeter
from tests.support.meters import DONE, chunk, event
from tests.support.pipeline_bench import Bench
from tests.support.pipeline_fakes import (
    ANTHROPIC_BODY,
    FakeClient,
    FakeUpstreamResponse,
    a_deployment,
    a_provider,
    asking,
    json_head,
)

# Nano-dollars per million tokens: $1, $0.10, $1.25, $4 and $5.
PRICES = Prices(
    input=10**9,
    cache_read=10**8,
    cache_write=1_250_000_000,
    output=4 * 10**9,
    reasoning=5 * 10**9,
)


class Form(NamedTuple):
    """
    How a provider reports.

    Attributes:
        usage: The object.
        place: Where a stream has it: "own" chunk, "last" with the finish reason, "choice" within
            the choice, "every" chunk, "zeros" before the last, "x_groq", or "beside" an empty delta
            after the finish.
        counts: What is billed.
        nanousd: The cost at `PRICES`.
    """

    usage: dict[str, Any]
    place: str
    counts: Usage
    nanousd: int


FORMS: dict[str, Form] = {
    "openai": Form(
        {"prompt_tokens": 2006, "completion_tokens": 300, "total_tokens": 2306,
         "prompt_tokens_details": {"cached_tokens": 1920, "audio_tokens": 0},
         "completion_tokens_details": {
             "reasoning_tokens": 192, "audio_tokens": 0,
             "accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0}},
        "own", Usage(input=86, cache_read=1920, output=108, reasoning=192), 1_670_000,
    ),
    "openai-cache-write": Form(
        {"prompt_tokens": 2000, "completion_tokens": 10, "total_tokens": 2010,
         "prompt_tokens_details": {"cached_tokens": 500, "cache_write_tokens": 1400}},
        "own", Usage(input=100, cache_read=500, cache_write=1400, output=10), 1_940_000,
    ),
    "azure": Form(
        {"completion_tokens": 40, "prompt_tokens": 60, "total_tokens": 100,
         "completion_tokens_details": {"reasoning_tokens": 30},
         "prompt_tokens_details": {"cached_tokens": 0}},
        "own", Usage(input=60, output=10, reasoning=30), 250_000,
    ),
    "azure-grok": Form(
        {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15,
         "prompt_tokens_details": {"cached_tokens": 161}},
        "own", Usage(cache_read=10, output=5), 21_000,
    ),
    "deepseek": Form(
        {"prompt_tokens": 200, "completion_tokens": 90, "total_tokens": 290,
         "prompt_tokens_details": {"cached_tokens": 128},
         "completion_tokens_details": {"reasoning_tokens": 60},
         "prompt_cache_hit_tokens": 128, "prompt_cache_miss_tokens": 72},
        "own", Usage(input=72, cache_read=128, output=30, reasoning=60), 504_800,
    ),
    "deepseek-last": Form(
        {"prompt_tokens": 200, "completion_tokens": 90, "total_tokens": 290,
         "prompt_cache_hit_tokens": 128, "prompt_cache_miss_tokens": 72},
        "last", Usage(input=72, cache_read=128, output=90), 444_800,
    ),
    "moonshot": Form(
        {"prompt_tokens": 200, "completion_tokens": 50, "total_tokens": 250, "cached_tokens": 150},
        "choice", Usage(input=50, cache_read=150, output=50), 265_000,
    ),
    "minimax": Form(
        {"total_tokens": 350, "total_characters": 0, "prompt_tokens": 200,
         "completion_tokens": 150, "prompt_tokens_details": {"cached_tokens": 100},
         "completion_tokens_details": {"reasoning_tokens": 120}},
        "last", Usage(input=100, cache_read=100, output=30, reasoning=120), 830_000,
    ),
    "minimax-zeros": Form(
        {"total_tokens": 249, "total_characters": 0, "prompt_tokens": 26,
         "completion_tokens": 223, "completion_tokens_details": {"reasoning_tokens": 214}},
        "zeros", Usage(input=26, output=9, reasoning=214), 1_132_000,
    ),
    "gemini": Form(
        {"completion_tokens": 744, "prompt_tokens": 1469, "total_tokens": 2496,
         "completion_tokens_details": None, "prompt_tokens_details": {"cached_tokens": 1024}},
        "every", Usage(input=445, cache_read=1024, output=1027), 4_655_400,
    ),
    "vllm": Form(
        {"prompt_tokens": 100, "total_tokens": 120, "completion_tokens": 20,
         "prompt_tokens_details": None},
        "every", Usage(input=100, output=20), 180_000,
    ),
    "xai": Form(
        {"prompt_tokens": 10120, "completion_tokens": 1499, "total_tokens": 14428,
         "prompt_tokens_details": {
             "text_tokens": 10120, "audio_tokens": 0, "image_tokens": 0, "cached_tokens": 128},
         "completion_tokens_details": {"reasoning_tokens": 2809, "audio_tokens": 0},
         "num_sources_used": 0, "cost_in_usd_ticks": 232856000},
        "every", Usage(input=9992, cache_read=128, output=1499, reasoning=2809), 30_045_800,
    ),
    "xai-equal-counts": Form(
        {"prompt_tokens": 200, "completion_tokens": 10, "total_tokens": 338,
         "prompt_tokens_details": {"cached_tokens": 128},
         "completion_tokens_details": {"reasoning_tokens": 128}},
        "every", Usage(input=72, cache_read=128, output=10, reasoning=128), 764_800,
    ),
    "zai": Form(
        {"completion_tokens": 239, "prompt_tokens": 8, "total_tokens": 247,
         "completion_tokens_details": {"reasoning_tokens": 200},
         "prompt_tokens_details": {"cached_tokens": 4}},
        "last", Usage(input=4, cache_read=4, output=39, reasoning=200), 1_160_400,
    ),
    "qwen": Form(
        {"prompt_tokens": 29719, "completion_tokens": 435, "total_tokens": 30154,
         "completion_tokens_details": {"reasoning_tokens": 382, "text_tokens": 435},
         "prompt_tokens_details": {
             "text_tokens": 29719, "cache_creation": {"ephemeral_5m_input_tokens": 29713},
             "cache_creation_input_tokens": 29713, "cache_type": "ephemeral", "cached_tokens": 0}},
        "own", Usage(input=6, cache_write=29713, output=53, reasoning=382), 39_269_250,
    ),
    "qwen-nested": Form(
        {"prompt_tokens": 3019, "completion_tokens": 104, "total_tokens": 3123,
         "prompt_tokens_details": {
             "cached_tokens": 2048,
             "cache_creation": {"cache_creation_input_tokens": 500, "cache_type": "ephemeral"}}},
        "own", Usage(input=471, cache_read=2048, cache_write=500, output=104), 1_716_800,
    ),
    "mistral": Form(
        {"prompt_tokens": 1000, "completion_tokens": 20, "total_tokens": 1020,
         "num_cached_tokens": 960, "prompt_token_details": {"cached_tokens": 960}},
        "last", Usage(input=40, cache_read=960, output=20), 216_000,
    ),
    "mistral-audio": Form(
        {"prompt_tokens": 9, "completion_tokens": 248, "total_tokens": 632,
         "prompt_audio_seconds": 30, "prompt_tokens_details": {"audio_tokens": 375}},
        "last", Usage(input=384, output=248), 1_376_000,
    ),
    "groq": Form(
        {"queue_time": 0.061, "prompt_tokens": 2006, "prompt_time": 0.0002,
         "completion_tokens": 300, "completion_time": 0.79, "total_tokens": 2306,
         "total_time": 0.8, "prompt_tokens_details": {"cached_tokens": 1920},
         "completion_tokens_details": {"reasoning_tokens": 100}},
        "x_groq", Usage(input=86, cache_read=1920, output=200, reasoning=100), 1_578_000,
    ),
    "openrouter": Form(
        {"prompt_tokens": 4000, "completion_tokens": 60, "total_tokens": 4060, "cost": 0.014,
         "is_byok": False,
         "prompt_tokens_details": {
             "cached_tokens": 1000, "cache_write_tokens": 2900, "audio_tokens": 0},
         "cost_details": {"upstream_inference_cost": None},
         "completion_tokens_details": {"reasoning_tokens": 32, "image_tokens": 0}},
        "beside", Usage(input=100, cache_read=1000, cache_write=2900, output=28, reasoning=32),
        4_097_000,
    ),
}  # fmt: skip


def whole(form: Form) -> bytes:
    """Return the whole response."""
    choice: dict[str, Any] = {"index": 0, "finish_reason": "stop"}
    choice["message"] = {"role": "assistant", "content": "Hello there"}
    return json.dumps({"id": "c", "choices": [choice], "usage": form.usage}).encode()


def streamed(name: str, form: Form) -> bytes:
    """Return the stream, with usage where the provider has it."""
    usage, place = form.usage, form.place
    early: dict[str, Any] = {"usage": None}
    if place == "every":
        early = {"usage": {**usage, "completion_tokens": 1, "total_tokens": 10**5}}
        early["usage"].pop("completion_tokens_details", None)
        early["usage"]["total_tokens"] = usage["prompt_tokens"] + 1
    if place == "zeros":
        early = {"usage": {"total_tokens": 0, "total_characters": 0}}
    if place == "x_groq":
        early = {"x_groq": {"id": "req_1"}}
    stream = chunk({"role": "assistant", "content": ""}, **early)
    if name.startswith("azure"):
        stream = chunk(None, prompt_filter_results=[{"prompt_index": 0}]) + stream
    stream += chunk({"content": "Hello"}, **early) + chunk({"content": " there"}, **early)
    if place == "choice":
        choice = {"index": 0, "delta": {}, "finish_reason": "stop", "usage": usage}
        return (
            stream + b"data: %b\n\n" % json.dumps({"id": "c", "choices": [choice]}).encode() + DONE
        )
    last: dict[str, Any] = {"usage": usage} if place in ("last", "every", "zeros") else {}
    if place == "x_groq":
        last = {"x_groq": {"id": "req_1", "usage": usage}}
    stream += chunk({}, "stop", **last)
    if place == "own":
        stream += chunk(None, usage=usage)
    if place == "beside":
        stream += chunk({"role": "assistant", "content": ""}, usage=usage)
    return stream + DONE


def test_each_documented_way_to_report_usage_has_an_example() -> None:
    assert {fact.name for fact in USAGE_FACTS} == set(FORMS) | {"anthropic"}


@pytest.mark.parametrize("name", FORMS)
def test_usage_is_read_in_a_stream_and_in_a_whole_response(name: str) -> None:
    form = FORMS[name]
    in_one, in_bytes = StreamMeter(Wire.OPENAI), StreamMeter(Wire.OPENAI)
    held = JsonMeter(Wire.OPENAI)

    body = streamed(name, form)
    in_one.feed(body)
    for at in range(len(body)):
        in_bytes.feed(body[at : at + 1])
    held.feed(whole(form))

    assert held.usage == in_one.usage == in_bytes.usage == form.counts
    assert in_one.reported
    assert in_one.finish_reason == "stop"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("name", FORMS)
async def test_messages_client_pays_and_is_shown_what_was_reported(name: str, stream: bool) -> None:
    """Billed, priced and translated: three readings of one object."""
    form = FORMS[name]
    body = whole(form)
    response = FakeUpstreamResponse(body=body, headers=None if stream else json_head(body))
    bench = Bench(response, deployments=[a_deployment(a_provider())], prices=PRICES)
    request = asking(ANTHROPIC_BODY, stream=True) if stream else ANTHROPIC_BODY
    client = FakeClient("/v1/messages", request)
    _, task = bench.begin(client, Endpoint.MESSAGES)

    if stream:
        await response.end(streamed(name, form))
    await task

    assert bench.event.usage == form.counts
    assert bench.event.cost_nanousd == form.nanousd
    assert shown(client.body, stream=stream) == form.counts


def shown(body: bytes, *, stream: bool) -> Usage | None:
    """Return the counts that an Anthropic client reads of a response."""
    counters = UsageCounters()
    if not stream:
        counters.merge(json.loads(body)["usage"])
        return counters.total
    for line in body.splitlines():
        if line.startswith(b"data: "):
            found = json.loads(line[6:])
            counters.merge(found.get("message", found).get("usage"))
    return counters.total


def test_xai_call_costs_what_xai_charged() -> None:
    """At its prices of $1.25, $0.20 and $2.50: 232,856,000 ticks of a tenth of a nano-dollar."""
    counts = FORMS["xai"].counts

    cost = counts.input * 1_250 + counts.cache_read * 200
    assert cost + (counts.output + counts.reasoning) * 2_500 == 23_285_600


ANTHROPIC_FORMS: dict[str, tuple[dict[str, Any], dict[str, Any], Usage]] = {
    # platform.claude.com, Streaming and Prompt caching, 2026-11.
    "anthropic": (
        {"input_tokens": 30, "cache_read_input_tokens": 1000, "cache_creation_input_tokens": 70,
         "cache_creation": {"ephemeral_5m_input_tokens": 50, "ephemeral_1h_input_tokens": 20},
         "output_tokens": 1},
        {"output_tokens": 90, "output_tokens_details": {"thinking_tokens": 60}},
        Usage(input=30, cache_read=1000, cache_write=70, output=30, reasoning=60,
              cache_write_1h=20),
    ),
    # DeepSeek, Z.ai: all counts come at the end, zeros before.
    "late": (
        {"input_tokens": 0, "output_tokens": 0},
        {"input_tokens": 72, "cache_read_input_tokens": 128, "output_tokens": 50},
        Usage(input=72, cache_read=128, output=50),
    ),
    # The whole prompt first, what of it was cached at the end: all, or a part.
    "all-cached": (
        {"input_tokens": 500, "cache_read_input_tokens": 0, "output_tokens": 0},
        {"input_tokens": 0, "cache_read_input_tokens": 500, "output_tokens": 9},
        Usage(cache_read=500, output=9),
    ),
    "cached-in-part": (
        {"input_tokens": 500, "output_tokens": 0},
        {"input_tokens": 20, "cache_read_input_tokens": 480, "output_tokens": 9},
        Usage(input=20, cache_read=480, output=9),
    ),
    "zeros-at-the-end": (
        {"input_tokens": 500, "cache_read_input_tokens": 480, "output_tokens": 1},
        {"input_tokens": 0, "cache_read_input_tokens": 0, "output_tokens": 9},
        Usage(input=500, cache_read=480, output=9),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ANTHROPIC_FORMS)
def test_usage_of_the_messages_api_is_collected_from_both_events(name: str) -> None:
    start, delta, counts = ANTHROPIC_FORMS[name]
    counters, meter = UsageCounters(), StreamMeter(Wire.ANTHROPIC)

    counters.merge(start)
    counters.merge(delta)
    meter.feed(event("message_start", message={"usage": start}))
    meter.feed(event("message_delta", delta={"stop_reason": "end_turn"}, usage=delta))

    assert counters.total == meter.usage == counts
