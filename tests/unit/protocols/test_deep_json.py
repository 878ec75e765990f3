"""Whatever reads JSON of others refuses what is nested too deeply, on every Python alike."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable

import msgspec
import pytest

from gateway.core.model import Endpoint, Wire
from gateway.errors import ErrorKind, GatewayError
from gateway.operations.http_api import decode_json
from gateway.pipeline.request.reading import parse_request
from gateway.protocols.anthropic_messages.usage import read_anthropic_usage
from gateway.protocols.codec.json_decode import (
    decode_event,
    decode_or_none,
    decode_response,
    is_object,
    quoted_object,
)
from gateway.protocols.codec.nesting import MOST_LEVELS, TOO_DEEP
from gateway.protocols.http.errors.error_bodies import decode_leniently
from gateway.protocols.http.errors.response_faults import MALFORMED_RESPONSE, read_response_fault
from gateway.protocols.ids import SIGNATURE
from gateway.protocols.native_chat import NativeLimits
from gateway.protocols.openai_chat.lenient import coerced_json, decode_chunk, decode_completion
from gateway.protocols.openai_chat.usage import read_openai_usage
from gateway.protocols.openai_responses.reasoning import unpack_reasoning
from gateway.protocols.streams.refold import folded, unfolded
from gateway.protocols.translate.messages_to_chat.meaning import tool_input
from gateway.tokens.count import measure_chat, measure_messages

LEVELS = pytest.mark.parametrize("levels", [MOST_LEVELS + 1, 5000, 100_000, 1_000_000])
OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])


class Empty(msgspec.Struct):
    """Any object."""


def deep(levels: int, rest: str = "", *, ends: bool = True) -> bytes:
    """Return an object with other members, of so many levels."""
    lists = "[" * (levels - 1) + ("]" * (levels - 1) + "}" if ends else "")
    return f'{{{rest}"x":{lists}'.encode()


def parsed(endpoint: Endpoint, body: bytes) -> object:
    return parse_request(endpoint, body, created=0, limits=NativeLimits())


REQUESTS = {
    Endpoint.CHAT_COMPLETIONS: '"model":"m","messages":[],',
    Endpoint.MESSAGES: '"model":"m","max_tokens":1,"messages":[],',
    Endpoint.COUNT_TOKENS: '"model":"m","messages":[],',
    Endpoint.EMBEDDINGS: '"model":"m","input":"a",',
    Endpoint.RESPONSES: '"model":"m","input":"a",',
    Endpoint.NATIVE_CHAT: '"model":"m","messages":[],',
}


@LEVELS
@pytest.mark.parametrize("ends", [True, False])
@pytest.mark.parametrize("endpoint", REQUESTS)
def test_request_is_refused(endpoint: Endpoint, ends: bool, levels: int) -> None:
    with pytest.raises(GatewayError) as caught:
        parsed(endpoint, deep(levels, REQUESTS[endpoint], ends=ends))

    assert caught.value.kind is ErrorKind.BAD_REQUEST
    # The values of a large body that will be decoded are counted before its levels.
    values = "The request body contains more than 200,000 JSON values."
    assert caught.value.message == TOO_DEEP or (levels > 200_000 and caught.value.message == values)


@pytest.mark.parametrize("endpoint", [Endpoint.CHAT_COMPLETIONS, Endpoint.MESSAGES])
@pytest.mark.parametrize("padding", [0, 10_000])
def test_request_at_the_limit_is_accepted(endpoint: Endpoint, padding: int) -> None:
    rest = f'"y":"{"y" * padding}",' + REQUESTS[endpoint]
    parsed(endpoint, deep(MOST_LEVELS, rest))
    with pytest.raises(GatewayError):
        parsed(endpoint, deep(MOST_LEVELS + 1, rest))


READERS: dict[str, Callable[[bytes], object]] = {
    "messages to count": measure_messages,
    "chat to count": measure_chat,
    "operator's": lambda body: decode_json(body, None, Empty),
}


@LEVELS
@pytest.mark.parametrize("name", READERS)
def test_other_body_of_a_client_is_refused(name: str, levels: int) -> None:
    with pytest.raises(GatewayError) as caught:
        READERS[name](deep(levels))

    assert (caught.value.kind, caught.value.message) == (ErrorKind.BAD_REQUEST, TOO_DEEP)


RESPONSES: dict[str, Callable[[bytes], object]] = {
    "response": lambda body: decode_response(body, OBJECT),
    "event": lambda body: decode_event(body, OBJECT),
    "chunk": decode_chunk,
    "completion": decode_completion,
    "stream": lambda body: folded(Wire.OPENAI, b"data: %b\n\n" % body),
    "whole": lambda body: unfolded(Wire.ANTHROPIC, body),
}


@LEVELS
@pytest.mark.parametrize("name", RESPONSES)
def test_response_is_malformed(name: str, levels: int) -> None:
    with pytest.raises(GatewayError) as caught:
        RESPONSES[name](deep(levels))

    assert caught.value.kind is ErrorKind.UPSTREAM_MALFORMED
    assert TOO_DEEP in (caught.value.detail or "")


@LEVELS
def test_response_with_content_is_a_fault(levels: int) -> None:
    body = deep(levels, '"choices":[{"message":{"content":"a"},"finish_reason":"stop"}],')
    assert read_response_fault(Wire.OPENAI, Endpoint.CHAT_COMPLETIONS, body) == MALFORMED_RESPONSE


PARTS: dict[str, Callable[[bytes], object]] = {
    "value": lambda body: decode_or_none(body, OBJECT),
    "text": lambda body: decode_or_none(body.decode(), OBJECT),
    "quoted": lambda body: quoted_object(json.dumps(body.decode()).encode()),
    "object": lambda body: is_object(body.decode()) or None,
    "error": decode_leniently,
    "UTF-16": lambda body: decode_leniently(body.decode().encode("utf-16")),
    "coerced": coerced_json,
    "OpenAI's usage": read_openai_usage,
    "Anthropic's usage": read_anthropic_usage,
    "packed": lambda body: unpack_reasoning(SIGNATURE + base64.b64encode(body).decode()),
}
USAGE = '"prompt_tokens":1,"completion_tokens":1,"input_tokens":1,"output_tokens":1,"r":"a","d":[],'


@LEVELS
@pytest.mark.parametrize("name", PARTS)
def test_part_is_not_read(name: str, levels: int) -> None:
    assert PARTS[name](deep(2, USAGE)) is not None
    assert PARTS[name](deep(levels, USAGE)) is None


@LEVELS
def test_arguments_are_wrapped(levels: int) -> None:
    arguments = deep(levels).decode()
    assert json.loads(bytes(tool_input(arguments))) == {"INVALID_JSON": arguments}
