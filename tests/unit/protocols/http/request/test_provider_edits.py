"""What a provider's settings change in a request of its own wire."""

from __future__ import annotations

import json

import pytest

from gateway.core.model import Wire
from gateway.protocols.http.headers import mapped_betas
from gateway.protocols.http.request.fields import decode_call
from gateway.protocols.http.request.rewrite import (
    with_completion_limit,
    without_billing_line,
    without_fields,
)


@pytest.mark.parametrize(
    ("betas", "expected"),
    [
        ({b"a": None}, b"b,c"),
        ({b"*": None, b"b": b"b"}, b"b"),
        ({b"a": b"z", b"b": b"z"}, b"z,c"),
        ({b"*": b"keep"}, b"a,b,c"),
    ],
)
def test_betas_are_kept_dropped_or_renamed(
    betas: dict[bytes, bytes | None], expected: bytes
) -> None:
    """Each name follows its entry, the others follow the star."""
    headers = mapped_betas([(b"x", b"1"), (b"anthropic-beta", b"a, b,c")], betas)

    assert headers == ((b"x", b"1"), (b"anthropic-beta", expected))


def test_betas_all_dropped_leave_no_header() -> None:
    """An empty header is not sent."""
    assert mapped_betas([(b"anthropic-beta", b"a")], {b"*": None}) == ()


def test_without_fields_keeps_the_bytes_of_the_rest() -> None:
    """Only the named members go; numbers and spaces of the others stay."""
    body = b'{ "a": 1.0, "thinking": {"x": [1]}, "b": { "c" : 2 } }'

    assert without_fields(body, frozenset({"thinking"})) == (b'{ "a": 1.0, "b": { "c" : 2 } }')
    assert without_fields(body, frozenset({"other"})) is body


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (b'{"max_tokens":1}', b'{"max_completion_tokens":1}'),
        (
            b'{ "a" : 1.0 , "max_tokens" : 32000 }',
            b'{ "a" : 1.0 , "max_completion_tokens" : 32000 }',
        ),
        (
            b'{"a":"max_tokens\\"","max\\u005ftokens":7}',
            b'{"a":"max_tokens\\"","max_completion_tokens":7}',
        ),
        (b'{"max_tokens":null}', None),
        (b'{"max_tokens":1,"max_completion_tokens":2}', None),
        (b'{"a":{"max_tokens":1}}', None),
    ],
)
def test_completion_limit_gets_its_new_name_in_place(sent: bytes, expected: bytes | None) -> None:
    """Every other byte stays; nothing to rename gives the same bytes."""
    body = sent[:-1] + b',"model":"m"}'
    wanted = body if expected is None else expected[:-1] + b',"model":"m"}'

    assert with_completion_limit(body, decode_call(body, Wire.OPENAI)) == wanted


@pytest.mark.parametrize(
    ("system", "expected"),
    [
        (
            b'[{"type":"text","text":"x-anthropic-billing-header: 1"},{"type":"text","text":"A"}]',
            b'[{"type":"text","text":"A"}]',
        ),
        (b'"x-anthropic-billing-header: cc=1\\nYou are"', b'"You are"'),
        (b'"x-anthropic-billing-header: cc=1"', b'""'),
        (b'"You read x-anthropic-billing-header: often"', None),
    ],
)
def test_billing_line_goes_and_everything_else_stays(system: bytes, expected: bytes | None) -> None:
    """The block that changes at each turn is removed from the system prompt only."""
    body = b'{"model":"m", "system":%b,"messages":[]}' % system
    wanted = body if expected is None else body.replace(system, expected)

    assert without_billing_line(body) == wanted


@pytest.mark.parametrize(
    ("body", "left"),
    [
        (b'{"a":1}', b"{}"),
        (b'{ "a" : 1 }', b"{  }"),
        (b'{"a":1,"c":3}', b'{"c":3}'),
        (b'{ "a":1 , "c":3 }', b'{ "c":3 }'),
        (b'{"c":3 ,"a":1 }', b'{"c":3 }'),
        (b'{"a":1,"b":2,"c":3}', b'{"c":3}'),
        (b'{"c":3,"a":1,"b":2}', b'{"c":3}'),
        (b'{"a":1,"c":3,"b":2,"d":[4]}', b'{"c":3,"d":[4]}'),
        (b'{"c":"\\"a\\":1","\\u0061":{"x":"}"},"d":4}', b'{"c":"\\"a\\":1","d":4}'),
        (b'{"a":1,"b":2}', b"{}"),
    ],
)
def test_without_fields_takes_one_comma_with_each(body: bytes, left: bytes) -> None:
    """Wherever a member stands and however it is spelled, what is left is the same JSON."""
    found = without_fields(body, {"a", "b"})

    assert found == left
    assert json.loads(found) == {
        name: value for name, value in json.loads(body).items() if name not in ("a", "b")
    }
