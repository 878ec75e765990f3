"""The direct port while workers drain, end, are replaced and are killed: the tests of the other."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.process.test_drain import (
    DRAIN_S,
    test_drain_command_flips_readiness_and_back,
    test_stop_drains_then_ends_streams_with_an_error_of_their_wire,
    test_streams_of_a_killed_supervisor_end_after_the_grace_period,
)
from tests.process.test_restart import test_restart_and_ten_reloads_fail_no_call
from tests.support.raw_client import Connection
from tests.support.service import DemoProcess, Key, Service
from tests.support.waiting import wait_until_sync

pytestmark = [pytest.mark.process, pytest.mark.heavy, pytest.mark.timeout(120)]

__all__ = [
    "test_drain_command_flips_readiness_and_back",
    "test_restart_and_ten_reloads_fail_no_call",
    "test_stop_drains_then_ends_streams_with_an_error_of_their_wire",
    "test_streams_of_a_killed_supervisor_end_after_the_grace_period",
]


@pytest.fixture
def service(
    request: pytest.FixtureRequest, tmp_path: Path, paced_upstream: DemoProcess
) -> Iterator[Service]:
    """A gateway to be ended, on its direct port; replaced workers let their streams end."""
    grace_s = 60 if "restart" in request.node.name else 0.5
    times = f"drain_s = {DRAIN_S}\ngrace_s = {grace_s}\n"
    made = Service(tmp_path, paced_upstream, server=times, direct=True)
    try:
        yield made.start()
    finally:
        made.stop()


@pytest.fixture
def key(service: Service) -> Key:
    """A key of that gateway."""
    return service.new_key("direct")


def test_killed_worker_is_replaced(service: Service) -> None:
    """The supervisor holds the socket of the direct port, too: the new worker accepts from it."""
    old = service.process.workers()
    for pid in old:
        os.kill(pid, signal.SIGKILL)
    with Connection(service.port) as connection:  # waits in the socket that no worker serves
        assert connection.request("GET", "/healthz").status == 200
    wait_until_sync(lambda: not set(old) & set(service.process.workers()), 20)
