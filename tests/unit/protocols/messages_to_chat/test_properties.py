"""What holds for every request and every stream, whatever comes."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import GatewayError
from gateway.protocols.translate.capabilities import DIALECTS, capabilities
from gateway.protocols.translate.messages_to_chat.request import translate_request
from gateway.protocols.translate.messages_to_chat.response import translate_response
from gateway.protocols.translate.messages_to_chat.stream import messages_stream
from gateway.protocols.translate.stream import ResponseContext, TranslationRoute
from tests.support.anthropic_streams import accumulate, check_invariants, read_events
from tests.support.messages_to_chat_streams import DONE, call, delta, new_stream, sse

OPENAI_DIALECTS = [name for name in DIALECTS if not name.startswith("anthropic")]
TEXT = st.text(max_size=12)
HALVES = st.text(st.sampled_from("ab\ud83d\ude00\n<think>/"), max_size=8)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
ODD: st.SearchStrategy[Any] = st.sampled_from(
    [None, "", "x", 0, -1, [], {}, [{}], {"type": "x"}, True]
)


def blocks_of(kinds: list[str]) -> st.SearchStrategy[Any]:
    """Return content blocks of some types, with members that may be odd."""
    members = {
        "text": HALVES,
        "thinking": HALVES,
        "signature": st.sampled_from(["gw1.", "gw1.eyJnIjoiU0lHPT0ifQ", "real"]),
        "id": st.sampled_from(["c1", "functions.f:0", "x" * 70]),
        "tool_use_id": st.sampled_from(["c1", "gwid_ZnVuY3Rpb25zLmY6MA"]),
        "name": st.sampled_from(["f", "a.b", "n" * 70]),
        "input": st.dictionaries(TEXT, JSON, max_size=2),
        "content": st.just("x") | st.lists(st.fixed_dictionaries({"type": TEXT, "text": TEXT})),
        "source": st.fixed_dictionaries(
            {"type": st.sampled_from(["base64", "url", "text", "content", "file"])},
            optional={"data": TEXT, "url": TEXT, "media_type": TEXT},
        ),
        "title": TEXT,
        "is_error": st.booleans(),
        "cache_control": st.just({"type": "ephemeral"}),
    }
    odd = {name: strategy | ODD for name, strategy in members.items()}
    return st.fixed_dictionaries({"type": st.sampled_from(kinds)}, optional=odd)


MESSAGES = st.lists(
    st.fixed_dictionaries(
        {
            "role": st.sampled_from(["user", "assistant", "system"]),
            "content": HALVES
            | st.lists(
                blocks_of(
                    [
                        "text",
                        "image",
                        "document",
                        "search_result",
                        "tool_result",
                        "tool_use",
                        "thinking",
                        "server_tool_use",
                    ]
                ),
                max_size=3,
            ),
        }
    ),
    min_size=1,
    max_size=4,
)
REQUESTS = st.fixed_dictionaries(
    {"model": st.just("m"), "max_tokens": st.integers(0, 9), "messages": MESSAGES},
    optional={
        "system": HALVES | st.lists(blocks_of(["text"]), max_size=2) | ODD,
        "tools": st.lists(st.fixed_dictionaries({"name": TEXT}), max_size=2) | ODD,
        "tool_choice": st.fixed_dictionaries({"type": st.sampled_from(["auto", "tool", "x"])})
        | ODD,
        "thinking": st.fixed_dictionaries({"type": st.sampled_from(["enabled", "disabled"])}) | ODD,
        "output_config": st.fixed_dictionaries({"effort": st.sampled_from(["low", "odd"])}) | ODD,
        "temperature": ODD,
        "stop_sequences": st.lists(TEXT, max_size=6) | ODD,
        "metadata": st.fixed_dictionaries({"user_id": TEXT}) | ODD,
        "stream": st.booleans() | ODD,
        "container": ODD,
    },
)


@given(REQUESTS, st.sampled_from(OPENAI_DIALECTS), st.booleans())
def test_any_request_is_translated_or_refused(request, dialect, keep):
    """Nothing but a GatewayError is raised; what is sent is JSON and the same every time."""
    body = json.dumps(request).encode()
    caps = capabilities(dialect, {"cache_control": "keep" if keep else "drop"})
    try:
        answer = translate_request(body, TranslationRoute("up", caps))
    except GatewayError as error:
        assert error.surface.anthropic_status == 400
        return

    sent = json.loads(answer.body)
    assert sent["model"] == "up"
    assert "gw1." not in json.dumps(sent["messages"]) or "gw1." in json.dumps(request["messages"])
    assert answer == translate_request(body, TranslationRoute("up", caps))


@given(st.binary(max_size=60) | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_body_is_refused_or_translated(body):
    """Random bytes are an error of the client."""
    route = TranslationRoute("up", capabilities("generic", {}))
    try:
        translate_request(body, route)
    except GatewayError as error:
        assert error.surface.anthropic_status == 400


@given(st.binary(max_size=60) | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_answer_is_translated_or_an_upstream_error(body):
    """Random bytes are an error of the upstream."""
    try:
        translate_response(body, ResponseContext(model="m"), capabilities("generic", {}))
    except GatewayError as error:
        assert error.surface.anthropic_status >= 500


FRAGMENT = st.builds(
    lambda arguments, index, more: call(arguments, index, **more),
    st.sampled_from(["", "{", '"a', '":1', "}", "{}", " ", '\\"', "\\", "\ud83d", "\ude00"]),
    st.sampled_from([0, 0, 1, None]),
    st.fixed_dictionaries(
        {},
        optional={"id": st.sampled_from(["c1", "c2", ""]), "name": st.sampled_from(["f", ""])},
    ),
)
CHUNK = st.builds(
    lambda fields, finish: delta(finish, **fields),
    st.fixed_dictionaries(
        {},
        optional={
            "content": HALVES,
            "reasoning_content": HALVES,
            "refusal": HALVES,
            "tool_calls": st.lists(FRAGMENT, max_size=2),
        },
    ),
    st.sampled_from([None, None, None, "stop", "tool_calls", "length", "content_filter"]),
)
USAGE = st.fixed_dictionaries(
    {},
    optional={
        "prompt_tokens": st.integers(0, 99),
        "completion_tokens": st.integers(0, 99),
        "total_tokens": st.integers(0, 300),
        "cached_tokens": st.integers(0, 99),
    },
)
STREAM = st.lists(CHUNK | USAGE.map(lambda usage: sse({"choices": [], "usage": usage})), max_size=8)


@given(STREAM, st.booleans(), st.sampled_from(["generic", "openai"]))
def test_any_stream_keeps_the_clients_shape(chunks, done, dialect):
    """One open block, dense indexes, one end; every event is valid JSON."""
    stream = new_stream(dialect)

    written = b"".join(stream.feed(chunk) for chunk in chunks)
    written += stream.feed(DONE) if done else stream.end(clean=True)

    check_invariants(written)
    assert stream.done
    assert stream.failed == (b"event: error" in written or stream.error_before_commit is not None)


@given(STREAM, st.data())
def test_any_split_gives_the_same_bytes(chunks, data):
    """Where the network cuts has no meaning."""
    whole = b"".join(chunks) + DONE
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=6)))
    bounds = list(zip([0, *cuts], [*cuts, len(whole)], strict=True))

    at_once, split = new_stream(), new_stream()

    assert at_once.feed(whole) == b"".join(split.feed(whole[a:b]) for a, b in bounds)


@given(st.binary(max_size=200))
def test_any_bytes_never_raise(noise):
    """What the upstream does wrong becomes an error in the client's dialect."""
    stream = new_stream()

    written = stream.feed(delta(content="a")) + stream.feed(noise) + stream.end(clean=False)

    check_invariants(written)


@given(JSON)
def test_any_json_event_never_raises(value):
    """The same for events of an unexpected shape."""
    stream = new_stream()

    written = stream.feed(sse(value)) + stream.feed(sse({"choices": [{"delta": value}]}))
    written += stream.end(clean=True)

    check_invariants(written)


@given(
    st.lists(st.tuples(st.sampled_from(["content", "reasoning_content"]), TEXT), max_size=8),
    st.dictionaries(TEXT, JSON, max_size=2),
    st.integers(1, 5),
    USAGE,
)
def test_text_arguments_and_usage_are_conserved(pieces, arguments, size, usage):
    """What the upstream said is what the client gets, no more and no less."""
    raw = json.dumps(arguments)
    fragments = [raw[at : at + size] for at in range(0, len(raw), size)]
    chunks = [delta(**{field: text}) for field, text in pieces]
    chunks.append(delta(tool_calls=[call("", 0, id="c1", name="f")]))
    chunks += [delta(tool_calls=[call(fragment, 0)]) for fragment in fragments]
    chunks += [delta("stop"), sse({"choices": [], "usage": usage}), DONE]
    stream = new_stream("openai")

    written = b"".join(stream.feed(chunk) for chunk in chunks)
    message = accumulate(written)

    for field, kind, member in (
        ("content", "text", "text"),
        ("reasoning_content", "thinking", "thinking"),
    ):
        said = "".join(text for name, text in pieces if name == field)
        heard = "".join(b[member] for b in message["content"] if b["type"] == kind)
        assert heard == said
    streamed = [
        event["data"]["delta"]["partial_json"]
        for event in read_events(written)
        if event["data"].get("delta", {}).get("type") == "input_json_delta"
    ]
    assert "".join(streamed) == raw
    counted = message["usage"]
    if usage.keys() <= {"cached_tokens"}:  # No count at all: nothing is billed from it, either.
        assert {counted[name] for name in ("cache_read_input_tokens", "input_tokens")} == {0}
        assert counted["output_tokens"] == 0
        return
    cached, completion = usage.get("cached_tokens", 0), usage.get("completion_tokens", 0)
    prompt = usage.get("prompt_tokens", 0) or cached
    beyond = usage.get("total_tokens", 0) - prompt - completion
    if beyond > 0 and not prompt:  # input, unless there is nothing but the total
        prompt = beyond if completion else 0
    elif beyond > 0 and "prompt_tokens" in usage:
        if usage["prompt_tokens"] and beyond == cached:  # cached tokens beside the prompt
            prompt += cached
        else:
            completion += beyond
    assert counted["cache_read_input_tokens"] == min(cached, prompt)
    assert counted["input_tokens"] == max(prompt - cached, 0)
    assert counted["output_tokens"] == completion


def test_stream_and_answer_of_the_same_words_agree():
    """A whole response gives the blocks that its stream gives."""
    message: dict[str, Any] = {
        "content": "<think>\nwhy\n</think>\n\nanswer",
        "tool_calls": [call('{"a":1}', 0, id="functions.f:0", name="f")],
    }
    context = ResponseContext(model="client-model")
    caps = capabilities("generic", {})
    body = {"id": "x", "choices": [{"message": message, "finish_reason": "stop"}]}
    stream = messages_stream(context, caps)

    whole = json.loads(translate_response(json.dumps(body).encode(), context, caps))
    streamed = accumulate(stream.feed(delta(**message) + delta("stop") + DONE))

    assert [block["type"] for block in streamed["content"]] == ["thinking", "text", "tool_use"]
    for ours, theirs in zip(whole["content"], streamed["content"], strict=True):
        assert ours.items() <= theirs.items()
    assert whole["stop_reason"] == streamed["stop_reason"]
