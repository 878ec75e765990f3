"""Every fault of the demo upstream, byte by byte, and what the record says of it."""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.demo.app import DemoUpstream
from gateway.demo.faults import HEADER, FaultPlan
from gateway.demo.playback import GARBAGE
from gateway.demo.record import Record, Served
from gateway.demo.server import stream_head
from tests.support.waiting import wait_until

DIALECTS = pytest.mark.parametrize("dialect", ["openai", "anthropic"])
PATHS = {"openai": "/v1/chat/completions", "anthropic": "/v1/messages"}
ENDS = {"openai": b"data: [DONE]", "anthropic": b'"message_stop"'}
USAGES = {"openai": b'"usage":{"prompt', "anthropic": b'"usage":{"input'}
SILENCE_S = 0.15
CHUNKED_END = b"0\r\n\r\n"

FIRST_STREAM_HEAD = stream_head(b"x-request-id: demo00000001\r\n")


class Client:
    """Sends requests to a demo upstream, and reads until it closes or is silent."""

    def __init__(self, upstream: DemoUpstream, port: int, lines: list[str]) -> None:
        self.upstream = upstream
        self.port = port
        self.lines = lines

    async def fetch(self, request: bytes) -> tuple[bytes, str]:
        """Return the bytes that come, and why there are no more: closed, reset or silent."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, limit=2**25)
        writer.write(request)
        received = bytearray()
        try:
            silence_s = SILENCE_S
            while piece := await asyncio.wait_for(reader.read(2**20), silence_s):
                received += piece
                silence_s = 0.02 if received.endswith(CHUNKED_END) else SILENCE_S
        except TimeoutError:
            return bytes(received), "silent"
        except ConnectionResetError:
            return bytes(received), "reset"
        finally:
            writer.transport.abort()
        return bytes(received), "closed"

    async def chat(self, dialect: str, fault: str, *, stream: bool) -> tuple[bytes, str]:
        """Ask for five tokens with a fault."""
        header = f"{HEADER}: {fault}\r\n" if fault else ""
        body: dict[str, Any] = {
            "model": "m",
            "max_tokens": 100,
            "messages": [{"role": "user", "content": "/tokens 5"}],
            "stream": stream,
        }
        if dialect == "openai" and stream:
            body["stream_options"] = {"include_usage": True}
        return await self.fetch(post(PATHS[dialect], json.dumps(body), header))

    def served(self) -> dict[str, Any]:
        """Return the record of the only request."""
        (served,) = json.loads(self.upstream.record.as_json())
        found: dict[str, Any] = served
        return found

    async def ended(self) -> dict[str, Any]:
        """Return the record of the only request when its script has ended."""
        await wait_until(lambda: self.served()["ending"] != "running")
        return self.served()


def post(path: str, body: str, header: str = "", method: str = "POST") -> bytes:
    length = len(body.encode())
    return f"{method} {path} HTTP/1.1\r\n{header}Content-Length: {length}\r\n\r\n{body}".encode()


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    """A client of a demo upstream without pauses."""
    lines: list[str] = []
    upstream = DemoUpstream(0, FaultPlan(), lines.append)
    port = await upstream.listen("main")
    yield Client(upstream, port, lines)
    await upstream.aclose()


def body_of(received: bytes) -> bytes:
    """Return the body of a whole response, of exactly the length that its head says."""
    head, _, body = received.partition(b"\r\n\r\n")
    assert b"content-length: %d" % len(body) in head
    return body


def unframed(received: bytes) -> tuple[bytes, bytes]:
    """Return the chunks of a stream joined, and what follows the last complete chunk."""
    assert received.startswith(FIRST_STREAM_HEAD)
    rest, joined = received.removeprefix(FIRST_STREAM_HEAD), b""
    while True:
        line, found, after = rest.partition(b"\r\n")
        try:
            size = int(line, 16) if found else 0
        except ValueError:
            return joined, rest
        if size == 0 or len(after) < size + 2:
            return joined, rest
        joined, rest = joined + after[:size], after[size + 2 :]


def tokens(dialect: str, events: bytes) -> int:
    """Return how many events have content."""
    mark = {"openai": b'"delta":{"content"', "anthropic": b"event: content_block_delta"}
    return events.count(mark[dialect])


@DIALECTS
@pytest.mark.parametrize("stream", [False, True])
async def test_response_without_a_fault_is_complete(
    client: Client, dialect: str, stream: bool
) -> None:
    """The record has the usage that the response reports."""
    received, why = await client.chat(dialect, "", stream=stream)

    assert why == "silent"
    text = unframed(received)[0] if stream else body_of(received)
    assert (ENDS[dialect] in text) is stream
    served = await client.ended()
    assert b"\r\nx-request-id: %b\r\n" % served["id"].encode() in received
    assert served["usage_reports"] == (2 if stream and dialect == "anthropic" else 1)
    assert served["output_tokens"] == served["tokens_sent"] == 5
    assert (served["ending"], served["status"], served["fault"]) == ("complete", 200, None)
    assert f"{served['input_tokens']},".encode() in text
    assert client.lines == []


@DIALECTS
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("fault", "expected"),
    [("refuse", (b"", "reset")), ("hang_head", (b"", "silent")), ("garbage after=0", None)],
)
async def test_fault_before_the_head(
    client: Client, dialect: str, stream: bool, fault: str, expected: tuple[bytes, str] | None
) -> None:
    """Not one byte of a response, or none of HTTP."""
    got = await client.chat(dialect, fault, stream=stream)

    assert got == (expected or (GARBAGE, "closed"))
    served = await client.ended()
    assert (served["ending"], served["status"], served["output_tokens"]) == ("broken", 0, None)
    assert client.lines == [
        f"fault {fault} -> main m, {'streamed' if stream else 'not streamed'} (demo00000001)"
    ]


@DIALECTS
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("fault", "status", "wait"),
    [
        ("rate_limit retry_after_s=7", 429, b"\r\nretry-after: 7\r\n"),
        ("status", 503, b""),
        ("status status=529", 529, b""),
    ],
)
async def test_fault_instead_of_a_response(
    client: Client, dialect: str, stream: bool, fault: str, status: int, wait: bytes
) -> None:
    """An error of the dialect, and the connection stays."""
    received, why = await client.chat(dialect, fault, stream=stream)

    assert why == "silent"
    assert received.startswith(b"HTTP/1.1 %d " % status)
    assert wait in received
    assert (b"retry-after" in received) is bool(wait)
    assert json.loads(body_of(received))["error"]["type"]
    assert client.served()["output_tokens"] is None


@DIALECTS
@pytest.mark.parametrize(
    ("fault", "why", "rest"),
    [
        ("hang_stream", "silent", b""),
        ("cut", "closed", b""),
        ("end_early", "silent", CHUNKED_END),
        ("garbage", "closed", GARBAGE),
        ("error_after_200", "silent", CHUNKED_END),
    ],
)
async def test_fault_inside_a_stream(
    client: Client, dialect: str, fault: str, why: str, rest: bytes
) -> None:
    """After as many tokens as were specified, and without the end of the dialect."""
    received, reason = await client.chat(dialect, f"{fault} after=3", stream=True)
    events, remainder = unframed(received)

    assert (reason, remainder) == (why, rest)
    assert tokens(dialect, events) == 3
    assert ENDS[dialect] not in events
    assert (b'"error":{' in events) is (fault == "error_after_200")
    served = await client.ended()
    assert (served["tokens_sent"], served["ending"]) == (3, "broken")
    assert served["output_tokens"] == (1 if dialect == "anthropic" else None)


@DIALECTS
async def test_wrong_length_inside_a_stream(client: Client, dialect: str) -> None:
    """The last chunk is shorter than its size says."""
    received, why = await client.chat(dialect, "wrong_length after=1", stream=True)
    events, rest = unframed(received)

    size, _, event = rest.partition(b"\r\n")
    assert why == "closed"
    assert int(size, 16) == len(event) + 64
    assert tokens(dialect, events) == 1
    assert tokens(dialect, event) == 1


@DIALECTS
@pytest.mark.parametrize(
    ("fault", "why"),
    [("cut", "closed"), ("hang_stream", "silent"), ("end_early", "closed")],
)
async def test_half_of_a_body(client: Client, dialect: str, fault: str, why: str) -> None:
    """The head promises all of it."""
    received, reason = await client.chat(dialect, fault, stream=False)

    head, _, body = received.partition(b"\r\n\r\n")
    promised = int(head.rpartition(b"content-length: ")[2])
    assert reason == why
    assert len(body) == promised // 2
    assert (await client.ended())["output_tokens"] is None


@DIALECTS
async def test_wrong_length_of_a_body(client: Client, dialect: str) -> None:
    """All of it comes, and the head promises more."""
    received, why = await client.chat(dialect, "wrong_length", stream=False)

    head, _, body = received.partition(b"\r\n\r\n")
    assert why == "closed"
    assert int(head.rpartition(b"content-length: ")[2]) == len(body) + 64
    assert json.loads(body)["usage"]


@DIALECTS
@pytest.mark.parametrize("stream", [False, True])
async def test_drip_is_complete_and_slow(client: Client, dialect: str, stream: bool) -> None:
    """The bytes are those of a response without a fault, in small pieces."""
    whole, _ = await client.chat(dialect, "", stream=stream)
    client.upstream.record.clear()
    began = time.monotonic()

    fault = "drip pace_s=0.002 piece_bytes=100"
    dripped, _ = await client.chat(dialect, fault, stream=stream)

    assert len(dripped) == len(whole)
    assert time.monotonic() - began > len(whole) / 100 * 0.002
    assert (await client.ended())["output_tokens"] == 5


@DIALECTS
@pytest.mark.parametrize("stream", [False, True])
async def test_duplicate_usage_is_reported_twice(
    client: Client, dialect: str, stream: bool
) -> None:
    """The same numbers, so that a sum would be wrong and the last report right."""
    once, _ = await client.chat(dialect, "", stream=stream)
    client.upstream.record.clear()

    twice, _ = await client.chat(dialect, "duplicate_usage", stream=stream)

    assert twice.count(USAGES[dialect]) == once.count(USAGES[dialect]) + 1
    if not stream:
        assert json.loads(body_of(twice))["usage"] == json.loads(body_of(once))["usage"]
    assert (await client.ended())["output_tokens"] == 5


@DIALECTS
@pytest.mark.parametrize("stream", [False, True])
async def test_huge_event_is_one_event(client: Client, dialect: str, stream: bool) -> None:
    """A valid response with one text of the size that was specified."""
    received, _ = await client.chat(dialect, "huge_event size_bytes=300000", stream=stream)

    text = unframed(received)[0] if stream else body_of(received)
    assert text.count(b"x" * 300_000) == 1
    assert (ENDS[dialect] in text) is stream
    assert (await client.ended())["output_tokens"] == 5


@DIALECTS
async def test_error_after_200_of_a_body(client: Client, dialect: str) -> None:
    """A success status with an error."""
    received, _ = await client.chat(dialect, "error_after_200", stream=False)

    assert received.startswith(b"HTTP/1.1 200 ")
    assert json.loads(body_of(received))["error"]["message"]
    assert client.served()["output_tokens"] is None


async def test_tls_handshake_fails(client: Client) -> None:
    """With any client, and a line says so."""
    with pytest.raises(ssl.SSLError):
        await asyncio.open_connection(
            "127.0.0.1", client.port, ssl=ssl.create_default_context(), server_hostname="x"
        )

    assert client.lines == ["fault tls -> main: a client expected TLS"]


async def test_refusal_may_close_the_listener(client: Client) -> None:
    """Connections are refused for a while, then accepted again."""
    await client.chat("openai", "refuse for_s=0.2", stream=False)

    with pytest.raises(ConnectionRefusedError):
        await client.chat("openai", "", stream=False)
    await asyncio.sleep(0.3)
    assert (await client.chat("openai", "", stream=False))[0].startswith(b"HTTP/1.1 200")


async def test_directive_in_a_prompt_is_a_fault(client: Client) -> None:
    """Prompts pass through a gateway that drops the header."""
    prompt = {"model": "m", "messages": [{"role": "user", "content": "Hi\n/fault rate_limit"}]}

    received, _ = await client.fetch(post(PATHS["openai"], json.dumps(prompt)))

    assert received.startswith(b"HTTP/1.1 429 ")


@pytest.mark.parametrize("way", ["header", "directive"])
async def test_unknown_fault_is_refused(client: Client, way: str) -> None:
    """The error lists the kinds."""
    text = "/fault explode" if way == "directive" else "Hi"
    prompt = {"model": "m", "messages": [{"role": "user", "content": text}]}
    header = f"{HEADER}: explode\r\n" if way == "header" else ""

    received, _ = await client.fetch(post(PATHS["openai"], json.dumps(prompt), header))

    assert received.startswith(b"HTTP/1.1 400 ")
    assert b"'explode' is unknown; use one of refuse, " in body_of(received)


async def test_faults_are_set_by_a_request(client: Client) -> None:
    """For so many requests of a deployment; GET shows what is left, DELETE ends it."""
    rules = [{"fault": {"kind": "status"}, "deployment": "main", "times": 2}]

    answer, _ = await client.fetch(post("/faults", json.dumps(rules), method="PUT"))
    assert json.loads(body_of(answer))[0]["times"] == 2
    received, _ = await client.chat("openai", "", stream=True)
    assert received.startswith(b"HTTP/1.1 503 ")
    answer, _ = await client.fetch(post("/faults", "", method="GET"))
    assert json.loads(body_of(answer))[0]["times"] == 1
    answer, _ = await client.fetch(post("/faults", "", method="DELETE"))
    assert json.loads(body_of(answer)) == []
    received, _ = await client.chat("openai", "", stream=True)
    assert received.startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    ("rule", "named"),
    [
        ({"fault": {"kind": "cut", "after": -1}}, b"$[0].fault.after"),
        ({"fault": {"kind": "cut"}, "deployment": "demo"}, b"'demo' is unknown: use main"),
    ],
)
async def test_wrong_faults_change_nothing(
    client: Client, rule: dict[str, object], named: bytes
) -> None:
    """The error names what is wrong."""
    answer, _ = await client.fetch(post("/faults", json.dumps([rule]), method="PUT"))

    assert answer.startswith(b"HTTP/1.1 400 ")
    assert named in body_of(answer)
    answer, _ = await client.fetch(post("/faults", "", method="GET"))
    assert json.loads(body_of(answer)) == []


async def test_record_is_read_and_cleared_by_requests(client: Client) -> None:
    """It holds no text of a request."""
    await client.chat("anthropic", "", stream=False)

    answer, _ = await client.fetch(post("/served", "", method="GET"))
    assert [row["dialect"] for row in json.loads(body_of(answer))] == ["anthropic"]
    assert b"/tokens" not in answer
    answer, _ = await client.fetch(post("/served", "", method="DELETE"))
    assert json.loads(body_of(answer)) == []


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", 404),
        (post("/v1/unknown", "{}"), 404),
        (post(PATHS["openai"], "{"), 400),
        (post(PATHS["anthropic"], "[" * 100_000), 400),
        (b"POST /v1/messages HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n", 411),
    ],
)
async def test_request_that_makes_no_sense(
    client: Client, request_bytes: bytes, status: int
) -> None:
    """An error with its status."""
    received, _ = await client.fetch(request_bytes)

    assert received.startswith(b"HTTP/1.1 %d " % status)


async def test_gone_client_is_recorded(client: Client) -> None:
    """What it did not receive was not reported."""
    slow = DemoUpstream(0.05)
    port = await slow.listen("main")
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    prompt = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "Hi"}]}
    writer.write(post(PATHS["openai"], json.dumps(prompt)))
    await reader.readuntil(b"\r\n\r\n")
    writer.transport.abort()

    served = await Client(slow, port, []).ended()

    assert (served["ending"], served["output_tokens"]) == ("client_gone", None)
    await slow.aclose()


@pytest.mark.parametrize(("kept", "ids"), [(2, ["2", "3"]), (None, ["1", "2", "3"])])
def test_record_remembers_the_latest(kept: int | None, ids: list[str]) -> None:
    """Or all of them."""
    record = Record(kept)
    for number in (1, 2, 3):
        record.add(Served(str(number), "main", "m", "openai", streamed=False))

    assert [served.id for served in record.served()] == ids
