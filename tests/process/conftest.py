"""Fixtures of the tests that talk to the running gateway."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.raw_client import Connection
from tests.support.raw_upstream import RawUpstream, Slot
from tests.support.service import DemoProcess, Key, Service


@pytest.fixture(scope="session")
def paced_upstream() -> Iterator[DemoProcess]:
    """The demo upstream at a model's pace, about 50 tokens a second."""
    demo = DemoProcess(pace_s=0.02)
    yield demo
    demo.stop()


@pytest.fixture(scope="session")
def key(gateway: Service) -> Key:
    """A key that may use everything."""
    return gateway.new_key("everything")


@pytest.fixture
def upstream(raw_upstream: RawUpstream, gateway: Service) -> Iterator[Slot]:
    """A provider of the test's own, with the usual clocks."""
    slot = raw_upstream.take()
    yield slot
    raw_upstream.give_back(slot)


@pytest.fixture
def hasty_upstream(raw_upstream: RawUpstream, gateway: Service) -> Iterator[Slot]:
    """A provider of the test's own that gets half a second for everything."""
    slot = raw_upstream.take(hasty=True)
    yield slot
    raw_upstream.give_back(slot)


@pytest.fixture
def connection(gateway: Service) -> Iterator[Connection]:
    """One connection to the gateway."""
    with Connection(gateway.port) as opened:
        yield opened
