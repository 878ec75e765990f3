"""The shared vectors of the translation OpenAI client -> Anthropic-wire upstream."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from gateway.errors import GatewayError
from gateway.protocols.translate.capabilities import capabilities
from gateway.protocols.translate.chat_to_messages.request import translate_request
from gateway.protocols.translate.chat_to_messages.response import translate_response
from gateway.protocols.translate.chat_to_messages.stream import chat_stream
from gateway.protocols.translate.stream import ResponseContext, StreamTranslator, TranslationRoute
from tests.support import vectors
from tests.support.chat_sdk import SEEN, seen


def route_of(given: dict[str, Any]) -> TranslationRoute:
    """Return the vector's route with its capabilities."""
    route = given["route"]
    caps = capabilities(route["dialect"], route.get("caps", {}))
    return TranslationRoute(route["upstream_model"], caps, route.get("max_output"))


def openai_error(error: GatewayError) -> dict[str, Any]:
    """Return status and body of a gateway error in OpenAI's shape."""
    surface = error.surface
    body = {
        "message": error.message,
        "type": surface.openai_type,
        "param": error.param,
        "code": error.code or surface.openai_code,
    }
    return {"status": surface.openai_status, "body": {"error": body}}


@pytest.mark.parametrize("vector", vectors.load("*", kind="request", direction="o2a"))
def test_request_of_vector_is_translated(vector):
    """The upstream's body, shortened names and dropped fields are the vector's, or its refusal."""
    given, expected = vector["input"], vector["expect"]
    body = (given.get("body") or json.dumps(given["request"], ensure_ascii=False)).encode()

    if "reject" in expected:
        with pytest.raises(GatewayError) as caught:
            translate_request(body, route_of(given))
        assert vectors.matches(expected["reject"], openai_error(caught.value))
        return
    answer = translate_request(body, route_of(given))
    again = translate_request(body, route_of(given))

    assert json.loads(answer.body) == expected["request"]
    assert sorted(answer.dropped) == sorted(expected.get("dropped", []))
    assert answer.context.tool_names == expected.get("tool_names", {})
    assert again == answer


def context_of(given: dict[str, Any]) -> ResponseContext:
    """Return the vector's context, with a date for the chunks."""
    context = given["ctx"]
    return ResponseContext(
        model=context["model"],
        tool_names=context.get("names", {}),
        include_usage=context.get("include_usage", False),
        created=1_767_225_600,
    )


def told(stream: bytes) -> list[Any]:
    """Return the events of an OpenAI stream: objects and `[DONE]`; comments are left out."""
    datas = [line[6:] for line in stream.split(b"\n") if line.startswith(b"data: ")]
    return [data.decode() if data == b"[DONE]" else json.loads(data) for data in datas]


def splits(chunks: list[bytes]) -> list[list[bytes]]:
    """Return the same bytes as given, byte by byte, in one piece, and in random pieces."""
    whole = b"".join(chunks)
    draw = random.Random(len(whole))
    cuts = sorted(draw.sample(range(len(whole)), k=min(len(whole), 17)))
    pieces = [
        whole[start:stop] for start, stop in zip([0, *cuts], [*cuts, len(whole)], strict=True)
    ]
    return [chunks, [whole[at : at + 1] for at in range(len(whole))], [whole], pieces]


def run(given: dict[str, Any], chunks: list[bytes]) -> tuple[StreamTranslator, list[Any]]:
    """Return the translator after all chunks and the end, and what it wrote."""
    stream = chat_stream(context_of(given))
    written = b"".join([stream.feed(chunk) for chunk in chunks])
    written += stream.end(given["eof"] == "clean")
    assert stream.done
    return stream, told(written)


@pytest.mark.parametrize("vector", vectors.load("*", kind="response", direction="o2a"))
def test_response_of_vector_is_translated(vector):
    """The chat completion is the vector's, or the error's status and body."""
    given, expected = vector["input"], vector["expect"]
    body = json.dumps(given["response"], ensure_ascii=False).encode()

    if "error" in expected:
        with pytest.raises(GatewayError) as caught:
            translate_response(body, context_of(given))
        assert vectors.matches(expected["error"], openai_error(caught.value))
        return
    assert vectors.matches(
        expected["response"], json.loads(translate_response(body, context_of(given)))
    )


@pytest.mark.parametrize("vector", vectors.load("*", kind="stream", direction="o2a"))
def test_stream_of_vector_is_translated_however_it_is_split(vector):
    """As given, byte by byte, whole and in random pieces, the events are the vector's."""
    given, expected = vector["input"], vector["expect"]
    chunks = vectors.network_chunks(given["chunks"])

    for pieces in splits(chunks):
        stream, events = run(given, pieces)

        if "http_error" in expected:
            error = stream.error_before_commit
            assert error is not None
            assert not events
            assert not stream.started
            assert error.status == expected["http_error"]["status"]
            assert json.loads(error.body) == expected["http_error"]["body"]
        else:
            assert stream.started
            assert vectors.matches(expected["events"], events)


@pytest.mark.parametrize("vector", vectors.load("*", kind="stream", direction="o2a"))
def test_stream_of_vector_is_read_by_the_official_sdk(vector):
    """OpenAI's accumulator ends up with what the vector says a client sees."""
    given = vector["input"]
    stream, events = run(given, vectors.network_chunks(given["chunks"]))
    if not stream.started:
        return

    view = seen(events)

    for name, value in vector.get("view", {}).items():
        if name in SEEN and "<<partial>>" not in json.dumps(value):
            assert view.get(name) == value
