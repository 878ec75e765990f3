"""Structured output, as both directions of translation express it."""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec import Raw

_SENTENCE: Final = "Respond only with a JSON object that conforms to this JSON Schema:"
_ONE: Final = (
    "items", "additionalItems", "contains", "additionalProperties", "not", "if", "then", "else",
)  # fmt: skip
_MANY: Final = ("anyOf", "oneOf", "allOf", "prefixItems")
_NAMED: Final = ("properties", "$defs", "definitions", "patternProperties", "dependentSchemas")


def schema_sentence(schema: Raw) -> str:
    """
    Return the instruction that replaces a schema for an upstream without structured output.

    Args:
        schema: Valid JSON; written compactly, its tokens unchanged.
    """
    compact = msgspec.json.format(bytes(schema), indent=-1).decode()
    return f"{_SENTENCE}\n{compact}"


def is_strict_schema(schema: Raw) -> bool:
    """
    Return whether OpenAI accepts the schema with `strict: true`.

    Every object must be closed (`additionalProperties: false`) and require all its properties. A
    schema that cannot be decoded because of its numbers is not strict.
    """
    try:
        schemas = [msgspec.json.decode(schema)]
    except ValueError:
        return False
    while schemas:
        part = schemas.pop()
        if isinstance(part, bool):
            continue
        if not isinstance(part, dict) or (describes_object(part) and not _requires_all(part)):
            return False
        schemas.extend(sub_schemas(part))
    return True


def describes_object(schema: dict[str, object]) -> bool:
    """Return whether an object may match: by `type` or, if that is absent, by `properties`."""
    kind = schema.get("type")
    return (
        kind == "object"
        or (isinstance(kind, list) and "object" in kind)
        or (kind is None and "properties" in schema)
    )


def _requires_all(schema: dict[str, object]) -> bool:
    properties = schema.get("properties", {})
    required = schema.get("required", [])
    return (
        schema.get("additionalProperties") is False
        and isinstance(properties, dict)
        and isinstance(required, list)
        and properties.keys() <= {name for name in required if isinstance(name, str)}
    )


def sub_schemas(schema: dict[str, object]) -> list[object]:
    """Return every value directly inside `schema` that should be a schema, of whatever type."""
    parts = [schema[key] for key in _ONE if key in schema]
    for key in _MANY:
        listed = schema.get(key, [])
        parts.extend(listed if isinstance(listed, list) else [listed])
    for key in _NAMED:
        named = schema.get(key, {})
        parts.extend(named.values() if isinstance(named, dict) else [named])
    return parts
