"""Tool schemas whose root Anthropic refuses."""

from __future__ import annotations

import json

import pytest

from gateway.protocols.translate.chat_to_messages.tool_schema import object_schema

A = {"type": "string"}
B = {"type": "integer"}


def made(**schema):
    """Return the schema that is sent."""
    return json.loads(bytes(object_schema(json.dumps(schema).encode())))


@pytest.mark.parametrize(
    "schema",
    [
        b'{ "type" : "object","properties":{"a":{"anyOf":[{"type":"null"}]}} }',
        b'{"type":"object","x":1.0}',
    ],
)
def test_an_object_keeps_its_bytes(schema):
    """Prompt caches depend on them; below the root alternatives are allowed."""
    assert bytes(object_schema(schema)) == schema


def test_a_root_without_a_type_is_an_object():
    """The type is inserted first."""
    assert bytes(object_schema(b'{"x":1}')) == b'{"type":"object","x":1}'
    assert bytes(object_schema(b"{}")) == b'{"type":"object"}'


def test_a_nullable_root_is_an_object():
    """A call always has an input."""
    assert made(type=["object", "null"], properties={"a": A}) == {
        "type": "object",
        "properties": {"a": A},
    }


@pytest.mark.parametrize("combiner", ["anyOf", "oneOf"])
def test_alternatives_require_what_all_of_them_require(combiner):
    """The model may send more than before, never less."""
    first = {"properties": {"a": A, "c": A}, "required": ["c", "a"]}
    second = {"properties": {"b": B, "c": B}, "required": ["b", "c"]}

    schema = made(type="object", required=["x"], **{combiner: [first, second]})

    assert schema == {
        "type": "object",
        "properties": {"a": A, "c": A, "b": B},
        "required": ["x", "c"],
    }


def test_all_of_requires_everything():
    """Each branch holds."""
    schema = made(
        properties={"a": A},
        allOf=[{"required": ["a"]}, {"properties": {"a": B, "b": B}, "required": ["b"]}],
    )

    assert schema == {"type": "object", "properties": {"a": A, "b": B}, "required": ["a", "b"]}


def test_alternatives_of_required_members_only_are_left_out():
    """One of two members, which Anthropic cannot express."""
    schema = made(
        type="object",
        properties={"a": A, "b": A},
        anyOf=[{"required": ["a"]}, {"required": ["b"]}],
    )

    assert schema == {"type": "object", "properties": {"a": A, "b": A}}


def test_numbers_keep_their_spelling():
    """Also where the schema is written anew."""
    assert b"1.0" in bytes(object_schema(b'{"anyOf":[],"properties":{"a":{"minimum":1.0}}}'))


@pytest.mark.parametrize("branches", [[], ["x", 1], None, {"a": 1}])
def test_a_combiner_without_branches_is_left_out(branches):
    """Nothing of it could be kept."""
    assert made(type="object", anyOf=branches) == {"type": "object"}
