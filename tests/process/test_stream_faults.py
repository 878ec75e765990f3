"""How streams end when the upstream fails: with an error of the client's API, never complete."""

from __future__ import annotations

import time
from typing import Protocol

import pytest

from tests.support.bodies import (
    ANTHROPIC,
    END,
    ERROR,
    FINISH,
    MORE,
    OPENAI,
    PATHS,
    START,
    WHOLE,
    request,
)
from tests.support.raw_client import Answer, Connection
from tests.support.raw_upstream import Script, Slot, close_at_once, stream, whole
from tests.support.service import HELLO, Key
from tests.support.waiting import wait_until_sync

pytestmark = pytest.mark.process

MARKS = {"openai": b"data: [DONE]", "anthropic": b"message_stop"}
CLIENTS = pytest.mark.parametrize("client", ["openai", "anthropic"])
WIRES = pytest.mark.parametrize("wire", ["openai", "anthropic"])


class Call(Protocol):
    """Calls a model in one dialect."""

    def __call__(self, model: str, *, streamed: bool = True) -> Answer: ...


@pytest.fixture
def call(connection: Connection, key: Key, client: str) -> Call:
    """Calls in the client's dialect."""

    def send(model: str, *, streamed: bool = True) -> Answer:
        body = request(PATHS[client], model, stream=streamed)
        return connection.request("POST", PATHS[client], body, x_api_key=key.raw)

    return send


def reach(upstream: Slot, call: Call, model: str, *, streamed: bool = True) -> Answer:
    """Return the response to the first call that reaches the slot, which may still be out."""
    answers: list[Answer] = []

    def is_reached() -> bool:
        answers.append(call(model, streamed=streamed))
        return bool(upstream.exchanges)

    wait_until_sync(is_reached, 10)
    return answers[-1]


def error_of(client: str, answer: Answer) -> dict[str, str]:
    """Return the error that a broken stream ends with; it is the last event and no mark follows."""
    assert MARKS[client] not in answer.body
    name, data = answer.events[-1]
    body = Answer(0, {}, data, complete=True).json
    if client == "anthropic":
        assert name == "error"
        assert body["type"] == "error"
    error: dict[str, str] = body["error"]
    assert error["message"]
    return error


@pytest.fixture
def slot(fault: str, upstream: Slot, hasty_upstream: Slot) -> Slot:
    """The slot for a fault: short timeouts only where one of them has to expire."""
    return hasty_upstream if fault.startswith(("stalls", "says nothing")) else upstream


def half(event: bytes) -> bytes:
    """Return an event that breaks off inside of its data."""
    return event[: len(event) // 2]


COMMENTS = [piece for _ in range(8) for piece in (b": keep-alive\n\n", 0.15)]


def faults(wire: str) -> dict[str, Script]:
    """Return ways to fail after the first content."""
    start, more = START[wire], MORE[wire]
    return {
        "breaks between events": stream(start, more, end="break"),
        "breaks inside of an event": stream(start, half(more), end="break"),
        "ends without its end": stream(start, more),
        "ends inside of an event": stream(start, half(more)),
        "reports an error": stream(start, ERROR[wire]),
        "reports an error and breaks": stream(start, ERROR[wire], end="break"),
        "stalls": stream(start, end="hang"),
        "says nothing but comments": stream(start, *COMMENTS, end="hang"),
    }


@CLIENTS
@WIRES
@pytest.mark.parametrize("fault", faults("openai"))
def test_stream_that_fails_after_content_is_never_taken_for_whole(
    slot: Slot, call: Call, client: str, wire: str, fault: str
) -> None:
    """It ends with an error event, or the connection breaks; no end mark and no finish reason."""
    slot.plays(faults(wire)[fault])

    answer = call(slot.model(wire))

    assert answer.status == 200
    assert b"Hel" in answer.body
    assert MARKS[client] not in answer.body
    assert b'"end_turn"' not in answer.body
    assert b'"stop"' not in answer.body
    if answer.complete:
        error_of(client, answer)
    else:
        assert client == wire, "a translated stream can always end with an event"
        assert "inside of an event" in fault


@CLIENTS
@WIRES
def test_stalled_stream_ends_with_a_timeout(
    hasty_upstream: Slot, call: Call, client: str, wire: str
) -> None:
    """The error says that time ran out, and comes when the content's clock says so."""
    hasty_upstream.plays(stream(START[wire], *COMMENTS, end="hang"))
    began = time.monotonic()

    answer = call(hasty_upstream.model(wire))

    error = error_of(client, answer)
    assert 0.5 <= time.monotonic() - began < 1.5
    assert (error["type"] if client == "anthropic" else error["code"]) in (
        "timeout",
        "timeout_error",
    )


@CLIENTS
@WIRES
def test_stream_that_ends_after_its_finish_reason_is_whole(
    upstream: Slot, call: Call, client: str, wire: str
) -> None:
    """Several servers leave the end mark out: the response is complete all the same."""
    upstream.plays(stream(START[wire], MORE[wire], FINISH[wire]))

    answer = call(upstream.model(wire))

    assert (answer.status, answer.complete) == (200, True)
    assert b"error" not in answer.body
    assert (MARKS[client] in answer.body) is (client != wire)


@CLIENTS
@WIRES
def test_stream_that_breaks_after_its_finish_reason_is_whole(
    upstream: Slot, call: Call, client: str, wire: str
) -> None:
    """A reset after the finish reason takes nothing from the response."""
    upstream.plays(stream(START[wire], MORE[wire], FINISH[wire], end="break"))

    answer = call(upstream.model(wire))

    assert (answer.status, answer.complete) == (200, True)
    assert b"error" not in answer.body


def early_faults(wire: str) -> dict[str, tuple[Script, int]]:
    """Return ways to fail before the first content, and the status that an openai client gets."""
    sse = b"Content-Type: text/event-stream\r\n"
    return {
        "closes at once": (close_at_once(), 502),
        "breaks after the head": (stream(end="break"), 502),
        "ends after the head": (stream(), 502),
        "reports an error first": (stream(ERROR[wire]), 500),
        "answers a page": (whole(b"<html>", headers=b"Content-Type: text/html\r\n"), 502),
        "answers nothing": (whole(b"", headers=sse), 502),
        "stalls before the head": (_never, 504),
        "stalls after the head": (stream(end="hang"), 504),
    }


async def _never(exchange: object) -> None:
    await exchange.until_gone()  # type: ignore[attr-defined]


@CLIENTS
@WIRES
@pytest.mark.parametrize("fault", early_faults("openai"))
def test_stream_that_fails_before_content_is_an_http_error(
    slot: Slot, call: Call, client: str, wire: str, fault: str
) -> None:
    """Nothing was sent yet, so that the client gets a status and an error of its dialect."""
    script, status = early_faults(wire)[fault]
    slot.plays(script)

    answer = call(slot.model(wire))

    assert answer.status == status
    assert answer.headers["content-type"] == "application/json"
    assert answer.json["error"]["message"]


@CLIENTS
@WIRES
def test_document_instead_of_a_stream_is_unfolded(
    upstream: Slot, call: Call, client: str, wire: str
) -> None:
    """The upstream has charged for it: the client gets the stream that it requested."""
    upstream.plays(whole(WHOLE[wire]))

    answer = call(upstream.model(wire))

    assert (answer.status, answer.complete) == (200, True)
    assert answer.headers["content-type"] == "text/event-stream"
    assert MARKS[client] in answer.body


@CLIENTS
@WIRES
@pytest.mark.parametrize("fault", early_faults("openai"))
def test_stream_that_fails_before_content_falls_back(
    slot: Slot, call: Call, client: str, wire: str, fault: str
) -> None:
    """A deployment that failed before it sent anything does not concern the client."""
    slot.plays(early_faults(wire)[fault][0])

    answer = call(slot.fallback(wire))

    assert (answer.status, answer.complete) == (200, True)
    assert HELLO.split()[-1].encode() in answer.body
    assert MARKS[client] in answer.body
    # A request on a reused connection that was closed is sent once more, on a new one.
    assert len(slot.exchanges) <= (2 if fault == "closes at once" else 1)


@CLIENTS
@WIRES
def test_stream_of_comments_alone_is_no_success(
    hasty_upstream: Slot, call: Call, client: str, wire: str
) -> None:
    """Comments are no content: the clock runs out, before or after the head went out."""
    hasty_upstream.plays(stream(*COMMENTS, end="hang"))

    answer = call(hasty_upstream.model(wire))

    if answer.status == 200:
        error_of(client, answer)
    else:
        assert answer.status == 504


@CLIENTS
@WIRES
@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("status", [401, 402, 403, 404, 408, 409, 429, 500, 502, 503, 529])
def test_refusal_that_may_not_repeat_falls_back(
    upstream: Slot, call: Call, client: str, wire: str, streamed: bool, status: int
) -> None:
    """Overload, trouble with our account and the upstream's own errors are tried elsewhere."""
    upstream.plays(whole(b"<html>busy</html>", status, headers=b"Content-Type: text/html\r\n"))

    answer = reach(upstream, call, upstream.fallback(wire), streamed=streamed)

    assert answer.status == 200
    assert b"Hello" in answer.body
    assert len(upstream.exchanges) == 1


@CLIENTS
@WIRES
@pytest.mark.parametrize("status", [400, 413, 422])
def test_fault_of_the_request_is_not_tried_elsewhere(
    upstream: Slot, call: Call, client: str, wire: str, status: int
) -> None:
    """It would repeat, and cost twice."""
    upstream.plays(whole(b'{"error":{"message":"no","type":"invalid_request_error"}}', status))

    answer = reach(upstream, call, upstream.fallback(wire))

    assert 400 <= answer.status < 500


@pytest.mark.parametrize("client", ["openai", "anthropic"])
def test_stream_that_fails_after_content_does_not_fall_back(
    upstream: Slot, call: Call, client: str
) -> None:
    """Content that was sent cannot be taken back."""
    upstream.plays(stream(START[client], end="break"))

    answer = reach(upstream, call, upstream.fallback(client))

    assert HELLO.split()[-1].encode() not in answer.body
    error_of(client, answer)


@CLIENTS
@WIRES
def test_retry_after_of_the_upstream_is_relayed(
    upstream: Slot, call: Call, client: str, wire: str
) -> None:
    """`retry-after` of the last refusal reaches the client."""
    limited = b'{"type":"error","error":{"type":"rate_limit_error","message":"slow"}}'
    upstream.plays(
        whole(
            limited,
            429,
            headers=b"retry-after: 17\r\nretry-after-ms: 16500\r\n"
            b"Content-Type: application/json\r\n",
        )
    )

    answer = call(upstream.model(wire))

    assert answer.status == 429
    assert (answer.headers["retry-after"], answer.headers["retry-after-ms"]) == ("17", "16500")


@CLIENTS
@WIRES
def test_answer_that_breaks_is_an_http_error(
    upstream: Slot, call: Call, client: str, wire: str
) -> None:
    """A whole response that ends early is never delivered as if it were one."""

    async def breaks(exchange: object) -> None:
        await exchange.send(  # type: ignore[attr-defined]
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
            b"Content-Length: 1000\r\n\r\n" + WHOLE[wire][:50]
        )
        exchange.close()  # type: ignore[attr-defined]

    upstream.plays(breaks)

    answer = call(upstream.model(wire), streamed=False)

    assert answer.status == 502
    assert answer.json["error"]["message"]


@CLIENTS
@WIRES
@pytest.mark.parametrize(
    "body", [b"{", b"[]", b"null", b'"x"', b"", b'{"choices":[]}', b'{"content":null}', b"\xff"]
)
def test_answer_that_makes_no_sense_is_the_upstreams_fault(
    upstream: Slot, call: Call, client: str, wire: str, body: bytes
) -> None:
    """A success status without a response is an error, relayed and translated."""
    upstream.plays(whole(body))

    answer = call(upstream.model(wire), streamed=False)

    assert answer.status == 502
    assert answer.json["error"]["message"]


@CLIENTS
@WIRES
def test_stream_of_nonsense_is_the_upstreams_fault(
    upstream: Slot, call: Call, client: str, wire: str
) -> None:
    """An event that is no JSON ends a translated stream with an error, no process fails over it."""
    upstream.plays(stream(START[wire], b"data: {not json\n\n", MORE[wire], FINISH[wire], END[wire]))

    answer = call(upstream.model(wire))

    if client == wire:
        assert b"{not json" in answer.body
        assert answer.complete
    else:
        error_of(client, answer)


@pytest.mark.parametrize("path", [OPENAI, ANTHROPIC, "/v1/responses"])
def test_stream_instead_of_a_document_is_assembled(
    connection: Connection, upstream: Slot, key: Key, path: str
) -> None:
    """The upstream has charged for it: the client gets the document that it requested."""
    wire = "anthropic" if path == ANTHROPIC else "openai"
    upstream.plays(stream(START[wire] + FINISH[wire] + END[wire]))
    body = request(path, upstream.model(wire), input="Hi")

    answer = connection.request("POST", path, body, x_api_key=key.raw)

    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.json["id"]
