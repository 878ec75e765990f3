"""The documented bodies are those that the program reads, and what the vendors' SDKs send."""

from __future__ import annotations

import json
from typing import Any, cast

import anthropic
import httpx2
import msgspec
import openai
import pytest

from gateway.console.admin_api import accounts as admin_accounts
from gateway.console.admin_api import announcements as admin_announcements
from gateway.console.admin_api import catalogue as admin_catalogue
from gateway.console.admin_api import keys as admin_keys
from gateway.console.admin_api import records as admin_records
from gateway.console.admin_api import service as admin_service
from gateway.console.admin_api.request import Route
from gateway.console.openapi import clients
from gateway.console.openapi.operation import Operation
from gateway.console.openapi.shapes import operators
from gateway.console.openapi.shapes.chat import ChatRequest, EmbeddingsRequest
from gateway.console.openapi.shapes.messages import MessagesRequest, TokenCountRequest
from gateway.console.openapi.shapes.responses import NativeRequest, ResponsesRequest
from gateway.core.model import Endpoint
from gateway.edge import account_api
from gateway.edge.routes import Page, match
from gateway.operations.limits import KeyLimitsBody, LimitsBody
from gateway.protocols.native_chat import MEMBERS
from tests.support.openapi import CLIENT_SHAPES, CLIENTS, MODEL, OPERATORS

READ = [
    (operators.AccountChange, admin_accounts.AccountBody),
    (operators.NewAccount, admin_accounts.AccountBody),
    (operators.Booking, admin_accounts.CreditBody),
    (operators.Reason, admin_accounts.RefundBody),
    (operators.NewKey, admin_keys.KeyBody),
    (operators.NewCodes, admin_records.CodesBody),
    (operators.SentLimits, LimitsBody),
    (operators.SentKeyLimits, KeyLimitsBody),
    (clients.RedeemRequest, account_api.RedeemRequest),
]


@pytest.mark.parametrize(("shape", "body"), READ, ids=lambda each: each.__name__)
def test_documented_members_are_those_that_are_read(
    shape: type[msgspec.Struct], body: type[msgspec.Struct]
) -> None:
    """No member is missing, and none is documented that would be refused."""
    assert set(shape.__struct_fields__) == set(body.__struct_fields__)


def test_native_request_has_the_members_of_its_reader() -> None:
    """In their order, with the same ones required."""
    shape: Any = msgspec.inspect.type_info(NativeRequest)
    required = {field.encode_name for field in shape.fields if field.required}

    assert {field.encode_name for field in shape.fields} == {member.name for member in MEMBERS}
    assert required == {member.name for member in MEMBERS if member.required}


def path_of(operation: Operation) -> str:
    """The path as routes write it."""
    path = operation.path.removeprefix("/admin/")
    return path.replace("{id}", "*").replace("{name}", "**")


def test_every_route_of_the_operators_is_documented() -> None:
    """Method and path of each, and nothing else."""
    nothing = cast("Any", None)
    routes: list[Route] = [
        *admin_accounts.AdminAccounts(nothing, nothing).routes(),
        *admin_keys.AdminKeys(nothing, nothing, nothing).routes(),
        *admin_records.AdminRecords(nothing).routes(),
        *admin_service.AdminService(nothing, nothing).routes(),
        *admin_announcements.AdminAnnouncements(nothing).routes(),
        *admin_catalogue.AdminCatalogue(nothing).routes(),
    ]

    documented = {
        (
            each.method,
            each.path.removeprefix("/admin/").replace("{id}", "*").replace("{name}", "**"),
        )
        for each in OPERATORS.operations
    }

    assert documented == {(route.method, route.path) for route in routes}


def test_every_route_of_the_clients_is_documented() -> None:
    """Each endpoint and each page below `/v1` is an operation, and each operation is a route."""
    found = {
        match(each.method, each.path.replace("{id}", "resp_1").replace("{model}", "m"))
        for each in CLIENTS.operations
    }
    others = {Page.ROOT, Page.HELLO, Page.HEALTH, Page.READY, Page.ADMIN, Page.CONSOLE}

    assert found == {*Endpoint, *Page} - others


def sent(call: Any, kind: Any) -> dict[str, Any]:
    """The body that an SDK sends for a call."""
    bodies: list[bytes] = []

    def respond(request: httpx2.Request) -> httpx2.Response:
        bodies.append(request.content)
        return httpx2.Response(500, json={})

    http = httpx2.Client(transport=httpx2.MockTransport(respond))
    client = kind(api_key="k", base_url="http://gateway.test/v1", http_client=http, max_retries=0)
    with pytest.raises((openai.APIError, anthropic.APIError)):
        call(client)
    (body,) = bodies
    decoded: dict[str, Any] = json.loads(body)
    return decoded


HELLO: Any = [{"role": "user", "content": "Hello"}]
TOOL: Any = {"name": "f", "description": "d", "parameters": {"type": "object"}}


@pytest.mark.parametrize(
    ("call", "shape"),
    [
        (lambda c: c.chat.completions.create(model=MODEL, messages=HELLO), ChatRequest),
        (
            lambda c: c.chat.completions.create(
                model=MODEL,
                messages=HELLO,
                stream=True,
                stream_options={"include_usage": True},
                tools=[{"type": "function", "function": TOOL}],
                tool_choice="auto",
                max_completion_tokens=5,
                reasoning_effort="low",
                response_format={"type": "json_object"},
            ),
            ChatRequest,
        ),
        (lambda c: c.responses.create(model=MODEL, input="Hello"), ResponsesRequest),
        (
            lambda c: c.responses.create(
                model=MODEL, input=HELLO, store=False, tools=[{"type": "function", **TOOL}]
            ),
            ResponsesRequest,
        ),
        (lambda c: c.embeddings.create(model=MODEL, input=["a", "b"]), EmbeddingsRequest),
    ],
)
def test_requests_of_openais_sdk_have_the_documented_shape(call: Any, shape: type) -> None:
    """What the SDK sends with its own serialisation."""
    assert CLIENT_SHAPES.problems_of(sent(call, openai.OpenAI), shape) == []


@pytest.mark.parametrize(
    ("call", "shape"),
    [
        (lambda c: c.messages.create(model=MODEL, max_tokens=9, messages=HELLO), MessagesRequest),
        (
            lambda c: c.messages.create(
                model=MODEL,
                max_tokens=9,
                messages=HELLO,
                system="Be brief.",
                stream=True,
                stop_sequences=["x"],
                thinking={"type": "enabled", "budget_tokens": 1024},
                tools=[{"name": "f", "input_schema": {"type": "object"}}],
                tool_choice={"type": "auto"},
            ),
            MessagesRequest,
        ),
        (lambda c: c.messages.count_tokens(model=MODEL, messages=HELLO), TokenCountRequest),
    ],
)
def test_requests_of_anthropics_sdk_have_the_documented_shape(call: Any, shape: type) -> None:
    """What the SDK sends with its own serialisation."""
    assert CLIENT_SHAPES.problems_of(sent(call, anthropic.Anthropic), shape) == []


@pytest.mark.parametrize(
    ("body", "place"),
    [
        ({"model": MODEL}, "messages"),
        ({"model": MODEL, "messages": []}, "messages"),
        ({"model": 5, "messages": HELLO}, "model"),
        ({"model": MODEL, "messages": [{"content": "x"}]}, "role"),
    ],
)
def test_wrong_requests_do_not_have_the_documented_shape(body: object, place: str) -> None:
    """The schemas are not so wide that they accept anything."""
    problems = CLIENT_SHAPES.problems_of(body, ChatRequest)

    assert len(problems) == 1
    assert place in problems[0]
