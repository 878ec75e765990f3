"""Rules of the stream's translation, OpenAI-wire chunks to Anthropic events."""

from __future__ import annotations

import json

import pytest

from gateway.protocols.anthropic_messages.writer import PING
from gateway.protocols.translate.messages_to_chat.stream import MessagesWriter
from gateway.protocols.translate.stream import ResponseContext, StreamTranslator
from tests.support.anthropic_streams import accumulate, read_events
from tests.support.messages_to_chat_streams import (
    DONE,
    USAGE,
    USAGE_CHUNK,
    blocks,
    call,
    delta,
    deltas,
    names,
    new_stream,
    run,
    sse,
)


def test_translator_fits_the_contract():
    """The translator implements the `StreamTranslator` protocol."""
    translator: StreamTranslator = new_stream()

    assert not translator.started
    assert translator.error_before_commit is None
    assert not translator.done


def test_chunks_of_one_read_leave_together():
    """One write for each network chunk."""
    stream = new_stream()

    written = stream.feed(delta(content="a") + delta(content="b"))

    assert names(written) == ["message_start", "content_block_start"] + ["content_block_delta"] * 2
    assert stream.started


def test_comments_start_nothing():
    """The head may still become an HTTP error."""
    stream = new_stream()

    assert stream.feed(b": keep-alive\n\n") == b""
    assert not stream.started


def test_error_first_is_an_http_error():
    """The upstream's code decides the status; the event form serves a committed head."""
    stream = new_stream()

    assert (
        stream.feed(sse({"error": {"message": "Slow down", "code": "rate_limit_exceeded"}})) == b""
    )
    assert stream.error_before_commit is not None
    assert stream.error_before_commit.status == 429
    assert json.loads(stream.error_before_commit.body) == {
        "type": "error",
        "error": {"type": "rate_limit_error", "message": "Slow down"},
    }
    assert stream.error_before_commit.fault is not None
    assert read_events(stream.error_event)[0]["event"] == "error"
    assert stream.done
    assert stream.failed
    assert not stream.started
    assert stream.feed(delta(content="late")) == b""
    assert stream.end(clean=True) == b""


@pytest.mark.parametrize(
    "event",
    [
        b'event: error\ndata: {"message":"Broken"}\n\n',
        b'data: {"error":"Broken"}\n\n',
        b'data: {"error":{"message":"Broken","type":"server_error"}}\n\n',
    ],
)
def test_error_after_text_is_an_event_and_the_end(event):
    """The open block is not closed: nothing may pretend completeness."""
    stream = new_stream()

    written = run(stream, delta(content="a"), event, delta(content="b"), DONE)

    assert names(written)[-2:] == ["content_block_delta", "error"]
    assert read_events(written)[-1]["data"]["error"] == {"type": "api_error", "message": "Broken"}
    assert stream.failed


def test_malformed_event_is_an_error():
    """Data that is no JSON cannot be skipped: it may have been the response."""
    written = run(new_stream(), delta(content="a"), b"data: {nonsense\n\n")

    error = read_events(written)[-1]["data"]["error"]
    assert error == {"type": "api_error", "message": "Upstream sent malformed data"}


@pytest.mark.parametrize("data", [b"[1]", b"5", b'"x"', b"", b"null"])
def test_json_that_is_no_object_is_ignored(data):
    """JSON that is no object produces no event."""
    written = run(new_stream(), delta(content="a"), b"data: " + data + b"\n\n", delta("stop"), DONE)

    assert names(written)[-1] == "message_stop"


@pytest.mark.parametrize("clean", [True, False])
def test_end_before_a_finish_reason_is_an_error(clean):
    """A false end would stop an agent's work silently."""
    written = run(new_stream(), delta(content="a"), clean=clean)

    error = read_events(written)[-1]["data"]["error"]
    assert error == {"type": "api_error", "message": "Upstream stream ended before completion"}


@pytest.mark.parametrize("clean", [True, False])
def test_end_after_a_finish_reason_is_complete(clean):
    """The response was whole; only usage is missing."""
    stream = new_stream()

    written = run(stream, delta(content="a"), delta("stop"), clean=clean)

    assert stream.finish_seen
    assert not stream.failed
    assert accumulate(written)["stop_reason"] == "end_turn"
    assert accumulate(written)["usage"]["output_tokens"] == 0


def test_unterminated_last_event_still_counts():
    """Several servers close without the last blank line."""
    written = run(new_stream(), delta(content="a"), delta("stop"), sse(USAGE_CHUNK)[:-2])

    assert accumulate(written)["usage"]["output_tokens"] == 5


def test_torn_last_event_after_a_finish_reason_does_no_harm():
    """The response is complete without it."""
    written = run(new_stream(), delta(content="a"), delta("stop"), sse(USAGE_CHUNK)[:-9])

    assert names(written)[-1] == "message_stop"


def test_silence_after_a_finish_reason_can_be_ended():
    """The client's timer finalises; before a finish reason it has no effect."""
    stream = new_stream()
    stream.feed(delta(content="a"))

    assert stream.expire_after_finish() == b""
    stream.feed(delta("stop"))
    assert names(stream.expire_after_finish()) == ["message_delta", "message_stop"]
    assert stream.done
    assert stream.expire_after_finish() == b""
    assert stream.end(clean=False) == b""


def test_usage_chunk_after_finish_ends_the_stream_at_once():
    """No need to wait for [DONE]."""
    stream = new_stream()

    stream.feed(delta(content="a") + delta("stop"))
    written = stream.feed(sse(USAGE_CHUNK))

    assert names(written) == ["message_delta", "message_stop"]
    assert stream.done
    assert stream.feed(DONE) == b""


def test_running_usage_does_not_end_a_choice_that_goes_on():
    """Usage on every chunk, as vLLM sends it, means nothing by itself."""
    running = sse({"choices": [{"index": 0, "delta": {"content": "b"}}], "usage": USAGE})

    written = run(new_stream("vllm"), delta(content="a"), delta("stop"), running, DONE)

    assert deltas(written) == ["a", "b"]


def test_other_choices_are_ignored():
    """Only choice 0 is read."""
    other = sse({"choices": [{"index": 1, "delta": {"content": "no"}, "finish_reason": "stop"}]})

    written = run(new_stream(), delta(content="a"), other, delta("stop"), DONE)

    assert deltas(written) == ["a"]


def test_thinking_comes_before_text_and_may_return():
    """Interleaved thinking is another block, each with its signature."""
    both = delta(content="t1", reasoning_content="r1")

    written = run(new_stream(), both, delta(reasoning="r2"), delta("stop"), DONE)

    assert blocks(written) == [
        {"type": "thinking", "thinking": "r1"},
        {"type": "text", "text": "t1"},
        {"type": "thinking", "thinking": "r2"},
    ]
    assert all(
        block["signature"] == "gw1."
        for block in accumulate(written)["content"]
        if block["type"] == "thinking"
    )


def test_reasoning_details_are_read_when_nothing_else_is():
    """MiniMax and OpenRouter send reasoning as a list."""
    details = [{"type": "reasoning.text", "text": "a"}, {"type": "x", "summary": "b"}]

    written = run(new_stream("minimax"), delta(reasoning_details=details), delta("stop"), DONE)

    assert deltas(written) == ["ab"]


def test_mistral_content_parts_are_read():
    """Reasoning and text as parts of the content."""
    parts = [
        {"type": "thinking", "thinking": [{"type": "text", "text": "r"}]},
        {"type": "text", "text": "t"},
    ]

    written = run(new_stream(), delta(content=parts), delta("stop"), DONE)

    assert blocks(written) == [
        {"type": "thinking", "thinking": "r"},
        {"type": "text", "text": "t"},
    ]


def test_half_an_emoji_waits_in_each_channel():
    """Reasoning, text and each call's arguments are joined on their own."""
    chunks = [
        delta(reasoning_content="r\ud83d"),
        delta(reasoning_content="\ude00"),
        delta(tool_calls=[call('{"a":"\ud83d', id="c1", name="f")]),
        delta(tool_calls=[call('\ude00"}')]),
        delta("tool_calls"),
    ]

    written = run(new_stream(), *chunks, DONE)

    assert blocks(written) == [
        {"type": "thinking", "thinking": "r😀"},
        {"type": "tool_use", "id": "c1", "name": "f", "input": {"a": "😀"}},
    ]


def test_think_tags_are_cut_where_the_dialect_has_them():
    """A tag split anywhere; LFs around the reasoning belong to neither side."""
    pieces = ["\n<th", "ink>\nwhy", "\n", "</thi", "nk>\n\n", "\nanswer </think>"]

    written = run(new_stream(), *[delta(content=piece) for piece in pieces], delta("stop"), DONE)
    plain = run(new_stream("openai"), *[delta(content=piece) for piece in pieces], delta("stop"))

    assert blocks(written) == [
        {"type": "thinking", "thinking": "why"},
        {"type": "text", "text": "answer </think>"},
    ]
    assert blocks(plain) == [{"type": "text", "text": "".join(pieces)}]


@pytest.mark.parametrize(
    ("pieces", "texts"),
    [
        (["why", "\n</th", "ink>\n", "\nanswer"], ["why\nanswer"]),
        (["</think>", "\n\nanswer"], ["answer"]),
        (["a", "<", "b", "</thin"], ["a<b</thin"]),
        (["see `", "</think>`", " </think>"], ["see `</think>` </think>"]),
        (["a <think>b", "</think>c"], ["a <think>b</think>c"]),
    ],
)
def test_closing_tag_that_none_opened_is_removed_from_streams(pieces, texts):
    """What came before it is with the client as text."""
    written = run(new_stream(), *[delta(content=piece) for piece in pieces], delta("stop"), DONE)

    assert [block["text"] for block in blocks(written)] == texts


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        (["why", "\n</th", "ink>\n\n", "answer"], [("thinking", "why"), ("text", "answer")]),
        (["<think>why</think>", "answer"], [("thinking", "why"), ("text", "answer")]),
        (["why</mm:think>answer"], [("thinking", "why"), ("text", "answer")]),
        (["why"], [("thinking", "why")]),
    ],
)
def test_text_begins_inside_of_reasoning_where_the_template_opens_it(pieces, expected):
    stream = new_stream("vllm", caps={"think_opened": True})

    written = run(stream, *[delta(content=piece) for piece in pieces], delta("stop"), DONE)

    assert [(b["type"], b[b["type"]]) for b in blocks(written)] == expected


def test_held_piece_of_a_tag_stays_before_a_call():
    fragment = call("{}", id="c1", name="f")

    written = run(
        new_stream(), delta(content="a <"), delta(tool_calls=[fragment]), delta("tool_calls"), DONE
    )

    assert blocks(written) == [
        {"type": "text", "text": "a <"},
        {"type": "tool_use", "id": "c1", "name": "f", "input": {}},
    ]


def test_think_tag_is_text_after_a_reasoning_field():
    """If a provider separates reasoning itself, its text may mention the tag."""
    written = run(
        new_stream(), delta(reasoning_content="r"), delta(content="<think>"), delta("stop"), DONE
    )

    assert blocks(written)[1] == {"type": "text", "text": "<think>"}


def test_stop_string_of_vllm_is_named():
    """Only if it is one of the request's."""
    finish = {"index": 0, "delta": {}, "finish_reason": "stop", "stop_reason": "END"}
    stream = new_stream("vllm", stop_sequences=("END",))

    message = accumulate(run(stream, delta(content="a"), sse({"choices": [finish]}), DONE))

    assert (message["stop_reason"], message["stop_sequence"]) == ("stop_sequence", "END")


def test_upstream_that_gives_up_is_an_error():
    """An error finish reason, even after text."""
    written = run(new_stream(), delta(content="a"), delta("error"))

    assert read_events(written)[-1]["data"]["error"]["type"] == "api_error"


def test_event_beyond_the_limit_is_an_error():
    """8 MiB is the longest event."""
    stream = new_stream()
    stream.feed(delta(content="a"))

    written = stream.feed(b"data: " + b"x" * (8 * 1024 * 1024 + 1))

    assert read_events(written)[-1]["event"] == "error"
    assert stream.failed


def test_message_start_names_the_estimate_until_the_upstream_has_counted():
    """The counts at the end are the upstream's."""
    estimated = new_stream(input_estimate=7)
    counted = new_stream(input_estimate=7)
    running = sse({"choices": [{"delta": {"content": "a"}}], "usage": USAGE})

    first = read_events(estimated.feed(delta(content="a")))[0]
    known = read_events(counted.feed(running))[0]
    last = read_events(estimated.feed(delta("stop") + sse(USAGE_CHUNK)))[-2]

    assert first["data"]["message"]["usage"]["input_tokens"] == 7
    assert known["data"]["message"]["usage"]["input_tokens"] == 10
    assert last["data"]["usage"]["input_tokens"] == 10


def test_ping_is_an_event():
    """Chat streams have none; another reader may call it."""
    writer = MessagesWriter(ResponseContext(model="m"))

    writer.ping()

    assert writer.take() == PING
