"""Bodies that are announced and not sent, or sent for nothing: one account harms only itself."""

from __future__ import annotations

import json
import resource
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.support.bodies import ANTHROPIC, OPENAI, request
from tests.support.raw_client import Answer, Connection, render
from tests.support.service import BOTH_MODEL, OPENAI_MODEL, DemoProcess, Key, Service
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.process, pytest.mark.heavy]

MIB = 1024 * 1024
COUNT = "/v1/messages/count_tokens"
RESPONSES = "/v1/responses"
ENDPOINTS = pytest.mark.parametrize("path", [OPENAI, ANTHROPIC, RESPONSES, COUNT])
CROWD = 4100
"""One more than the places of a worker."""
SPARE_FILES = 200


@pytest.fixture(scope="module")
def service(
    tmp_path_factory: pytest.TempPathFactory, demo_upstream: DemoProcess
) -> Iterator[Service]:
    """A gateway of one worker, with the usual bounds."""
    free = f"""
[[models]]
name = "free"
deployments = [{{ provider = "demo", model = "{OPENAI_MODEL}", wires = ["openai"] }}]
"""
    service = Service(tmp_path_factory.mktemp("intake"), demo_upstream, workers=1, extra="")
    with service.process.config_path.open("a") as config:
        config.write(free)
    try:
        yield service.start()
    finally:
        service.stop()


@pytest.fixture(scope="module")
def rich(service: Service) -> Key:
    """A key of an account that may owe."""
    return service.new_key("rich")


@pytest.fixture(scope="module")
def poor_account(service: Service) -> str:
    """An account that has no credit."""
    made = json.loads(service.process.capio("accounts", "create", "poor", "--json"))
    account: str = made[0]["id"]
    return account


def key_of(service: Service, account: str, name: str, *arguments: str) -> Key:
    """Make a key of an account."""
    made = json.loads(
        service.process.capio(
            "keys", "create", "--account", account, "--name", name, "--json", *arguments
        )
    )
    return Key(made["id"], made["key"])


@pytest.fixture(scope="module")
def poor(service: Service, poor_account: str) -> Key:
    """A key without credit that may use the free model."""
    return key_of(service, poor_account, "poor")


@pytest.fixture(scope="module")
def penniless(service: Service, poor_account: str) -> Key:
    """A key without credit that may use priced models alone."""
    return key_of(service, poor_account, "penniless", "--model", OPENAI_MODEL)


@pytest.fixture
def many_files() -> Iterator[int]:
    """The soft limit on open files raised as far as it goes; how many connections that allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield hard - SPARE_FILES
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def half(path: str, key: Key, size: int = 10, **headers: str) -> bytes:
    """A request of which one byte of the body is sent."""
    return render("POST", path, b"{", x_api_key=key.raw, content_length=str(size), **headers)


def resident_mib(service: Service) -> int:
    """The memory of the only worker."""
    (pid,) = service.process.workers()
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) // 1024


def in_flight(service: Service) -> float:
    """Calls that the gateway shows as open."""
    for line in service.process.metrics().splitlines():
        if line.startswith("gateway_in_flight_calls "):
            return float(line.split()[1])
    return 0.0


def ask(service: Service, path: str, key: Key, body: bytes, **headers: str) -> Answer:
    """One whole request on a connection of its own."""
    with Connection(service.port) as connection:
        return connection.request("POST", path, body, x_api_key=key.raw, **headers)


def is_served(service: Service, key: Key) -> None:
    """Another customer is served, at once when the crowd's heads have been read."""
    deadline = time.monotonic() + 20
    while True:
        began = time.monotonic()
        assert ask(service, OPENAI, key, request(OPENAI, BOTH_MODEL)).status == 200
        if time.monotonic() - began < 0.5:
            return
        assert began < deadline, "served, but late"


@pytest.mark.timeout(90)
@pytest.mark.parametrize("who", ["poor", "penniless", "rich"])
def test_half_sent_bodies_leave_another_customer_served(
    service: Service, many_files: int, who: str, request: pytest.FixtureRequest
) -> None:
    """More of them than a worker has places, of one key: the others do not notice."""
    key: Key = request.getfixturevalue(who)
    made = service.process.capio("accounts", "create", f"not {who}", "--postpaid", "--json")
    other = key_of(service, json.loads(made)[0]["id"], "other")
    data = half(OPENAI, key)
    with ExitStack() as held:
        for _ in range(min(CROWD, many_files)):
            held.enter_context(Connection(service.port)).send(data)
        is_served(service, other)


@ENDPOINTS
@pytest.mark.parametrize("headers", [{}, {"idempotency_key": "half-sent"}])
async def test_account_without_credit_may_send_few_bodies_at_a_time(
    service: Service, poor: Key, path: str, headers: dict[str, Any]
) -> None:
    """Eight; the ninth is refused in its dialect, and room is there again when they have gone."""
    with ExitStack() as held:
        connections = [held.enter_context(Connection(service.port)) for _ in range(8)]
        for connection in connections:
            connection.send(half(path, poor, **headers))
        await wait_until(lambda: in_flight(service) == 8)
        refused = ask(service, path, poor, b"{}", **headers)
        assert (refused.status, refused.headers["retry-after"]) == (429, "1")
        assert "8 requests" in refused.json["error"]["message"]
    await wait_until(lambda: in_flight(service) == 0)


@pytest.mark.parametrize("chunked", [False, True])
def test_large_bodies_without_credit_take_no_memory(
    service: Service, poor: Key, penniless: Key, chunked: bool
) -> None:
    """Twelve of 31 MiB: the worker grows by less than the account's share and what it copies."""
    before = resident_mib(service)
    with ExitStack() as held:
        for number in range(12):
            connection = held.enter_context(Connection(service.port))
            _send_large(connection, (poor, penniless)[number % 2], chunked=chunked)
        grown = resident_mib(service) - before

    assert grown < 48


def test_large_bodies_with_credit_are_bounded(service: Service, rich: Key) -> None:
    """Of twelve bodies of 31 MiB, at most 128 MiB are held; the others are refused."""
    before = resident_mib(service)
    with ExitStack() as held:
        connections = [held.enter_context(Connection(service.port)) for _ in range(12)]
        for connection in connections:
            _send_large(connection, rich, chunked=False)
        grown = resident_mib(service) - before
        statuses = [_status(connection) for connection in connections]

    assert grown < 128 + 48
    assert statuses.count(429) == 8
    assert statuses.count(None) == 4


def _send_large(connection: Connection, key: Key, *, chunked: bool) -> None:
    """Send 31 MiB of an announced 32, or until the gateway has had enough."""
    length = {"transfer_encoding": "chunked"} if chunked else {"content_length": str(32 * MIB)}
    piece = b" " * MIB
    if chunked:
        piece = b"%x\r\n%b\r\n" % (MIB, piece)
    try:
        connection.send(render("POST", OPENAI, b"", x_api_key=key.raw, **length))
        for _ in range(31):
            connection.send(piece)
    except OSError:
        return


def _status(connection: Connection) -> int | None:
    """The response's status, if it comes while the gateway reads a refused body away (2 s)."""
    connection.socket.settimeout(3.0)
    try:
        return connection.read_head()[0]
    except TimeoutError:
        return None
    except (ConnectionError, EOFError):
        return 429  # refused, and the rest of the body met a closed connection


def test_no_credit_is_told_before_the_body(service: Service, penniless: Key) -> None:
    """A client that waits for `100 Continue` gets the refusal instead."""
    with Connection(service.port) as connection:
        connection.send(
            render(
                "POST", ANTHROPIC, x_api_key=penniless.raw, content_length="1000000",
                expect="100-continue",
            )
        )  # fmt: skip
        status, headers = connection.read_head(skip_informational=False)
        body, _ = connection.read_rest(headers)

    assert status == 402
    assert b"Not enough credit: $0.00 is available. Add credit at " in body


def test_client_that_waits_for_a_word_gets_it(service: Service, rich: Key) -> None:
    """A client that sends `expect: 100-continue` gets 100 once it is admitted."""
    body = request(OPENAI, BOTH_MODEL)
    with Connection(service.port) as connection:
        connection.send(
            render(
                "POST", OPENAI, x_api_key=rich.raw, content_length=str(len(body)),
                expect="100-continue",
            )
        )  # fmt: skip
        assert connection.socket.recv(65536) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.send(body)
        assert connection.answer().status == 200


def test_without_credit_the_free_model_answers_and_the_others_do_not(
    service: Service, poor: Key
) -> None:
    """Without credit, free models are served on both wires and others refused."""
    assert ask(service, OPENAI, poor, request(OPENAI, "free")).status == 200
    assert ask(service, ANTHROPIC, poor, request(ANTHROPIC, "free")).status == 200
    assert ask(service, OPENAI, poor, request(OPENAI, BOTH_MODEL)).status == 429
    assert ask(service, ANTHROPIC, poor, request(ANTHROPIC, BOTH_MODEL)).status == 402


def test_credit_counts_at_once(service: Service) -> None:
    """A customer that is refused, buys and asks again is served."""
    made = json.loads(service.process.capio("accounts", "create", "buyer", "--json"))
    key = key_of(service, made[0]["id"], "buyer", "--model", BOTH_MODEL)
    assert ask(service, OPENAI, key, request(OPENAI, BOTH_MODEL)).status == 429

    service.process.capio(
        "credits", "topup", "--account", made[0]["id"], "--amount", "5", "--reason", "t"
    )

    assert ask(service, OPENAI, key, request(OPENAI, BOTH_MODEL)).status == 200


def test_token_counts_count_as_requests(service: Service) -> None:
    """Also those that are remembered; the refusal says when to come again."""
    key = service.new_key("counter")
    service.process.capio("limits", "set", "--key", key.id, "--rpm", "3")
    body = request(ANTHROPIC, OPENAI_MODEL)

    answers = [ask(service, COUNT, key, body) for _ in range(4)]

    assert [answer.status for answer in answers] == [200, 200, 200, 429]
    assert "3 requests per minute" in answers[3].json["error"]["message"]
    assert service.settled(key) == 0


def test_large_token_count_is_refused_by_name(service: Service, rich: Key) -> None:
    """The error names the setting that limits the body."""
    body = request(ANTHROPIC, OPENAI_MODEL, "word " * 600_000)

    refused = ask(service, COUNT, rich, body)

    assert refused.status == 413
    assert "server.max_count_body_bytes" in refused.json["error"]["message"]


MALFORMED = {
    "size is no number": b"zz\r\nabc\r\n0\r\n\r\n",
    "bad size after a good chunk": b"3\r\nabc\r\nzz\r\n",
    "no end of a chunk": b"3\r\nabcdef\r\n0\r\n\r\n",
    "size too large": b"ffffffffffffffffff\r\nabc",
    "trailer with a NUL": b"0\r\nbad\x00trailer\r\n\r\n",
}


@pytest.mark.parametrize("body", MALFORMED.values(), ids=MALFORMED.keys())
@pytest.mark.parametrize("path", [OPENAI, ANTHROPIC, RESPONSES, COUNT])
def test_malformed_chunks_are_400(service: Service, rich: Key, path: str, body: bytes) -> None:
    """With the gateway's own error, and the connection is closed."""
    with Connection(service.port) as connection:
        connection.send(render("POST", path, body, x_api_key=rich.raw, transfer_encoding="chunked"))
        answer = connection.answer()
        connection.socket.settimeout(5)
        rest = connection.socket.recv(1)

    assert (answer.status, rest) == (400, b"")
    assert "chunked encoding is malformed" in answer.json["error"]["message"]


def test_body_cut_short_by_a_half_closed_client_ends_the_call(service: Service, rich: Key) -> None:
    """A half-closed connection with an incomplete body is closed."""
    with Connection(service.port) as connection:
        connection.send(half(OPENAI, rich))
        connection.socket.shutdown(socket.SHUT_WR)
        while connection.socket.recv(65536):
            pass


async def test_nothing_is_left_open(service: Service) -> None:
    """After all of the above no call is open and no body is held."""
    await wait_until(lambda: in_flight(service) == 0)
    await wait_until(lambda: "gateway_buffered_body_bytes 0.0" in service.process.metrics())
    assert "Traceback" not in service.process.log()
