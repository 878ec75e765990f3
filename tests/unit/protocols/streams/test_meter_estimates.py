"""What is billed when no usage comes, or an event is too large to be kept."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.core.model import Usage, Wire
from gateway.protocols.streams.json_meter import JsonMeter
from gateway.protocols.streams.meter import StreamMeter
from tests.support.meters import DONE, chunk, event, metered, text_delta

LARGE = 26 * 1024 * 1024


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n"])
@pytest.mark.parametrize("lines", [1, 3])
def test_stream_meter_reads_usage_inside_and_after_an_event_of_any_size(
    line_end: bytes, lines: int
) -> None:
    """Data in one line or several; the event's content is estimated, its log probabilities not."""
    opening = b'{"choices":[{"delta":{"content":"%b"}' % (b"x" * LARGE)
    rest = b'"logprobs":{"content":[{"token":"%b"}]}}]' % (b"y" * 999)
    inside = b'"usage":{"prompt_tokens":3,"completion_tokens":2}}'
    parts = (
        [opening + b",", rest + b",", inside]
        if lines == 3
        else [b",".join((opening, rest, inside))]
    )
    event = b"".join(b"data: %b%b" % (part, line_end) for part in parts) + line_end
    usage = chunk(None, usage={"prompt_tokens": 8, "completion_tokens": 4})

    cut_off = metered(Wire.OPENAI, event[: LARGE // 2])
    alone = metered(Wire.OPENAI, *(event[i : i + 65_536] for i in range(0, len(event), 65_536)))
    followed = metered(Wire.OPENAI, chunk({"content": "x"}), event, usage, DONE)

    assert abs(cut_off.estimated_output_tokens() - LARGE // 8) < 20
    assert abs(alone.estimated_output_tokens() - LARGE // 4) < 5
    assert (alone.usage, alone.reported, alone.saw_end) == (Usage(input=3, output=2), True, False)
    assert (followed.usage, followed.saw_end) == (Usage(input=8, output=4), True)


def test_stream_meter_counts_only_the_content_of_events_with_log_probabilities() -> None:
    """Twenty alternatives for each token are not twenty-one tokens, nor do they hide the one."""
    odds = {"content": [{"token": "t", "logprob": -0.1, "top_logprobs": [{"token": "u"}] * 20}]}
    events = [
        b"data: %b\n\n"
        % json.dumps({"choices": [{"delta": {"content": "four"}, "logprobs": odds}]}).encode()
        for _ in range(100)
    ]

    assert metered(Wire.OPENAI, *events).estimated_output_tokens() == 150
    assert metered(Wire.OPENAI, b"".join(events)).estimated_output_tokens() == 150


def test_stream_meter_estimates_what_is_no_text() -> None:
    """Whole tool calls, two copies of reasoning, encrypted reasoning and images."""
    call = {"index": 0, "id": "c", "function": {"name": "f" * 8, "arguments": "x" * 390}}
    cases: list[tuple[dict[str, Any], int]] = [
        ({"tool_calls": [call]}, 402),
        ({"reasoning": "x" * 398, "reasoning_details": [{"text": "x" * 398}]}, 400),
        ({"reasoning_details": [{"data": "x" * 798}]}, 600),
        ({"images": [{"image_url": {"url": "x" * 128_000}}]}, 1001),
        ({"content": "", "annotations": [{"url": "x" * 999}]}, 0),
    ]
    for delta, size in cases:
        meter = metered(Wire.OPENAI, chunk(delta))
        assert meter.estimated_output_tokens() == -(-size // 4), delta

    redacted = {"type": "redacted_thinking", "data": "x" * 798}
    tool = {"type": "tool_use", "id": "toolu_1", "name": "f" * 6, "input": {"a": "x" * 384}}
    found = {"type": "web_search_tool_result", "tool_use_id": "t", "content": [{"x": "y" * 999}]}
    for block, size in ((redacted, 600), (tool, 400), (found, 0)):
        meter = metered(Wire.ANTHROPIC, event("content_block_start", content_block=block))
        assert meter.estimated_output_tokens() == size // 4, block


def test_stream_meter_estimates_every_choice() -> None:
    """With `n` all responses are output."""
    pieces = [
        b'data: {"choices":[{"index":%d,"delta":{"content":"twelve bytes"}}]}\n\n' % (n % 4)
        for n in range(400)
    ]

    assert 1390 <= metered(Wire.OPENAI, *pieces).estimated_output_tokens() <= 1500


def test_stream_meter_usage_of_zeros_is_none() -> None:
    """Placeholders neither make a stream free nor undo what was reported."""
    zeros = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
    silent = metered(Wire.OPENAI, *[chunk({"content": "four"}, usage=zeros)] * 100)
    told = metered(
        Wire.OPENAI, chunk({"content": "x"}, usage={"completion_tokens": 5}), chunk({}, usage=zeros)
    )

    assert not silent.reported
    assert silent.settled(30) == Usage(input=30, output=150)
    assert told.usage == Usage(output=5)


def test_stream_meter_knows_when_only_the_report_is_missing() -> None:
    """After a finish reason, and between an Anthropic block's end and the next content."""
    meter = StreamMeter(Wire.OPENAI)
    meter.feed(chunk({"content": "x"}))
    before = meter.content_ended
    meter.feed(chunk({}, "stop"))
    assert (before, meter.content_ended) == (False, True)

    messages = StreamMeter(Wire.ANTHROPIC)
    tool = {"type": "tool_use", "name": "f"}
    ended = []
    for piece in (
        text_delta("x"),
        event("content_block_stop", index=0),
        event("content_block_start", index=1, content_block=tool),
    ):
        messages.feed(piece)
        ended.append(messages.content_ended)
    assert ended == [False, True, False]


def test_json_meter_of_an_answer_that_broke_off_counts_what_came() -> None:
    """Half a document is half its content, not none."""
    for wire, body in (
        (Wire.OPENAI, b'{"choices":[{"message":{"content":"%b' % (b"x" * 4000)),
        (Wire.ANTHROPIC, b'{"content":[{"type":"text","text":"%b' % (b"x" * 4000)),
    ):
        meter = JsonMeter(wire)
        meter.feed(body)
        assert not meter.saw_end
        assert meter.settled(7) == Usage(input=7, output=1001)


def test_json_meter_without_usage_counts_the_content_of_all_choices() -> None:
    """Neither log probabilities nor the results of the server's tools are output."""
    choice = {"message": {"role": "assistant", "content": "x" * 398}, "logprobs": "y" * 4000}
    openai = JsonMeter(Wire.OPENAI)
    openai.feed(json.dumps({"choices": [choice] * 3, "usage": None}).encode())
    blocks = [
        {"type": "thinking", "thinking": "x" * 398, "signature": "y" * 398},
        {"type": "text", "text": "x" * 398, "citations": [{"cited_text": "y" * 999}]},
        {"type": "web_search_tool_result", "content": [{"encrypted_content": "y" * 9999}]},
    ]
    anthropic = JsonMeter(Wire.ANTHROPIC)
    anthropic.feed(json.dumps({"type": "message", "content": blocks}).encode())

    assert openai.settled(7) == Usage(input=7, output=300)
    assert anthropic.settled(7) == Usage(input=7, output=200)
