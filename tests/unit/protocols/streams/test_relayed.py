"""Relayed streams: what is held at their start, hidden in their course and left at their end."""

from __future__ import annotations

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.model import Endpoint, Wire
from gateway.protocols.streams.relayed import HELD_BYTES, HeldBody, RelayedStream, Unchanged
from gateway.protocols.streams.stream_errors import with_own_errors

EVENT = b'data: {"choices":[{"index":0,"delta":{"content":"A"}}]}\n\n'
USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":1}}\n\n'
ERROR = b'data: {"error":{"message":"engine is full","type":"server_error","code":503}}\n\n'
COMMENT = b": wait\n\n"


def relayed(*, hides_usage: bool = False) -> RelayedStream:
    return RelayedStream(Wire.OPENAI, "m", hides_usage=hides_usage)


def test_whole_body_is_unchanged() -> None:
    """A response that is not a stream has no events to look at."""
    transform = Unchanged()

    assert transform.feed(b'{"error": 1') == b'{"error": 1'
    assert (transform.release(), transform.expire_after_finish(), transform.end(True)) == (b"",) * 3
    assert (transform.error_before_commit, transform.done, transform.keepalive) == (
        None,
        False,
        b"",
    )


def test_comments_wait_for_the_first_event() -> None:
    stream = relayed()

    assert stream.feed(COMMENT) == b""
    assert stream.feed(EVENT) == COMMENT + EVENT
    assert stream.feed(COMMENT) == COMMENT


def test_release_sends_comments_and_opens_the_stream() -> None:
    stream = relayed(hides_usage=True)
    stream.feed(COMMENT)

    assert stream.release() == COMMENT
    assert stream.release() == b""
    assert stream.feed(EVENT + USAGE) == EVENT


@pytest.mark.parametrize("hides_usage", [False, True])
def test_first_event_that_is_an_error_is_not_written(hides_usage: bool) -> None:
    stream = relayed(hides_usage=hides_usage)

    assert stream.feed(ERROR) == b""

    early = stream.error_before_commit
    assert early is not None
    assert early.status == 503
    assert json.loads(early.body)["error"]["message"] == "engine is full"
    assert stream.end(clean=True) == b""


def test_later_error_is_relayed() -> None:
    stream = relayed()
    stream.feed(EVENT)

    assert stream.feed(ERROR) == ERROR
    assert stream.error_before_commit is None


def test_unfinished_first_event_is_written_at_a_clean_end_only() -> None:
    """Without the end another deployment may still respond."""
    complete, cut = relayed(), relayed()
    complete.feed(EVENT[:-2])
    cut.feed(EVENT[:-2])

    assert complete.end(clean=True) == EVENT[:-2]
    assert cut.end(clean=False) == b""


def test_unfinished_error_is_an_early_error() -> None:
    stream = relayed()
    stream.feed(ERROR[:-2])

    assert stream.end(clean=True) == b""
    assert stream.error_before_commit is not None


def test_half_an_event_is_dropped_where_usage_is_hidden_and_the_stream_broke_off() -> None:
    """So that an error event can follow."""
    stream = relayed(hides_usage=True)

    assert stream.feed(EVENT + EVENT[:9]) == EVENT
    assert stream.end(clean=False) == b""


WHOLE = b'{"choices":[{"index":0,"message":{"content":"A"}}]}'


def held() -> HeldBody:
    return HeldBody(Wire.OPENAI, Endpoint.CHAT_COMPLETIONS, "m")


def test_small_body_is_held_until_its_clean_end() -> None:
    """A body that is cut off was never sent, so that another deployment may respond."""
    complete, cut = held(), held()
    for body in (complete, cut):
        assert body.feed(WHOLE[:9]) + body.feed(WHOLE[9:]) == b""

    assert (complete.end(clean=True), complete.error_before_commit) == (WHOLE, None)
    assert (cut.end(clean=False), cut.error_before_commit) == (b"", None)


def test_released_body_is_forwarded_from_then_on() -> None:
    """What was released is not sent again at the end."""
    body = held()
    body.feed(b'{"error":')

    assert body.release() == b'{"error":'
    assert body.release() == b""
    assert body.feed(b'"x"}') == b'"x"}'
    assert (body.end(clean=True), body.error_before_commit) == (b"", None)


@pytest.mark.parametrize("more", [0, 1])
def test_body_beyond_the_bound_is_forwarded(more: int) -> None:
    """At the bound it is still held."""
    chunk = b"{" + b" " * (HELD_BYTES - 1 + more)

    assert held().feed(chunk) == (chunk if more else b"")


def test_large_stream_is_held_and_becomes_the_whole_response() -> None:
    """Its client did not ask for a stream."""
    body = held()
    content = "x" * HELD_BYTES
    event = {"choices": [{"index": 0, "delta": {"content": content}, "finish_reason": "stop"}]}

    assert body.feed(b"data: " + json.dumps(event).encode() + b"\n\ndata: [DONE]\n\n") == b""

    assert json.loads(body.end(clean=True))["choices"][0]["message"]["content"] == content


def test_body_that_reports_an_error_is_an_early_error() -> None:
    """It can still become an HTTP error."""
    body = held()
    body.feed(b'{"error":{"message":"engine is full","code":503}}')

    assert body.end(clean=True) == b""
    assert body.error_before_commit is not None
    assert json.loads(body.error_before_commit.body)["error"]["message"] == "engine is full"


def test_malformed_stream_is_an_early_error() -> None:
    body = held()
    body.feed(b"data: {\n\n")

    assert body.end(clean=True) == b""
    assert body.error_before_commit is not None


SUSPENDED = (
    b'data: {"error":{"message":"Your account org-4711abc is suspended, please recharge",'
    b'"type":"exceeded_current_quota_error","code":429}}\n\n'
)
SUSPENDED_MESSAGES = (
    b'event: error\ndata: {"type":"error","error":{"type":"billing_error",'
    b'"message":"Your credit balance is too low to access the API."}}\n\n'
)
DELTA = (
    b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,'
    b'"delta":{"type":"text_delta","text":"A"}}\n\n'
)
FIXED = b"The upstream provider is temporarily unavailable"


@pytest.mark.parametrize("cut", [0, 5, 40, 90, len(SUSPENDED) - 1])
@pytest.mark.parametrize("hides_usage", [False, True])
def test_account_error_after_content_has_fixed_words(hides_usage: bool, cut: int) -> None:
    """However the network cuts it; what is before and after it is unchanged."""
    stream = relayed(hides_usage=hides_usage)
    shown = stream.feed(EVENT) + stream.feed(EVENT + SUSPENDED[:cut])
    shown += stream.feed(SUSPENDED[cut:] + EVENT) + stream.end(True)

    assert shown.startswith(EVENT + EVENT)
    assert shown.endswith(EVENT)
    error = shown.removeprefix(EVENT + EVENT).removesuffix(EVENT)
    assert FIXED in error
    assert error.startswith(b"data: {")
    assert error.endswith(b"}\n\n")
    assert b"suspended" not in shown
    assert b"org-4711abc" not in shown


@pytest.mark.parametrize("cut", [0, 5, 60, len(SUSPENDED_MESSAGES) - 1])
def test_account_error_of_messages_has_fixed_words(cut: int) -> None:
    stream = RelayedStream(Wire.ANTHROPIC, "m", hides_usage=False)
    shown = stream.feed(DELTA) + stream.feed(DELTA + SUSPENDED_MESSAGES[:cut])
    shown += stream.feed(SUSPENDED_MESSAGES[cut:]) + stream.end(True)

    error = shown.removeprefix(DELTA + DELTA)
    assert json.loads(error.split(b"data: ")[1]) == {
        "type": "error",
        "error": {"type": "overloaded_error", "message": FIXED.decode()},
    }
    assert error.startswith(b"event: error\n")


def test_other_errors_and_the_word_in_texts_are_relayed() -> None:
    """Only ids of the account are masked in an error that is not about it."""
    spoken = b'data: {"choices":[{"delta":{"content":"an \\"error\\": none"}}],"error":null}\n\n'
    named = b'data: {"error":{"message":"org-4711abc: engine is full","code":503}}\n\n'
    stream = relayed()
    stream.feed(EVENT)

    assert stream.feed(spoken) == spoken
    assert stream.feed(ERROR) == ERROR
    assert stream.feed(named) == named.replace(b"org-4711abc", b"[redacted]")


def test_error_after_an_event_that_was_forwarded_in_pieces_is_replaced() -> None:
    """What is surely no error is forwarded at once, as it arrives."""
    stream = relayed()
    stream.feed(EVENT)

    for piece in (EVENT[:20], EVENT[20:-1], EVENT[-1:]):
        assert stream.feed(piece) == piece
    assert stream.feed(EVENT[:20]) == EVENT[:20]
    shown = stream.feed(EVENT[20:] + SUSPENDED)
    assert shown.startswith(EVENT[20:] + b"data: {")
    assert FIXED in shown


def test_beginning_of_an_error_that_is_cut_off_is_not_sent() -> None:
    """The relay adds an error event of its own."""
    stream = relayed()
    stream.feed(EVENT)

    assert stream.feed(EVENT + SUSPENDED[:60]) == EVENT
    assert stream.end(False) == b""


def test_enormous_error_is_not_held_for_ever() -> None:
    """An event of more than 16 KiB is forwarded."""
    stream = relayed()
    stream.feed(EVENT)
    large = b'data: {"error":{"message":"' + b"A" * 20_000

    assert stream.feed(large) == large
    assert stream.feed(b'"}}\n\n' + SUSPENDED).startswith(b'"}}\n\ndata: {')


PIECES = (
    EVENT.rstrip(),
    ERROR.rstrip(),
    SUSPENDED.rstrip(),
    COMMENT.rstrip(),
    b'data: {"choices":[{"delta":{"content":"\\"error\\": x"}}],"error":null}',
)


@pytest.mark.parametrize("end", [b"", b"\n"])
@pytest.mark.parametrize("hides_usage", [False, True])
def test_account_error_without_its_blank_line_is_replaced(hides_usage: bool, end: bytes) -> None:
    """Several servers omit it after the last event."""
    stream = relayed(hides_usage=hides_usage)
    shown = stream.feed(EVENT) + stream.feed(SUSPENDED.rstrip() + end) + stream.end(True)

    assert FIXED in shown
    assert b"org-4711abc" not in shown


@pytest.mark.parametrize(
    "pieces",
    [
        (b"\n\n\n", SUSPENDED[:30], SUSPENDED[30:]),
        (b"\n", SUSPENDED[:30], SUSPENDED[30:]),
        (b":", b" ping\n\n" + SUSPENDED[:30], SUSPENDED[30:]),
        (SUSPENDED[:9], SUSPENDED[9:]),
        (b'data: { "err', SUSPENDED.removeprefix(b'data: {"err')),
        (b'data: {"type":"er', b'ror","error":' + SUSPENDED.removeprefix(b'data: {"error":')),
        (
            b'data: {"object":"error","message":"You exceeded your current quota of org-4711abc, '
            b'please check your plan and billing details","code":429}\n\n',
        ),
    ],
)
def test_account_error_is_recognised_in_other_forms(pieces: tuple[bytes, ...]) -> None:
    """After odd line ends, cut near its beginning, with spaces, and as vLLM writes it."""
    stream = relayed()
    shown = stream.feed(EVENT) + b"".join(map(stream.feed, pieces)) + stream.end(True)

    assert b"org-4711abc" not in shown
    assert FIXED in shown


@given(
    st.lists(st.sampled_from(PIECES), max_size=6),
    st.sampled_from([b"\n\n", b"\r\n\r\n", b"\r\r"]),
    st.lists(st.integers(0, 800), max_size=6),
)
def test_relay_changes_account_errors_alone_however_it_is_cut(
    pieces: list[bytes], line: bytes, cuts: list[int]
) -> None:
    """Each other byte is forwarded, in its order and once."""
    data = b"".join(piece + line for piece in (EVENT.rstrip(), *pieces))
    stream = relayed()
    places = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    shown = b"".join(stream.feed(data[a:b]) for a, b in itertools.pairwise(places))
    shown += stream.end(True)

    fixed = with_own_errors(SUSPENDED, Wire.OPENAI, "m")
    assert FIXED in fixed
    # The blank line of a replaced event is LF; the LF of a CRLF may follow its CR.
    expected = data.replace(SUSPENDED.rstrip() + line, fixed)
    assert shown.replace(b"\r", b"").replace(b"\n", b"") == (
        expected.replace(b"\r", b"").replace(b"\n", b"")
    )
    assert SUSPENDED.rstrip() in pieces or shown == data
