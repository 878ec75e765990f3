"""The framing that a stream's plain events share."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.protocols.streams.chunk_template import NO_TEMPLATE, common_template, plain_openai


def event(content: str, usage: object = None) -> bytes:
    """Return an event with this content."""
    delta = {"delta": {"content": content}, "finish_reason": None}
    return b"data: %b\n\n" % json.dumps({"choices": [delta], "usage": usage}).encode()


def test_framing_of_two_events_fits_others_of_the_kind_only() -> None:
    """One or several events with the same frame are counted, all else is not."""
    framing = common_template(event("hello"), event("help"))

    assert framing is not None
    assert framing.size == len(event(""))
    assert framing.events(event("x")) == 1
    assert framing.events(event("x") + event('say "y"') + event("z")) == 3
    others = [event(""), event("x", {"a": 1}), event("x")[:-1], b": c\n\n" + event("x"), b""]
    others += [event("x") + b": c\n\n", event("x") + event("y", 5) + event("z")]
    assert [framing.events(other) for other in others] == [0] * len(others)
    assert NO_TEMPLATE.events(event("x")) == 0


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (event("x"), event("x")),
        (event("x"), event("x", 5)),
        (event("x"), event('"')),
        (b"", event("x")),
        (event("x"), event("x") + event("y")),
        (b'data: {"at":1,"content":"x"}\n\n', b'data: {"at":2,"content":"y"}\n\n'),
        (b'data: {"content":"xy"}\n\n', b'data: {"content":"}\n\n'),
    ],
)
def test_framing_of_events_that_differ_elsewhere_is_unknown(first: bytes, second: bytes) -> None:
    """More than one string differs, or none."""
    assert common_template(first, second) is None


@given(st.text(min_size=1, max_size=8), st.text(min_size=1, max_size=8), st.text(max_size=8))
def test_framing_any_contents_never_counts_another_shape(a: str, b: str, c: str) -> None:
    """Whatever two contents taught it, an event with usage or a finish reason does not fit."""
    framing = common_template(event(a), event(b))

    if framing is not None:
        assert framing.events(event(c, {"prompt_tokens": 1})) == 0
        assert framing.events(event(c).replace(b'_reason": null', b'_reason": "stop"')) == 0


@given(st.binary(max_size=60), st.binary(max_size=60), st.binary(max_size=60))
def test_framing_arbitrary_bytes_never_fail(first: bytes, second: bytes, chunk: bytes) -> None:
    """No bytes can make it raise."""
    framing = common_template(first, second)
    if framing is not None:
        framing.events(chunk)


def test_comments_are_no_template() -> None:
    """They differ before their first quote."""
    assert common_template(b': a"x"\n\n', b': b"x"\n\n') is None


@pytest.mark.parametrize(
    ("chunk", "events"),
    [
        (event("x") + event("y"), 2),
        (b'data: {"delta":{"content":"x"},"finish_reason":null}\n\n', 1),
        (b'data: {"delta":{},"finish_reason":"stop"}\n\n', -1),
        (b'data: {"delta": {}, "finish_reason": "stop"}\n\n', -1),
        (event("x", {"prompt_tokens": 1}), -1),
        (event("x") + b'data: {"error":{}}\n\n', -1),
        (b"data: [DONE]\n\n", -1),
        (b"event: error\ndata: {}\n\n", -1),
        (b": keep-alive\n\n", 0),
        (b": keep-alive\n\n" + event("x"), 2),
    ],
)
def test_only_content_events_are_counted_without_decoding(chunk: bytes, events: int) -> None:
    """Usage, a finish reason, an error and the end must be read, however they are spaced."""
    assert plain_openai(chunk) == events
