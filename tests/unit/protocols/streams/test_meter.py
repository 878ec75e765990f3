"""Meters read usage from responses that pass by, wherever the network cuts them."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.model import Usage, Wire
from gateway.protocols.anthropic_messages.usage import read_anthropic_usage
from gateway.protocols.openai_chat.usage import read_openai_usage
from gateway.protocols.streams.json_meter import JsonMeter
from gateway.protocols.streams.meter import StreamMeter
from tests.support.meters import DONE, chunk, event, metered, text_delta

STARTED = {"input_tokens": 9, "cache_read_input_tokens": 7, "output_tokens": 1}
FIRST_TOTAL = {"input_tokens": None, "output_tokens": 40}
OPENAI = (
    b": hello\n\n"
    + chunk({"role": "assistant", "content": ""}, usage=None)
    + chunk({"content": 'a "usage" \n\n data: [DONE] {"usage":{"prompt_tokens":9}}'}, usage=None)
    + chunk({"content": "größe 🎉"}, usage=None)
    + chunk({}, "stop", usage=None)
    + chunk(None, usage={"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15})
    + DONE
)
ANTHROPIC = (
    event("message_start", message={"usage": STARTED})
    + event("content_block_start", index=0, content_block={"type": "text", "text": ""})
    + event("ping")
    + text_delta('{"type":"message_delta","usage":{"output_tokens":99}} event: error')
    + text_delta("more")
    + event("content_block_stop", index=0)
    + event("message_delta", delta={"stop_reason": "end_turn"}, usage=FIRST_TOTAL)
    + event("message_delta", delta={}, usage={"output_tokens": 50})
    + event("message_stop")
)  # fmt: skip


def findings(meter: StreamMeter | JsonMeter) -> tuple[object, ...]:
    """Return everything that must not depend on the cuts."""
    return (
        meter.usage,
        meter.seen,
        meter.reported,
        meter.raw_usage,
        meter.finish_reason,
        meter.saw_end,
        meter.failed,
        meter.restarted,
        meter.contents > 0,
    )


def cut(body: bytes, points: list[int]) -> list[bytes]:
    """Cut `body` at the points (modulo its length)."""
    at = sorted({point % (len(body) + 1) for point in points} | {0, len(body)})
    return [body[a:b] for a, b in itertools.pairwise(at)]


ENDINGS = {"LF": b"\n", "CRLF": b"\r\n", "CR": b"\r"}


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize(
    ("wire", "body", "usage", "finish"),
    [
        (Wire.OPENAI, OPENAI, Usage(input=10, output=5), "stop"),
        (Wire.ANTHROPIC, ANTHROPIC, Usage(input=9, cache_read=7, output=50), "end_turn"),
    ],
)
def test_stream_meter_any_delivery_same_usage(
    wire: Wire, body: bytes, usage: Usage, finish: str, ending: str
) -> None:
    """Whole, byte by byte, by event and cut in two anywhere, with every line end."""
    events = [each + b"\n\n" for each in body.split(b"\n\n") if each]
    deliveries = [[body], [body[i : i + 1] for i in range(len(body))], events]
    deliveries += [[body[:i], body[i:]] for i in range(0, len(body), 7)]
    for chunks in deliveries:
        meter = metered(wire, *(piece.replace(b"\n", ENDINGS[ending]) for piece in chunks))
        assert (meter.usage, meter.finish_reason) == (usage, finish)
        assert (meter.seen, meter.reported, meter.saw_end, meter.failed) == (
            True,
            True,
            True,
            False,
        )


streams = st.lists(
    st.sampled_from(
        [
            chunk({"role": "assistant", "content": ""}),
            chunk({"content": "x"}, usage=None),
            chunk({"content": "y"}, usage={"prompt_tokens": 3, "completion_tokens": 2}),
            chunk({"reasoning_content": "z"}),
            chunk({}, "stop"),
            chunk(None, usage={"prompt_tokens": 8, "completion_tokens": 4, "total_tokens": 12}),
            b'data: {"error":{"message":"boom"}}\n\n',
            b"event: error\ndata: {}\n\n",
            b": comment\n\n",
            b"data: not json\r\n\r\n",
            DONE,
            event("message_start", message={"usage": {"input_tokens": 9, "output_tokens": 1}}),
            text_delta("hello"),
            event("ping"),
            event("message_delta", delta={"stop_reason": "x"}, usage={"output_tokens": 5}),
            event("error", error={"type": "overloaded_error"}),
            event("message_stop"),
            b"\r",
            b"\n",
        ]
    ),
    max_size=12,
).map(b"".join)


@given(streams, st.lists(st.integers(0, 10_000), max_size=12), st.sampled_from(Wire))
def test_stream_meter_split_anywhere_same_findings(
    body: bytes, points: list[int], wire: Wire
) -> None:
    """Where the network cuts has no meaning."""
    assert findings(metered(wire, *cut(body, points))) == findings(metered(wire, body))


@given(st.lists(st.binary(max_size=80), max_size=8), st.sampled_from(Wire))
def test_meters_arbitrary_bytes_never_fail(chunks: list[bytes], wire: Wire) -> None:
    """A meter may find nothing, but it never raises."""
    meter = metered(wire, *chunks)
    meter.estimated_output_tokens()
    whole = JsonMeter(wire)
    for piece in chunks:
        whole.feed(piece)
    findings(whole)


def test_stream_meter_content_begins_with_the_first_words() -> None:
    """Comments, pings, roles and empty deltas are no content; reasoning and calls are."""
    idle = [
        b": c\n\n",
        chunk({"role": "assistant", "content": ""}),
        chunk({"content": None}),
        chunk({}),
    ]
    for first in (
        chunk({"content": "x"}),
        chunk({"reasoning_content": "x"}),
        chunk({"reasoning_details": [{"text": "x"}]}),
        chunk({"tool_calls": [{"index": 0, "function": {"name": "f"}}]}),
        chunk({"refusal": "no"}),
    ):
        meter = metered(Wire.OPENAI, *idle)
        assert meter.contents == 0
        meter.feed(first)
        assert meter.contents == 1

    quiet = [
        event("message_start", message={"usage": {"input_tokens": 1}}),
        event("ping"),
        event("content_block_start", index=0, content_block={"type": "thinking", "thinking": ""}),
        text_delta(""),
    ]
    for first in (
        text_delta("x"),
        event("content_block_start", index=0, content_block={"type": "tool_use", "name": "f"}),
    ):
        meter = metered(Wire.ANTHROPIC, *quiet)
        assert meter.contents == 0
        meter.feed(first)
        assert meter.contents == 1


def test_stream_meter_pings_and_comments_later_do_not_count_as_content() -> None:
    """The content clocks are not fed by keep-alives, also after the first content."""
    openai = metered(Wire.OPENAI, chunk({"content": "x"}), chunk({"content": "y"}))
    openai.feed(b": OPENROUTER PROCESSING\n\n")
    assert openai.contents == 2
    anthropic = metered(Wire.ANTHROPIC, text_delta("x"), text_delta("y"))
    anthropic.feed(event("ping"))
    assert anthropic.contents == 2
    anthropic.feed(text_delta("y") + event("ping") + text_delta("z"))
    assert anthropic.contents == 4


def test_stream_meter_openai_last_usage_wins_wherever_it_stands() -> None:
    """Running totals, usage in the choice, usage before the end."""
    running = [
        chunk({"content": "x"}, usage={"prompt_tokens": 5, "completion_tokens": count})
        for count in (1, 2, 3)
    ]
    assert metered(Wire.OPENAI, *running, DONE).usage == Usage(input=5, output=3)
    inside = b'{"prompt_tokens":5,"completion_tokens":3,"cached_tokens":2}'
    kimi = b'data: {"choices":[{"delta":{},"finish_reason":"stop","usage":%b}]}\n\n' % inside
    meter = metered(Wire.OPENAI, chunk({"content": "x"}), kimi, DONE)
    assert meter.usage == Usage(input=3, cache_read=2, output=3)
    assert meter.raw_usage == inside
    empty = metered(Wire.OPENAI, *running, chunk(None, usage={}), DONE)
    assert empty.usage == Usage(input=5, output=3)


def test_stream_meter_cut_before_usage_estimates_from_the_content() -> None:
    """Without usage the output is guessed from bytes, free of framing, and the input given."""
    openai = metered(Wire.OPENAI, *[chunk({"content": "four"}) for _ in range(100)])
    assert (openai.seen, openai.reported, openai.usage) == (False, False, Usage())
    assert 95 <= openai.estimated_output_tokens() <= 155
    assert openai.settled(30) == Usage(input=30, output=openai.estimated_output_tokens())
    single = metered(Wire.OPENAI, chunk({"content": "x" * 4000}))
    assert 990 <= single.estimated_output_tokens() <= 1010

    start = event("message_start", message={"usage": {"input_tokens": 9, "output_tokens": 1}})
    anthropic = metered(Wire.ANTHROPIC, start, *[text_delta("twelve bytes") for _ in range(50)])
    assert (anthropic.seen, anthropic.reported) == (True, False)
    assert anthropic.usage == Usage(input=9, output=1)
    assert 140 <= anthropic.settled(30).output <= 180
    assert anthropic.settled(30).input == 9

    complete = metered(Wire.ANTHROPIC, ANTHROPIC)
    assert complete.settled(30) == complete.usage
    assert metered(Wire.OPENAI, b": c\n\n").estimated_output_tokens() == 0


def test_stream_meter_burst_cut_anywhere_is_counted_whole() -> None:
    """Large reads that end inside of an event lose no content."""
    body = b"".join(chunk({"content": "four"}, usage=None) for _ in range(500))
    pieces = [body[i : i + 4096] for i in range(0, len(body), 4096)]

    meter = metered(Wire.OPENAI, *pieces)

    assert meter.contents == 500
    assert meter.estimated_output_tokens() == metered(Wire.OPENAI, body).estimated_output_tokens()


def test_stream_meter_one_read_estimates_the_content_and_not_what_stands_around_it() -> None:
    """Pings and a block's end that come in one read with content add nothing to the estimate."""
    start = event("content_block_start", index=0, content_block={"type": "text", "text": ""})
    rest = event("content_block_stop", index=0) + event("ping")
    deltas = [text_delta("seven b ") for _ in range(10)]

    single = metered(Wire.ANTHROPIC, start, *deltas, rest)
    joined = metered(Wire.ANTHROPIC, start + deltas[0], b"".join(deltas[1:]) + rest)
    at_once = metered(Wire.ANTHROPIC, start + b"".join(deltas) + rest)

    assert single.estimated_output_tokens() == 25
    assert joined.estimated_output_tokens() == 25
    assert at_once.estimated_output_tokens() == 25


def test_stream_meter_errors_inside_the_stream_are_told() -> None:
    """An error object, an error event or Anthropic's error type marks the stream failed."""
    content = chunk({"content": 'say "error" and \\"error\\"'})
    assert not metered(Wire.OPENAI, content, content, chunk({"content": "x"}, error=None)).failed
    for broken in (b'data: {"error": {"message":"x"}}\n\n', b"event: error\ndata: {}\n\n"):
        assert metered(Wire.OPENAI, content, content, broken).failed
        assert metered(Wire.OPENAI, broken).failed
    assert metered(Wire.ANTHROPIC, event("error", error={"type": "api_error"})).failed
    assert not metered(Wire.ANTHROPIC, text_delta("event: error"), text_delta('"error"')).failed


def test_stream_meter_reads_on_after_a_line_that_is_no_event() -> None:
    """A line that never seems to end is dropped, not the usage after it."""
    meter = StreamMeter(Wire.OPENAI)
    for _ in range(130):
        meter.feed(b"x" * 65536)
    meter.feed(b"\n\n" + chunk(None, usage={"prompt_tokens": 1}))
    meter.end()

    assert meter.usage == Usage(input=1)


def test_json_meter_reads_each_wires_answer() -> None:
    """Usage, finish reason and errors of whole responses, in any pieces."""
    openai = (
        b'{"choices":[{"message":{"role":"assistant","content":"\\ud83d hello"},'
        b'"finish_reason":"length"}],'
        b'"usage":{"prompt_tokens":10,"completion_tokens":5,"total_tokens":15}}'
    )
    anthropic = (
        b'{"type":"message","content":[{"type":"text","text":"x"}],"stop_reason":"end_turn",'
        b'"usage":{"input_tokens":10,"output_tokens":5,"output_tokens_details":{"thinking_tokens":4},'
        b'"cache_creation":{"ephemeral_5m_input_tokens":1,"ephemeral_1h_input_tokens":2}}}'
    )
    embedding = b'{"data":[{"embedding":[0.1]}],"usage":{"prompt_tokens":8,"total_tokens":8}}'
    thought = Usage(input=10, cache_write=3, output=1, reasoning=4, cache_write_1h=2)
    cases = [
        (Wire.OPENAI, openai, Usage(input=10, output=5), "length", True, False),
        (Wire.ANTHROPIC, anthropic, thought, "end_turn", True, False),
        (Wire.OPENAI, b'{"error":{"message":"x"}}', Usage(), None, True, True),
        (Wire.ANTHROPIC, b'{"type":"error","error":{}}', Usage(), None, True, True),
        (Wire.OPENAI, embedding, Usage(input=8), None, True, False),
        (Wire.OPENAI, openai[:-1], Usage(input=10, output=5), "length", False, False),
        (Wire.OPENAI, openai[:-2], Usage(), "length", False, False),
        (Wire.OPENAI, b"[]", Usage(), None, False, False),
    ]
    for wire, body, usage, finish, complete, failed in cases:
        meter = JsonMeter(wire)
        for piece in (body[:20], body[20:]):
            meter.feed(piece)
        meter.end()
        assert (meter.usage, meter.finish_reason) == (usage, finish)
        assert (meter.saw_end, meter.failed) == (complete, failed)
        assert meter.reported is (usage != Usage())
    silent = JsonMeter(Wire.OPENAI)
    silent.feed(b'{"choices":[{"message":{"content":"%b"}}]}' % (b"x" * 400))
    assert 95 <= silent.settled(7).output <= 105
    assert silent.settled(7).input == 7


@pytest.mark.parametrize(
    ("reported", "usage"),
    [
        (
            {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120,
             "prompt_tokens_details": {"cached_tokens": 60, "cache_write_tokens": 10},
             "completion_tokens_details": {"reasoning_tokens": 15}},
            Usage(input=30, cache_read=60, cache_write=10, output=5, reasoning=15),
        ),
        (
            {"prompt_tokens": 100, "completion_tokens": 20, "prompt_cache_hit_tokens": 64,
             "prompt_cache_miss_tokens": 36},
            Usage(input=36, cache_read=64, output=20),
        ),
        (
            {"prompt_tokens": 100, "completion_tokens": 20, "cached_tokens": 40,
             "prompt_tokens_details": {"cached_tokens": 0}},
            Usage(input=60, cache_read=40, output=20),
        ),
        (
            {"prompt_tokens": 32, "completion_tokens": 9, "total_tokens": 135,
             "completion_tokens_details": {"reasoning_tokens": 94}},
            Usage(input=32, output=9, reasoning=94),
        ),
        (
            {"prompt_tokens": 10, "completion_tokens": 5, "prompt_tokens_details": None,
             "cache_read_input_tokens": 12, "cache_creation_input_tokens": 3},
            Usage(input=10, cache_read=12, cache_write=3, output=5),
        ),
        (  # Azure's Grok
            {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15,
             "prompt_tokens_details": {"cached_tokens": 161}},
            Usage(cache_read=10, output=5),
        ),
        (  # Mistral's audio
            {"prompt_tokens": 9, "completion_tokens": 248, "total_tokens": 632,
             "prompt_tokens_details": {"audio_tokens": 375}},
            Usage(input=384, output=248),
        ),
        (  # cached tokens beside the prompt
            {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 610,
             "prompt_tokens_details": {"cached_tokens": 500}},
            Usage(input=100, cache_read=500, output=10),
        ),
        (  # the names of Responses
            {"input_tokens": 100, "output_tokens": 20, "total_tokens": 120,
             "input_tokens_details": {"cached_tokens": 60},
             "output_tokens_details": {"reasoning_tokens": 15}},
            Usage(input=40, cache_read=60, output=5, reasoning=15),
        ),
        (  # the names of Messages
            {"input_tokens": 100, "output_tokens": 20, "cache_read_input_tokens": 60,
             "cache_creation_input_tokens": 7},
            Usage(input=100, cache_read=60, cache_write=7, output=20),
        ),
        (  # reasoning that only the total shows
            {"prompt_tokens": 5, "completion_tokens": 10, "total_tokens": 215},
            Usage(input=5, output=210),
        ),
        ({"completion_tokens": 5, "cached_tokens": 3}, Usage(cache_read=3, output=5)),
        (
            {"prompt_tokens": 10, "completion_tokens": 5,
             "prompt_tokens_details": {"cache_creation_tokens": 4}},
            Usage(input=6, cache_write=4, output=5),
        ),
        (
            {"prompt_tokens": 10.0, "completion_tokens": 5,
             "completion_tokens_details": {"reasoning_tokens": 9}},
            Usage(input=10, output=0, reasoning=5),
        ),
        ({"completion_tokens": 5, "total_tokens": 15}, Usage(input=10, output=5)),
        ({"prompt_tokens": -5, "completion_tokens": 5}, None),
        ({}, None),
        (None, None),
        ([], None),
        ({"prompt_tokens": "5"}, None),
    ],
)  # fmt: skip
def test_openai_usage_every_spelling_gives_disjoint_classes(
    reported: object, usage: Usage | None
) -> None:
    """Cached tokens are taken out of the prompt, reasoning out of the output."""
    assert read_openai_usage(json.dumps(reported).encode()) == usage


counts = st.none() | st.integers(0, 10_000)


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "prompt_tokens": counts,
            "completion_tokens": counts,
            "total_tokens": counts,
            "cached_tokens": counts,
            "prompt_tokens_details": st.none()
            | st.dictionaries(st.sampled_from(["cached_tokens", "cache_write_tokens"]), counts),
            "completion_tokens_details": st.none()
            | st.dictionaries(st.just("reasoning_tokens"), counts),
        },
    )
)
def test_openai_usage_any_numbers_conserved_and_never_negative(usage: dict[str, Any]) -> None:
    """No stated count is lost, and what the total has beyond them is counted once."""
    found = read_openai_usage(json.dumps(usage).encode())
    if found is None:
        return
    assert min(found.input, found.cache_read, found.cache_write, found.output, found.reasoning) >= 0
    prompt, total = usage.get("prompt_tokens"), usage.get("total_tokens") or 0
    completion = usage.get("completion_tokens") or 0
    input_tokens = found.input + found.cache_read + found.cache_write
    output_tokens = found.output + found.reasoning
    assert input_tokens >= (prompt or 0)
    assert completion <= output_tokens <= max(completion, total)
    if prompt:
        assert input_tokens + output_tokens == max(total, prompt + completion)


def test_stream_meter_framing_learned_anew_and_never_hides_what_matters() -> None:
    """After comparing framings the finish reason, usage and errors are still found."""
    words = ["a", "be", 'say "hi"', "dear \\", "", "x" * 50]
    body = [chunk({"content": word}, usage=None) for word in words * 4]
    thoughts = [chunk({"reasoning_content": word}, usage=None) for word in words * 4]
    last = chunk({"content": "end"}, "stop", usage={"prompt_tokens": 3, "completion_tokens": 2})
    meter = metered(Wire.OPENAI, *thoughts, *body, *[body[0] + body[1]] * 5, last)

    assert (meter.usage, meter.finish_reason) == (Usage(input=3, output=2), "stop")
    assert meter.contents >= 40 + 10 + 1
    assert metered(Wire.OPENAI, *body, b'data: {"error":{"message":"x"}}\n\n').failed


def test_anthropic_usage_in_the_names_of_chat_completions() -> None:
    raw = (
        b'{"prompt_tokens":100,"completion_tokens":20,"prompt_tokens_details":{"cached_tokens":60}}'
    )

    assert read_anthropic_usage(raw) == Usage(input=40, cache_read=60, output=20)


def test_zeros_of_a_later_chunk_replace_no_counts() -> None:
    """Some upstreams report the input at the start and only the output at the end."""
    meter = StreamMeter(Wire.OPENAI)
    for usage in (
        {"prompt_tokens": 100, "completion_tokens": 0},
        {"prompt_tokens": 0, "completion_tokens": 7},
        {"prompt_tokens": 0, "completion_tokens": 0},
    ):
        meter.feed(b"data: %b\n\n" % json.dumps({"choices": [], "usage": usage}).encode())

    assert meter.usage == Usage(input=100, output=7)


def test_anthropic_usage_members_replace_and_zeros_do_not() -> None:
    """Counts are cumulative: later ones replace; absent, null and zero leave what is known."""
    known = Usage(input=10, cache_read=20, cache_write=30, output=3, reasoning=2)

    assert read_anthropic_usage(b'{"output_tokens":50,"input_tokens":null}', known) == Usage(
        input=10, cache_read=20, cache_write=30, output=48, reasoning=2
    )
    assert read_anthropic_usage(b'{"input_tokens":0,"cache_creation_input_tokens":1}', known) == (
        Usage(input=10, cache_read=20, cache_write=1, output=3, reasoning=2)
    )
    assert read_anthropic_usage(b"{}", known) is None
    assert read_anthropic_usage(b"null", known) is None


def test_json_meter_counts_its_chunks() -> None:
    """Any chunk is progress."""
    meter = JsonMeter(Wire.OPENAI)
    meter.feed(b"{")
    meter.feed(b"}")

    assert meter.contents == 2
