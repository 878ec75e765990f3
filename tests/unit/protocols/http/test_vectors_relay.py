"""Wire vectors of what passes through: rewriting, metering, hiding, headers, endpoints."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.core.catalogue import Catalogue, route_headers
from gateway.core.model import Endpoint, Model, Prices, Usage, Wire
from gateway.edge.routes import Page, error_wire, match
from gateway.errors import ErrorKind, GatewayError
from gateway.protocols.http.errors.gateway_errors import render
from gateway.protocols.http.headers import client_headers, translated_headers, upstream_headers
from gateway.protocols.http.model_list import list_models, show_model
from gateway.protocols.http.request.reasoning import strip_foreign_reasoning
from gateway.protocols.http.request.rewrite import inject_usage, rewrite_model
from gateway.protocols.openai_chat.usage_filter import UsageChunkFilter
from gateway.protocols.streams.json_meter import JsonMeter
from gateway.protocols.streams.meter import StreamMeter
from tests.support.vectors import load, matches, network_chunks


@pytest.mark.parametrize("vector", load("*", "rewrite"))
def test_rewrite_vector(vector: dict[str, Any]) -> None:
    """Only the model changes, or the body is rejected; gateway reasoning may be stripped."""
    body = vector["input"]["body"].encode()
    expect = vector["expect"]

    if "reject" in expect:
        with pytest.raises(GatewayError) as caught:
            rewrite_model(body, vector["input"]["model"])
        assert caught.value.surface.openai_status == expect["reject"]["status"]
    else:
        assert rewrite_model(body, vector["input"]["model"]) == expect["body"].encode()
        if "old_model" in expect:
            name = json.loads(body)["model"]
            assert name == expect["old_model"]


@pytest.mark.parametrize("vector", load("*", "strip"))
def test_strip_vector(vector: dict[str, Any]) -> None:
    """The gateway's own reasoning is removed; otherwise the bytes are unchanged."""
    body = vector["input"]["body"].encode()
    expected = vector["expect"]["request"]

    stripped = strip_foreign_reasoning(body)

    if expected is None:
        assert stripped == body
    else:
        assert json.loads(stripped) == expected


@pytest.mark.parametrize("vector", load("*", "sniff"))
def test_sniff_vector(vector: dict[str, Any]) -> None:
    """The meter finds the usage, the end and the failure."""
    given, expect = vector["input"], vector["expect"]
    wire = Wire(given["wire"])
    meter = StreamMeter(wire) if given["body"] == "sse" else JsonMeter(wire)

    for chunk in network_chunks(given["chunks"]):
        meter.feed(chunk)
    meter.end()

    assert record(meter) == expect["record"]
    assert (meter.saw_end, meter.failed) == (expect["saw_end"], expect["failed"])


@pytest.mark.parametrize("vector", load("*", "hide_usage"))
def test_hide_usage_vector(vector: dict[str, Any]) -> None:
    """The usage event is removed exactly if the client did not ask for it."""
    given, expect = vector["input"], vector["expect"]
    chunks = network_chunks(given["chunks"])
    meter = StreamMeter(Wire(given["wire"]))
    hider = UsageChunkFilter()

    for chunk in chunks:
        meter.feed(chunk)
    meter.end()
    if given["client_asked"]:
        shown = b"".join(chunks)
    else:
        shown = b"".join([*[hider.feed(chunk) for chunk in chunks], hider.end()])

    assert shown == b"".join(network_chunks(expect["chunks"]))
    assert record(meter) == expect["record"]


@pytest.mark.parametrize("vector", load("*", "inject_usage"))
def test_inject_usage_vector(vector: dict[str, Any]) -> None:
    """Usage is asked for in place."""
    body, hide = inject_usage(vector["input"]["body"].encode())

    assert body == vector["expect"]["body"].encode()
    assert hide is vector["expect"]["hide"]


@pytest.mark.parametrize("vector", load("*", "headers"))
def test_headers_vector(vector: dict[str, Any]) -> None:
    """The allow-lists of both ways, complete."""
    given = vector["input"]
    wire = Wire(given["wire"])
    sent = [(name.lower().encode(), value.encode()) for name, value in given["headers"].items()]

    headers: Any
    if given["kind"] == "request":
        key = given["upstream_key"]
        route = route_headers("host", given["auth"], key, given.get("static", {}))
        if given.get("translated"):
            headers = translated_headers(wire, route, stream=given.get("stream", False))
        else:
            headers = upstream_headers(wire, sent, route)
        headers = [header for header in headers if header[0] != b"host"]
    else:
        content_type = dict(sent).get(b"content-type", b"")
        stream = given.get("stream", content_type.startswith(b"text/event-stream"))
        unchanged = not given.get("translated", False)
        headers = client_headers(sent, "req_own", stream=stream, unchanged=unchanged, error=True)
        headers = [header for header in headers if header[0] not in PROTECTION]
    found = {name.decode(): value.decode() for name, value in headers}

    assert len(found) == len(headers)
    assert matches(vector["expect"]["headers"], found)


@pytest.mark.parametrize("vector", load("endpoint-*", "endpoint"))
def test_endpoint_vector(vector: dict[str, Any]) -> None:
    """Paths, aliases, the model list and the gateway's own errors."""
    given, expect = vector["input"], vector["expect"]

    if "route_path" in given:
        path = given["route_path"].partition("?")[0]
        endpoint = match("POST", path)
        assert isinstance(endpoint, Endpoint)
        assert HANDLERS[endpoint] == expect["handler"]
    elif "resolve" in given:
        model = catalogue(given["catalog"], given["prefixes"]).resolve(given["resolve"])
        assert (model.name if model else None) == expect["model"]
    elif "own_error" in given:
        kind = OWN_ERRORS[given["own_error"]]
        error = GatewayError(kind, "", retry_after_s=given.get("retry_after"))
        check(expect, *render(error, Wire(given["surface"]), None))
    else:
        check(expect, *respond(given))


HANDLERS = {
    Endpoint.CHAT_COMPLETIONS: "/v1/chat/completions",
    Endpoint.MESSAGES: "/v1/messages",
    Endpoint.COUNT_TOKENS: "/v1/messages/count_tokens",
    Endpoint.RESPONSES: "/v1/responses",
    Endpoint.NATIVE_CHAT: "/v1/chat",
    Endpoint.EMBEDDINGS: "/v1/embeddings",
}
OWN_ERRORS = {
    "missing_key": ErrorKind.MISSING_KEY,
    "invalid_key": ErrorKind.INVALID_KEY,
    "rate_limit": ErrorKind.RATE_LIMITED,
    "insufficient_quota": ErrorKind.NO_CREDIT,
    "too_large": ErrorKind.BODY_TOO_LARGE,
    "content_encoding": ErrorKind.CONTENT_ENCODING,
    "overloaded": ErrorKind.OVERLOADED,
    "no_route": ErrorKind.NO_ROUTE,
    "upstream_timeout": ErrorKind.UPSTREAM_TIMEOUT,
    "upstream_connect": ErrorKind.UPSTREAM_CONNECT,
}


PROTECTION = frozenset({b"cache-control", b"x-content-type-options"})
"""Added by the gateway to every response; `test_headers` checks their values."""


def record(meter: StreamMeter | JsonMeter) -> dict[str, int] | None:
    """Return the usage as the vectors count it: their output includes the reasoning."""
    usage: Usage = meter.usage
    if not meter.seen:
        return None
    return {
        "input": usage.input,
        "cache_read": usage.cache_read,
        "cache_write": usage.cache_write,
        "output": usage.output + usage.reasoning,
        "reasoning": usage.reasoning,
    }


def catalogue(entries: list[dict[str, Any]], prefixes: list[str]) -> Catalogue:
    """Return a catalogue of models without prices or deployments."""
    models = tuple(
        Model(
            name=entry["id"],
            aliases=tuple(entry.get("aliases", ())),
            display_name=entry["display_name"],
            created=entry["created"],
            context=entry["context"],
            max_output=entry["max_output"],
            prices=Prices(0, 0, 0, 0, 0),
            deployments=(),
        )
        for entry in entries
    )
    names = {name: model for model in models for name in (model.name, *model.aliases)}
    [prefix] = prefixes or [""]
    return Catalogue(model_prefix=prefix, models=models, providers=(), names=names)


def respond(given: dict[str, Any]) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    """Return the response to a request from the pure parts."""
    request, headers = given["request"], given["request"]["headers"]
    path, _, query = request["path"].partition("?")
    models = catalogue(given.get("catalog", []), [])
    wire = error_wire(path)
    try:
        target = match(request["method"], path)
        if isinstance(target, Page) and target is not Page.MODELS:
            return 200, [], b""
        if "bad" in headers.get("authorization", headers.get("x-api-key", "bad")):
            kind = ErrorKind.INVALID_KEY if headers else ErrorKind.MISSING_KEY
            raise GatewayError(kind, "")
        if target is Page.MODELS:
            named = {"anthropic-version", "x-api-key"} & headers.keys()
            wire = Wire.ANTHROPIC if named else Wire.OPENAI
            name = path.removeprefix("/v1/models").lstrip("/")
            if not name:
                pairs = dict(each.split("=") for each in query.split("&") if each)
                return 200, [], list_models(models.models, wire, pairs)
            return 200, [], show_model(known(models, name), wire, name)
        known(models, request["body"]["model"])
    except GatewayError as error:
        return render(error, wire, None)
    raise AssertionError(f"no response to {request}")


def known(models: Catalogue, name: str) -> Model:
    """Return the model or refuse."""
    model = models.resolve(name)
    if model is None:
        raise GatewayError(ErrorKind.UNKNOWN_MODEL, name, param="model")
    return model


def check(
    expect: dict[str, Any], status: int, headers: list[tuple[bytes, bytes]], body: bytes
) -> None:
    """Compare a response with a vector; other headers are ignored."""
    assert status == expect["status"]
    found = {name.decode(): value.decode() for name, value in headers}
    for name, value in expect.get("headers", {}).items():
        assert found.get(name) == value
    assert matches(expect["body"], json.loads(body) if body else None)
