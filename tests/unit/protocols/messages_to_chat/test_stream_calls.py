"""Tool calls in a stream: which fragment belongs where, and what may be open when."""

from __future__ import annotations

from gateway.protocols.translate.messages_to_chat.blocks import LIMIT_CHARS
from tests.support.anthropic_streams import accumulate, read_events
from tests.support.messages_to_chat_streams import (
    DONE,
    blocks,
    call,
    delta,
    deltas,
    names,
    new_stream,
    run,
)


def test_white_space_before_a_call_stays_before_it():
    """Held back for a think tag, it is released when a call begins."""
    written = run(
        new_stream(),
        delta(content="\n\n"),
        delta(tool_calls=[call("{}", id="c1", name="f")]),
        delta("tool_calls"),
        DONE,
    )

    assert [block["type"] for block in blocks(written)] == ["text", "tool_use"]


def test_second_call_waits_until_the_first_is_complete():
    """Interleaved calls: the first streams live, the others come in one piece each."""
    chunks = [
        delta(tool_calls=[call('{"a"', 0, id="c1", name="f"), call('{"b"', 1, id="c2", name="g")]),
        delta(tool_calls=[call(":2}", 1)]),
        delta(content="x"),
        delta(tool_calls=[call(":1}", 0)]),
        delta(content="y"),
        delta("stop"),
    ]

    written = run(new_stream(), *chunks, DONE)

    assert deltas(written) == ['{"a"', ":1}", '{"b":2}', "x", "y"]
    assert accumulate(written)["stop_reason"] == "tool_use"


def test_same_index_with_another_id_and_name_is_another_call():
    """Some servers send index 0 for every call."""
    chunks = [
        delta(tool_calls=[call('{"a":1}', 0, id="c1", name="f")]),
        delta(tool_calls=[call('{"b"', 0, id="c2", name="g")]),
        delta(tool_calls=[call(":2}", 0)]),
        delta("tool_calls"),
    ]

    written = run(new_stream(), *chunks, DONE)

    assert [(block["id"], block["input"]) for block in blocks(written)] == [
        ("c1", {"a": 1}),
        ("c2", {"b": 2}),
    ]


def test_fragments_without_index_are_told_apart_by_id():
    """Gemini leaves the index out."""
    chunks = [
        delta(tool_calls=[call('{"a":1}', None, id="c1", name="f")]),
        delta(tool_calls=[call('{"b":', None, id="c2", name="f")]),
        delta(tool_calls=[call("2", None)]),
        delta(tool_calls=[call("}", None, id="c2")]),
        delta("stop"),
    ]

    written = run(new_stream("gemini"), *chunks, DONE)

    assert [block["input"] for block in blocks(written)] == [{"a": 1}, {"b": 2}]


def test_fragment_of_a_closed_call_is_dropped():
    """Seen: a trailing space and a second brace."""
    chunks = [
        delta(tool_calls=[call("{}", 0, id="c1", name="f")]),
        delta(tool_calls=[call("{}", 1, id="c2", name="f")]),
        delta(tool_calls=[call("}", 0)]),
        delta("tool_calls"),
    ]

    assert deltas(run(new_stream(), *chunks, DONE)) == ["{}", "{}"]


def test_call_whose_name_never_comes_is_left_out():
    """A block is never opened without a name."""
    written = run(new_stream(), delta(tool_calls=[call("{}", id="c1")]), delta("stop"), DONE)

    assert blocks(written) == []
    assert accumulate(written)["stop_reason"] == "end_turn"


def test_truncated_call_stays_partial():
    """Arguments are not repaired: that is what Anthropic does, too."""
    chunks = [delta(tool_calls=[call('{"a":', id="c1", name="f")]), delta("length")]

    written = run(new_stream(), *chunks, DONE)

    assert deltas(written) == ['{"a":']
    assert accumulate(written)["stop_reason"] == "max_tokens"


def test_legacy_function_call_is_a_call():
    """The field before tool_calls, with an id made from the message's."""
    chunks = [
        delta(function_call={"name": "f", "arguments": '{"a"'}),
        delta(function_call={"arguments": ":1}"}),
        delta("function_call"),
    ]

    assert blocks(run(new_stream(), *chunks, DONE)) == [
        {"type": "tool_use", "id": "toolu_chatcmpl-1_0", "name": "f", "input": {"a": 1}}
    ]


def test_ids_of_history_and_answer_are_not_repeated():
    """Clients key results by id; some upstreams restart at call_0 every turn."""
    stream = new_stream(history_ids=frozenset({"call_0", "call_0_2"}))
    chunks = [
        delta(tool_calls=[call("{}", 0, id="call_0", name="f")]),
        delta(tool_calls=[call("{}", 1, id="call_0", name="g")]),
        delta("tool_calls"),
    ]

    assert [block["id"] for block in blocks(run(stream, *chunks, DONE))] == ["call_0_3", "call_0_4"]


def test_arguments_beyond_the_limit_are_an_error():
    """What is kept of calls is bounded."""
    stream = new_stream()
    piece = "x" * (LIMIT_CHARS // 4)
    stream.feed(delta(tool_calls=[call('{"a":"', id="c1", name="f")]))

    written = b"".join(stream.feed(delta(tool_calls=[call(piece)])) for _ in range(4))

    assert read_events(written)[-1]["event"] == "error"


def test_many_waiting_fragments_cost_linear_time():
    """A call that waits behind 200 KB of another is not parsed again for each fragment."""
    first = delta(
        tool_calls=[call('{"a":"', 0, id="c1", name="f"), call("{}", 1, id="c2", name="g")]
    )
    piece = delta(tool_calls=[call("{[}x\\\\", 0)])
    stream = new_stream()
    stream.feed(first)

    for _ in range(30_000):
        stream.feed(piece)
    written = stream.feed(delta(tool_calls=[call('"}', 0)]))

    assert names(written)[-3:] == [
        "content_block_stop",
        "content_block_start",
        "content_block_delta",
    ]


def test_half_an_emoji_at_the_end_of_a_live_call_is_replaced():
    """Arguments that end in half a surrogate pair end in U+FFFD when the stream ends."""
    written = run(
        new_stream(),
        delta(tool_calls=[call('{"a":"\ud83d', id="c1", name="f")]),
        delta("length"),
        DONE,
    )

    assert deltas(written) == ['{"a":"', "\ufffd"]
