"""The OpenAPI documents are valid, and so is every example in them."""

from __future__ import annotations

from typing import Any

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from gateway.console.openapi.operation import Api, Operation
from tests.support.openapi import (
    CLIENT_DOCUMENT,
    CLIENTS,
    OPERATOR_DOCUMENT,
    OPERATORS,
    Shapes,
    response_schema,
)

APIS = pytest.mark.parametrize("api", [CLIENTS, OPERATORS], ids=["clients", "operators"])
DOCUMENTS = pytest.mark.parametrize(
    "document", [CLIENT_DOCUMENT, OPERATOR_DOCUMENT], ids=["clients", "operators"]
)
OPERATIONS = [
    pytest.param(document, each, id=each.id)
    for api, document in ((CLIENTS, CLIENT_DOCUMENT), (OPERATORS, OPERATOR_DOCUMENT))
    for each in api.operations
]


@DOCUMENTS
def test_document_is_valid_openapi(document: dict[str, Any]) -> None:
    """The whole document follows the specification, references included."""
    assert [str(error) for error in OpenAPIV31SpecValidator(document).iter_errors()] == []


@APIS
def test_operations_have_ids_of_their_own(api: Api) -> None:
    """An id names one operation, since pages and generated clients are named after it."""
    ids = [each.id for each in api.operations]

    assert len(set(ids)) == len(ids)
    assert all(name.isidentifier() for name in ids)


@pytest.mark.parametrize(("document", "operation"), OPERATIONS)
def test_examples_have_the_shapes_they_show(document: dict[str, Any], operation: Operation) -> None:
    """Request and response of an example follow the schemas beside them."""
    shapes = Shapes(document)
    described = document["paths"][operation.path][operation.method.lower()]

    if operation.request is not None:
        body = described["requestBody"]["content"]["application/json"]
        assert shapes.problems(body["example"], body["schema"]) == []
    if operation.example.response is not None:
        schema = response_schema(document, operation)
        assert shapes.problems(operation.example.response, schema) == []


@pytest.mark.parametrize(("document", "operation"), OPERATIONS)
def test_every_error_of_an_operation_is_a_component(
    document: dict[str, Any], operation: Operation
) -> None:
    """Errors are references to components of their status, each with an example that fits."""
    shapes = Shapes(document)
    described = document["paths"][operation.path][operation.method.lower()]
    errors = {
        status: response["$ref"].rpartition("/")[2]
        for status, response in described["responses"].items()
        if "$ref" in response
    }

    assert "401" in errors
    for status, name in errors.items():
        assert name == f"{operation.wire.value}_{status}"
        media = document["components"]["responses"][name]["content"]["application/json"]
        for example in media["examples"].values():
            assert shapes.problems(example["value"], media["schema"]) == []


def test_relayed_bodies_allow_unknown_members_and_own_ones_do_not() -> None:
    """A provider's new member passes; a typing error in our own body is found."""
    schemas: dict[str, Any] = CLIENT_DOCUMENT["components"]["schemas"]

    assert schemas["ChatRequest"].get("additionalProperties", True) is True
    assert schemas["MessagesRequest"].get("additionalProperties", True) is True
    assert schemas["NativeRequest"]["additionalProperties"] is False
    assert schemas["RedeemRequest"]["additionalProperties"] is False


def test_shapes_say_what_they_are() -> None:
    """No member that a client sends to Chat Completions or Messages lacks a type."""
    schemas: dict[str, Any] = CLIENT_DOCUMENT["components"]["schemas"]

    for name in ("ChatRequest", "MessagesRequest", "ResponsesRequest"):
        for member, schema in schemas[name]["properties"].items():
            assert {"type", "anyOf", "$ref"} & set(schema), f"{name}.{member}"
