"""Idempotency-Key through the running gateway: one run, one record, errors in both dialects."""

from __future__ import annotations

import asyncio
import threading
import uuid
from typing import Any

import pytest

from tests.support.bodies import END, FINISH, MORE, PATHS, START, WHOLE, request
from tests.support.raw_client import Answer, Connection, render
from tests.support.raw_upstream import Exchange, Script, Slot, stream, whole
from tests.support.service import Key, Service
from tests.support.waiting import wait_until_sync

pytestmark = pytest.mark.process

CLIENTS = pytest.mark.parametrize("client", ["openai", "anthropic"])
WIRES = pytest.mark.parametrize("wire", ["openai", "anthropic"])
REFUSAL = b'{"error":{"message":"no","type":"invalid_request_error"}}'


@pytest.fixture
def value() -> str:
    """A key that no other test uses."""
    return f"retry-{uuid.uuid4()}"


def ask(port: int, key: Key, client: str, model: str, value: str, **members: Any) -> Answer:
    """Make one call with the header, on a connection of its own: any worker may get it."""
    body = request(PATHS[client], model, **members)
    with Connection(port) as connection:
        return connection.request(
            "POST", PATHS[client], body, x_api_key=key.raw, idempotency_key=value
        )


def ask_again(port: int, key: Key, client: str, model: str, value: str, **members: Any) -> Answer:
    """Repeat a call that has ended, as SDKs do: while it counts as running, come back."""
    answers: list[Answer] = []

    def over() -> bool:
        answers.append(ask(port, key, client, model, value, **members))
        return "retry-after" not in answers[-1].headers

    wait_until_sync(over)
    return answers[-1]


def code_of(client: str, answer: Answer) -> str | None:
    """Return the error's code; Anthropic's errors have none but the type."""
    error = answer.json["error"]
    assert error["type"] == "invalid_request_error"
    code: str | None = error["code"] if client == "openai" else None
    return code


def waits_for(gate: threading.Event, script: Script) -> Script:
    """Return a script that plays another once the gate is open."""

    async def play(exchange: Exchange) -> None:
        await asyncio.to_thread(gate.wait, 20)
        await script(exchange)

    return play


@CLIENTS
@WIRES
def test_repeated_call_is_answered_from_the_first(
    gateway: Service, upstream: Slot, client: str, wire: str, value: str
) -> None:
    """The same bytes, the upstream asked once, one record; the header stays with the gateway."""
    key = gateway.new_key("repeats")
    upstream.plays(whole(WHOLE[wire]), whole(b'{"never":"asked"}'))

    first = ask(gateway.port, key, client, upstream.model(wire), value)
    again = [ask_again(gateway.port, key, client, upstream.model(wire), value) for _ in range(4)]

    assert first.status == 200
    assert "idempotent-replayed" not in first.headers
    for answer in again:
        assert (answer.status, answer.body) == (200, first.body)
        assert answer.headers["idempotent-replayed"] == "true"
        assert answer.headers["x-original-request-id"] == first.headers["x-request-id"]
        assert answer.headers["x-request-id"] != first.headers["x-request-id"]
        assert answer.headers["content-type"] == first.headers["content-type"]
    assert len(upstream.exchanges) == 1
    assert upstream.exchanges[0].header("idempotency-key") == []
    wait_until_sync(lambda: gateway.calls(key)["calls"], 10)
    assert gateway.calls(key)["calls"] == 1


@CLIENTS
def test_call_that_is_running_or_has_another_body_is_refused(
    gateway: Service, upstream: Slot, key: Key, client: str, value: str
) -> None:
    """409 with a wait while it runs, 422 for another body, and in the end the response."""
    model = upstream.model("openai")
    gate = threading.Event()
    upstream.plays(waits_for(gate, whole(WHOLE["openai"])))
    with Connection(gateway.port) as first:
        body = request(PATHS[client], model)
        first.send(render("POST", PATHS[client], body, x_api_key=key.raw, idempotency_key=value))
        wait_until_sync(lambda: upstream.exchanges)

        running = ask(gateway.port, key, client, model, value)
        other = ask(gateway.port, key, client, model, value, temperature=1)
        gate.set()
        answer = first.answer()

    assert (running.status, running.headers["retry-after"]) == (409, "1")
    assert code_of(client, running) in ("request_in_progress", None)
    assert other.status == 422
    assert code_of(client, other) in ("idempotency_key_reused", None)
    assert ask_again(gateway.port, key, client, model, value).body == answer.body
    assert len(upstream.exchanges) == 1


@CLIENTS
def test_call_that_failed_may_be_repeated(
    gateway: Service, upstream: Slot, key: Key, client: str, value: str
) -> None:
    """A failure that cost nothing frees the key: the next call runs."""
    model = upstream.model("openai")
    upstream.plays(whole(REFUSAL, 400), whole(WHOLE["openai"]))

    failed = ask(gateway.port, key, client, model, value)
    answer = ask_again(gateway.port, key, client, model, value)

    assert (failed.status, answer.status) == (400, 200)
    assert "idempotent-replayed" not in answer.headers
    assert len(upstream.exchanges) == 2


@CLIENTS
@WIRES
def test_stream_that_is_over_is_not_run_again(
    gateway: Service, upstream: Slot, key: Key, client: str, wire: str, value: str
) -> None:
    """A repeated stream is refused for good, with a word that SDKs obey."""
    model = upstream.model(wire)
    upstream.plays(stream(START[wire], MORE[wire], FINISH[wire], END[wire]))

    first = ask(gateway.port, key, client, model, value, stream=True)
    again = ask_again(gateway.port, key, client, model, value, stream=True)

    assert first.status == 200
    assert first.complete
    assert (again.status, again.headers["x-should-retry"]) == (409, "false")
    assert code_of(client, again) in ("idempotency_key_completed", None)
    assert len(upstream.exchanges) == 1


@CLIENTS
def test_unusable_key_is_refused_by_name(gateway: Service, key: Key, client: str) -> None:
    """A key of more than 255 characters is a client error, and the call is not run."""
    answer = ask(gateway.port, key, client, "nothing", "x" * 256)

    assert answer.status == 400
    assert "Idempotency-Key" in answer.json["error"]["message"]


def test_same_key_of_two_clients_is_two_calls(
    gateway: Service, upstream: Slot, key: Key, value: str
) -> None:
    """The same idempotency key of two API keys names two calls."""
    model = upstream.model("openai")
    upstream.plays(whole(WHOLE["openai"]))

    ask(gateway.port, key, "openai", model, value)
    ask_again(gateway.port, key, "openai", model, value)
    other = ask(gateway.port, gateway.new_key("other"), "openai", model, value)

    assert other.status == 200
    assert "idempotent-replayed" not in other.headers
    assert len(upstream.exchanges) == 2
