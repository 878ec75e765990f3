"""Converts JSON schemas for Anthropic's structured output: closed objects, no limits."""

from __future__ import annotations

import json
from typing import Any, Final

import msgspec
from msgspec import Raw

from gateway.protocols.translate.structured_output import describes_object, sub_schemas

_LIMITS: Final = frozenset(
    {
        "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf",
        "minLength", "maxLength", "minItems", "maxItems", "uniqueItems",
        "minContains", "maxContains", "minProperties", "maxProperties",
    }
)  # fmt: skip
"""Keywords that structured output rejects; without them, a schema allows more, never less."""


class _OpenObjectError(Exception):
    """An object whose members cannot be listed."""


def close_schema(schema: Raw) -> Raw | None:
    """
    Return the schema with every object closed and without numeric, length and count limits.

    Everything else keeps its value; numbers keep their spelling.

    Args:
        schema: Valid JSON.

    Returns:
        None if the schema is not a JSON object, or describes an object that must stay open: a map,
        one without properties, or one composed of parts, which would exclude each other if closed.
    """
    tree = json.loads(bytes(schema), parse_int=_number, parse_float=_number)
    if not isinstance(tree, dict):
        return None
    try:
        _close(tree)
    except _OpenObjectError:
        return None
    return Raw(msgspec.json.encode(tree))


def _number(text: str) -> Raw:
    return Raw(text.encode())


def _close(schema: dict[str, object]) -> None:
    for limit in _LIMITS & schema.keys():
        del schema[limit]
    if describes_object(schema):
        if _is_open(schema):
            raise _OpenObjectError
        schema["additionalProperties"] = False
    elif len(_members(schema, "allOf")) > 1:
        raise _OpenObjectError
    for part in sub_schemas(schema):
        for inner in part if isinstance(part, list) else (part,):  # draft 4 lists `items`
            if isinstance(inner, dict):
                _close(inner)


def _is_open(schema: dict[str, object]) -> bool:
    others = schema.get("additionalProperties")
    if isinstance(others, dict) or "patternProperties" in schema:
        return True
    if not schema.get("properties") and others is not False:
        return True
    return any(_members(schema, key) for key in ("allOf", "anyOf", "oneOf"))


def _members(schema: dict[str, object], key: str) -> list[object]:
    """Return the branches of a composition that define members of an object."""
    branches = schema.get(key)
    if not isinstance(branches, list):
        return []
    return [
        branch
        for branch in branches
        if isinstance(branch, dict) and ("properties" in branch or "$ref" in branch)
    ]


_DEFINITIONS: Final = ("$defs", "definitions", "properties", "patternProperties")
_VALUES: Final = ("enum", "const", "default", "examples")


def plain_refs(schema: Any) -> Any:
    """
    Return a decoded schema with each `$ref` alone, and no `type` beside `anyOf`.

    Moonshot rejects both with 400 (its error messages in public reports, November 2026).
    """
    # A level takes one frame: comprehensions would take another before Python 3.12.
    if isinstance(schema, list):
        return list(map(plain_refs, schema))
    if not isinstance(schema, dict):
        return schema
    if isinstance(schema.get("$ref"), str):
        return {"$ref": schema["$ref"]}
    plain: dict[str, Any] = {}
    for name, value in schema.items():
        if name == "type" and isinstance(schema.get("anyOf"), list):
            continue
        if name in _DEFINITIONS and isinstance(value, dict):
            plain[name] = dict(zip(value, map(plain_refs, value.values()), strict=True))
        elif name in _VALUES:
            plain[name] = value
        else:
            plain[name] = plain_refs(value)
    return plain
