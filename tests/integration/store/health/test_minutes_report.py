"""Reports of deployments, as commands read them from what workers wrote."""

from __future__ import annotations

import uuid

import pytest

from gateway.core.routing.failures import FailureClass
from gateway.core.routing.health import HealthChange, HealthCounts, HealthState
from gateway.store.health.minutes import MOST_MINUTES, DeploymentReport, read_health, read_minutes
from gateway.store.health.shared import RedisHealth
from gateway.store.redis.address import parse_address
from gateway.store.redis.client import PipelinedRedis
from gateway.store.redis.cluster.kinds import cold_client

pytestmark = pytest.mark.redis
NOW = 1_800_000_030.0
MINUTE = int(NOW) // 60


async def test_report_sums_minutes_and_shows_states_that_hold(valkey_url: str) -> None:
    """Older minutes are left out; a rest that is over, and a state of an hour ago, are ready."""
    prefix = f"t{uuid.uuid4().hex}:"
    target = parse_address(valkey_url)
    redis, client = PipelinedRedis(target), cold_client(target)
    await redis.start()
    exchange = RedisHealth(redis, prefix)
    ready, out, rests, open_state = (
        HealthState.READY,
        HealthState.OUT,
        HealthState.RESTING,
        HealthState.OPEN,
    )
    exchange.add("a/m", MINUTE, HealthCounts(4, 3, {"timeout": 1}, {0: 1, 4: 8, 12: 1}), ready)
    exchange.add("a/m", MINUTE - 1, HealthCounts(2, 1, {"timeout": 1}), out)
    exchange.add("a/m", MINUTE - 2, HealthCounts(100, 100), ready)
    ms = int(NOW * 1000)
    exchange.publish(HealthChange("a/m", out, "w", ms - 1000, FailureClass.QUOTA))
    exchange.publish(HealthChange("b/m", rests, "w", ms - 9000, None, ms - 1))
    exchange.publish(HealthChange("c/m", rests, "w", ms - 9000, None, ms + 1000))
    exchange.publish(HealthChange("d/m", open_state, "w", ms - 3_601_000))
    await redis.command("PING")

    labels = ["a/m", "b/m", "c/m", "d/m"]
    reports = await read_health(client, prefix, labels, 2, NOW)
    both = await read_minutes(client, prefix, labels, recent=2, now=NOW)

    assert [each.report for each in both] == reports
    assert len(both[0].strip) == MOST_MINUTES
    assert [tuple(each) for each in both[0].strip[-3:]] == [
        (MINUTE - 2, 100, 100, 0), (MINUTE - 1, 2, 1, 0), (MINUTE, 4, 3, 0),
    ]  # fmt: skip
    assert reports == [
        DeploymentReport(
            deployment="a/m",
            state=out,
            reason="quota",
            attempts=6,
            ok=4,
            failures={"timeout": 2},
            ttft_p50_ms=64,
            ttft_p95_ms=1024,
        ),
        DeploymentReport(deployment="b/m"),
        DeploymentReport(deployment="c/m", state=rests),
        DeploymentReport(deployment="d/m"),
    ]
    await client.aclose()
    await redis.aclose()
