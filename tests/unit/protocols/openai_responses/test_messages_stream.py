"""An Anthropic stream as a Responses stream: whole, failed, and silent after its finish."""

from __future__ import annotations

import msgspec

from gateway.core.model import Endpoint
from gateway.pipeline.request.reading import parse_request
from gateway.protocols.native_chat import NativeLimits
from gateway.protocols.openai_responses.stream import responses_over_messages
from gateway.protocols.translate.stream import StreamTranslator

START = (
    b'event: message_start\ndata: {"type":"message_start","message":{"id":"m1","type":"message",'
    b'"role":"assistant","content":[],"usage":{"input_tokens":7,"output_tokens":1}}}\n\n'
    b'event: content_block_start\ndata: {"type":"content_block_start","index":0,'
    b'"content_block":{"type":"text","text":""}}\n\n'
    b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,'
    b'"delta":{"type":"text_delta","text":"Hi"}}\n\n'
)
FINISH = (
    b'event: content_block_stop\ndata: {"type":"content_block_stop","index":0}\n\n'
    b'event: message_delta\ndata: {"type":"message_delta","delta":{"stop_reason":"end_turn"},'
    b'"usage":{"output_tokens":2}}\n\n'
)
STOP = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
ERROR = (
    b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error","message":"full"}}\n\n'
)


def translator() -> StreamTranslator:
    """Anthropic events to Responses events."""
    body = b'{"model":"m","input":"Hi","stream":true}'
    front = parse_request(Endpoint.RESPONSES, body, created=7, limits=NativeLimits())
    assert front.responses is not None
    return responses_over_messages(front.responses, {})


def test_stream_writes_the_whole_stream() -> None:
    """From the first event to the last, and then it is done."""
    stream = translator()

    written = stream.feed(START) + stream.feed(FINISH) + stream.feed(STOP) + stream.end(clean=True)

    assert b"event: response.created" in written
    assert b'"delta":"Hi"' in written
    assert b"event: response.completed" in written
    assert (stream.started, stream.finish_seen, stream.done, stream.failed) == (
        True,
        True,
        True,
        False,
    )


def test_stream_writes_nothing_for_nothing() -> None:
    """Half an event waits for its rest."""
    stream = translator()

    assert stream.feed(START[:20]) == b""
    assert not stream.started


def test_stream_that_went_silent_after_its_finish_is_completed() -> None:
    """The response is completed."""
    stream = translator()
    stream.feed(START + FINISH)

    rest = stream.expire_after_finish()

    assert b"event: response.completed" in rest
    assert stream.done


def test_stream_that_breaks_off_fails() -> None:
    """No false end."""
    stream = translator()
    stream.feed(START)

    rest = stream.end(clean=False)

    assert b"event: response.failed" in rest
    assert b"response.completed" not in rest
    assert stream.failed


def test_stream_keeps_an_early_error_for_an_http_response() -> None:
    """Nothing was written, so the status can say it; as an event it is a whole failed response."""
    stream = translator()

    written = stream.feed(ERROR)

    assert written == b""
    assert stream.error_before_commit is not None
    assert stream.error_before_commit.status == 503
    assert msgspec.json.decode(stream.error_before_commit.body)["error"]["message"]
    assert b"response.failed" in stream.error_event
    assert stream.failed


def test_stream_without_an_error_has_no_error_event() -> None:
    """Nothing went wrong."""
    stream = translator()

    assert (stream.error_before_commit, stream.error_event) == (None, b"")


def test_failed_response_shows_the_usage_reported_so_far() -> None:
    """As over a chat upstream: what is billed is what is shown."""
    stream = translator()

    written = stream.feed(START) + stream.end(clean=False)

    assert b'"usage":{"input_tokens":7,' in written
