"""Lists of models are taken out of requests, and everything else stays."""

from __future__ import annotations

import pytest

from gateway.core.model import Wire
from gateway.errors import ErrorKind, GatewayError
from gateway.protocols.http.request.fields import decode_call
from gateway.protocols.http.request.model_fallbacks import (
    header_fallbacks,
    names_fallbacks,
    take_fallbacks,
)


@pytest.mark.parametrize(
    ("lists", "expected"),
    [
        (b'"models":["a","b","a"],', (("a", "models"), ("b", "models"))),
        (b'"fallbacks":[{"model":"a","x":1},"b"],', (("a", "fallbacks"), ("b", "fallbacks"))),
        (b'"models": ["a"], "fallbacks":["b","a"],', (("a", "models"), ("b", "fallbacks"))),
        (b'"models":[],', ()),
        (b'"models":null,', ()),
    ],
)
def test_lists_are_taken_out_of_the_body(
    lists: bytes, expected: tuple[tuple[str, str], ...]
) -> None:
    """All other bytes are the client's, and the model's place is found again."""
    body = b'{ %b"model" : "m", "messages":[ ],  "x" :1.0}' % lists

    left, fields, names = take_fallbacks(body, Wire.OPENAI)

    assert names == expected
    assert b"models" not in left
    assert b"fallbacks" not in left
    assert left.endswith(b'"model" : "m", "messages":[ ],  "x" :1.0}')
    start, end = fields.model_span
    assert left[start:end] == b'"m"'
    assert not names_fallbacks(fields)


def test_requests_without_a_list_are_recognised() -> None:
    """They are not touched."""
    assert not names_fallbacks(decode_call(b'{"model":"m"}', Wire.OPENAI))
    assert names_fallbacks(decode_call(b'{"model":"m","models":["a"]}', Wire.OPENAI))
    assert names_fallbacks(decode_call(b'{"model":"m","models":[]}', Wire.OPENAI))
    assert names_fallbacks(decode_call(b'{"model":"m","fallbacks":null}', Wire.ANTHROPIC))
    assert names_fallbacks(decode_call(b'{"model":"m","fallbacks":["a"]}', Wire.ANTHROPIC))
    assert not names_fallbacks(decode_call(b'{"model":"m","service_tier":"flex"}', Wire.OPENAI))


@pytest.mark.parametrize(
    "lists",
    [
        b'"models":"a"',
        b'"models":[1]',
        b'"models":[""]',
        b'"fallbacks":[{"name":"a"}]',
        b'"models":["1","2","3","4","5","6","7","8","9"]',
        b'"fallbacks":["1","2","3","4","5","6","7","8","9"]',
    ],
)
def test_other_forms_are_refused(lists: bytes) -> None:
    """400 that names the member."""
    with pytest.raises(GatewayError) as raised:
        take_fallbacks(b'{"model":"m",%b}' % lists, Wire.OPENAI)

    assert raised.value.kind is ErrorKind.BAD_REQUEST
    assert lists.split(b'"')[1].decode() in f"{raised.value.param} {raised.value.message}"


def test_header_lists_models() -> None:
    """For endpoints whose body has no such member."""
    assert header_fallbacks(b" a, b,,a ") == (
        ("a", "x-capio-fallbacks"),
        ("b", "x-capio-fallbacks"),
    )
    with pytest.raises(GatewayError):
        header_fallbacks(b"1,2,3,4,5,6,7,8,9")


def test_eight_models_are_accepted_and_nine_refused() -> None:
    """In the body and in the header."""
    listed = b",".join(b'"%d"' % number for number in range(8))

    _, _, names = take_fallbacks(b'{"model":"m","fallbacks":[%b]}' % listed, Wire.OPENAI)
    with pytest.raises(GatewayError) as raised:
        take_fallbacks(b'{"model":"m","models":[%b,"8"]}' % listed, Wire.OPENAI)

    assert [each.name for each in names] == list("01234567")
    assert [each.name for each in header_fallbacks(b"0,1,2,3,4,5,6,7")] == list("01234567")
    assert raised.value.param == "models"
