"""Redis is killed while one worker has the right to test a deployment that is not ready."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from gateway.settings import Redis
from gateway.store.health.shared import probe_key
from tests.support.routing_scene import Scene, until
from tests.support.valkey import ValkeyProcess

pytestmark = [pytest.mark.process, pytest.mark.timeout(180)]

SOON_S = 15.0
READY = 'gateway_deployment_state{deployment="a/m"} 0.0'
"""The highest state of all workers."""


class Probed(Scene):
    """
    A gateway whose deployment `a/m` is tested by one of its workers, and gets no response yet.

    Args:
        home: Of the gateway.
        valkey: Its Redis.
        probes: `routing.probes`; false: the calls of clients are the tests.
    """

    def __init__(self, home: Path, valkey: ValkeyProcess, probes: str) -> None:
        redis = f'[redis]\nurl = "{valkey.start()}"\ncommand_timeout_ms = 400\n'
        super().__init__(home, probes=probes, extra=redis)
        self.valkey = valkey
        self.pool = ThreadPoolExecutor(8)
        self.asked: list[Future[Any]] = []
        self._calls = 0

    def stop(self) -> None:
        self.a.free.set()
        self.pool.shutdown()
        super().stop()

    def call(self) -> None:
        """Make a call of a new conversation, on a new connection, and wait unless it hangs."""
        text, headers = f"conversation {len(self.asked)}", {"connection": "close"}
        asked = self.pool.submit(lambda: self.ask(text, extra_headers=headers))
        self.asked.append(asked)
        deadline = time.monotonic() + 5
        while not asked.done() and not self.is_tested and time.monotonic() < deadline:
            time.sleep(0.01)

    @property
    def is_tested(self) -> bool:
        """Whether the deployment has a call to which it has not responded."""
        return not self.a.free.is_set() and len(self.a.calls) > self._calls

    def begin(self) -> None:
        """Let the deployment fail until no worker uses it, then let a worker test it."""
        self.a.status = 500
        for _ in range(12):
            self.call()
        until(lambda: self.states()["a/m"] in ("open", "half_open"), "never open")
        self.a.free.clear()
        self.a.status = 200
        self._calls = len(self.a.calls)

        def tested() -> bool:
            self.call()
            return self.is_tested

        until(tested, "never tested")
        assert self.is_claimed, "nobody has the right"

    @property
    def is_claimed(self) -> bool:
        """Whether a worker has the right to test the deployment."""
        return self.valkey.command("EXISTS", probe_key(Redis().key_prefix, "a/m")) == b":1\r\n"

    def all_ready(self) -> bool:
        """Make a call; return whether the deployment is ready in all workers."""
        self.call()
        return READY in self.process.metrics()


@pytest.fixture
def probed(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Probed]:
    probes, kept = request.param
    valkey = ValkeyProcess(persist=kept)
    made = Probed(tmp_path / "home", valkey, probes)
    try:
        yield made
    finally:
        made.stop()
        valkey.close()


VARIANTS = {
    "probes, Redis keeps its data": ("true", True),
    "probes, Redis loses its data": ("true", False),
    "calls of clients, Redis keeps its data": ("false", True),
}


@pytest.mark.parametrize("probed", VARIANTS.values(), ids=VARIANTS.keys(), indirect=True)
def test_deployment_returns_to_all_workers(probed: Probed) -> None:
    """
    Soon after Redis is back, without a failed call, and the right is free for the next time.

    What Redis kept would otherwise delay that for 25 s, or a minute without probes.
    """
    probed.begin()
    probed.valkey.kill()
    for _ in range(10):
        probed.call()
    probed.a.free.set()  # the test ends, and its worker cannot tell
    for _ in range(10):
        probed.call()
    probed.valkey.start()
    until(probed.all_ready, "not ready in all workers", SOON_S)
    until(lambda: probed.states()["a/m"] == "ready", "Redis says otherwise", SOON_S)
    until(lambda: not probed.is_claimed, "the right is not given back", SOON_S)

    probed.begin()
    probed.a.free.set()
    until(probed.all_ready, "not ready the second time", SOON_S)
    answers = [each.result(30) for each in probed.asked]
    assert {answer.headers["x-capio-provider"] for answer in answers} == {"a", "b"}
