"""The one gateway of a test run; `tests/conftest.py` offers it to all tests."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.support.raw_upstream import RawUpstream
from tests.support.service import DemoProcess, Service

SLOTS = 120


@pytest.fixture(scope="session")
def demo_upstream() -> Iterator[DemoProcess]:
    """The demo upstream, as fast as it can."""
    demo = DemoProcess(pace_s=0)
    yield demo
    demo.stop()


@pytest.fixture(scope="session")
def raw_upstream() -> Iterator[RawUpstream]:
    """The provider of all slots."""
    raw = RawUpstream(SLOTS).start()
    yield raw
    raw.stop()


@pytest.fixture(scope="session")
def gateway(
    tmp_path_factory: pytest.TempPathFactory, demo_upstream: DemoProcess, raw_upstream: RawUpstream
) -> Iterator[Service]:
    """One gateway of two workers for the whole run, in front of both upstreams."""
    # A proxy of the machine's environment must not stand between clients and the loopback.
    os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1,localhost"
    service = Service(tmp_path_factory.mktemp("gateway"), demo_upstream, raw_upstream, direct=True)
    try:
        yield service.start().on_port(direct=False)
    finally:
        service.stop()
