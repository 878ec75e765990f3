"""Reported usage: which counts are believed, and what is read beside the tokens."""

from __future__ import annotations

import pytest

from gateway.core.model import Usage, Wire
from gateway.protocols.anthropic_messages.usage import read_anthropic_usage
from gateway.protocols.codec.usage_bound import UsageBound
from gateway.protocols.openai_chat.usage import read_openai_usage
from gateway.protocols.streams.json_meter import JsonMeter
from gateway.protocols.streams.meter import StreamMeter

BAD_COUNTS = [
    "-1", "10.5", "1000000001", "1e10", "1e308", "1" + "0" * 400, '"5"', "{}", "[1]", "true",
]  # fmt: skip


@pytest.mark.parametrize("bad", BAD_COUNTS)
@pytest.mark.parametrize(
    "usage",
    [
        '{"prompt_tokens":10,"completion_tokens":%s}',
        '{"prompt_tokens":%s,"completion_tokens":5}',
        '{"prompt_tokens":10,"completion_tokens":5,"total_tokens":%s}',
        '{"prompt_tokens":10,"completion_tokens":5,"prompt_tokens_details":{"cached_tokens":%s}}',
        '{"prompt_tokens":9,"completion_tokens":5,"server_tool_use":{"web_search_requests":%s}}',
    ],
)
def test_openai_usage_with_a_count_that_cannot_be_true_is_none(usage: str, bad: str) -> None:
    """One absurd number makes the whole report worthless: the call is estimated."""
    raw = (usage % bad).encode()
    meter = JsonMeter(Wire.OPENAI)
    meter.feed(b'{"choices":[{"message":{"content":"%b"}}],"usage":%b}' % (b"x" * 400, raw))

    assert read_openai_usage(raw) is None
    assert (meter.reported, meter.unreadable_usage) == (False, True)
    assert 95 <= meter.settled(7).output <= 105


@pytest.mark.parametrize("bad", BAD_COUNTS)
@pytest.mark.parametrize(
    "usage",
    [
        '{"input_tokens":%s,"output_tokens":1}',
        '{"input_tokens":1,"output_tokens":%s}',
        '{"output_tokens":1,"cache_creation":{"ephemeral_1h_input_tokens":%s}}',
        '{"output_tokens":1,"iterations":[{"type":"compaction","input_tokens":%s}]}',
    ],
)
def test_anthropic_usage_with_a_count_that_cannot_be_true_is_none(usage: str, bad: str) -> None:
    """A stream whose last report is absurd is settled by its content."""
    raw = (usage % bad).encode()
    meter = StreamMeter(Wire.ANTHROPIC)
    meter.feed(b'data: {"type":"content_block_delta","delta":{"text":"%b"}}\n\n' % (b"x" * 400))
    meter.feed(b'data: {"type":"message_delta","delta":{},"usage":%b}\n\n' % raw)
    meter.end()

    assert read_anthropic_usage(raw) is None
    assert (meter.reported, meter.unreadable_usage) == (False, True)


def test_usage_at_the_largest_count_is_readable() -> None:
    """A billion tokens, also written as a fraction without one; a meter bounds them further."""
    assert read_openai_usage(b'{"prompt_tokens":1000000000,"completion_tokens":10.0}') == Usage(
        input=1_000_000_000, output=10
    )


BOUND = UsageBound(330_000)
CHAT_USAGE = b'{"prompt_tokens":%d,"completion_tokens":10}'
MESSAGES_USAGE = b'{"input_tokens":%d,"output_tokens":10}'


@pytest.mark.parametrize("held_bytes", [1 << 20, 100], ids=["held", "scanned"])
@pytest.mark.parametrize("tokens", [329_990, 329_991, 500_000_000])
@pytest.mark.parametrize(
    ("wire", "body"),
    [
        (
            Wire.OPENAI,
            b'{"choices":[{"message":{"content":"%b"},"finish_reason":"stop"}],"usage":'
            + CHAT_USAGE
            + b"}",
        ),
        (
            Wire.ANTHROPIC,
            b'{"type":"message","content":[{"type":"text","text":"%b"}],"stop_reason":"end_turn",'
            b'"usage":' + MESSAGES_USAGE + b"}",
        ),
    ],
)
def test_whole_response_beyond_the_bound_of_its_call_is_estimated(
    wire: Wire, body: bytes, tokens: int, held_bytes: int
) -> None:
    """The input by the request, the output by its content; the finish reason is kept."""
    meter = JsonMeter(wire, held_bytes, bound=BOUND)
    meter.feed(body % (b"x" * 400, tokens))

    believed = tokens == 329_990
    assert (meter.reported, meter.unreadable_usage) == (believed, not believed)
    settled = meter.settled(7)
    assert settled.input == (tokens if believed else 7)
    assert (settled.output == 10) if believed else (95 <= settled.output <= 110)
    assert meter.finish_reason in ("stop", "end_turn")


@pytest.mark.parametrize("tokens", [329_990, 329_991, 500_000_000])
def test_streams_beyond_the_bound_of_their_call_are_estimated(tokens: int) -> None:
    """An earlier report of the same stream that is possible stays: it has the input."""
    chat = StreamMeter(Wire.OPENAI, bound=BOUND)
    chat.feed(b'data: {"choices":[{"delta":{"content":"%b"}}]}\n\n' % (b"x" * 400))
    chat.feed(b'data: {"choices":[],"usage":%b}\n\n' % (CHAT_USAGE % tokens))
    messages = StreamMeter(Wire.ANTHROPIC, bound=BOUND)
    start = b'data: {"type":"message_start","message":{"usage":{"input_tokens":20}}}\n\n'
    messages.feed(start)
    messages.feed(b'data: {"type":"content_block_delta","delta":{"text":"%b"}}\n\n' % (b"x" * 400))
    messages.feed(
        b'data: {"type":"message_delta","delta":{},"usage":%b}\n\n' % (MESSAGES_USAGE % tokens)
    )

    believed = tokens == 329_990
    for meter, known in ((chat, 7), (messages, 20)):
        meter.end()
        assert (meter.reported, meter.unreadable_usage) == (believed, not believed)
        settled = meter.settled(7)
        assert settled.input == (tokens if believed else known)
        assert (settled.output == 10) if believed else (95 <= settled.output <= 110)


def test_usage_that_is_not_there_is_not_unreadable() -> None:
    """Null and nothing are no fault of the upstream's."""
    for answer in (b'{"choices":[]}', b'{"choices":[],"usage":null}', b'{"choices":[],"usage":{}}'):
        meter = JsonMeter(Wire.OPENAI)
        meter.feed(answer)
        assert meter.unreadable_usage is False


def test_openai_usage_reads_searches_and_the_tier_beside_it() -> None:
    """OpenAI names the tier beside the usage, OpenRouter and Perplexity count searches."""
    meter = JsonMeter(Wire.OPENAI)
    meter.feed(
        b'{"choices":[{"finish_reason":"stop"}],"service_tier":"priority","usage":'
        b'{"prompt_tokens":3,"completion_tokens":2,"num_search_queries":4}}'
    )
    stream = StreamMeter(Wire.OPENAI)
    stream.feed(
        b'data: {"choices":[],"service_tier":"flex","usage":{"prompt_tokens":3,'
        b'"completion_tokens":2,"server_tool_use":{"web_search_requests":1}}}\n\n'
    )

    assert meter.usage == Usage(input=3, output=2, web_searches=4, tier="priority")
    assert stream.usage == Usage(input=3, output=2, web_searches=1, tier="flex")


@pytest.mark.parametrize(
    ("members", "tier"),
    [
        ('"service_tier":"standard","speed":"standard","inference_geo":"global"', None),
        ('"service_tier":"priority","speed":"fast","inference_geo":"us"', "priority+fast+us"),
        ('"speed":71.5,"service_tier":null,"inference_geo":"not_available"', None),
        ('"speed":"Fast\\n+x"', None),
    ],
)
def test_anthropic_usage_names_the_tiers_that_are_not_standard(
    members: str, tier: str | None
) -> None:
    """Other upstreams use the names for numbers; odd words do not reach the record."""
    usage = read_anthropic_usage(f'{{"input_tokens":1,"output_tokens":2,{members}}}'.encode())

    assert usage == Usage(input=1, output=2, tier=tier)


def test_anthropic_usage_keeps_what_the_start_of_a_stream_said() -> None:
    """The cache's hour, the tier and the searches come with different events."""
    start = read_anthropic_usage(
        b'{"input_tokens":1,"cache_creation_input_tokens":9,"output_tokens":1,'
        b'"cache_creation":{"ephemeral_5m_input_tokens":2,"ephemeral_1h_input_tokens":7},'
        b'"service_tier":"priority"}'
    )
    assert start is not None

    end = read_anthropic_usage(
        b'{"output_tokens":30,"server_tool_use":{"web_search_requests":2}}', start
    )

    assert end == Usage(
        input=1, cache_write=9, output=30, cache_write_1h=7, web_searches=2, tier="priority"
    )


def test_anthropic_usage_counts_the_summaries_of_the_history() -> None:
    """The totals leave compaction out; other entries are in them already."""
    usage = read_anthropic_usage(
        b'{"input_tokens":23000,"output_tokens":1000,"iterations":['
        b'{"type":"compaction","input_tokens":180000,"output_tokens":3500,'
        b'"cache_read_input_tokens":70,"cache_creation_input_tokens":60},'
        b'{"type":"message","input_tokens":23000,"output_tokens":1000}],'
        b'"cache_read_input_tokens":7,"cache_creation_input_tokens":6}'
    )

    assert usage == Usage(input=203_000, cache_read=77, cache_write=66, output=4_500)
