"""Reading JSON that others wrote."""

from __future__ import annotations

import itertools
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import ErrorKind, GatewayError
from gateway.protocols.codec.json_decode import (
    SurrogateJoiner,
    decode_event,
    decode_request,
    decode_response,
    replace_lone_surrogates,
)
from gateway.protocols.codec.nesting import TOO_DEEP


class Part(msgspec.Struct):
    text: str
    size: int | None = None


class Thing(msgspec.Struct):
    model: str
    stream: bool | None = None
    parts: list[Part] = []
    extra: msgspec.Raw = msgspec.Raw(b"null")


class Delta(msgspec.Struct):
    text: str | None = None


THING = msgspec.json.Decoder(Thing)
DELTA = msgspec.json.Decoder(Delta)
NOT_JSON = "The request body is not valid JSON: "
ANY: msgspec.json.Decoder[Any] = msgspec.json.Decoder()


@pytest.mark.parametrize(
    ("body", "message", "param"),
    [
        (b"", "The request body is empty; send a JSON object.", None),
        (b" \n", "The request body is empty; send a JSON object.", None),
        (b"[]", "Invalid request body: expected an object, got an array.", None),
        (b"{}", "Missing required parameter: 'model'.", "model"),
        (b'{"model":1}', "Invalid value for 'model': expected a string, got an integer.", "model"),
        (
            b'{"model":"a","stream":"yes"}',
            "Invalid value for 'stream': expected a boolean or null, got a string.",
            "stream",
        ),
        (
            b'{"model":"a","parts":[{"text":"x"},{"text":null}]}',
            "Invalid value for 'parts.1.text': expected a string, got null.",
            "parts.1.text",
        ),
        (
            b'{"model":"a","parts":[{}]}',
            "Missing required parameter: 'parts.0.text'.",
            "parts.0.text",
        ),
        (b'{"model":"a"', NOT_JSON + "Input data was truncated.", None),
        (b'{"model":"a"}x', NOT_JSON + "trailing characters (byte 14).", None),
        (b'{"model":"\xff"}', "The request body is not valid UTF-8.", None),
        (b'{"x":' + b"[" * 3000 + b"]" * 3000 + b"}", TOO_DEEP, None),
        ('{"model":"a"}'.encode("utf-16"), NOT_JSON + "invalid character (byte 0).", None),
    ],
)
def test_decode_request_refused_names_field_and_fix(
    body: bytes, message: str, param: str | None
) -> None:
    """A bad body is a 400 whose message says where and what."""
    with pytest.raises(GatewayError) as caught:
        decode_request(body, THING)

    assert caught.value.kind is ErrorKind.BAD_REQUEST
    assert (caught.value.message, caught.value.param) == (message, param)


def test_decode_request_of_200_levels_works() -> None:
    """Two hundred levels of nesting are no reason to refuse."""
    nested = b'{"model":"a","extra":' + b"[" * 200 + b"]" * 200 + b"}"

    assert bytes(decode_request(nested, THING).extra) == b"[" * 200 + b"]" * 200
    assert decode_request(nested, ANY)["model"] == "a"


def test_decode_request_with_lone_surrogate_keeps_other_bytes() -> None:
    """A half emoji becomes U+FFFD; whole ones and raw numbers stay."""
    body = rb'{"parts":[{"text":"a\ud83d \ud83d\ude00 \\ud83d \ude00"}],"extra":1.0,"model":"m"}'

    thing = decode_request(body, THING)

    assert thing.parts[0].text == "a\ufffd 😀 \\ud83d \ufffd"
    assert bytes(thing.extra) == b"1.0"


def test_decode_answer_malformed_blames_the_upstream() -> None:
    """What an upstream wrote wrong is its fault."""
    for body in (b"<html>", b"{", b'{"model":1}', b"[" * 3000, b'{"model":"\xff"}', b""):
        with pytest.raises(GatewayError) as caught:
            decode_response(body, THING)
        assert caught.value.kind is ErrorKind.UPSTREAM_MALFORMED
    assert decode_response(rb'{"model":"\ud83d"}', THING).model == "\ufffd"


def test_decode_event_not_an_object_is_ignored_and_not_json_is_malformed() -> None:
    """Empty data and other JSON mean nothing; broken JSON is an error."""
    assert [decode_event(data, DELTA) for data in (b"", b" ", b"[1]", b"5", b'"x"', b"null")] == (
        [None] * 6
    )
    for data in (b"{", b"hello", b'{"text":5}', b"{" * 3000):
        with pytest.raises(GatewayError) as caught:
            decode_event(data, DELTA)
        assert caught.value.kind is ErrorKind.UPSTREAM_MALFORMED


def test_halves_in_two_events_are_joined() -> None:
    """An emoji cut into two deltas arrives whole."""
    joiner = SurrogateJoiner()
    texts = [
        decode_event(data, DELTA)
        for data in (rb'{"text":"a\ud83d"}', rb'{"text":"\ude00b"}', rb'{"text":"c\ud83d"}')
    ]

    out = [joiner.feed(delta.text or "") for delta in texts if delta] + [joiner.flush()]

    assert out == ["a", "😀b", "c", "\ufffd"]
    assert joiner.flush() == ""


anything = st.text(st.characters(exclude_categories=()), max_size=20)


@given(anything, st.lists(st.integers(0, 20), max_size=5))
def test_half_joiner_split_anywhere_same_text(text: str, points: list[int]) -> None:
    """Where a text is cut into pieces has no meaning, and it can always be encoded."""
    at = sorted({min(point, len(text)) for point in points} | {0, len(text)})
    joiner = SurrogateJoiner()
    whole = SurrogateJoiner()

    cut = "".join(joiner.feed(text[a:b]) for a, b in itertools.pairwise(at))
    cut += joiner.flush()

    assert cut == whole.feed(text) + whole.flush()
    assert cut == text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    cut.encode()


@given(anything)
def test_mend_surrogates_any_string_same_length_and_readable(text: str) -> None:
    """Mending never moves a byte and gives what msgspec can read."""
    body = json.dumps({"model": text}).encode()
    mended = replace_lone_surrogates(body)

    assert len(mended) == len(body)
    wanted = json.loads(body)["model"].encode("utf-16-le", "surrogatepass")
    assert decode_request(body, THING).model == wanted.decode("utf-16-le", "replace")


@given(st.binary(max_size=60) | st.lists(st.sampled_from(
    [b"{", b"}", b'"model"', b":", b'"', b"\\ud83d", b"[", b"]", b",", b"1", b"\xff", b"\\"]
)).map(b"".join))  # fmt: skip
def test_decoders_arbitrary_bytes_raise_only_gateway_errors(body: bytes) -> None:
    """No bytes can make a decoder fail in an unforeseen way."""
    for decode in (decode_request, decode_response, decode_event):
        for decoder in (THING, DELTA, ANY):
            try:
                decode(body, decoder)
            except GatewayError as error:
                error.message.encode()
