"""What a client asked for, in a dialect that upstreams speak."""

from __future__ import annotations

import json

import pytest

from gateway.core.model import Endpoint, Wire
from gateway.errors import ErrorKind, GatewayError
from gateway.pipeline.request.inbound_request import InboundRequest
from gateway.pipeline.request.reading import parse_request
from gateway.protocols.native_chat import NativeLimits
from gateway.protocols.translate.capabilities import capabilities
from gateway.protocols.translate.stream import TranslationRoute
from tests.support.pipeline_fakes import (
    ANTHROPIC_BODY,
    OPENAI_ANSWER,
    OPENAI_BODY,
    a_deployment,
    a_model,
)
from tests.support.pipeline_fakes import a_provider as provider

GENERIC = capabilities("generic", {})
MODEL = a_model(a_deployment(provider()))
RESPONSES_BODY = b'{"model":"m","input":"Hi","max_output_tokens":5,"stream":true}'
NATIVE_BODY = b'{"model":"m","input":"Hi","max_output_tokens":5}'


def opened(endpoint: Endpoint, body: bytes) -> InboundRequest:
    """The parts of a request that are read first."""
    return parse_request(endpoint, body, created=7, limits=NativeLimits())


@pytest.mark.parametrize(
    ("endpoint", "body", "wire"),
    [
        (Endpoint.CHAT_COMPLETIONS, OPENAI_BODY, Wire.OPENAI),
        (Endpoint.MESSAGES, ANTHROPIC_BODY, Wire.ANTHROPIC),
        (Endpoint.COUNT_TOKENS, ANTHROPIC_BODY, Wire.ANTHROPIC),
        (Endpoint.EMBEDDINGS, b'{"model":"m","input":"Hi"}', Wire.OPENAI),
    ],
)
def test_request_in_a_dialect_stays_as_it_came(endpoint: Endpoint, body: bytes, wire: Wire) -> None:
    """Not a byte is touched, and there is nothing to shape or reshape."""
    front = opened(endpoint, body)

    assert front.body is body
    assert (front.wire, front.fields.model, front.is_facade) == (wire, "m", False)
    assert front.stream_translator(GENERIC) is None
    assert front.reshape(MODEL, GENERIC) == ()


@pytest.mark.parametrize(
    ("endpoint", "body"),
    [
        (Endpoint.CHAT_COMPLETIONS, OPENAI_BODY),
        (Endpoint.MESSAGES, ANTHROPIC_BODY),
        (Endpoint.RESPONSES, RESPONSES_BODY),
        (Endpoint.NATIVE_CHAT, NATIVE_BODY),
    ],
)
def test_byte_order_mark_before_a_request_is_removed(endpoint: Endpoint, body: bytes) -> None:
    assert opened(endpoint, b"\xef\xbb\xbf" + body).body == opened(endpoint, body).body


def test_responses_request_becomes_a_chat_request() -> None:
    """Its upstream gets a chat request with the upstream's names."""
    front = opened(Endpoint.RESPONSES, RESPONSES_BODY)

    sent = json.loads(front.chat_body(TranslationRoute("up-m", GENERIC))[0])

    assert (front.wire, front.is_facade, front.fields.stream) == (Wire.OPENAI, True, True)
    assert sent["model"] == "up-m"
    assert sent[GENERIC.max_tokens_param] == 5
    assert sent["messages"] == [{"role": "user", "content": "Hi"}]
    assert front.responses is not None
    assert front.responses.created == 7


def test_responses_answer_is_reshaped() -> None:
    """A whole chat response becomes a response object."""
    (reshape,) = opened(Endpoint.RESPONSES, RESPONSES_BODY).reshape(MODEL, GENERIC)

    answer = json.loads(reshape(OPENAI_ANSWER))

    assert (answer["object"], answer["status"]) == ("response", "completed")


def test_each_responses_stream_has_a_shaper_of_its_own() -> None:
    """Another attempt must not inherit the state of the first."""
    front = opened(Endpoint.RESPONSES, RESPONSES_BODY)

    first, second = front.stream_translator(GENERIC), front.stream_translator(GENERIC)

    assert first is not None
    assert first is not second


def test_native_request_becomes_a_chat_request() -> None:
    """The limit has the upstream's name."""
    front = opened(Endpoint.NATIVE_CHAT, NATIVE_BODY)

    sent = json.loads(front.chat_body(TranslationRoute("up-m", GENERIC))[0])

    assert (front.is_facade, sent["model"]) == (True, "up-m")
    assert front.stream_translator(GENERIC) is None
    assert sent[GENERIC.max_tokens_param] == 5


def test_native_answer_is_reshaped_and_priced() -> None:
    """The client gets text and cost."""
    (reshape,) = opened(Endpoint.NATIVE_CHAT, NATIVE_BODY).reshape(MODEL, GENERIC)

    answer = json.loads(reshape(OPENAI_ANSWER))

    assert answer["result"]["text"] == "Hi"


@pytest.mark.parametrize("endpoint", list(Endpoint))
def test_request_that_is_no_json_is_refused(endpoint: Endpoint) -> None:
    """Whatever the path."""
    with pytest.raises(GatewayError) as caught:
        opened(endpoint, b"{")

    assert caught.value.kind is ErrorKind.BAD_REQUEST


def test_types_that_a_client_made_up_cannot_break_a_header() -> None:
    """Dropped fields are named in a header and in the log: few, short, and in visible ASCII."""
    types = ["a\r\nset-cookie: b", "\u00e9\u4e2d", "x" * 1000, *(f"t{n}" for n in range(100))]
    tools = [{"type": each} for each in types]
    body = json.dumps({"model": "m", "input": "Hi", "tools": tools}).encode()

    dropped = opened(Endpoint.RESPONSES, body).dropped

    assert dropped[:2] == ("tools.a??set-cookie:?b", "tools.??")
    assert len(dropped[2]) == 64
    assert len(dropped) == 32


def test_front_that_let_go_holds_no_body() -> None:
    """Once a head is out nothing is tried again."""
    front = opened(Endpoint.RESPONSES, RESPONSES_BODY)

    front.release_body()

    assert (front.body, front.original) == (b"", b"")
