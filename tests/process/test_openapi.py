"""Every example of the clients' API gets the response that its document describes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.console.openapi.operation import Operation
from tests.support.openapi import CLIENT_DOCUMENT, CLIENT_SHAPES, CLIENTS, response_schema
from tests.support.raw_client import Connection
from tests.support.service import Key

pytestmark = pytest.mark.process

BY_ID = {each.id: each for each in CLIENTS.operations}


def send(
    connection: Connection, key: Key, operation: Operation, path: str | None = None, **more: Any
) -> Any:
    """Send an operation's example; return the decoded response after its shape was checked."""
    body = {**(operation.example.body or {}), **more}
    raw = json.dumps(body).encode() if operation.example.body is not None else None
    wanted = operation.path if path is None else path
    response = connection.request(operation.method, wanted, raw, x_api_key=key.raw)

    assert response.status == operation.success.status, (operation.id, response.body)
    decoded = json.loads(response.body)
    schema = response_schema(CLIENT_DOCUMENT, operation)
    assert CLIENT_SHAPES.problems(decoded, schema) == [], operation.id
    return decoded


@pytest.mark.parametrize(
    "name",
    ["create_chat_completion", "create_message", "count_message_tokens", "create_chat"],
)
@pytest.mark.parametrize("model", ["deepseek-v4-flash", "claude-opus-4-8"])
def test_example_of_a_call_is_served_over_both_wires(
    connection: Connection, key: Key, name: str, model: str
) -> None:
    """Relayed or translated, the response has the documented shape."""
    send(connection, key, BY_ID[name], model=model)


def test_examples_of_stored_responses_work_in_their_order(connection: Connection, key: Key) -> None:
    """A response is created, read, listed and deleted."""
    made = send(connection, key, BY_ID["create_response"])
    path = f"/v1/responses/{made['id']}"

    kept = send(connection, key, BY_ID["get_response"], path)
    items = send(connection, key, BY_ID["list_input_items"], f"{path}/input_items?limit=10")
    gone = send(connection, key, BY_ID["delete_response"], path)

    assert kept["id"] == gone["id"] == made["id"]
    assert [item["role"] for item in items["data"]] == ["user"]


def test_examples_of_models_are_served(connection: Connection, key: Key) -> None:
    """Anthropic's shape, since the key is in `x-api-key`; OpenAI's is checked by the SDK's test."""
    listed = send(connection, key, BY_ID["list_models"])
    one = send(connection, key, BY_ID["get_model"], f"/v1/models/{listed['data'][0]['id']}")

    assert one == listed["data"][0]


@pytest.mark.parametrize("name", ["create_chat_completion", "create_message", "create_response"])
def test_events_of_a_stream_have_the_documented_shape(
    connection: Connection, key: Key, name: str
) -> None:
    """Each event's data follows the schema named beside `text/event-stream`."""
    operation = BY_ID[name]
    assert operation.success.event is not None
    body = json.dumps({**(operation.example.body or {}), "stream": True}).encode()

    response = connection.request("POST", operation.path, body, x_api_key=key.raw)

    events = [
        json.loads(line.removeprefix(b"data: "))
        for line in response.body.split(b"\n")
        if line.startswith(b"data: ") and line != b"data: [DONE]"
    ]
    assert len(events) > 2
    for event in events:
        assert CLIENT_SHAPES.problems_of(event, operation.success.event) == []


def test_example_of_embeddings_is_refused_with_the_documented_error(
    connection: Connection, key: Key
) -> None:
    """The demo has no model with embeddings: the error has the documented shape."""
    operation = BY_ID["create_embeddings"]
    body = json.dumps(operation.example.body).encode()

    response = connection.request("POST", operation.path, body, x_api_key=key.raw)

    assert response.status == 404
    schema = CLIENT_DOCUMENT["components"]["responses"]["openai_404"]["content"]
    problems = CLIENT_SHAPES.problems(
        json.loads(response.body), schema["application/json"]["schema"]
    )
    assert problems == []
