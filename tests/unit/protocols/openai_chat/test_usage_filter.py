"""The usage event the gateway asked for is hidden, every other byte stays."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.protocols.openai_chat.usage_filter import UsageChunkFilter

CONTENT = b'data: {"choices":[{"delta":{"content":"\\"usage\\":{}"}}],"usage":null}\n\n'
USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":1}}\n\n'
DONE = b"data: [DONE]\n\n"


def shown(*chunks: bytes, limit_bytes: int = 1 << 20) -> bytes:
    """Return all that the client gets."""
    hider = UsageChunkFilter(limit_bytes)
    return b"".join([*[hider.feed(chunk) for chunk in chunks], hider.end()])


def cut(body: bytes, points: list[int]) -> list[bytes]:
    """Cut `body` at the points (modulo its length)."""
    at = sorted({point % (len(body) + 1) for point in points} | {0, len(body)})
    return [body[a:b] for a, b in itertools.pairwise(at)]


@pytest.mark.parametrize("ending", [b"\n", b"\r\n", b"\r"])
def test_usage_event_hidden_however_it_is_cut(ending: bytes) -> None:
    """With every line end and every cut exactly the one event is gone."""
    body, wanted = (
        text.replace(b"\n", ending)
        for text in (CONTENT + b": c\n\n" + USAGE + DONE, CONTENT + b": c\n\n" + DONE)
    )

    assert shown(body) == wanted
    assert shown(*[body[i : i + 1] for i in range(len(body))]) == wanted
    for at in range(len(body)):
        assert shown(body[:at], body[at:]) == wanted


@pytest.mark.parametrize(
    "event",
    [
        b'data: {"choices":[],"usage":null}\n\n',
        b'data: {"choices":[{"delta":{}}],"usage":{"prompt_tokens":1}}\n\n',
        b'data: {"usage":{"prompt_tokens":1}}\n\n',
        b'data: {"choices":null,"usage":{"prompt_tokens":1}}\n\n',
        b'data: {"choices":[],"usage":{"prompt_tokens":1}\n\n',
        b'data: {"choices":[{"delta":{"content":"{\\"choices\\":[],\\"usage\\":{}}"}}]}\n\n',
        b': "usage"\n\n',
        b'data: {"choices": [], "usage": null}\n\n',
        b"\xff\xfe\n\n",
    ],
)
def test_other_events_stay(event: bytes) -> None:
    """Null usage, usage beside choices, quotations, comments and broken JSON are not removed."""
    assert shown(event + event) == event + event


def test_complete_events_go_out_at_once_and_one_incomplete_is_held() -> None:
    """Nothing waits but the event that is not yet complete."""
    hider = UsageChunkFilter()

    assert hider.feed(CONTENT + b"data: {") == CONTENT
    assert hider.feed(b'"choices":[]') == b""
    assert hider.feed(b',"usage":{"a":1}}\n') == b""
    assert hider.feed(b"\n" + DONE) == DONE
    assert hider.feed(CONTENT) == CONTENT


def test_unfinished_usage_event_at_the_end_is_hidden_and_others_shown() -> None:
    """A stream without its last blank line is treated as if it had one."""
    assert shown(CONTENT + USAGE.rstrip()) == CONTENT
    assert shown(CONTENT + DONE.rstrip()) == CONTENT + DONE.rstrip()
    hider = UsageChunkFilter()
    assert hider.feed(CONTENT + b"data: {") == CONTENT
    assert hider.end(clean=False) == b""


def test_event_beyond_the_limit_passes_and_hiding_stops() -> None:
    """Nothing is lost when an event is too large to hold."""
    large = b"data: " + b"x" * 200
    assert shown(large[:50], large[50:150], large[150:] + b"\n\n", USAGE, limit_bytes=100) == (
        large + b"\n\n" + USAGE
    )


WITH_CRLF, WITH_CR = (USAGE.replace(b"\n", ending) for ending in (b"\r\n", b"\r"))
pieces = st.sampled_from(
    [CONTENT, USAGE, DONE, b": c\r\n\r\n", WITH_CRLF, WITH_CR, b"\n", b"\r", b"x", b"data: "]
)


@given(st.lists(pieces, max_size=10).map(b"".join), st.lists(st.integers(0, 10_000), max_size=10))
def test_hider_split_anywhere_same_bytes(body: bytes, points: list[int]) -> None:
    """Where the network cuts has no meaning."""
    assert shown(*cut(body, points)) == shown(body)


@given(st.lists(st.binary(max_size=40), max_size=8))
def test_hider_arbitrary_bytes_pass_unchanged(chunks: list[bytes]) -> None:
    """Bytes without a usage event come out as they went in."""
    assert shown(*chunks) == b"".join(chunks)
