"""The reports of running calls over a real Valkey: of all workers, and gone soon after them."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator

import pytest

from gateway.core.routing.live import LiveLine, LiveReport
from gateway.store.health.live import LIFE_S, LiveReports
from gateway.store.redis.address import parse_address
from gateway.store.redis.client import PipelinedRedis

pytestmark = pytest.mark.redis


@pytest.fixture
def prefix() -> str:
    return f"t{uuid.uuid4().hex}:"


@pytest.fixture
async def redis(valkey_url: str) -> AsyncIterator[PipelinedRedis]:
    client = PipelinedRedis(parse_address(valkey_url))
    await client.start()
    yield client
    await client.aclose()


def report(worker: str, pod: str, running: int) -> LiveReport:
    line = LiveLine(model="m", deployment="p/m", running=running, tokens=3)
    return LiveReport(worker=worker, pod=pod, version="1", running=running, lines=(line,))


async def test_reports_of_all_workers_are_read_by_pod(redis: PipelinedRedis, prefix: str) -> None:
    """The last report of each counts; a worker that ended is gone at once."""
    reports = LiveReports(redis, prefix)
    first, second, ended = report("b", "pod-1", 2), report("a", "pod-2", 1), report("c", "pod-1", 9)
    for each in (report("b", "pod-1", 5), second, first, ended):
        reports.publish(each)
    reports.withdraw("c")

    assert await reports.read() == [first, second]


async def test_report_expires_and_unreadable_ones_are_left_out(
    redis: PipelinedRedis, prefix: str
) -> None:
    """A worker that died says nothing after three reports; one of another version is skipped."""
    reports = LiveReports(redis, prefix)
    reports.publish(report("a", "pod-1", 1))
    reports.publish(report("b", "pod-1", 1))
    await redis.command("SET", f"{prefix}live:worker:b", '{"worker": 7}')
    lives = await redis.command("TTL", f"{prefix}live:worker:a")

    assert [each.worker for each in await reports.read()] == ["a"]
    assert isinstance(lives, int)
    assert 0 < lives <= LIFE_S
    await redis.command("DEL", f"{prefix}live:worker:a")
    assert await reports.read() == []
