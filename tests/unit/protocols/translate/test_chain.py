"""Two translators in a row behave as one: no byte is lost between them, errors come through."""

from __future__ import annotations

import msgspec

from gateway.core.model import Endpoint
from gateway.pipeline.front import parse_request
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


def chained() -> StreamTranslator:
    """Anthropic events to Responses events."""
    body = b'{"model":"m","input":"Hi","stream":true}'
    front = parse_request(Endpoint.RESPONSES, body, created=7, limits=NativeLimits())
    assert front.responses is not None
    return responses_over_messages(front.responses, {})


def test_chain_writes_the_whole_stream() -> None:
    """From the first event to the last, and then it is done."""
    chain = chained()

    written = chain.feed(START) + chain.feed(FINISH) + chain.feed(STOP) + chain.end(clean=True)

    assert b"event: response.created" in written
    assert b'"delta":"Hi"' in written
    assert b"event: response.completed" in written
    assert (chain.started, chain.finish_seen, chain.done, chain.failed) == (True, True, True, False)


def test_chain_writes_nothing_for_nothing() -> None:
    """Half an event is held by the first."""
    chain = chained()

    assert chain.feed(START[:20]) == b""
    assert not chain.started


def test_chain_that_went_silent_after_its_finish_is_completed() -> None:
    """Both write what is owed."""
    chain = chained()
    chain.feed(START + FINISH)

    rest = chain.expire_after_finish()

    assert b"event: response.completed" in rest
    assert chain.done


def test_chain_that_breaks_off_fails() -> None:
    """No false end."""
    chain = chained()
    chain.feed(START)

    rest = chain.end(clean=False)

    assert b"event: response.failed" in rest
    assert b"response.completed" not in rest
    assert chain.failed


def test_chain_keeps_an_early_error_for_an_http_answer() -> None:
    """Nothing was written, so the status can tell; as an event it is a whole failed response."""
    chain = chained()

    written = chain.feed(ERROR)

    assert written == b""
    assert chain.early_error is not None
    assert chain.early_error.status == 503
    assert msgspec.json.decode(chain.early_error.body)["error"]["message"]
    assert b"response.failed" in chain.error_event
    assert chain.failed


def test_chain_without_an_error_has_no_error_event() -> None:
    """Nothing went wrong."""
    chain = chained()

    assert (chain.early_error, chain.error_event) == (None, b"")
