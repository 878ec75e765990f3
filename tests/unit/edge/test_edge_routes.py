"""Dispatch of requests by path, and unexpected exceptions."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any

import msgspec
import pytest

from gateway.edge.asgi import Edge, RequestIds
from gateway.edge.inference import Inference
from gateway.edge.models import ModelsApi
from gateway.edge.probes import Probes
from gateway.edge.responses_api import ResponsesApi
from gateway.edge.routes import Page
from gateway.errors import ErrorKind, GatewayError
from gateway.pipeline.client.channel import ClientChannel
from gateway.pipeline.overload.early_refusal import EarlyRefusal
from gateway.protocols.http.forwarded import TrustedProxies
from gateway.settings import Brand
from gateway.store.redis.client import RedisState
from tests.support.pipeline_bench import Bench
from tests.support.pipeline_fakes import (
    ANTHROPIC_BODY,
    OPENAI_ANSWER,
    OPENAI_BODY,
    PRINCIPAL,
    RAW_KEY,
    FakeClient,
    FakeUpstreamResponse,
    asking,
    json_head,
    openai_event,
)


class FakeBus:
    """A Redis client that only has a state."""

    state = RedisState.READY


class FakeApi:
    """Records the requests, or raises an error."""

    def __init__(self, error: Exception | None = None) -> None:
        self.requests: list[object] = []
        self._error = error

    async def handle(self, channel: ClientChannel, *arguments: object) -> None:
        if self._error is not None:
            raise self._error
        self.requests.append(arguments)
        await channel.respond(200, [], b"page")


class EdgeHarness:
    """An `Edge` with a pipeline of fakes."""

    def __init__(
        self,
        *steps: Any,
        api: FakeApi | None = None,
        exceeded: str | None = None,
        trusted: tuple[str, ...] = (),
        **given: Any,
    ) -> None:
        self.bench = Bench(*steps, **given)
        self.api = api or FakeApi()
        self.bus = FakeBus()
        self.draining = False
        brand = Brand()
        self.edge = Edge(
            Inference(self.bench.proxy, TrustedProxies(trusted)),
            ModelsApi(self.bench.catalogue, self.bench.authenticator),
            self.api,  # type: ignore[arg-type]
            self.api,  # type: ignore[arg-type]
            Probes(brand, self.bus, lambda: self.draining),  # type: ignore[arg-type]
            ResponsesApi(self.bench.authenticator, None),
            refusal=EarlyRefusal(lambda: exceeded, self.bench.metrics),
        )

    async def ask(self, path: str, *body: bytes, method: str = "POST", **given: Any) -> FakeClient:
        """Send a request and wait for the end of the response."""
        client = FakeClient(path, *(body or (b"",)), method=method, **given)
        await self.edge.handle(client.scope, client.receive, client.send)
        return client


def good() -> FakeUpstreamResponse:
    """A complete response."""
    return FakeUpstreamResponse(headers=json_head(OPENAI_ANSWER), body=OPENAI_ANSWER)


async def test_inference_goes_to_the_pipeline_with_the_client() -> None:
    """The client's address and user agent are recorded."""
    harness = EdgeHarness(good())

    client = await harness.ask(
        "/v1/chat/completions", OPENAI_BODY, headers=[(b"user-agent", b"test/1")]
    )

    assert (client.status, client.body) == (200, OPENAI_ANSWER)
    assert (harness.bench.event.address, harness.bench.event.user_agent) == ("192.0.2.1", "test/1")
    assert harness.bench.event.request_id.encode() == client.header(b"x-request-id")


async def test_trusted_proxy_names_the_client_of_a_call() -> None:
    """The record has the address that the proxy in front appended."""
    harness = EdgeHarness(good(), trusted=("192.0.2.0/24",))

    await harness.ask(
        "/v1/chat/completions",
        OPENAI_BODY,
        headers=[(b"x-forwarded-for", b"10.0.0.1, 203.0.113.9")],
    )

    assert harness.bench.event.address == "203.0.113.9"


async def test_trace_of_the_client_reaches_the_upstream_and_the_log() -> None:
    """The upstream's parent is a span of this call; the log line has the trace's id."""
    harness = EdgeHarness(good())
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"

    await harness.ask(
        "/v1/chat/completions",
        OPENAI_BODY,
        headers=[(b"traceparent", f"00-{trace}-00f067aa0ba902b7-01".encode())],
    )

    (request,) = harness.bench.transport.requests
    version, trace_id, span_id, flags = dict(request.headers)[b"traceparent"].decode().split("-")
    assert (version, trace_id, flags) == ("00", trace, "01")
    assert span_id != "00f067aa0ba902b7"
    (line,) = harness.bench.call_log.lines
    assert line["trace_id"] == trace


@pytest.mark.parametrize(
    ("path", "status"), [("/v1/chat/completions", 503), ("/v1/messages/count_tokens", 529)]
)
async def test_call_beyond_a_bound_is_refused_before_anything_else(path: str, status: int) -> None:
    """Without a look at its key or body, and without a line in the log."""
    harness = EdgeHarness(exceeded="loop_lag")

    client = await harness.ask(path, b"no json", key=None)

    assert (client.status, client.header(b"retry-after")) == (status, b"1")
    assert client.header(b"x-request-id") == client.header(b"request-id") != b""
    assert harness.bench.call_log.lines == []


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/healthz", 200), ("GET", "/readyz", 200), ("GET", "/v1/messages", 405)],
)
async def test_only_calls_are_refused_beyond_a_bound(method: str, path: str, status: int) -> None:
    """Probes are served, and errors of the request stay what they are."""
    harness = EdgeHarness(exceeded="in_flight")

    assert (await harness.ask(path, method=method)).status == status


async def test_client_without_address_is_served() -> None:
    """A client of a UNIX socket has no address and gets a response."""
    harness = EdgeHarness(good())
    client = FakeClient("/v1/chat/completions", OPENAI_BODY)
    client.scope["client"] = None  # type: ignore[assignment]

    await harness.edge.handle(client.scope, client.receive, client.send)

    assert (client.status, harness.bench.event.address) == (200, None)
    assert harness.bench.event.user_agent is None


@pytest.mark.parametrize(
    ("path", "shape"), [("/v1/messages/x", "anthropic"), ("/v1/nothing", "openai")]
)
async def test_unknown_path_is_told_in_the_dialect_of_its_surface(path: str, shape: str) -> None:
    """404 in the format of the client's SDK; the request body is drained."""
    harness = EdgeHarness()

    client = await harness.ask(path, b"a", b"b", headers=[(b"content-length", b"2")])

    assert (client.status, client.ended) == (404, True)
    assert ("type" in json.loads(client.body)) is (shape == "anthropic")
    assert client._pieces_in == []


@pytest.mark.parametrize(
    ("path", "method"),
    [("/v1/messages", "GET"), ("/v1/models", "POST"), ("/v1/credits/redeem", "GET")],
)
async def test_wrong_method_is_told(path: str, method: str) -> None:
    """405 names the allowed method."""
    client = await EdgeHarness().ask(path, method=method)

    assert client.status == 405
    assert client.header(b"allow") == (b"GET, HEAD" if method == "POST" else b"POST")


@pytest.mark.parametrize(
    ("path", "method", "page"),
    [("/v1/credits", "GET", Page.CREDITS), ("/v1/credits/redeem", "POST", Page.REDEEM)],
)
async def test_account_pages_reach_their_handler(path: str, method: str, page: Page) -> None:
    """The handler gets the page and the request id."""
    harness = EdgeHarness()

    client = await harness.ask(path, method=method)

    assert client.body == b"page"
    assert harness.api.requests[0][0] is page  # type: ignore[index]


async def test_pages_of_operators_are_asked() -> None:
    """Everything below /admin/ goes to the operator's API."""
    client = await EdgeHarness().ask("/admin/keys", method="GET")

    assert client.body == b"page"


async def test_refusal_of_a_page_is_told() -> None:
    """An error of a handler becomes a response."""
    error = GatewayError(ErrorKind.FORBIDDEN, "Not yours.")

    client = await EdgeHarness(api=FakeApi(error)).ask("/v1/credits", method="GET")

    assert client.status == 403
    assert b"Not yours." in client.body


async def test_unexpected_exception_is_500_without_its_traceback(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The response discloses no internals; the log has the traceback and the request id."""
    harness = EdgeHarness(ZeroDivisionError("secret inside"))

    with caplog.at_level(logging.ERROR):
        client = await harness.ask("/v1/messages", ANTHROPIC_BODY)

    assert (client.status, client.ended) == (500, True)
    assert json.loads(client.body)["error"] == {"type": "api_error", "message": "Internal error."}
    assert b"secret" not in client.body
    assert "secret inside" in caplog.text
    assert caplog.records[-1].request_id.encode() == client.header(b"request-id")  # type: ignore[attr-defined]
    assert harness.bench.event.error_kind == "internal"


async def test_unexpected_exception_after_the_head_leaves_the_response_incomplete() -> None:
    """An incomplete response must not look complete."""
    response = FakeUpstreamResponse()
    harness = EdgeHarness(response)
    client = FakeClient("/v1/chat/completions", asking(OPENAI_BODY, stream=True))
    task = harness.edge.handle(client.scope, client.receive, client.send)

    async def break_it() -> None:
        await response.push(openai_event("A"))
        client.send_error = ZeroDivisionError("ours")
        await response.push(openai_event("B"))

    await asyncio.gather(task, break_it())

    assert (client.status, client.ended) == (200, False)
    assert client.body == openai_event("A")


async def test_models_are_listed_for_a_key() -> None:
    """The list has the fields of both formats."""
    client = await EdgeHarness().ask("/v1/models", method="GET")

    assert client.status == 200
    assert [model["id"] for model in json.loads(client.body)["data"]] == ["m"]


@pytest.mark.parametrize(
    ("path", "status"),
    [("/v1/models/m", 200), ("/v1/models/capio/m", 200), ("/v1/models/other", 404)],
)
async def test_one_model_is_shown(path: str, status: int) -> None:
    """By its name, with or without the brand's prefix."""
    client = await EdgeHarness().ask(path, method="GET")

    assert client.status == status


@pytest.mark.parametrize("path", ["/v1/models", "/v1/models/m"])
async def test_models_that_a_key_may_not_use_are_not_shown(path: str) -> None:
    """A model that the key may not use is not disclosed."""
    principal = msgspec.structs.replace(PRINCIPAL, models=frozenset({"other"}))

    client = await EdgeHarness(principal=principal).ask(path, method="GET")

    assert b'"id":"m"' not in client.body


async def test_models_need_a_key_and_tell_so_in_the_clients_dialect() -> None:
    """The error has Anthropic's form if the request has `anthropic-version`."""
    client = await EdgeHarness().ask(
        "/v1/models", method="GET", key=None, headers=[(b"anthropic-version", b"2023-06-01")]
    )

    assert client.status == 401
    assert json.loads(client.body)["type"] == "error"


async def test_key_in_the_other_header_counts_too() -> None:
    """`x-api-key` is accepted like `authorization`."""
    client = await EdgeHarness().ask(
        "/v1/models", method="GET", key=None, headers=[(b"x-api-key", RAW_KEY.encode())]
    )

    assert client.status == 200


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("path", ["/", "/healthz", "/api/hello", "/readyz"])
async def test_probes_need_no_key(path: str, method: str) -> None:
    """Health checks need no key."""
    client = await EdgeHarness().ask(path, method=method, key=None)

    assert (client.status, client.ended) == (200, True)
    assert (client.body == b"") is (method == "HEAD" or path in ("/healthz", "/api/hello"))


async def test_readiness_ends_with_the_stores() -> None:
    """A stopping worker is not ready."""
    harness = EdgeHarness()
    harness.bus.state = RedisState.CLOSED

    client = await harness.ask("/readyz", method="GET", key=None)

    assert client.status == 503
    assert json.loads(client.body)["status"] == "stopping"


async def test_readiness_ends_when_the_worker_drains() -> None:
    """It serves calls all the same, and is alive."""
    harness = EdgeHarness()
    harness.draining = True

    client = await harness.ask("/readyz", method="GET", key=None)
    alive = await harness.ask("/healthz", method="GET", key=None)

    assert client.status == 503
    assert json.loads(client.body) == {"status": "draining", "redis": "ready"}
    assert alive.status == 200


def test_request_ids_are_unique_across_workers() -> None:
    """A random prefix per worker, then a counter."""
    first, second = RequestIds(), RequestIds()

    ids = {first.next(), first.next(), second.next(), second.next()}

    assert len(ids) == 4
    assert all(each.startswith("req_") and len(each) == 30 for each in ids)


async def test_websocket_is_refused_at_once_with_the_way_that_works() -> None:
    """Codex tries it before HTTP."""
    upgrade = [(b"upgrade", b"websocket")]
    client = await EdgeHarness().ask("/v1/responses", method="GET", headers=upgrade)

    assert client.status == 426
    assert b"POST" in client.body
