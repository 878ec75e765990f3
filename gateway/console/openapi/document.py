"""Writes an `Api` as an OpenAPI 3.1 document."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any

import msgspec

from gateway import __version__
from gateway.console.openapi.errors import (
    AnthropicError,
    OpenAIError,
    error_components,
    error_responses,
)
from gateway.console.openapi.operation import Api, Operation
from gateway.core.model import Wire

_REF = "#/components/schemas/{name}"
_JSON = "application/json"


def openapi(api: Api) -> dict[str, Any]:
    """Return the document."""
    used = _used(api)
    wires = dict.fromkeys([*(each.wire for each in api.operations), Wire.OPENAI])
    paths: dict[str, dict[str, Any]] = {}
    for operation in api.operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": api.title,
            "version": __version__,
            "description": api.description,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": api.base_url}],
        "security": [{name: []} for name in api.schemes],
        "tags": [{"name": name, "description": text} for name, text in api.tags.items()],
        "paths": paths,
        "components": {
            "securitySchemes": api.schemes,
            "schemas": schemas(api),
            "responses": {
                name: component
                for wire in wires
                for name, component in error_components(wire).items()
                if name in used
            },
        },
    }


def schemas(api: Api) -> dict[str, Any]:
    """Return the JSON schemas of all bodies by name."""
    return _schemas(tuple(shapes_of(api)))


@functools.cache
def _schemas(shapes: tuple[type, ...]) -> dict[str, Any]:
    _, components = msgspec.json.schema_components(shapes, ref_template=_REF)
    return components


def shapes_of(api: Api) -> list[type]:
    """Return the structs of all bodies, errors included."""
    found: dict[type, None] = {OpenAIError: None}
    if any(each.wire is Wire.ANTHROPIC for each in api.operations):
        found[AnthropicError] = None
    for each in api.operations:
        success = each.success
        shapes = (each.request, success.shape, success.event, success.alternative)
        found.update(dict.fromkeys(shape for shape in shapes if shape is not None))
    return list(found)


def _used(api: Api) -> set[str]:
    return {
        reference["$ref"].rpartition("/")[2]
        for each in api.operations
        for reference in error_responses(each.errors, each.wire).values()
    }


def _operation(operation: Operation) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": operation.id,
        "summary": operation.title,
        "description": operation.description,
        "tags": [operation.tag],
    }
    if operation.parameters:
        described["parameters"] = list(_parameters(operation))
    if operation.request is not None:
        described["requestBody"] = {
            "required": True,
            "content": {_JSON: _media(operation.request, operation.example.body)},
        }
    described["responses"] = {
        str(operation.success.status): _success(operation),
        **error_responses(operation.errors, operation.wire),
    }
    return described


def _parameters(operation: Operation) -> Iterable[dict[str, Any]]:
    examples = {**operation.example.path, **operation.example.query}
    for each in operation.parameters:
        described = {
            "name": each.name,
            "in": each.where,
            "required": each.where == "path",
            "description": each.description,
            "schema": each.schema(),
        }
        if each.name in examples:
            described["example"] = examples[each.name]
        yield described


def _success(operation: Operation) -> dict[str, Any]:
    success = operation.success
    media = _media(success.shape, operation.example.response)
    if success.alternative is not None:
        both = [_reference(success.shape), _reference(success.alternative)]
        media["schema"] = {"anyOf": both}
    content: dict[str, Any] = {_JSON: media}
    if success.event is not None:
        content["text/event-stream"] = {
            "schema": {"type": "string"},
            "x-event-schema": _reference(success.event),
        }
    if success.csv:
        content["text/csv"] = {"schema": {"type": "string"}}
    return {"description": success.description, "content": content}


def _media(shape: type, example: dict[str, Any] | None) -> dict[str, Any]:
    media: dict[str, Any] = {"schema": _reference(shape)}
    if example is not None:
        media["example"] = example
    return media


def _reference(shape: type) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{shape.__name__}"}
