"""Responses calls through the pipeline: what is sent upstream, what is kept, and when."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from gateway.core.model import Endpoint
from gateway.core.stored_responses import Part, ResponseSealer, decode_input
from gateway.pipeline.call import Call
from gateway.pipeline.stored.keeper import StoredResponses
from gateway.settings import Server
from tests.support.bodies import DONE, OPENAI_USAGE, WHOLE, openai_event
from tests.support.pipeline_bench import Bench
from tests.support.pipeline_fakes import (
    PRINCIPAL,
    RAW_KEY,
    FakeClient,
    FakeUpstreamResponse,
    json_head,
)
from tests.support.stored_responses import MemoryResponses
from tests.support.waiting import wait_until

MINE = ResponseSealer(RAW_KEY, PRINCIPAL)
EVENTS = (openai_event("Hel"), openai_event(finish="stop") + OPENAI_USAGE, DONE)


class Stored:
    """A worker that keeps responses in memory."""

    def __init__(self, *steps: Any, most: int = 10_000, server: Server | None = None) -> None:
        self.store = MemoryResponses()
        self.results: list[str] = []
        stored = StoredResponses(self.store, most, self.results.append)
        self.bench = Bench(*steps, stored=stored, server=server)

    async def ask(self, **members: Any) -> tuple[FakeClient, Call]:
        """Make one call to its end."""
        client = FakeClient("/v1/responses", body_of(**members))
        return client, await self.bench.run(client, Endpoint.RESPONSES)

    def sent(self) -> list[dict[str, Any]]:
        """Return the messages of the latest upstream request."""
        messages: list[dict[str, Any]] = json.loads(self.bench.transport.requests[-1].body)[
            "messages"
        ]
        return messages

    def opened(self, token: str, part: Part) -> bytes:
        """Return a kept part, decrypted."""
        name = MINE.name(token)
        plain = MINE.unseal(name, part, self.store.kept[name][part], 10**6)
        assert plain is not None
        return plain


def body_of(**members: Any) -> bytes:
    return json.dumps({"model": "m", "input": "Hi"} | members).encode()


def good() -> FakeUpstreamResponse:
    body = WHOLE["openai"]
    return FakeUpstreamResponse(headers=json_head(body), body=body)


def answer(client: FakeClient) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(client.body)
    return body


async def test_response_is_kept_as_it_was_sent() -> None:
    stored = Stored(good())

    client, _ = await stored.ask()

    assert answer(client)["store"] is True
    assert answer(client)["id"] == "resp_1"
    assert stored.opened("1", Part.RESPONSE) == client.body
    kept = decode_input(stored.opened("1", Part.INPUT))
    assert kept.ancestors == ()
    assert [item["content"] for item in json.loads(kept.items)] == [
        [{"type": "input_text", "text": "Hi"}]
    ]
    assert stored.results == ["kept"]


async def test_follow_up_keeps_only_its_own_input_and_names_its_ancestors() -> None:
    stored = Stored(good(), good(), good())
    await stored.ask()
    await stored.ask(previous_response_id="resp_1", input="More")

    client, _ = await stored.ask(previous_response_id="resp_2", input="Even more")

    assert [message["content"] for message in stored.sent()] == [
        *("Hi", "Hello", "More", "Hello", "Even more"),
    ]
    kept = decode_input(stored.opened("3", Part.INPUT))
    assert kept.ancestors == ("1", "2")
    assert [item["id"] for item in json.loads(kept.items)] == ["msg_3_in0"]
    assert answer(client)["previous_response_id"] == "resp_2"
    assert answer(client)["store"] is True


async def test_reference_is_kept_as_its_item() -> None:
    """A follow-up needs no other response than those that it continues."""
    stored = Stored(good(), good())
    first, _ = await stored.ask()
    item = answer(first)["output"][0]

    await stored.ask(input=[{"type": "item_reference", "id": item["id"]}])

    assert [message["content"] for message in stored.sent()] == ["Hello"]
    assert json.loads(decode_input(stored.opened("2", Part.INPUT)).items) == [item]


async def test_store_false_keeps_nothing_and_still_continues() -> None:
    stored = Stored(good(), good())
    await stored.ask()

    client, _ = await stored.ask(store=False, previous_response_id="resp_1")

    assert len(stored.sent()) == 3
    assert answer(client)["store"] is False
    assert len(stored.store.kept) == 1
    assert stored.results == ["kept"]


@pytest.mark.parametrize(
    ("members", "results"),
    [({"input": "x" * 20_000}, ["too_large"]), ({"metadata": {"a": "x" * 20_000}}, ["too_large"])],
)
async def test_large_response_is_not_kept_and_says_so(
    members: dict[str, Any], results: list[str]
) -> None:
    """Its input and its object count together."""
    stored = Stored(good())

    client, _ = await stored.ask(**members)

    assert (client.status, answer(client)["store"]) == (200, False)
    assert len(client.body) == int(dict(client.headers)[b"content-length"])
    assert (stored.store.kept, stored.results) == ({}, results)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("reason", ["available", "has_room"])
async def test_store_that_takes_nothing_costs_only_the_response(reason: str, stream: bool) -> None:
    """The call succeeds and says that nothing is kept."""
    upstream = FakeUpstreamResponse() if stream else good()
    stored = Stored(upstream)
    setattr(stored.store, reason, False)
    client = FakeClient("/v1/responses", body_of(stream=stream))
    _, task = stored.bench.begin(client, Endpoint.RESPONSES)
    if stream:
        await upstream.end(*EVENTS)

    await task

    assert client.status == 200
    assert b'"store":false}' in client.body
    assert b'"status":"completed"' in client.body
    assert stored.results == ["refused"]


async def test_last_event_of_a_stream_comes_after_it_is_kept() -> None:
    """What the client reads before it has no completed response."""
    upstream = FakeUpstreamResponse()
    stored = Stored(upstream)
    client = FakeClient("/v1/responses", body_of(stream=True))
    _, task = stored.bench.begin(client, Endpoint.RESPONSES)
    await upstream.push(*EVENTS)
    assert b"response.output_item.done" in client.body
    assert b"response.completed" not in client.body
    assert stored.store.kept == {}

    await wait_until(lambda: b"response.completed" in client.body)
    await task

    last = json.loads(client.body.split(b"event: response.completed\ndata: ")[1])["response"]
    assert json.loads(stored.opened("1", Part.RESPONSE)) == last
    assert last["store"] is True
    assert upstream.closed


async def test_stream_whose_client_left_is_not_kept() -> None:
    upstream = FakeUpstreamResponse()
    stored = Stored(upstream)
    client = FakeClient("/v1/responses", body_of(stream=True))
    _, task = stored.bench.begin(client, Endpoint.RESPONSES)
    await upstream.push(EVENTS[0])
    client.leave()

    await upstream.end(*EVENTS[1:])
    await task

    assert (stored.store.kept, stored.results) == ({}, [])


async def test_upstream_error_is_not_kept() -> None:
    refused = b'{"error":{"message":"no","type":"invalid_request_error"}}'
    stored = Stored(FakeUpstreamResponse(400, json_head(refused), refused))

    client, _ = await stored.ask()

    assert (client.status, stored.store.kept) == (400, {})


async def test_unknown_previous_response_is_refused_before_the_upstream() -> None:
    stored = Stored()

    client, call = await stored.ask(previous_response_id="resp_9")

    assert client.status == 400
    assert answer(client)["error"]["code"] == "previous_response_not_found"
    assert (call.attempts, stored.bench.transport.requests) == (0, [])


async def test_unavailable_store_refuses_references_only() -> None:
    stored = Stored(good())
    stored.store.available = False

    client, _ = await stored.ask(previous_response_id="resp_9")

    assert client.status == 503
    assert (await stored.ask())[0].status == 200


async def test_conversation_is_bounded_as_a_body_is() -> None:
    """What a request refers to counts as if the client had sent it."""
    stored = Stored(good(), server=Server(max_body_bytes=2000))
    await stored.ask(input="x" * 1000)

    client, _ = await stored.ask(previous_response_id="resp_1", input="y" * 900)

    assert client.status == 413
    assert "previous_response_id" in answer(client)["error"]["message"]


@pytest.mark.parametrize(
    ("members", "param"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"input": [{"type": "item_reference", "id": "msg_1_0"}]}, "input"),
    ],
)
async def test_without_stored_responses_references_are_refused_with_the_remedy(
    members: dict[str, Any], param: str
) -> None:
    bench = Bench(good())
    client = FakeClient("/v1/responses", body_of(**members))

    await bench.run(client, Endpoint.RESPONSES)

    error = answer(client)["error"]
    assert (client.status, error["param"]) == (400, param)
    assert "stores no responses: send the full input" in error["message"]


async def test_without_stored_responses_store_is_false() -> None:
    client = FakeClient("/v1/responses", body_of(store=True))

    await Bench(good()).run(client, Endpoint.RESPONSES)

    assert (client.status, answer(client)["store"]) == (200, False)


@pytest.mark.parametrize("keeps", [True, False])
async def test_endless_input_is_refused_before_it_is_decoded(keeps: bool) -> None:
    """Millions of tiny items would block every other client for seconds."""
    bench = Stored().bench if keeps else Bench()
    client = FakeClient("/v1/responses", b'{"model":"m","input":[' + b"{}," * 400_000 + b"{}]}")

    began = time.process_time()
    await bench.run(client, Endpoint.RESPONSES)

    assert client.status == 400
    assert "JSON values" in answer(client)["error"]["message"]
    assert time.process_time() - began < 0.5


async def test_history_counts_among_the_bytes_that_an_account_may_hold() -> None:
    """A tiny request for a long conversation holds as much memory as if all had been sent."""
    server = Server(max_buffered_bytes_per_account=2500)
    stored = Stored(good(), server=server)
    await stored.ask(input="x" * 2000)

    client, _ = await stored.ask(previous_response_id="resp_1", input="y" * 400)

    assert client.status == 429
    assert "request bodies of this account" in answer(client)["error"]["message"]
    assert stored.bench.intake.body_bytes == 0
