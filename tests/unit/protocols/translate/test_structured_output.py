"""Schemas that OpenAI accepts as strict."""

from __future__ import annotations

import json

import pytest
from msgspec import Raw

from gateway.protocols.translate.structured_output import is_strict_schema

CLOSED = {"type": "object", "properties": {}, "additionalProperties": False}
OPEN = {"type": "object", "properties": {}}


@pytest.mark.parametrize("part", [CLOSED, OPEN])
@pytest.mark.parametrize(
    "path", ["anyOf", "allOf", "items", "prefixItems", "properties", "$defs", "not"]
)
def test_schema_is_strict_if_every_part_is_closed(path: str, part: dict[str, object]) -> None:
    """Wherever a part is: in a list, under a name, or alone."""
    inside: object = part
    if path in ("anyOf", "allOf", "prefixItems"):
        inside = [CLOSED, part]
    elif path in ("properties", "$defs"):
        inside = {"a": part}
    schema: dict[str, object] = {**CLOSED, path: inside, "required": ["a"]}

    assert is_strict_schema(Raw(json.dumps(schema).encode())) is (part is CLOSED)
