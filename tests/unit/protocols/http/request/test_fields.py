"""The fields of requests that control reasoning."""

from __future__ import annotations

import pytest

from gateway.core.model import Wire
from gateway.protocols.http.request.fields import decode_call


@pytest.mark.parametrize(
    ("members", "asks"),
    [
        (b"", None),
        (b',"reasoning_effort":null', None),
        (b',"reasoning_effort":"none"', False),
        (b',"reasoning_effort":"low"', True),
        (b',"reasoning_effort":"none","reasoning":{"effort":"low"}', True),
    ],
)
def test_request_asks_for_reasoning_unless_its_only_field_is_none(
    members: bytes, asks: bool | None
) -> None:
    """Without any field it is the model's default."""
    fields = decode_call(b'{"model":"m"%b}' % members, Wire.OPENAI)

    assert fields.asks_reasoning is asks
