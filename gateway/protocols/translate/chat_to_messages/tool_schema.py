"""Converts tool schemas to the form that Anthropic accepts: a plain object at the root."""

from __future__ import annotations

import json
from typing import Final

import msgspec
from msgspec import Raw

from gateway.protocols.translate.closed_schema import close_schema

_COMBINERS: Final = ("allOf", "anyOf", "oneOf")
_MEMBERS: Final = msgspec.json.Decoder(dict[str, Raw])
_OBJECT: Final = b'"object"'
Schema = dict[str, object]


def object_schema(schema: bytes) -> Raw:
    """
    Return the schema with `type: object` and without `anyOf`, `oneOf` and `allOf` at its root.

    A schema in this form is returned unchanged. The properties of all branches are merged into the
    root; of several with the same name the first is used. A property is required if every branch
    requires it, or, with `allOf`, if any branch does: the result allows more, never less.

    Args:
        schema: A JSON object.
    """
    members = _MEMBERS.decode(schema)
    if not any(name in members for name in _COMBINERS):
        kind = members.get("type")
        if kind is None:
            return Raw(b'{"type":"object"' + (b"," if members else b"") + schema[1:])
        if bytes(kind) == _OBJECT:
            return Raw(schema)
    root = json.loads(schema, parse_int=_number, parse_float=_number)
    for name in _COMBINERS:
        branches = root.pop(name, None)
        if isinstance(branches, list):
            _merge(root, [branch for branch in branches if isinstance(branch, dict)], name)
    return Raw(msgspec.json.encode({**root, "type": "object"}))


def is_closed(schema: Raw) -> bool:
    """Return whether strict tool use accepts the schema: closed objects, no limits."""
    closed = close_schema(schema)
    return closed is not None and msgspec.json.decode(closed) == msgspec.json.decode(schema)


def _number(text: str) -> Raw:
    return Raw(text.encode())


def _merge(root: Schema, branches: list[Schema], combiner: str) -> None:
    properties = dict(_named(root))
    for branch in branches:
        for name, schema in _named(branch).items():
            properties.setdefault(name, schema)
    if properties:
        root["properties"] = properties
    sets = [_required(branch) for branch in branches]
    if not sets:
        return
    if combiner == "allOf":
        shared = list(dict.fromkeys(name for names in sets for name in names))
    else:
        shared = [name for name in sets[0] if all(name in names for names in sets)]
    required = list(dict.fromkeys((*_required(root), *shared)))
    if required:
        root["required"] = required


def _named(schema: Schema) -> Schema:
    properties = schema.get("properties")
    return properties if isinstance(properties, dict) else {}


def _required(schema: Schema) -> list[str]:
    names = schema.get("required")
    return [name for name in names if isinstance(name, str)] if isinstance(names, list) else []
