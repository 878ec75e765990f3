"""What a load balancer and the clients see while a gateway drains, and how its last streams end."""

from __future__ import annotations

import os
import signal
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import anthropic
import openai
import psutil
import pytest

from tests.support.bodies import ANTHROPIC, request
from tests.support.raw_client import Connection
from tests.support.service import (
    ANTHROPIC_MODEL,
    BOTH_MODEL,
    OPENAI_MODEL,
    DemoProcess,
    Key,
    Service,
)
from tests.support.waiting import wait_until_sync

pytestmark = [pytest.mark.process, pytest.mark.timeout(60)]

DRAIN_S = 2.0
LONG = "/tokens 5000"


@pytest.fixture
def service(tmp_path: Path, paced_upstream: DemoProcess) -> Iterator[Service]:
    """A gateway to be ended, whose drain and grace periods are short."""
    times = f"drain_s = {DRAIN_S}\ngrace_s = 0.5\n"
    made = Service(tmp_path, paced_upstream, server=times)
    try:
        yield made.start()
    finally:
        made.stop()


def ready(service: Service) -> tuple[int, str | None]:
    """Return the status of `/readyz` on a new connection, and its connection header."""
    with Connection(service.port) as connection:
        answer = connection.request("GET", "/readyz")
        return answer.status, answer.headers.get("connection")


def ask(service: Service, key: Key) -> tuple[int, str | None]:
    """Make a short call; return its status and its connection header."""
    with Connection(service.port) as connection:
        body = request(ANTHROPIC, BOTH_MODEL, "/tokens 1")
        answer = connection.request("POST", ANTHROPIC, body, x_api_key=key.raw)
        return answer.status, answer.headers.get("connection")


def refused(service: Service) -> bool:
    """Return whether connections are refused."""
    try:
        Connection(service.port).close()
    except OSError:
        return True
    return False


def last_of(stream: Iterator[Any]) -> str:
    """Read a stream of an SDK to its end; return the error, as it was raised or sent."""
    last = ""
    try:
        for event in stream:
            last = f"{event.type}: {event.response.error}" if "failed" in event_type(event) else ""
    except (openai.APIError, anthropic.APIError) as error:
        return str(error)
    return last


def alive(pid: int) -> bool:
    """Return whether a process runs; one that waits to be reaped does not."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def event_type(event: Any) -> str:
    """Return the type of an SDK's event; chunks of the chat API have none."""
    return str(getattr(event, "type", ""))


def charged(service: Service, key: Key) -> dict[str, tuple[int, int]]:
    """Return the output tokens and the charge of a key's calls in SQL, by request id and error."""
    path = service.process.data_dir / "capio.db"
    columns = "request_id, error_kind, output_tokens, cost_nanousd"
    query = f"select {columns} from usage_events where key_id = ?"
    with closing(sqlite3.connect(path)) as database:
        rows = database.execute(query, (key.id,)).fetchall()
    return {f"{kind} {request_id}": (output, cost) for request_id, kind, output, cost in rows}


def test_drain_command_flips_readiness_and_back(service: Service) -> None:
    """The port stays open and calls are served, each on its last connection; `--cancel` ends it."""
    key = service.new_key("drain")
    assert ready(service) == (200, None)

    service.process.capio("drain")

    wait_until_sync(lambda: all(ready(service) == (503, "close") for _ in range(6)), 5)
    assert ask(service, key) == (200, "close")
    service.process.capio("drain", "--cancel")
    wait_until_sync(lambda: all(ready(service) == (200, None) for _ in range(6)), 5)
    assert ask(service, key) == (200, None)


def test_stop_drains_then_ends_streams_with_an_error_of_their_wire(service: Service) -> None:
    """
    SIGTERM: not ready at once, served for the drain period, then refused.

    The streams that run when the grace period is over raise what the SDKs raise for an overloaded
    server, and are charged for what was delivered.
    """
    key = service.new_key("streams")
    assert ask(service, key) == (200, None)
    chat_sdk = openai.OpenAI(base_url=f"{service.url}/v1", api_key=key.raw, max_retries=0)
    messages_sdk = anthropic.Anthropic(base_url=service.url, api_key=key.raw, max_retries=0)
    ask_for: Any = [{"role": "user", "content": LONG}]
    streams: dict[str, Iterator[Any]] = {}
    for model in (OPENAI_MODEL, ANTHROPIC_MODEL):
        streams[f"chat {model}"] = iter(
            chat_sdk.chat.completions.create(model=model, messages=ask_for, stream=True)
        )
        streams[f"responses {model}"] = iter(
            chat_sdk.responses.create(model=model, input=LONG, stream=True)
        )
        streams[f"messages {model}"] = iter(
            messages_sdk.messages.create(
                model=model,
                messages=ask_for,
                max_tokens=6000,
                stream=True,
            )
        )
    for stream in streams.values():
        next(stream)
    began = time.monotonic()

    service.process.signal(signal.SIGTERM)

    wait_until_sync(lambda: ready(service) == (503, "close"), DRAIN_S)
    assert time.monotonic() - began < 1.0
    wait_until_sync(lambda: ask(service, key) == (200, "close"), DRAIN_S)
    wait_until_sync(lambda: refused(service), 5)
    assert time.monotonic() - began >= DRAIN_S
    ends = {name: last_of(stream) for name, stream in streams.items()}
    assert [name for name, end in ends.items() if "The gateway is restarting" not in end] == []
    assert service.process.wait() == 0
    found = charged(service, key)
    ended = {name: what for name, what in found.items() if name.startswith("stopping")}
    assert len(ended) == len(streams), found
    # The pace is 50 tokens a second, over the drain and the grace period.
    assert all(output > 50 and cost > 0 for output, cost in ended.values()), ended


def test_streams_of_a_killed_supervisor_end_after_the_grace_period(service: Service) -> None:
    """Its workers end them with an error, exit, and leave a record of what was delivered."""
    key = service.new_key("orphans")
    sdk = anthropic.Anthropic(base_url=service.url, api_key=key.raw, max_retries=0)
    ask_for: Any = [{"role": "user", "content": LONG}]
    stream = sdk.messages.create(
        model=ANTHROPIC_MODEL, messages=ask_for, max_tokens=6000, stream=True
    )
    next(iter(stream))
    family = [*service.process.children()]

    os.kill(service.process.pid, signal.SIGKILL)
    error = last_of(iter(stream))
    service.process.wait()

    assert "restarting" in error
    wait_until_sync(lambda: not any(map(alive, family)), 15)
    service.process.start()
    wait_until_sync(lambda: len(charged(service, key)) == 1, 15)
    ((_, (output, cost)),) = charged(service, key).items()
    assert 0 < output < 5000
    assert cost > 0
