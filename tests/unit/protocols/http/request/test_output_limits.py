"""How much output a request may generate, as `decode_call` reads it."""

from __future__ import annotations

import pytest

from gateway.core.model import Endpoint, Wire
from gateway.errors import ErrorKind, GatewayError
from gateway.pipeline.request.reading import parse_request
from gateway.protocols.http.request.fields import decode_call
from gateway.protocols.native_chat import NativeLimits


def both_sizes(body: bytes) -> tuple[bytes, bytes]:
    """The body as it is, and so large that its members are walked."""
    return body, body + b" " * 5000


@pytest.mark.parametrize(
    ("members", "limit"),
    [
        (b"", None),
        (b',"max_tokens":5', 5),
        (b',"max_completion_tokens":7', 7),
        (b',"max_tokens":64000,"max_completion_tokens":1', 64000),
        (b',"max_tokens":1,"max_completion_tokens":64000', 64000),
        (b',"max_tokens":null,"max_completion_tokens":3', 3),
        (b',"max_tokens":0', 0),
    ],
)
def test_output_limit_is_the_larger_of_the_two(members: bytes, limit: int | None) -> None:
    for body in both_sizes(b'{"model":"m"' + members + b"}"):
        assert decode_call(body, Wire.OPENAI).output_limit == limit


@pytest.mark.parametrize(
    ("members", "choices"),
    [
        (b"", 1),
        (b',"n":null', 1),
        (b',"n":1', 1),
        (b',"n":128', 128),
        (b',"best_of":5', 5),
        (b',"n":2,"best_of":5', 5),
        (b',"n":6,"best_of":5', 6),
    ],
)
def test_choices_are_n_or_a_larger_best_of(members: bytes, choices: int) -> None:
    for body in both_sizes(b'{"model":"m"' + members + b"}"):
        assert decode_call(body, Wire.OPENAI).choices == choices


@pytest.mark.parametrize("name", ["n", "best_of"])
@pytest.mark.parametrize("value", [b"0", b"-1", b"129", b"1.5", b'"2"', b"true", b"[2]", b"1e400"])
def test_choices_out_of_range_are_refused_by_name(name: str, value: bytes) -> None:
    for body in both_sizes(b'{"model":"m","%b":%b}' % (name.encode(), value)):
        with pytest.raises(GatewayError) as caught:
            decode_call(body, Wire.OPENAI)
        assert (caught.value.kind, caught.value.param) == (ErrorKind.BAD_REQUEST, name)


def test_messages_requests_have_one_choice() -> None:
    """The Anthropic dialect has no such fields, so their values there are not judged."""
    assert decode_call(b'{"model":"m","n":"x","best_of":9}', Wire.ANTHROPIC).choices == 1


def test_facades_are_read_through_their_chat_form() -> None:
    limits = NativeLimits()
    responses = b'{"model":"m","input":"x","max_output_tokens":9}'
    native = b'{"model":"m","input":"x","max_output_tokens":8}'
    fields = [
        parse_request(endpoint, body, created=0, limits=limits).fields
        for endpoint, body in (
            (Endpoint.RESPONSES, responses),
            (Endpoint.NATIVE_CHAT, native),
        )
    ]
    assert [(call.output_limit, call.choices) for call in fields] == [(9, 1), (8, 1)]
