"""A thread is asked of Anthropic alone; elsewhere it is refused so that an SDK goes on without."""

from __future__ import annotations

import json

import pytest

from gateway.core.model import Wire
from gateway.errors import GatewayError
from gateway.protocols.anthropic_messages.threads import asks_for_thread, thread_refused
from gateway.protocols.http.errors.gateway_errors import render
from gateway.protocols.http.request.fields import decode_call


@pytest.mark.parametrize(
    ("body", "asks"),
    [
        (b'{"thread":{"type":"create"}}', True),
        (b'{"thread": {"type":"continue","previous_message_id":"msg_1"}}', True),
        (b'{"thread":null}', False),
        (b'{"thread":{}}', False),
        (b'{"metadata":{"thread":{"type":"create"}}}', False),
        (b'{"messages":[{"content":"\\"thread\\""}]}', False),
        (b'{"messages":[],"x":"\\ud83d","thread":{"type":"create"}}', True),
    ],
)
def test_asks_for_thread_sees_only_a_filled_member_of_the_request(body: bytes, asks: bool) -> None:
    """Null, empty, nested and quoted ones ask for nothing, in large bodies neither."""
    assert asks_for_thread(body) is asks
    large = b'{"model":"m","max_tokens":1,"filler":"%b",%b' % (b"x" * 5000, body[1:])
    names = decode_call(large, Wire.ANTHROPIC).member_spans
    assert names is not None
    assert asks_for_thread(large, names) is asks


def test_asks_for_thread_without_json_raises() -> None:
    """Invalid JSON raises."""
    with pytest.raises(GatewayError):
        asks_for_thread(b'{"thread"')


def test_thread_refused_tells_anthropics_sdk_to_stop_threading() -> None:
    """The SDK looks for this code in the error's details."""
    status, _, body = render(thread_refused(), Wire.ANTHROPIC, None)

    assert status == 400
    assert json.loads(body)["error"] == {
        "type": "invalid_request_error",
        "message": "thread: not supported by this model",
        "details": {"error_code": "thread_unsupported_request"},
    }
