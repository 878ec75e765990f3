"""The shared vectors of the translation Anthropic Messages client -> OpenAI-wire upstream."""

from __future__ import annotations

import itertools
import json
import random
from typing import Any

import pytest

from gateway.errors import GatewayError
from gateway.protocols.translate.capabilities import capabilities
from gateway.protocols.translate.messages_to_chat.request import translate_request
from gateway.protocols.translate.messages_to_chat.response import translate_response
from gateway.protocols.translate.messages_to_chat.stream import messages_stream
from gateway.protocols.translate.stream import ResponseContext, TranslationRoute
from tests.support import vectors
from tests.support.anthropic_streams import accumulate, check_invariants, read_events


def route_of(given: dict[str, Any]) -> TranslationRoute:
    """Return the vector's route with its capabilities."""
    route = given["route"]
    caps = capabilities(route["dialect"], route.get("caps", {}))
    return TranslationRoute(route["upstream_model"], caps, route.get("max_output"))


def anthropic_error(error: GatewayError) -> dict[str, Any]:
    """Return status and body of a gateway error in Anthropic's shape."""
    surface = error.surface
    body = {"type": surface.anthropic_type, "message": error.message}
    return {"status": surface.anthropic_status, "body": {"type": "error", "error": body}}


@pytest.mark.parametrize("vector", vectors.load("*", kind="request", direction="a2o"))
def test_request_of_vector_is_translated(vector):
    """The upstream's body, shortened names and dropped fields are the vector's, or its refusal."""
    given, expected = vector["input"], vector["expect"]
    body = given.get("body") or json.dumps(given["request"], ensure_ascii=False)
    headers = {name.lower(): value for name, value in (given.get("headers") or {}).items()}
    session = headers.get("x-claude-code-session-id")

    if "reject" in expected:
        with pytest.raises(GatewayError) as caught:
            translate_request(body.encode(), route_of(given), session)
        assert anthropic_error(caught.value) == expected["reject"]
        return
    answer = translate_request(body.encode(), route_of(given), session)
    again = translate_request(body.encode(), route_of(given), session)

    assert json.loads(answer.body) == expected["request"]
    assert sorted(answer.dropped) == sorted(expected.get("dropped", []))
    assert answer.context.tool_names == expected.get("tool_names", {})
    assert again == answer


def context_of(given: dict[str, Any]) -> ResponseContext:
    """Return what the vector's response must know of its request."""
    ctx = given["ctx"]
    return ResponseContext(
        model=ctx["model"],
        tool_names=ctx.get("names", {}),
        history_ids=frozenset(ctx.get("history_ids", ())),
        stop_sequences=tuple(ctx.get("stop_sequences", ())),
        stream=given.get("kind") == "stream",
    )


@pytest.mark.parametrize("vector", vectors.load("*", kind="response", direction="a2o"))
def test_response_of_vector_is_translated(vector):
    """The Anthropic message is the vector's, or the error it names."""
    given, expected = vector["input"], vector["expect"]
    body = json.dumps(given["response"]).encode()
    caps = route_of(given).caps

    if "error" in expected:
        with pytest.raises(GatewayError) as caught:
            translate_response(body, context_of(given), caps)
        assert anthropic_error(caught.value) == expected["error"]
        return
    answer = translate_response(body, context_of(given), caps)

    assert json.loads(answer) == expected["response"]


def splits(chunks: list[bytes]) -> list[list[bytes]]:
    """Return the same bytes cut in other places: as given, byte by byte, whole, and at random."""
    whole = b"".join(chunks)
    ways = [chunks, [whole] if whole else []]
    if len(whole) < 20_000:
        ways.append([whole[at : at + 1] for at in range(len(whole))])
    draw = random.Random(len(whole))
    for _ in range(5):
        cuts = sorted({draw.randrange(len(whole) + 1) for _ in range(12)} | {0, len(whole)})
        ways.append([whole[a:b] for a, b in itertools.pairwise(cuts)])
    return ways


@pytest.mark.parametrize("vector", vectors.load("*", kind="stream", direction="a2o"))
def test_stream_of_vector_is_translated(vector):
    """The events are the vector's however the network cuts the bytes, or its HTTP error."""
    given, expected = vector["input"], vector["expect"]

    for chunks in splits(vectors.network_chunks(given["chunks"])):
        stream = messages_stream(context_of(given), route_of(given).caps)
        written = b"".join(stream.feed(chunk) for chunk in chunks)
        written += stream.end(given["eof"] == "clean")

        assert stream.done
        if "http_error" in expected:
            error = stream.error_before_commit
            assert error is not None
            assert stream.failed
            assert written == b""
            assert error.status == expected["http_error"]["status"]
            assert json.loads(error.body) == expected["http_error"]["body"]
            continue
        assert stream.error_before_commit is None
        assert read_events(written) == expected["events"]
        check_invariants(written)


@pytest.mark.parametrize("vector", vectors.load("*", kind="stream", direction="a2o"))
def test_stream_of_vector_is_what_the_sdk_expects(vector):
    """Anthropic's accumulator ends up with the vector's view."""
    given, view = vector["input"], vector.get("view")
    if view is None or "http_error" in vector["expect"]:
        return
    stream = messages_stream(context_of(given), route_of(given).caps)
    written = b"".join(stream.feed(chunk) for chunk in vectors.network_chunks(given["chunks"]))
    written += stream.end(given["eof"] == "clean")

    message = accumulate(written)

    assert len(message["content"]) == len(view["content"])
    for block, expected in zip(message["content"], view["content"], strict=True):
        for name, value in expected.items():
            assert value == "<<partial>>" or block[name] == value
    if "stop_reason" in view:
        assert message["stop_reason"] == view["stop_reason"]
    for name, count in view.get("usage", {}).items():
        assert message["usage"][name] == count
