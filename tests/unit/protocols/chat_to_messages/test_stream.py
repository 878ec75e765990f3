"""An Anthropic stream as an OpenAI stream."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.protocols.codec.sse import LIMIT_BYTES
from gateway.protocols.translate.chat_to_messages.stream import chat_stream
from gateway.protocols.translate.stream import ResponseContext
from tests.support.chat_sdk import seen

HEAD = b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":7,"model":"mine",'


def event(kind, **members):
    """Return an event of the upstream."""
    data = json.dumps({"type": kind, **members}).encode()
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), data)


def opened(block, index=0):
    """Return the start of a block."""
    return event("content_block_start", index=index, content_block=block)


def delta(kind, words, index=0):
    """Return a delta; its member is named after its type."""
    member = {"input_json_delta": "partial_json"}.get(kind, kind.removesuffix("_delta"))
    return event("content_block_delta", index=index, delta={"type": kind, member: words})


def closed(index=0):
    """Return the end of a block."""
    return event("content_block_stop", index=index)


def stopped(reason="end_turn", **usage):
    """Return the end of the message's content."""
    return event("message_delta", delta={"stop_reason": reason}, usage=usage)


START = event("message_start", message={"id": "msg_1", "usage": {"input_tokens": 3}})
STOP = event("message_stop")
TEXT = {"type": "text", "text": ""}
THINKING = {"type": "thinking", "thinking": "", "signature": ""}
TOOL = {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {}}


def translator(**context):
    """Return a fresh translator."""
    return chat_stream(ResponseContext(model="mine", created=7, **context))


def written(*events, clean=True, **context):
    """Return everything that is written for `events` and the end of the body."""
    stream = translator(**context)
    return b"".join([stream.feed(b"".join(events)), stream.end(clean)])


def deltas(*events, **context):
    """Return the deltas of choice 0 in order, the first (the role) left out."""
    lines = written(*events, **context).split(b"\n\n")
    chunks = [json.loads(line[6:]) for line in lines if line.startswith(b'data: {"id"')]
    return [chunk["choices"][0]["delta"] for chunk in chunks if chunk["choices"]][1:]


def test_stream_is_written_byte_for_byte():
    """The role, the text, the reason, the end; nothing that was not asked for."""
    found = written(START, opened(TEXT), delta("text_delta", "Hé"), closed(), stopped(), STOP)

    end = b'"logprobs":null,"finish_reason":null}]}\n\n'
    assert found == (
        HEAD + b'"choices":[{"index":0,"delta":{"role":"assistant","content":""},' + end
        + HEAD + b'"choices":[{"index":0,"delta":{"content":"H\xc3\xa9"},' + end
        + HEAD + b'"choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"}]}\n\n'
        + b"data: [DONE]\n\n"
    )  # fmt: skip


def test_usage_is_the_last_chunk_and_null_before_if_asked_for():
    """Accumulators take the usage of each chunk they see."""
    found = written(START, stopped(output_tokens=5), STOP, include_usage=True).split(b"\n\n")

    assert all(chunk.endswith(b',"usage":null}') for chunk in found[:-3])
    assert found[-3] == HEAD + (
        b'"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":5,"total_tokens":8,'
        b'"prompt_tokens_details":{"cached_tokens":0,"cache_write_tokens":0}}}'
    )
    assert found[-2:] == [b"data: [DONE]", b""]


def test_later_usage_overwrites_and_null_does_not():
    """Counters are cumulative: they are never added up."""
    found = written(
        START,
        stopped(None, output_tokens=2, input_tokens=None),
        stopped(output_tokens=9, cache_read_input_tokens=4,
                output_tokens_details={"thinking_tokens": 6}),
        stopped("max_tokens", output_tokens=10),
        STOP,
        include_usage=True,
    )  # fmt: skip

    assert found.count(b'"finish_reason":"stop"') == 1
    assert b'"finish_reason":"length"' not in found
    assert b'"prompt_tokens":7,"completion_tokens":10,"total_tokens":17' in found
    assert b'"reasoning_tokens":6' in found


def test_call_names_itself_once_and_then_only_arguments():
    """Accumulators add up whatever is repeated; calls are numbered densely."""
    found = deltas(
        START,
        opened({"type": "server_tool_use", "id": "s", "name": "web", "input": {}}),
        delta("input_json_delta", '{"q"'), closed(),
        opened(TOOL, 1), delta("input_json_delta", "", 1), delta("input_json_delta", '{"a":', 1),
        delta("input_json_delta", "1}", 1), closed(1),
        opened({**TOOL, "id": "toolu_2", "name": "short"}, 2), closed(2),
        stopped("tool_use"), STOP,
        tool_names={"short": "long/name"},
    )  # fmt: skip

    def first(index, call_id, name):
        function = {"name": name, "arguments": ""}
        return {"index": index, "id": call_id, "type": "function", "function": function}

    assert [one["tool_calls"][0] for one in found[:-1]] == [
        first(0, "toolu_1", "f"),
        {"index": 0, "function": {"arguments": '{"a":'}},
        {"index": 0, "function": {"arguments": "1}"}},
        first(1, "toolu_2", "long/name"),
        {"index": 1, "function": {"arguments": "{}"}},
    ]


@pytest.mark.parametrize("end", [[closed()], []])
def test_call_without_deltas_says_its_first_input(end):
    """At the end of its block, or of the message if the block never ends."""
    found = deltas(START, opened({**TOOL, "input": {"a": 1.0}}), *end, stopped("tool_use"), STOP)

    assert found[1]["tool_calls"][0]["function"]["arguments"] == '{"a":1.0}'


def test_call_without_id_gets_one_that_is_always_the_same():
    """Made of the message's id and the call's number."""
    found = deltas(START, opened({"type": "tool_use", "name": "f"}), stopped("tool_use"), STOP)

    assert found[0]["tool_calls"][0]["id"] == "toolu_msg_1_0"


def test_thought_is_shown_as_it_comes_and_signed_as_a_whole():
    """The detail carries the whole reasoning once; a redacted one takes the next number."""
    found = deltas(
        START,
        opened(THINKING), delta("thinking_delta", "a"), delta("thinking_delta", "b"),
        delta("signature_delta", "S"), delta("signature_delta", "again"), closed(),
        opened({"type": "redacted_thinking", "data": "zz"}, 1), closed(1),
        stopped(), STOP,
    )  # fmt: skip

    known = {"format": "anthropic-claude-v1"}
    signed = {"index": 0, "type": "reasoning.text", "text": "ab", "signature": "S", **known}
    assert found[:-1] == [
        {"reasoning_content": "a"},
        {"reasoning_content": "b"},
        {"reasoning_details": [signed]},
        {"reasoning_details": [{"index": 1, "type": "reasoning.encrypted", "data": "zz", **known}]},
    ]


def test_blocks_that_start_with_content_lose_nothing():
    """Text, reasoning and signature may stand in the start of a block."""
    found = deltas(
        START,
        opened({"type": "thinking", "thinking": "t", "signature": "S"}), closed(),
        opened({"type": "text", "text": "x"}, 1), closed(1), stopped(), STOP,
    )  # fmt: skip

    assert found[0] == {"reasoning_content": "t"}
    assert found[1]["reasoning_details"][0]["text"] == "t"
    assert found[2] == {"content": "x"}


def test_unknown_events_blocks_and_deltas_give_nothing():
    """Unknown events, blocks and deltas are ignored."""
    found = deltas(
        START, event("brand_new", delta={"type": "text_delta", "text": "no"}),
        opened({"type": "hologram"}), delta("text_delta", "no"), closed(),
        opened(TEXT, 1), delta("citations_delta", "no", 1), delta("text_delta", "", 1),
        delta("text_delta", "yes", 1), closed(1), closed(9),
        b"data: [DONE]\n\n", b"data: 5\n\n", b"data: \n\n",
        stopped(), STOP,
    )  # fmt: skip

    assert found == [{"content": "yes"}, {}]


def test_deltas_of_unannounced_blocks_are_taken():
    """Some servers leave the starts of blocks out."""
    found = deltas(delta("thinking_delta", "t"), delta("text_delta", "x", 1), stopped(), STOP)

    assert found == [{"reasoning_content": "t"}, {"content": "x"}, {}]


def test_ping_is_a_comment_and_decides_nothing():
    """Before the first event it must not commit the response."""
    stream = translator()

    assert stream.feed(event("ping")) == b""
    assert not stream.started
    assert stream.feed(START + event("ping")).endswith(b": ping\n\n")


@pytest.mark.parametrize(
    ("body", "status", "kind", "code"),
    [
        (event("error", error={"type": "overloaded_error", "message": "m"}), 503,
         "service_unavailable_error", "server_is_overloaded"),
        (b'data: {"type":"error","error":{"type":"rate_limit_error","message":"m"}}\n\n', 429,
         "rate_limit_error", "rate_limit_exceeded"),
        (b'data: {"error":{"message":"m"}}\n\n', 500, "server_error", None),
        (b"event: error\ndata: no json\n\n", 500, "server_error", None),
        (b"data: {broken\n\n", 502, "server_error", None),
        (b": only comments\n\n", 502, "server_error", None),
        (b"", 502, "server_error", None),
        (STOP, 502, "server_error", None),
        (b'{"type":"message","content":[]}', 502, "server_error", None),
    ],
)  # fmt: skip
def test_failure_before_the_first_chunk_is_an_http_error(body, status, kind, code):
    """Nothing is written; the error is also there as an event, for a head already sent."""
    stream = translator()

    assert stream.feed(body) + stream.end(True) == b""
    assert (stream.started, stream.done, stream.failed) == (False, True, True)
    assert stream.error_before_commit is not None
    assert stream.error_before_commit.fault is not None
    assert stream.error_before_commit.status == status
    error = json.loads(stream.error_before_commit.body)["error"]
    assert (error["type"], error["code"]) == (kind, code)
    assert stream.error_event == b"data: %b\n\n" % stream.error_before_commit.body


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (event("error", error={"type": "api_error", "message": "boom"}), b"boom"),
        (b"data: {broken\n\n", b"Upstream sent malformed data"),
        (b'data: {"type":5}\n\n', b"Upstream sent malformed data"),
        (b"", b"Upstream stream ended before completion"),
        (b'data: {"type":"mess', b"Upstream stream ended before completion"),
    ],
)
@pytest.mark.parametrize("clean", [True, False])
def test_failure_in_the_stream_is_the_last_event(bad, message, clean):
    """It ends with an error and never with `[DONE]`."""
    stream = translator()
    head = stream.feed(START + opened(TEXT) + delta("text_delta", "x"))

    tail = stream.feed(bad) + stream.end(clean)

    assert head.endswith(b'"finish_reason":null}]}\n\n')
    assert tail == (
        b'data: {"error":{"message":"%b","type":"server_error","param":null,"code":null}}\n\n'
        % message
    )
    assert (stream.done, stream.failed, stream.error_before_commit) == (True, True, None)
    assert stream.feed(STOP) + stream.end(True) + stream.expire_after_finish() == b""


@pytest.mark.parametrize("clean", [True, False])
def test_end_after_a_stop_reason_is_a_complete_answer(clean):
    """The response is complete, only `message_stop` is missing."""
    stream = translator()
    stream.feed(START + stopped())

    assert stream.finish_seen
    assert stream.end(clean) == b"data: [DONE]\n\n"
    assert not stream.failed
    assert stream.end(clean) == b""


def test_silence_after_a_stop_reason_is_finalised_by_the_timer():
    """Before a stop reason the timer does nothing."""
    stream = translator()
    stream.feed(START)

    assert stream.expire_after_finish() == b""
    stream.feed(stopped())
    assert stream.expire_after_finish() == b"data: [DONE]\n\n"
    assert stream.done


def test_last_event_without_its_blank_line_is_delivered():
    """Several servers close without it."""
    stream = translator()
    stream.feed(START + stopped("tool_use")[:-2])

    assert b'"finish_reason":"tool_calls"' in stream.end(True)


def test_message_stop_without_stop_reason_still_names_one():
    """Clients without a finish reason ask again, for ever."""
    assert b'"finish_reason":"stop"' in written(START, STOP)


def test_half_emoji_of_two_deltas_are_joined_in_their_own_channel():
    """An unpaired half becomes U+FFFD at the end of its block."""
    half = b'event: e\ndata: {"type":"content_block_delta","index":%d,"delta":{"type":"text_delta","text":"%b"}}\n\n'  # noqa: E501 - one event

    found = deltas(
        START, opened(TEXT), opened(TEXT, 1),
        half % (0, rb"a\ud83d"), half % (1, rb"b\ud83d"), half % (0, rb"\ude00c"),
        closed(), closed(1), stopped(), STOP,
    )  # fmt: skip

    assert [one["content"] for one in found[:-1]] == ["a", "b", "😀c", "�"]


def test_event_beyond_the_limit_is_malformed():
    """One event of more than 8 MiB ends the stream."""
    stream = translator()
    stream.feed(START + opened(TEXT))
    filler = b"x" * (1024 * 1024)
    out = stream.feed(b'data: {"type":"content_block_delta","delta":{"text":"')
    for _ in range(LIMIT_BYTES // len(filler) + 1):
        out += stream.feed(filler)
    out += stream.feed(b"\n\n")

    assert b"Upstream sent malformed data" in out
    assert stream.failed


def test_event_below_the_limit_passes():
    """Large arguments come as one line."""
    words = "x" * (LIMIT_BYTES - 1000)

    found = deltas(START, opened(TEXT), delta("text_delta", words), stopped(), STOP)

    assert found[0] == {"content": words}


def test_thought_too_large_to_keep_goes_without_its_detail():
    """The words are delivered, the signature is worthless without them."""
    piece = delta("thinking_delta", "x" * (LIMIT_BYTES // 4))

    found = deltas(START, opened(THINKING), piece * 5, delta("signature_delta", "S"), stopped())

    assert sum(len(one.get("reasoning_content", "")) for one in found) == LIMIT_BYTES // 4 * 5
    assert not any("reasoning_details" in one for one in found)


WORDS = st.text(st.characters(codec="utf-8"), max_size=8)
BLOCK = st.one_of(
    st.tuples(st.just("text"), st.lists(WORDS, max_size=3)),
    st.tuples(st.just("thinking"), st.lists(WORDS, max_size=3)),
    st.tuples(
        st.just("tool_use"),
        st.dictionaries(WORDS, st.integers() | WORDS, max_size=3).flatmap(
            lambda value: st.lists(st.integers(0, 40), max_size=3).map(
                lambda cuts: _cut(json.dumps(value, ensure_ascii=False), cuts)
            )
        ),
    ),
)


def _cut(words, cuts):
    """Return `words` in pieces."""
    places = sorted({min(cut, len(words)) for cut in cuts})
    starts, ends = [0, *places], [*places, len(words)]
    return [words[start:end] for start, end in zip(starts, ends, strict=True)]


def upstream(blocks):
    """Return the upstream's stream for blocks of pieces."""
    kinds = {"text": "text_delta", "thinking": "thinking_delta", "tool_use": "input_json_delta"}
    body = START
    for index, (kind, pieces) in enumerate(blocks):
        first = {"text": TEXT, "thinking": THINKING, "tool_use": {**TOOL, "id": f"t{index}"}}
        body += opened(first[kind], index)
        body += b"".join(delta(kinds[kind], piece, index) for piece in pieces)
        body += closed(index)
    return body + stopped("end_turn", output_tokens=11) + STOP


@given(st.lists(BLOCK, max_size=4), st.lists(st.integers(0, 3000), max_size=8))
def test_any_split_gives_the_same_bytes_and_conserves_everything(blocks, cuts):
    """Words, arguments and usage arrive as they were sent, as the official SDK reads them."""
    body = upstream(blocks)
    places = sorted({min(cut, len(body)) for cut in cuts})
    whole, split = translator(include_usage=True), translator(include_usage=True)

    expected = whole.feed(body) + whole.end(True)
    found = b"".join(
        split.feed(body[start:end])
        for start, end in zip([0, *places], [*places, len(body)], strict=True)
    )

    assert found + split.end(True) == expected
    chunks = [line[6:] for line in expected.split(b"\n\n") if line.startswith(b"data: {")]
    view = seen([json.loads(chunk) for chunk in chunks])
    words = {kind: "".join("".join(pieces) for name, pieces in blocks if name == kind)
             for kind in ("text", "thinking")}  # fmt: skip
    arguments = ["".join(pieces) for kind, pieces in blocks if kind == "tool_use"]
    assert (view["content"] or "") == words["text"]
    assert (view.get("reasoning_content") or "") == words["thinking"]
    assert [one["function"]["arguments"] for one in view.get("tool_calls", ())] == arguments
    assert (view["usage"]["prompt_tokens"], view["usage"]["completion_tokens"]) == (3, 11)


TYPE = st.sampled_from(
    ["message_start", "content_block_start", "content_block_delta", "content_block_stop",
     "message_delta", "message_stop", "ping", "error", "text", "tool_use", "text_delta",
     "input_json_delta", "thinking_delta", "signature_delta", "thinking", "redacted_thinking"]
)  # fmt: skip
SCALAR = st.none() | st.booleans() | st.integers() | st.text(st.characters(), max_size=4) | TYPE
MEMBER = st.sampled_from(
    ["type", "index", "delta", "content_block", "message", "usage", "error", "text", "input",
     "thinking", "signature", "partial_json", "id", "name", "data", "stop_reason", "output_tokens"]
)  # fmt: skip
ODD_EVENT = st.dictionaries(
    MEMBER,
    SCALAR | st.dictionaries(MEMBER, SCALAR | st.dictionaries(MEMBER, SCALAR)),
).flatmap(lambda members: TYPE.map(lambda kind: {"type": kind, **members}))


@given(st.lists(ODD_EVENT.map(lambda odd: b"data: %b\n\n" % json.dumps(odd).encode())
                | st.binary(max_size=20), max_size=8), st.booleans())  # fmt: skip
def test_any_upstream_gives_a_well_formed_stream(pieces, clean):
    """Nothing is raised, every event is JSON, and the stream ends in one way only."""
    stream = translator(include_usage=True)
    out = b"".join([stream.feed(piece) for piece in [START, *pieces]]) + stream.end(clean)

    datas = [line[6:] for line in out.split(b"\n") if line.startswith(b"data: ")]
    assert stream.done
    assert (datas[-1] == b"[DONE]") is not stream.failed
    for data in datas:
        if data != b"[DONE]":
            assert isinstance(json.loads(data), dict)
