"""Query strings: errors name the parameter and are client errors."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import ErrorKind, GatewayError
from gateway.operations.http_api import MAX_PARAMETERS, read_query


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (b"", []),
        (b"&&a=1&", [("a", "1")]),
        (b"&" * 200 + b"a=1&b=2", [("a", "1"), ("b", "2")]),
        (b"a=1&a=2", [("a", "1"), ("a", "2")]),
        (b"a&b=", [("a", ""), ("b", "")]),
        (b"a=b=c", [("a", "b=c")]),
        (b"%61=x+y%2Bz", [("a", "x y+z")]),
        (b"n=gr%C3%B6%C3%9Fe", [("n", "größe")]),
        (b"a=%zz%", [("a", "%zz%")]),
    ],
)
def test_query_is_decoded(query: bytes, expected: list[tuple[str, str]]) -> None:
    """Percent escapes and `+` are decoded as in HTML forms."""
    assert read_query(query) == expected


@pytest.mark.parametrize(
    ("query", "param"),
    [
        (b"&".join(b"p%d=1" % number for number in range(MAX_PARAMETERS + 1)), "p100"),
        (b"&".join([b"a"] * 30_000), "a"),
        (b"a=1&name=" + b"x" * 9000, "name"),
        (b"x" * 9000, "x" * 100),
        (b"name=%ff", "name"),
        (b"name=%c3%28", "name"),
        (b"name=%ed%a0%80", "name"),
        (b"name=\xff", "name"),
    ],
)
def test_bad_query_is_refused_with_its_name(query: bytes, param: str) -> None:
    """The error names the invalid parameter."""
    with pytest.raises(GatewayError) as caught:
        read_query(query)

    assert caught.value.kind is ErrorKind.BAD_REQUEST
    assert caught.value.param == param
    assert param in caught.value.message


def test_most_parameters_pass() -> None:
    """The highest allowed number of parameters is accepted."""
    query = b"&".join(b"p%d=1" % number for number in range(MAX_PARAMETERS))

    assert len(read_query(query)) == MAX_PARAMETERS


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(query: bytes) -> None:
    """Any bytes are parsed, or raise InvalidValueError."""
    try:
        read_query(query)
    except GatewayError as error:
        assert error.kind is ErrorKind.BAD_REQUEST
