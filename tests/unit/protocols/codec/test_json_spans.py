"""Names that occur twice in one object."""

from __future__ import annotations

import pytest

from gateway.errors import ErrorKind, GatewayError
from gateway.protocols.codec.json_spans import unrepeated

WALKED_BYTES = 4096


@pytest.mark.parametrize("size", [0, WALKED_BYTES])
@pytest.mark.parametrize("space", [b"", b" \n"])
def test_repeated_name_is_refused_in_small_and_large_objects(size: int, space: bytes) -> None:
    """Large ones are walked, small ones are encoded again."""
    text = b'{"x":"%b",%b"a":1,"a":2}' % (b"x" * size, space)

    with pytest.raises(GatewayError, match="'a' occurs more than once") as raised:
        unrepeated(text)

    assert (raised.value.kind, raised.value.param) == (ErrorKind.BAD_REQUEST, "a")


@pytest.mark.parametrize("size", [0, WALKED_BYTES])
def test_values_are_those_of_the_text(size: int) -> None:
    """White space between members does not matter."""
    values = unrepeated(b'{ "x" : "%b", "a":1.0}' % (b"x" * size))

    assert list(values) == ["x", "a"]
    assert bytes(values["a"]) == b"1.0"
