"""A hostile or broken upstream: its heads, its words and its silence."""

from __future__ import annotations

import json
import time

import pytest

from tests.abuse.answers import completion, honest, openai_usage, says, says_raw
from tests.abuse.service import UPSTREAM_KEY, AbusedGateway, Customer, resident_mib
from tests.support.bodies import ANTHROPIC, OPENAI, openai_event
from tests.support.raw_client import Answer
from tests.support.raw_upstream import Slot

pytestmark = [pytest.mark.process, pytest.mark.timeout(60)]

WORDS = b'{"error":{"message":"caf\xe9","type":"overloaded_error"}}'
PATHS = [(OPENAI, "openai"), (ANTHROPIC, "openai"), ("/v1/responses", "openai")]
MANY = 1_000_000


@pytest.fixture
def target(abused: AbusedGateway) -> Slot:
    """An upstream of the test's own."""
    return abused.take()


@pytest.fixture(scope="module")
def customer(abused: AbusedGateway) -> Customer:
    """A prepaid customer."""
    return abused.customer("1000")


def ask(
    gateway: AbusedGateway, customer: Customer, path: str, model: str, *, stream: bool = False
) -> Answer:
    """Ask for a few words."""
    given: dict[str, object] = {"messages": [{"role": "user", "content": "x"}], "max_tokens": 9}
    if path == "/v1/responses":
        given = {"input": "x"}
    body = json.dumps({"model": model, "stream": stream, **given}).encode()
    return gateway.post(path, customer.key, body, timeout_s=40)


def head(*lines: bytes, kind: bytes = b"application/json") -> bytes:
    """Return the head of a 200."""
    return b"\r\n".join([b"HTTP/1.1 200 OK", b"content-type: " + kind, *lines, b"", b""])


@pytest.mark.parametrize("length", [b"0" * 5000 + b"5", b"9" * 5000, b"9" * 30, b"+5", b"5 5"])
@pytest.mark.parametrize(("path", "wire"), PATHS)
def test_an_absurd_content_length_is_502_without_a_traceback(
    abused: AbusedGateway, customer: Customer, target: Slot, length: bytes, path: str, wire: str
) -> None:
    """An absurd length is reported as an upstream error."""
    before = abused.tracebacks()
    target.plays(says_raw(head(b"content-length: " + length) + b"hello"))
    answer = ask(abused, customer, path, target.model(wire))

    assert answer.status == 502, answer
    assert abused.tracebacks() == before


@pytest.mark.parametrize("status", [400, 404, 422, 429, 500])
@pytest.mark.parametrize(("path", "wire"), PATHS)
def test_the_gateways_credential_is_not_relayed(
    abused: AbusedGateway, customer: Customer, target: Slot, status: int, path: str, wire: str
) -> None:
    """An upstream that repeats the header it disliked would give the key away."""
    said = {"message": f"bad header {UPSTREAM_KEY} in request", "type": "invalid_request_error"}
    target.plays(says({"error": said, "seen": f"Bearer {UPSTREAM_KEY}"}, status))
    answer = ask(abused, customer, path, target.model(wire))

    assert answer.status >= 400
    assert UPSTREAM_KEY.encode() not in answer.body
    assert UPSTREAM_KEY not in str(answer.headers)
    assert UPSTREAM_KEY not in abused.process.log()


def test_the_gateways_credential_is_not_relayed_in_a_stream(
    abused: AbusedGateway, customer: Customer, target: Slot
) -> None:
    """A credential in the first event of a stream does not reach the client."""
    said = json.dumps({"error": {"message": f"key {UPSTREAM_KEY}", "type": "x"}}).encode()
    sent = head(kind=b"text/event-stream") + b"data: " + said + b"\n\n"
    target.plays(says_raw(sent))
    answer = ask(abused, customer, OPENAI, target.model("openai"), stream=True)

    assert UPSTREAM_KEY.encode() not in answer.body


@pytest.mark.parametrize("kind", [b"text/html", b"image/svg+xml", b"application/javascript"])
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_clients_get_json_or_events_that_nobody_caches(
    abused: AbusedGateway, customer: Customer, target: Slot, kind: bytes, stream: bool
) -> None:
    """Whatever the upstream calls it: no page of ours is HTML, and no cache keeps a response."""
    body = json.dumps(completion(openai_usage(1, 1))).encode()
    lines = (b"cache-control: public, max-age=99999", b"content-length: %d" % len(body))
    target.plays(says_raw(head(*lines, kind=kind) + body))
    answer = ask(abused, customer, OPENAI, target.model("openai"), stream=stream)

    if answer.status != 200:
        assert (stream, answer.status) == (True, 502)  # not a stream: our own words
        return
    told = answer.headers.get("content-type", "")
    assert told.startswith(("application/json", "text/event-stream")), answer.headers
    assert "public" not in answer.headers.get("cache-control", "")
    assert answer.headers.get("x-content-type-options") == "nosniff"


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize(("path", "wire"), PATHS)
def test_words_that_are_not_utf8_are_the_upstreams_fault(
    abused: AbusedGateway, customer: Customer, target: Slot, stream: bool, path: str, wire: str
) -> None:
    """529 is reported as overload, also as the first event of a stream: never as our 500."""
    before = abused.tracebacks()
    if stream:
        target.plays(
            says_raw(head(kind=b"text/event-stream") + b"data: " + WORDS + b"\n\n"), honest()
        )
    else:
        target.plays(says(WORDS, 529), honest())
    answer = ask(abused, customer, path, target.model(wire), stream=stream)

    assert answer.status in (200, 502, 503, 529), answer
    assert abused.tracebacks() == before


@pytest.mark.parametrize(
    "line", [b"data:\n", b":\n", b"id: 1\n", b"event:\n"], ids=["data", "comment", "id", "event"]
)
def test_empty_lines_of_one_event_are_not_kept(
    abused: AbusedGateway, customer: Customer, target: Slot, line: bytes
) -> None:
    """Megabytes of them end the stream, or are read past; memory stays within some reads."""
    (worker,) = abused.process.workers()
    before = resident_mib(worker)
    sent = head(kind=b"text/event-stream") + openai_event("a") + line * MANY
    target.plays(says_raw(sent))
    began = time.monotonic()
    ask(abused, customer, OPENAI, target.model("openai"), stream=True)
    grown = resident_mib(worker) - before
    print(f"{MANY} lines: {grown:+.0f} MiB, {time.monotonic() - began:.1f} s")

    assert grown < 40
