"""Validates bodies against the shapes of an OpenAPI document."""

from __future__ import annotations

from typing import Any

import jsonschema

from gateway.console.openapi.clients import clients_api
from gateway.console.openapi.document import openapi
from gateway.console.openapi.operation import Operation
from gateway.console.openapi.operators import operators_api

BASE_URL = "http://127.0.0.1:8080"
MODEL = "deepseek-v4-flash"
CLIENTS = clients_api(BASE_URL, MODEL)
OPERATORS = operators_api(BASE_URL, MODEL)


class Shapes:
    """The schemas of a document."""

    def __init__(self, document: dict[str, Any]) -> None:
        self._components = document["components"]

    def problems(self, body: object, schema: dict[str, Any]) -> list[str]:
        """Return what is wrong with a body, each with its place."""
        validator = jsonschema.Draft202012Validator({**schema, "components": self._components})
        return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(body)]

    def problems_of(self, body: object, shape: type) -> list[str]:
        """Return what is wrong with a body of one struct."""
        return self.problems(body, {"$ref": f"#/components/schemas/{shape.__name__}"})


CLIENT_DOCUMENT = openapi(CLIENTS)
OPERATOR_DOCUMENT = openapi(OPERATORS)
CLIENT_SHAPES = Shapes(CLIENT_DOCUMENT)
OPERATOR_SHAPES = Shapes(OPERATOR_DOCUMENT)


def response_schema(document: dict[str, Any], operation: Operation) -> dict[str, Any]:
    """Return the schema of an operation's successful response."""
    described = document["paths"][operation.path][operation.method.lower()]
    content = described["responses"][str(operation.success.status)]["content"]
    schema: dict[str, Any] = content["application/json"]["schema"]
    return schema
