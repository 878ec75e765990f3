"""Structured output: schemas closed for Anthropic, or an instruction in their place."""

from __future__ import annotations

import json

import pytest
from msgspec import Raw

from gateway.protocols.translate.capabilities import capabilities
from gateway.protocols.translate.chat_to_messages.request import translate_request
from gateway.protocols.translate.closed_schema import close_schema
from gateway.protocols.translate.stream import TranslationRoute

CLOSED = {"additionalProperties": False}


def closed(schema):
    """Return the closed schema, or None."""
    answer = close_schema(Raw(json.dumps(schema).encode()))
    return None if answer is None else json.loads(bytes(answer))


def sent(response_format, **caps):
    """Return the upstream's body for a response format."""
    route = TranslationRoute("up", capabilities("anthropic", caps))
    request = {
        "model": "m",
        "messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "x"}],
        "response_format": response_format,
    }
    answer = translate_request(json.dumps(request).encode(), route)
    return json.loads(answer.body), answer.dropped


def json_schema(schema):
    """Return a response format."""
    return {"type": "json_schema", "json_schema": {"name": "n", "schema": schema, "strict": True}}


def test_every_object_is_closed():
    """Wherever schemas can stand."""
    thing = {"type": "object", "properties": {"a": {"type": "string"}}}
    shut = {**thing, **CLOSED}
    schema = {
        "type": "object",
        "properties": {
            "one": thing,
            "many": {"type": "array", "items": thing, "prefixItems": [thing]},
            "either": {"anyOf": [thing, {"type": "null"}]},
            "maybe": {"type": ["object", "null"], "properties": {"b": {}}},
            "implied": {"properties": {"c": {}}},
        },
        "$defs": {"d": thing},
    }

    assert closed(schema) == {
        "type": "object",
        "properties": {
            "one": shut,
            "many": {"type": "array", "items": shut, "prefixItems": [shut]},
            "either": {"anyOf": [shut, {"type": "null"}]},
            "maybe": {"type": ["object", "null"], "properties": {"b": {}}, **CLOSED},
            "implied": {"properties": {"c": {}}, **CLOSED},
        },
        "$defs": {"d": shut},
        **CLOSED,
    }


def test_limits_are_removed_but_properties_of_their_names_stay():
    """Numeric, length and count limits are unsupported; a property may be called `minimum`."""
    schema = {
        "type": "object",
        "properties": {
            "minimum": {"type": "integer", "minimum": 1, "exclusiveMaximum": 9, "multipleOf": 2},
            "s": {"type": "string", "minLength": 1, "maxLength": 2, "pattern": "a", "enum": ["a"]},
            "l": {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": 2},
        },
        "required": ["minimum"],
    }

    assert closed(schema) == {
        "type": "object",
        "properties": {
            "minimum": {"type": "integer"},
            "s": {"type": "string", "pattern": "a", "enum": ["a"]},
            "l": {"type": "array", "items": {"type": "string"}},
        },
        "required": ["minimum"],
        **CLOSED,
    }


def test_values_in_the_schema_are_no_schemas():
    """What stands in `enum`, `const`, `default` and `examples` is not touched."""
    value = {"type": "object", "minimum": 1}
    schema = {"type": "object", "properties": {"a": {"enum": [value], "default": value}}}

    assert closed(schema) == {**schema, **CLOSED}


def test_numbers_keep_their_spelling():
    """Big integers and 1.0 survive."""
    schema = b'{"type":"object","properties":{"a":{"enum":[1.0,12345678901234567890123,-0,1e5]}}}'

    answer = close_schema(Raw(schema))

    assert answer is not None
    assert b"[1.0,12345678901234567890123,-0,1e5]" in bytes(answer)


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object"},
        {"type": "object", "properties": {}},
        {"type": "object", "additionalProperties": {"type": "string"}},
        {"type": "object", "properties": {"a": {}}, "additionalProperties": {"type": "string"}},
        {"type": "object", "properties": {"a": {"type": "object"}}},
        {"type": "object", "properties": {"a": {}}, "patternProperties": {"x": {}}},
        {"type": "object", "properties": {"a": {}}, "allOf": [{"properties": {"b": {}}}]},
        {"allOf": [{"$ref": "#/a"}, {"$ref": "#/b"}]},
        True,
        [1],
    ],
)
def test_object_that_is_open_by_design_cannot_be_closed(schema):
    """Closing it would forbid what it is made for."""
    assert closed(schema) is None


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "properties": {}, "additionalProperties": False},
        {"type": "object", "properties": {"a": {}}, "additionalProperties": True},
        {"type": "object", "properties": {"a": {}}, "anyOf": [{"required": ["a"]}]},
    ],
)
def test_object_with_listed_members_is_closed(schema):
    """What conforms to the closed schema conforms to the original."""
    assert closed(schema) == {**schema, **CLOSED}


def test_schema_goes_into_the_output_config():
    """The upstream then guarantees it."""
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}

    body, dropped = sent(json_schema(schema))

    assert body["output_config"] == {"format": {"type": "json_schema", "schema": schema | CLOSED}}
    assert body["system"] == [{"type": "text", "text": "s"}]
    assert dropped == ()


@pytest.mark.parametrize(
    ("response_format", "caps", "sentence"),
    [
        ({"type": "json_object"}, {}, "Respond only with a valid JSON object."),
        ({"type": "json_schema", "json_schema": {"name": "n"}}, {},
         "Respond only with a valid JSON object."),
        (json_schema({"type": "object", "properties": {"a": {"minimum": 1.0}}}),
         {"structured": "instruction"},
         "Respond only with a JSON object that conforms to this JSON Schema:\n"
         '{"type":"object","properties":{"a":{"minimum":1.0}}}'),
        ({"type": "text"}, {}, None),
        (None, {}, None),
    ],
)  # fmt: skip
def test_instruction_is_the_last_system_block(response_format, caps, sentence):
    """Where no schema can be given, a sentence asks for it."""
    body, _ = sent(response_format, **caps)

    expected = [] if sentence is None else [{"type": "text", "text": sentence}]
    assert body["system"] == [{"type": "text", "text": "s"}, *expected]
    assert "output_config" not in body


def test_format_is_listed_where_nothing_can_ask_for_it():
    """A dialect without any support."""
    body, dropped = sent({"type": "json_object"}, structured=None)

    assert body["system"] == [{"type": "text", "text": "s"}]
    assert dropped == ("response_format",)
