"""A worker that gets more calls than it can serve: `python -m bench.overload` is the long form."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from bench.load import Outcome, run
from tests.support.bodies import ANTHROPIC, OPENAI, chat, request
from tests.support.raw_client import Connection, render
from tests.support.service import ANTHROPIC_MODEL, OPENAI_MODEL, DemoProcess, Key, Service
from tests.support.waiting import wait_until_sync

pytestmark = [pytest.mark.process, pytest.mark.heavy, pytest.mark.timeout(120)]

CONNECTIONS = 400
"""All send at once and again: each turn of the loop then takes longer than the limit."""
EACH = 6
STREAM_TOKENS = 5000
LIMIT_MS = 3


@pytest.fixture(scope="module")
def service(
    tmp_path_factory: pytest.TempPathFactory, demo_upstream: DemoProcess
) -> Iterator[Service]:
    """A gateway of one worker that tolerates little lag."""
    # The first connections are idle until the last one is open.
    server = f"max_loop_lag_ms = {LIMIT_MS}\nheader_timeout_s = 60"
    service = Service(tmp_path_factory.mktemp("load"), demo_upstream, workers=1, server=server)
    try:
        yield service.start()
    finally:
        service.stop()


@pytest.fixture(scope="module")
def key(service: Service) -> Key:
    """A key that may use everything."""
    return service.new_key("load")


def refusals(service: Service) -> float:
    """Return how many calls were refused for the lag."""
    for line in service.process.metrics().splitlines():
        if line.startswith('gateway_overload_total{bound="loop_lag"}'):
            return float(line.split()[1])
    return 0.0


def events(service: Service) -> list[str]:
    """Return the names of all lines of the log."""
    return [json.loads(line)["event"] for line in service.process.log().splitlines()]


class Flood(NamedTuple):
    """What became of the calls of an overload, and of what ran beside them."""

    outcome: Outcome
    probes: list[int]
    stream: bytes


async def flood(service: Service, key: Key, path: str, model: str) -> Flood:
    """Send far more than the worker can serve, with a stream that began before, and probes."""
    body = request(path, model, "/tokens 2")
    payload = render("POST", path, body, authorization=f"Bearer {key.raw}")
    with Connection(service.port) as connection:
        headers = begin_stream(connection, key)
        load = asyncio.create_task(run(service.port, payload, connections=CONNECTIONS, each=EACH))
        stream = asyncio.create_task(asyncio.to_thread(connection.read_rest, headers))
        probes: list[int] = []
        while not load.done():
            probes += await asyncio.to_thread(probe, service)
        text, complete = await stream
    assert complete
    return Flood(await load, probes, text)


def begin_stream(connection: Connection, key: Key) -> dict[str, str]:
    """Ask for a stream until it is not refused; return its headers."""
    body = chat(OPENAI_MODEL, f"/tokens {STREAM_TOKENS}", stream=True)
    while True:
        connection.send(render("POST", OPENAI, body, authorization=f"Bearer {key.raw}"))
        status, headers = connection.read_head()
        if status == 200:
            return headers
        assert status == 503
        connection.read_rest(headers)


def probe(service: Service) -> list[int]:
    """Ask for both probes on a new connection, as a load balancer does."""
    with Connection(service.port) as connection:
        return [connection.request("GET", path).status for path in ("/healthz", "/readyz")]


@pytest.mark.parametrize(
    ("path", "model", "status"),
    [(OPENAI, OPENAI_MODEL, 503), (ANTHROPIC, ANTHROPIC_MODEL, 529)],
    ids=["openai", "anthropic"],
)
def test_overloaded_worker_refuses_some_and_serves_the_rest(
    service: Service, key: Key, path: str, model: str, status: int
) -> None:
    """
    Every call ends as one or the other, and none is refused afterwards.

    Probes are served meanwhile, and a stream that runs gets all of its events.
    """
    before, logged = refusals(service), events(service).count("call")

    outcome, probes, stream = asyncio.run(flood(service, key, path, model))

    assert set(outcome.statuses) == {200, status}
    assert outcome.requests == EACH * CONNECTIONS
    assert set(probes) == {200}
    assert stream.count(b'"content":"') > STREAM_TOKENS
    assert stream.endswith(b"data: [DONE]\n\n")
    refused = outcome.statuses[status]
    wait_until_sync(lambda: refusals(service) - before >= refused)
    answers = []

    def is_served() -> bool:
        with Connection(service.port) as connection:
            headers = {"authorization": f"Bearer {key.raw}"}
            answers.append(connection.request("POST", path, request(path, model), **headers))
        return answers[-1].status == 200

    wait_until_sync(is_served, 10)
    assert events(service).count("overload_started") >= 1
    assert events(service).count("call") - logged < sum(outcome.statuses.values())
