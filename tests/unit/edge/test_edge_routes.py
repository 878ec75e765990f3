"""Where requests come in: who answers which path, and the last resort."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any

import msgspec
import pytest

from gateway.edge.asgi import Edge, RequestIds
from gateway.edge.models import ModelPages
from gateway.edge.ops import Probes
from gateway.edge.routes import Page
from gateway.errors import ErrorKind, GatewayError
from gateway.pipeline.channel import ClientChannel
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
    """A bus of which only the state is looked at."""

    state = RedisState.READY


class FakePages:
    """Answers with what it was asked, or fails."""

    def __init__(self, error: Exception | None = None) -> None:
        self.asked: list[object] = []
        self._error = error

    async def answer(self, channel: ClientChannel, *asked: object) -> None:
        if self._error is not None:
            raise self._error
        self.asked.append(asked)
        await channel.respond(200, [], b"page")


class InboundRequest:
    """An edge before a pipeline of fakes."""

    def __init__(self, *steps: Any, pages: FakePages | None = None, **given: Any) -> None:
        self.bench = Bench(*steps, **given)
        self.pages = pages or FakePages()
        self.bus = FakeBus()
        brand = Brand()
        self.edge = Edge(
            self.bench.proxy,
            ModelPages(self.bench.catalogue, self.bench.authenticator),
            self.pages,  # type: ignore[arg-type]
            self.pages,  # type: ignore[arg-type]
            Probes(brand, self.bus),  # type: ignore[arg-type]
        )

    async def ask(self, path: str, *body: bytes, method: str = "POST", **given: Any) -> FakeClient:
        """Send a request and wait for the end of its answer."""
        client = FakeClient(path, *(body or (b"",)), method=method, **given)
        await self.edge.handle(client.scope, client.receive, client.send)
        return client


def good() -> FakeUpstreamResponse:
    """A whole answer."""
    return FakeUpstreamResponse(headers=json_head(OPENAI_ANSWER), body=OPENAI_ANSWER)


async def test_inference_goes_to_the_pipeline_with_who_asks() -> None:
    """Address and agent of the caller are on record."""
    front = InboundRequest(good())

    client = await front.ask(
        "/v1/chat/completions", OPENAI_BODY, headers=[(b"user-agent", b"test/1")]
    )

    assert (client.status, client.body) == (200, OPENAI_ANSWER)
    assert (front.bench.event.address, front.bench.event.user_agent) == ("192.0.2.1", "test/1")
    assert front.bench.event.request_id.encode() == client.header(b"x-request-id")


async def test_caller_without_address_is_answered() -> None:
    """A UNIX socket has none."""
    front = InboundRequest(good())
    client = FakeClient("/v1/chat/completions", OPENAI_BODY)
    client.scope["client"] = None  # type: ignore[assignment]

    await front.edge.handle(client.scope, client.receive, client.send)

    assert (client.status, front.bench.event.address) == (200, None)
    assert front.bench.event.user_agent is None


@pytest.mark.parametrize(
    ("path", "shape"), [("/v1/messages/x", "anthropic"), ("/v1/nothing", "openai")]
)
async def test_unknown_path_is_told_in_the_dialect_of_its_surface(path: str, shape: str) -> None:
    """404 in words that the caller's SDK reads; its body is read away."""
    front = InboundRequest()

    client = await front.ask(path, b"a", b"b", headers=[(b"content-length", b"2")])

    assert (client.status, client.ended) == (404, True)
    assert ("type" in json.loads(client.body)) is (shape == "anthropic")
    assert client._pieces_in == []


@pytest.mark.parametrize(
    ("path", "method"),
    [("/v1/messages", "GET"), ("/v1/models", "POST"), ("/v1/credits/redeem", "GET")],
)
async def test_wrong_method_is_told(path: str, method: str) -> None:
    """405, and which one it takes."""
    client = await InboundRequest().ask(path, method=method)

    assert client.status == 405


@pytest.mark.parametrize(
    ("path", "method", "asked"),
    [("/v1/credits", "GET", Page.CREDITS), ("/v1/credits/redeem", "POST", Page.REDEEM)],
)
async def test_pages_of_accounts_are_asked(path: str, method: str, asked: Page) -> None:
    """With the page and the id of the request."""
    front = InboundRequest()

    client = await front.ask(path, method=method)

    assert client.body == b"page"
    assert front.pages.asked[0][0] is asked  # type: ignore[index]


async def test_pages_of_operators_are_asked() -> None:
    """Everything below /admin/ is theirs."""
    client = await InboundRequest().ask("/admin/keys", method="GET")

    assert client.body == b"page"


async def test_refusal_of_a_page_is_told() -> None:
    """Whatever a page raises becomes an answer."""
    error = GatewayError(ErrorKind.FORBIDDEN, "Not yours.")

    client = await InboundRequest(pages=FakePages(error)).ask("/v1/credits", method="GET")

    assert client.status == 403
    assert b"Not yours." in client.body


async def test_mistake_is_500_without_its_trace(caplog: pytest.LogCaptureFixture) -> None:
    """The caller learns nothing of our insides; the log has the trace and the call's id."""
    front = InboundRequest(ZeroDivisionError("secret inside"))

    with caplog.at_level(logging.ERROR):
        client = await front.ask("/v1/messages", ANTHROPIC_BODY)

    assert (client.status, client.ended) == (500, True)
    assert json.loads(client.body)["error"] == {"type": "api_error", "message": "Internal error."}
    assert b"secret" not in client.body
    assert "secret inside" in caplog.text
    assert caplog.records[-1].request_id.encode() == client.header(b"request-id")  # type: ignore[attr-defined]
    assert front.bench.event.error_kind == "internal"


async def test_mistake_after_the_head_leaves_the_answer_unended() -> None:
    """Nobody takes half an answer for a whole one."""
    response = FakeUpstreamResponse()
    front = InboundRequest(response)
    client = FakeClient("/v1/chat/completions", asking(OPENAI_BODY, stream=True))
    task = front.edge.handle(client.scope, client.receive, client.send)

    async def break_it() -> None:
        await response.push(openai_event("A"))
        client.send_error = ZeroDivisionError("ours")
        await response.push(openai_event("B"))

    await asyncio.gather(task, break_it())

    assert (client.status, client.ended) == (200, False)
    assert client.body == openai_event("A")


async def test_models_are_listed_for_a_key() -> None:
    """Both dialects' members."""
    client = await InboundRequest().ask("/v1/models", method="GET")

    assert client.status == 200
    assert [model["id"] for model in json.loads(client.body)["data"]] == ["m"]


@pytest.mark.parametrize(
    ("path", "status"),
    [("/v1/models/m", 200), ("/v1/models/capio/m", 200), ("/v1/models/other", 404)],
)
async def test_one_model_is_shown(path: str, status: int) -> None:
    """By its name, with or without the brand's prefix."""
    client = await InboundRequest().ask(path, method="GET")

    assert client.status == status


@pytest.mark.parametrize("path", ["/v1/models", "/v1/models/m"])
async def test_models_that_a_key_may_not_use_are_not_shown(path: str) -> None:
    """Who may not use a model need not know of it."""
    principal = msgspec.structs.replace(PRINCIPAL, models=frozenset({"other"}))

    client = await InboundRequest(principal=principal).ask(path, method="GET")

    assert b'"id":"m"' not in client.body


async def test_models_need_a_key_and_tell_so_in_the_callers_dialect() -> None:
    """An Anthropic client names its version."""
    client = await InboundRequest().ask(
        "/v1/models", method="GET", key=None, headers=[(b"anthropic-version", b"2023-06-01")]
    )

    assert client.status == 401
    assert json.loads(client.body)["type"] == "error"


async def test_key_in_the_other_header_counts_too() -> None:
    """Anthropic's clients send x-api-key."""
    client = await InboundRequest().ask(
        "/v1/models", method="GET", key=None, headers=[(b"x-api-key", RAW_KEY.encode())]
    )

    assert client.status == 200


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("path", ["/", "/healthz", "/api/hello", "/readyz"])
async def test_probes_need_no_key(path: str, method: str) -> None:
    """Balancers and clients look whether anybody is there."""
    client = await InboundRequest().ask(path, method=method, key=None)

    assert (client.status, client.ended) == (200, True)
    assert (client.body == b"") is (method == "HEAD" or path in ("/healthz", "/api/hello"))


async def test_readiness_ends_with_the_stores() -> None:
    """A worker that stops takes no more."""
    front = InboundRequest()
    front.bus.state = RedisState.CLOSED

    client = await front.ask("/readyz", method="GET", key=None)

    assert client.status == 503
    assert json.loads(client.body)["status"] == "stopping"


def test_request_ids_are_unique_across_workers() -> None:
    """Random for each worker, then counted."""
    first, second = RequestIds(), RequestIds()

    ids = {first.next(), first.next(), second.next(), second.next()}

    assert len(ids) == 4
    assert all(each.startswith("req_") and len(each) == 30 for each in ids)
