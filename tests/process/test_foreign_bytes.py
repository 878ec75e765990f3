"""Upstreams that write bytes nobody expects: the call goes on, ends in words, and is recorded."""

from __future__ import annotations

import pytest

from tests.support.bodies import FINISH, OPENAI, PATHS, START, request
from tests.support.raw_client import Connection
from tests.support.raw_upstream import Exchange, Slot, stream, whole
from tests.support.service import HELLO, UPSTREAM_KEY, Key, Service
from tests.support.waiting import wait_until_sync

pytestmark = pytest.mark.process

WIRES = pytest.mark.parametrize("wire", ["openai", "anthropic"])
CLIENTS = pytest.mark.parametrize("client", ["openai", "anthropic"])
STREAMED = pytest.mark.parametrize("streamed", [False, True])
LATIN = b'{"type":"error","error":{"type":"overloaded_error","message":"caf\xe9 \xff\x00"}}'


@WIRES
@CLIENTS
@STREAMED
def test_error_that_is_not_utf8_is_tried_elsewhere(
    connection: Connection, upstream: Slot, key: Key, wire: str, client: str, streamed: bool
) -> None:
    """An overload with a body that is not UTF-8 falls back like any other."""
    upstream.plays(whole(LATIN, 529))
    body = request(PATHS[client], upstream.fallback(wire), stream=streamed)

    answer = connection.request("POST", PATHS[client], body, x_api_key=key.raw)

    assert answer.status == 200
    assert HELLO.split()[0].encode() in answer.body


@WIRES
@CLIENTS
@pytest.mark.parametrize("begun", [False, True])
def test_event_that_is_not_utf8_is_an_error_in_words(
    connection: Connection, upstream: Slot, key: Key, wire: str, client: str, begun: bool
) -> None:
    """First in a stream it is tried elsewhere; later it ends the stream."""
    first = [START[wire]] if begun else []
    upstream.plays(stream(*first, b"event: error\ndata: " + LATIN + b"\n\n"))
    model = upstream.model(wire) if begun else upstream.fallback(wire)
    body = request(PATHS[client], model, stream=True)

    answer = connection.request("POST", PATHS[client], body, x_api_key=key.raw)

    assert answer.status == 200
    assert (b'"error":' in answer.body) is begun
    assert (HELLO.split()[0].encode() in answer.body) is not begun
    assert b"Internal error" not in answer.body


@WIRES
@STREAMED
def test_length_of_five_thousand_digits_is_malformed(
    gateway: Service, connection: Connection, upstream: Slot, key: Key, wire: str, streamed: bool
) -> None:
    """502, without a trace in the log."""

    async def play(exchange: Exchange) -> None:
        await exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n")

    upstream.plays(play)
    before = gateway.process.log().count("Traceback")
    body = request(PATHS[wire], upstream.model(wire), stream=streamed)

    answer = connection.request("POST", PATHS[wire], body, x_api_key=key.raw)

    assert answer.status == 502
    assert gateway.process.log().count("Traceback") == before


@WIRES
@CLIENTS
@pytest.mark.parametrize("levels", [1000, 100_000, 1_000_000])
@pytest.mark.parametrize("how", ["whole", "error", "event", "later event"])
def test_deep_json_is_an_error_in_words(
    gateway: Service,
    connection: Connection,
    upstream: Slot,
    key: Key,
    wire: str,
    client: str,
    levels: int,
    how: str,
) -> None:
    """No response is nested so deeply that the gateway fails, on any version of Python."""
    deep = b'{"type":"message","x":' + b"[" * levels + b"]" * levels + b"}"
    start = [START[wire]] if how == "later event" else []
    upstream.plays(
        stream(*start, b"data: %b\n\n" % deep)
        if "event" in how
        else whole(deep, 400 if how == "error" else 200)
    )
    before = gateway.process.log().count("Traceback")
    body = request(PATHS[client], upstream.model(wire), stream="event" in how)

    answer = connection.request("POST", PATHS[client], body, x_api_key=key.raw)

    # A large response of the client's own dialect is relayed while it arrives.
    relayed = client == wire and levels == 1_000_000
    expected = {"whole": [200 if relayed else 502], "error": [400]}
    assert answer.status in expected.get(how, [200, 502])
    assert b"Internal error" not in answer.body
    assert gateway.process.log().count("Traceback") == before


@WIRES
@CLIENTS
def test_credential_in_an_error_is_masked(
    connection: Connection, upstream: Slot, key: Key, wire: str, client: str
) -> None:
    """The upstream quotes the request that it got."""

    async def play(exchange: Exchange) -> None:
        sent = (exchange.header("authorization") + exchange.header("x-api-key"))[0]
        said = b'{"error":{"type":"invalid_request_error","message":"got %b"}}' % sent.encode()
        await whole(said, 400)(exchange)

    upstream.plays(play)
    body = request(PATHS[client], upstream.model(wire))

    answer = connection.request("POST", PATHS[client], body, x_api_key=key.raw)

    assert answer.status == 400
    assert b"[redacted]" in answer.body
    assert UPSTREAM_KEY.encode() not in answer.body


def test_control_characters_do_not_keep_a_call_from_being_recorded(
    gateway: Service, connection: Connection, upstream: Slot
) -> None:
    """They are left out of the finish reason."""
    key = gateway.new_key("control characters")
    odd = FINISH["openai"].replace(b'"stop"', b'"st\\u0000op"')
    assert odd != FINISH["openai"]
    upstream.plays(stream(START["openai"], odd, b"data: [DONE]\n\n"))
    body = request(OPENAI, upstream.model("openai"), stream=True)

    answer = connection.request("POST", OPENAI, body, x_api_key=key.raw)

    assert answer.status == 200
    wait_until_sync(lambda: gateway.recorded(key) == 1, 10)
    path = f"/v1/generation?id={answer.headers['x-request-id']}"
    with Connection(gateway.port) as later:  # the first may have been idle for too long
        shown = later.request("GET", path, x_api_key=key.raw)
    assert shown.json["finish_reason"] == "stop"
