"""Several pods under load, disturbed; `python -m tests.pods.run` is the long form."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from tests.pods.run import PLAYED, UNHARMED, play
from tests.support.proxies import find_program

SECONDS = float(os.environ.get("CAPIO_PODS_S", "4"))

pytestmark = [
    pytest.mark.process,
    pytest.mark.sql,
    pytest.mark.heavy,
    pytest.mark.slow,
    pytest.mark.timeout(300 + 10 * SECONDS),
]


@pytest.mark.parametrize(
    ("redis", "proxy"),
    [("single", "haproxy"), ("sentinel", "nginx"), ("cluster", "haproxy")],
)
def test_pods_lose_and_double_nothing(tmp_path: Path, redis: str, proxy: str) -> None:
    """
    Pods are replaced, killed and scaled down, Redis and PostgreSQL are killed, slots are moved.

    No stream is malformed, every response is charged once by the upstream's own record, and limits
    hold over all pods. Pods that are stopped with SIGTERM and a killed PostgreSQL fail no call.
    """
    for program in (proxy, "pgbouncer"):
        if find_program(program) is None:
            pytest.skip(f"{program} is not installed")
    begin, names = PLAYED[redis]
    shown, limits = asyncio.run(play(tmp_path, begin(), proxy, SECONDS, names))

    assert [each for scenario in shown for each in scenario.differences] == []
    assert {each.name: dict(each.ended) for each in shown if each.name in UNHARMED} == {
        name: {} for name in UNHARMED if name in names
    }
    assert all(each.whole >= 5 for each in shown)
    for found, least, most in limits.values():
        assert least <= found <= most
