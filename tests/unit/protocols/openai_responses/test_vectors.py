"""The shared vectors of the Responses API."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from gateway.errors import GatewayError
from gateway.protocols.openai_responses.context import ResponsesContext, ToolName
from gateway.protocols.openai_responses.request import translate_responses_request
from gateway.protocols.openai_responses.response import translate_responses_response
from gateway.protocols.openai_responses.stream import responses_stream
from tests.support.vectors import load, matches, network_chunks


def refusal(error: GatewayError) -> dict[str, Any]:
    surface = error.surface
    body = {
        "message": error.message,
        "type": surface.openai_type,
        "param": error.param,
        "code": error.code or surface.openai_code,
    }
    return {"status": surface.openai_status, "body": {"error": body}}


def request_body(given: dict[str, Any]) -> bytes:
    if "body" in given:
        return str(given["body"]).encode()
    return json.dumps(given["request"]).encode()


def context_of(given: dict[str, Any]) -> ResponsesContext:
    context = translate_responses_request(request_body(given["ctx"])).context
    names = {
        upstream: ToolName(
            called.get("name", upstream), called.get("namespace"), called.get("custom", False)
        )
        for upstream, called in given["ctx"].get("names", {}).items()
    }
    return msgspec.structs.replace(
        context,
        model=given["ctx"]["model"],
        created=1_700_000_000,
        tool_names=context.tool_names | names,
        history_ids=context.history_ids | set(given["ctx"].get("history_ids", [])),
    )


def named(upstream: str, tool: ToolName) -> dict[str, Any]:
    told: dict[str, Any] = {"custom": True} if tool.custom else {}
    if tool.namespace is not None:
        told["namespace"] = tool.namespace
    if tool.name != upstream:
        told["name"] = tool.name
    return told


def run_request(given: dict[str, Any]) -> dict[str, Any]:
    try:
        made = translate_responses_request(request_body(given))
    except GatewayError as error:
        return {"reject": refusal(error)}
    names = {up: named(up, tool) for up, tool in made.context.tool_names.items()}
    return {
        "request": json.loads(made.body),
        "tool_names": names,
        "dropped": sorted(made.dropped),
    }


def chat_chunks(given: dict[str, Any]) -> list[bytes]:
    chunks = network_chunks(given["chunks"])
    if given.get("wire", "openai") == "openai":
        return chunks
    stream = pytest.importorskip("gateway.protocols.translate.chat_to_messages.stream")
    contract = pytest.importorskip("gateway.protocols.translate.stream")
    asked = contract.ResponseContext(model=given["ctx"]["model"], include_usage=True, stream=True)
    translator = stream.chat_stream(asked)
    chat = [translator.feed(chunk) for chunk in chunks]
    return [*chat, translator.end(given.get("eof", "clean") == "clean")]


def events_in(raw: bytes) -> list[Any]:
    events = []
    for block in raw.decode().split("\n\n")[:-1]:
        name, data = block.split("\n")
        event = json.loads(data.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        events.append(event)
    return events


def run_stream(given: dict[str, Any]) -> dict[str, Any]:
    translator = responses_stream(context_of(given))
    raw = b"".join(map(translator.feed, chat_chunks(given)))
    raw += translator.end(given.get("eof", "clean") == "clean")
    if translator.error_before_commit is not None:
        assert raw == b""
        error = translator.error_before_commit
        return {"http_error": {"status": error.status, "body": json.loads(error.body)}}
    return {"events": events_in(raw)}


def run_response(given: dict[str, Any]) -> dict[str, Any]:
    try:
        made = translate_responses_response(
            json.dumps(given["response"]).encode(), context_of(given)
        )
    except GatewayError as error:
        return {"error": refusal(error)}
    return {"response": json.loads(made)}


RUNS = {
    "responses_request": run_request,
    "responses_stream": run_stream,
    "responses_response": run_response,
}


@pytest.mark.parametrize("vector", load("responses-*"))
def test_responses_vector(vector: dict[str, Any]) -> None:
    """A Responses request, stream or response becomes what its vector expects."""
    actual = RUNS[vector["kind"]](vector["input"])

    expected = vector["expect"]
    if "request" in expected:
        expected = {"tool_names": {}, **expected}
        actual = {name: value for name, value in actual.items() if name in expected}
    assert matches(expected, actual), json.dumps(actual, indent=1)
