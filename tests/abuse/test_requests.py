"""Paths, queries and framings that once got through or broke something."""

from __future__ import annotations

import json
import time

import pytest

from tests.abuse.answers import honest
from tests.abuse.service import ADMIN_TOKEN, AbusedGateway, Customer
from tests.support.bodies import OPENAI, chat
from tests.support.raw_client import Connection, render
from tests.support.waiting import wait_until_sync

pytestmark = pytest.mark.process

COUNT = "/v1/messages/count_tokens"
CHUNKED = {
    "no number": b"xyz\r\n{}\r\n0\r\n\r\n",
    "a negative one": b"-2\r\n{}\r\n0\r\n\r\n",
    "a huge one": b"ffffffffffffffffff\r\n{}\r\n0\r\n\r\n",
    "too little": b"1\r\n{}\r\n0\r\n\r\n",
    "no line end": b"2\r\n{}0\r\n\r\n",
}


@pytest.fixture(scope="module")
def customer(abused: AbusedGateway) -> Customer:
    """A prepaid customer."""
    return abused.customer("10")


@pytest.mark.parametrize("garbage", CHUNKED)
@pytest.mark.parametrize("path", [OPENAI, COUNT, "/v1/credits/redeem"])
def test_a_body_of_malformed_chunks_is_400(
    abused: AbusedGateway, customer: Customer, garbage: str, path: str
) -> None:
    """Malformed chunks are a client error with a message, and the connection ends."""
    head = render(
        "POST", path, b"", authorization=f"Bearer {customer.key}", transfer_encoding="chunked"
    )
    with Connection(abused.port) as connection:
        connection.send(head + CHUNKED[garbage])
        answer = connection.answer()

    assert answer.status == 400, answer
    assert answer.json["error"]["message"]


@pytest.mark.parametrize("page", ["credits", "usage", "generation", "models"])
@pytest.mark.parametrize("count", [101, 150, 10_000])
def test_too_many_query_parameters_are_400(
    abused: AbusedGateway, customer: Customer, page: str, count: int
) -> None:
    """Too many query parameters are a client error."""
    before = abused.tracebacks()
    answer = abused.get(f"/v1/{page}?{'a=1&' * count}b=2", customer.key)

    assert answer.status in (400, 200 if page == "models" else 400), answer
    assert abused.tracebacks() == before


@pytest.mark.parametrize(
    "path",
    [
        "/%61dmin/keys",
        "/%61%64%6d%69%6e/keys",
        "/admin%2fkeys",
        "/admin%2Fkeys",
        "/ADMIN/keys",
        "//admin/keys",
        "/./admin/keys",
        "/v1/../admin/keys",
        "/v1/%2e%2e/admin/keys",
    ],
)
def test_other_spellings_of_admin_are_not_found(abused: AbusedGateway, path: str) -> None:
    """A proxy that blocks `/admin` by its text blocks all of it."""
    answer = abused.get(path, ADMIN_TOKEN)

    assert answer.status in (400, 404), answer


def test_counting_is_limited_by_the_requests_a_minute(abused: AbusedGateway) -> None:
    """Beyond the account's rpm it is 429, as every other call."""
    upstream = abused.take()
    upstream.plays(honest())
    limited = abused.customer("10", rpm=5)
    body = chat(upstream.model("openai"))
    statuses = [abused.post(COUNT, limited.key, body).status for _ in range(12)]

    assert statuses.count(200) <= 6
    assert statuses[-1] == 429


def test_counting_upstream_is_limited_too(abused: AbusedGateway) -> None:
    """Calls to the provider's own counter spend the operator's quota."""
    upstream = abused.take()
    upstream.plays(honest())
    limited = abused.customer("10", rpm=5)
    body = chat(upstream.model("anthropic"))
    statuses = [abused.post(COUNT, limited.key, body).status for _ in range(12)]

    assert statuses[-1] == 429
    assert len(upstream.exchanges) <= 6


def test_a_very_large_body_is_not_counted(abused: AbusedGateway, customer: Customer) -> None:
    """An estimate of 24 MiB would waste the worker's time: 413, or a response at once."""
    upstream = abused.take()
    body = chat(upstream.model("openai"), "a b " * (6 * 1024 * 1024))
    began = time.monotonic()
    answer = abused.post(COUNT, customer.key, body)

    assert answer.status in (200, 413)
    assert time.monotonic() - began < 5.0


def test_counting_holds_nothing_and_costs_nothing(abused: AbusedGateway) -> None:
    """It needs no credit, and none is taken."""
    upstream = abused.take()
    upstream.plays(honest())
    counted = abused.customer("1")
    body = json.dumps(
        {"model": upstream.model("openai"), "messages": [{"role": "user", "content": "x"}]}
    ).encode()
    assert abused.post(COUNT, counted.key, body).json["input_tokens"] > 0
    wait_until_sync(lambda: abused.balance(counted) == 1)
